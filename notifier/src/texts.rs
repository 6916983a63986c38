//! Texts: the words of every notification, from the templates under `templates/<language>/`.
//!
//! Per occasion: `<occasion>.subject.txt`, `.txt` and `.html` make a mail, `.sms.txt` a text message. A further
//! language is a folder with the same files and its lines in the list below. Whatever a user wrote is plain
//! text: escaped in HTML, never a second header line.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;

use crate::react::{Amount, Occasion};

/// The language of those whose own is not there.
const FALLBACK: &str = "en";
/// A longer subject is cut.
const SUBJECT_CHARS_MAX: usize = 200;
/// A longer name is not a greeting.
const GREETING_CHARS_MAX: usize = 100;
/// The longest text that Twilio takes; ours are far shorter.
pub const SMS_CHARS_MAX: usize = 1_600;

macro_rules! templates {
    ($($language:literal: $($file:literal)+;)+) => {
        /// Name and source of every template.
        const TEMPLATES: &[(&str, &str)] = &[$($(
            (concat!($language, "/", $file), include_str!(concat!("../templates/", $language, "/", $file))),
        )+)+];
        /// The languages there are.
        const LANGUAGES: &[&str] = &[$($language),+];
    };
}

templates! {
    "en":
        "layout.html"
        "welcome.subject.txt" "welcome.txt" "welcome.html"
        "order_created.subject.txt" "order_created.txt" "order_created.html" "order_created.sms.txt"
        "order_completed.subject.txt" "order_completed.txt" "order_completed.html" "order_completed.sms.txt"
        "order_cancelled.subject.txt" "order_cancelled.txt" "order_cancelled.html" "order_cancelled.sms.txt";
}

/// All texts, parsed once.
pub struct Texts(Environment<'static>);

/// The words of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// One line.
    pub subject: String,
    /// For people and programs that want no HTML.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// A template that is missing or cannot be carried out: a defect, which the tests exclude.
#[derive(Debug, thiserror::Error)]
#[error("text cannot be made: {0}")]
pub struct TextError(#[from] minijinja::Error);

#[derive(Serialize)]
struct Data<'a> {
    name: Option<&'a str>,
    order: Option<Order<'a>>,
}

#[derive(Serialize)]
struct Order<'a> {
    id: String,
    total: Option<String>,
    reason: Option<&'a str>,
}

impl Texts {
    /// Reads the templates.
    pub fn load() -> Result<Self, TextError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") {
                AutoEscape::Html
            } else {
                AutoEscape::None
            }
        });
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(Self(environment))
    }

    /// The mail about `occasion` to a user of this name, in the language of `locale` where it is there.
    pub fn mail(&self, locale: &str, occasion: &Occasion, name: &str) -> Result<Mail, TextError> {
        let data = Data::new(occasion, name);
        Ok(Mail {
            subject: one_line(&self.render(locale, occasion, "subject.txt", &data)?),
            text: self.render(locale, occasion, "txt", &data)?,
            html: self.render(locale, occasion, "html", &data)?,
        })
    }

    /// The text message about `occasion`, in the language of `locale` where it is there.
    pub fn sms(&self, locale: &str, occasion: &Occasion) -> Result<String, TextError> {
        let text = self.render(locale, occasion, "sms.txt", &Data::new(occasion, ""))?;
        Ok(text.trim().chars().take(SMS_CHARS_MAX).collect())
    }

    fn render(
        &self,
        locale: &str,
        occasion: &Occasion,
        part: &str,
        data: &Data<'_>,
    ) -> Result<String, TextError> {
        let name = format!("{}/{}.{part}", language(locale), occasion.name());
        Ok(self.0.get_template(&name)?.render(Serde(data))?)
    }
}

impl<'a> Data<'a> {
    fn new(occasion: &'a Occasion, name: &'a str) -> Self {
        let order = occasion.order().map(|order| Order {
            id: order.order_id.to_string(),
            total: order.total.map(|Amount { currency, minor }| {
                format!("{} {currency}", currency.format_minor(minor))
            }),
            reason: order.reason.as_deref(),
        });
        Self {
            name: Some(name).filter(|name| is_greeting(name)),
            order,
        }
    }
}

/// Whether a name is fit for a greeting. Anybody can sign up with somebody else's address and any name; with a
/// link in the name, our mail would carry it to the stranger.
fn is_greeting(name: &str) -> bool {
    let lower = name.to_lowercase();
    !name.is_empty()
        && name.chars().count() <= GREETING_CHARS_MAX
        && !name.contains(char::is_control)
        && !["://", "www.", "http:", "https:"]
            .iter()
            .any(|mark| lower.contains(mark))
}

/// The language to answer a BCP 47 tag in: the tag itself, or its beginning, where there are texts in it.
fn language(locale: &str) -> &'static str {
    let mut tag = locale;
    loop {
        if let Some(found) = LANGUAGES
            .iter()
            .find(|language| language.eq_ignore_ascii_case(tag))
        {
            return found;
        }
        match tag.rsplit_once('-') {
            Some((shorter, _)) => tag = shorter,
            None => return FALLBACK,
        }
    }
}

/// Safe as a header: one line without control characters, not too long.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text
        .split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|w| !w.is_empty())
        .collect();
    words.join(" ").chars().take(SUBJECT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{react::OrderNotice, samples::ORDER};

    fn order(minor: i64, reason: Option<&str>) -> OrderNotice {
        let total = Some(Amount {
            currency: "EUR".parse().unwrap(),
            minor,
        });
        OrderNotice {
            order_id: ORDER,
            total,
            reason: reason.map(str::to_owned),
        }
    }

    fn occasions() -> Vec<Occasion> {
        vec![
            Occasion::Welcome,
            Occasion::OrderCreated(order(1250, None)),
            Occasion::OrderCompleted(order(1250, None)),
            Occasion::OrderCancelled(order(1250, Some("changed my mind"))),
        ]
    }

    /// Everything that a user of this name is told about `occasion`.
    fn everything(locale: &str, occasion: &Occasion, name: &str) -> String {
        let texts = Texts::load().unwrap();
        let mail = texts.mail(locale, occasion, name).unwrap();
        let mut all = format!("Subject: {}\n\n{}\n{}", mail.subject, mail.text, mail.html);
        if occasion.order().is_some() {
            all += &format!("\nSMS: {}\n", texts.sms(locale, occasion).unwrap());
        }
        all
    }

    /// Run with `UPDATE_GOLDEN=1` to write what the templates say now.
    #[test]
    fn the_texts_are_the_ones_agreed_on() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        for language in LANGUAGES {
            for occasion in occasions() {
                let file = folder.join(format!("{language}.{}.txt", occasion.name()));
                let told = everything(language, &occasion, "Ada");
                if std::env::var_os("UPDATE_GOLDEN").is_some() {
                    std::fs::write(&file, &told).unwrap();
                }
                let agreed = std::fs::read_to_string(&file).unwrap_or_default();
                assert_eq!(told, agreed, "{}", file.display());
            }
        }
    }

    #[test]
    fn a_total_or_reason_that_is_not_known_leaves_no_trace() {
        let notice = OrderNotice {
            order_id: ORDER,
            total: None,
            reason: None,
        };
        let told = everything("en", &Occasion::OrderCompleted(notice), "Ada");
        assert!(
            !told.contains("Total") && !told.contains("Reason") && !told.contains("()"),
            "{told}"
        );
    }

    #[test]
    fn what_a_user_wrote_stays_plain_text() {
        let texts = Texts::load().unwrap();
        let name = "<b>Bob</b> & {{ order }}";
        let mail = texts
            .mail(
                "en",
                &Occasion::OrderCancelled(order(1, Some("<script>"))),
                name,
            )
            .unwrap();
        assert!(
            mail.html
                .contains("Hello &lt;b&gt;Bob&lt;&#x2f;b&gt; &amp; {{ order }},"),
            "{}",
            mail.html
        );
        assert!(mail.html.contains("Reason: &lt;script&gt;") && !mail.html.contains("<script>"));
        assert!(mail.text.starts_with("Hello <b>Bob</b> & {{ order }},\n"));
        assert!(mail.text.contains("Reason: <script>\n"));
    }

    #[test]
    fn a_name_that_carries_a_link_is_not_greeted() {
        for name in [
            "Visit https://evil.example",
            "WWW.evil.example",
            "a\r\nBcc: x@example.com",
            "",
            &"x".repeat(101),
        ] {
            let mail = Texts::load()
                .unwrap()
                .mail("en", &Occasion::Welcome, name)
                .unwrap();
            assert!(mail.text.starts_with("Hello,\n"), "{}", mail.text);
        }
        assert!(is_greeting("Åsa O'Neill-Müller 3."));
    }

    #[test]
    fn a_subject_is_one_line() {
        assert_eq!(
            one_line(" Hello\r\nBcc: x@example.com\u{0}\n"),
            "Hello Bcc: x@example.com"
        );
        assert_eq!(one_line(&"x".repeat(1_000)).len(), SUBJECT_CHARS_MAX);
    }

    #[test]
    fn a_language_falls_back_to_its_family_and_then_to_english() {
        for (locale, expected) in [
            ("en", "en"),
            ("EN", "en"),
            ("en-GB-oxendict", "en"),
            ("de-AT", "en"),
            ("", "en"),
        ] {
            assert_eq!(language(locale), expected, "{locale}");
        }
    }

    #[test]
    fn every_language_has_every_text() {
        let texts = Texts::load().unwrap();
        for language in LANGUAGES {
            for occasion in occasions() {
                let mail = texts.mail(language, &occasion, "Ada").unwrap();
                assert!(
                    ![mail.subject, mail.text, mail.html]
                        .iter()
                        .any(String::is_empty)
                );
                if occasion.order().is_some() {
                    let sms = texts.sms(language, &occasion).unwrap();
                    assert!(
                        !sms.is_empty() && sms.is_ascii() && sms.len() <= 160,
                        "{} characters",
                        sms.len()
                    );
                }
            }
        }
    }
}
