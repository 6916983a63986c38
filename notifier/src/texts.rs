//! Texts: the words of every notification, from the templates under `templates/<language>/`.
//!
//! Per occasion: `<occasion>.subject.txt`, `.txt` and `.html` make a mail, `.sms.txt` a text message. A further
//! language is a folder with the same files, its lines in the list below, and a variant of [`Language`]. Whatever a
//! user wrote is plain text: escaped in HTML, never a second header line.

mod language;
mod sms;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, value::Serde};
use serde::Serialize;

use crate::react::{Occasion, OrderNotice};

pub use language::Language;
pub use sms::{SMS_SEGMENTS_MAX, segments};

/// A longer subject is cut.
const SUBJECT_CHARS_MAX: usize = 200;
/// A longer name is not a greeting.
const GREETING_CHARS_MAX: usize = 100;

macro_rules! templates {
    ($($language:literal)+: $files:tt) => {
        /// Name and source of every template, by language.
        const TEMPLATES: &[&[(&str, &str)]] = &[$(templates!(@ $language $files)),+];
    };
    (@ $language:literal [$($file:literal)+]) => {
        &[$((
            concat!($language, "/", $file),
            include_str!(concat!("../templates/", $language, "/", $file)),
        )),+]
    };
}

templates! {
    "en" "de" "ru": [
        "layout.html"
        "welcome.subject.txt" "welcome.txt" "welcome.html"
        "order_created.subject.txt" "order_created.txt" "order_created.html" "order_created.sms.txt"
        "order_completed.subject.txt" "order_completed.txt" "order_completed.html" "order_completed.sms.txt"
        "order_cancelled.subject.txt" "order_cancelled.txt" "order_cancelled.html" "order_cancelled.sms.txt"
    ]
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
    lines: Option<Count>,
    date: Option<String>,
    reason: Option<&'a str>,
}

/// A count, and the form of a noun that goes with it.
#[derive(Serialize)]
struct Count {
    count: String,
    form: &'static str,
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
        for (name, source) in TEMPLATES.iter().copied().flatten() {
            environment.add_template(name, source)?;
        }
        Ok(Self(environment))
    }

    /// The mail about `occasion` to a user of this name, in the language of `locale` where it is there.
    pub fn mail(&self, locale: &str, occasion: &Occasion, name: &str) -> Result<Mail, TextError> {
        let language = Language::of(locale);
        let data = Data::new(language, occasion, name);
        Ok(Mail {
            subject: one_line(&self.render(language, occasion, "subject.txt", &data)?),
            text: self.render(language, occasion, "txt", &data)?,
            html: self.render(language, occasion, "html", &data)?,
        })
    }

    /// The text message about `occasion`, in the language of `locale` where it is there.
    pub fn sms(&self, locale: &str, occasion: &Occasion) -> Result<String, TextError> {
        let language = Language::of(locale);
        let data = Data::new(language, occasion, "");
        let text = self.render(language, occasion, "sms.txt", &data)?;
        Ok(sms::fitted(text.trim()))
    }

    fn render(
        &self,
        language: Language,
        occasion: &Occasion,
        part: &str,
        data: &Data<'_>,
    ) -> Result<String, TextError> {
        let name = format!("{}/{}.{part}", language.tag(), occasion.name());
        Ok(self.0.get_template(&name)?.render(Serde(data))?)
    }
}

impl<'a> Data<'a> {
    fn new(language: Language, occasion: &'a Occasion, name: &'a str) -> Self {
        Self {
            name: Some(name).filter(|name| is_greeting(name)),
            order: occasion.order().map(|notice| Order::new(language, notice)),
        }
    }
}

impl<'a> Order<'a> {
    fn new(language: Language, notice: &'a OrderNotice) -> Self {
        let count = |lines: u64| Count {
            count: language.count(lines),
            form: language.plural(lines),
        };
        Self {
            id: notice.order_id.to_string(),
            total: notice.total.map(|total| language.amount(total)),
            lines: notice.lines.map(count),
            date: notice.at.and_then(|at| language.date(at)),
            reason: notice.reason.as_deref(),
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

    use events::timestamp::Timestamp;

    use super::*;
    use crate::{
        react::{Amount, OrderNotice},
        samples::ORDER,
    };

    fn euros(minor: i64) -> Option<Amount> {
        Some(Amount {
            currency: "EUR".parse().unwrap(),
            minor,
        })
    }

    fn order(lines: Option<u64>, reason: Option<&str>) -> OrderNotice {
        OrderNotice {
            order_id: ORDER,
            total: euros(123_456),
            lines,
            at: Some(Timestamp::from_micros(1_763_800_000_000_000)),
            reason: reason.map(str::to_owned),
        }
    }

    fn occasions(reason: &str) -> Vec<Occasion> {
        vec![
            Occasion::Welcome,
            Occasion::OrderCreated(order(Some(3), None)),
            Occasion::OrderCompleted(order(None, None)),
            Occasion::OrderCancelled(order(None, Some(reason))),
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
        for (language, name, reason) in [
            (Language::English, "Ada", "changed my mind"),
            (Language::German, "Jürgen Groß", "doppelt bestellt"),
            (Language::Russian, "Анна Петровна", "передумала"),
        ] {
            for occasion in occasions(reason) {
                let file = folder.join(format!("{}.{}.txt", language.tag(), occasion.name()));
                let told = everything(language.tag(), &occasion, name);
                if std::env::var_os("UPDATE_GOLDEN").is_some() {
                    std::fs::write(&file, &told).unwrap();
                }
                let agreed = std::fs::read_to_string(&file).unwrap_or_default();
                assert_eq!(told, agreed, "{}", file.display());
            }
        }
    }

    #[test]
    fn every_language_says_something_else() {
        for occasion in occasions("x") {
            let told: std::collections::BTreeSet<_> = Language::ALL
                .iter()
                .map(|language| everything(language.tag(), &occasion, "Ada"))
                .collect();
            assert_eq!(told.len(), Language::ALL.len(), "{occasion:?}");
        }
    }

    #[test]
    fn what_is_not_known_leaves_no_trace() {
        for language in Language::ALL {
            let known = OrderNotice {
                order_id: ORDER,
                total: None,
                lines: None,
                at: None,
                reason: None,
            };
            for occasion in [
                Occasion::OrderCreated(known.clone()),
                Occasion::OrderCompleted(known.clone()),
                Occasion::OrderCancelled(known.clone()),
            ] {
                let told = everything(language.tag(), &occasion, "Ada");
                for trace in ["none", "()", "\n\n\n", ": \n", ": <"] {
                    let is_there = told.to_lowercase().replace("\n</", "").contains(trace);
                    // The number of the order is always known.
                    let fine = trace == ": <" && told.matches(trace).count() == 1;
                    assert!(
                        !is_there || fine || trace == "\n\n\n",
                        "{trace:?} in {told}"
                    );
                }
            }
        }
    }

    #[test]
    fn nouns_agree_with_their_count() {
        let told = |locale: &str, lines| {
            let occasion = Occasion::OrderCreated(order(Some(lines), None));
            Texts::load()
                .unwrap()
                .mail(locale, &occasion, "")
                .unwrap()
                .text
        };
        for (locale, lines, expected) in [
            ("en", 1, "1 item\n"),
            ("en-GB", 1_200, "1,200 items\n"),
            ("de", 1, "1 Position\n"),
            ("de-CH", 2_000, "2.000 Positionen\n"),
            ("ru", 21, "21 позиция\n"),
            ("ru", 3, "3 позиции\n"),
            ("ru-RU", 11, "11 позиций\n"),
        ] {
            let text = told(locale, lines);
            assert!(text.contains(expected), "{expected:?} {text}");
        }
    }

    /// In all languages, in all texts: no mark-up, no template, no second header.
    #[test]
    fn what_a_user_wrote_stays_plain_text() {
        let texts = Texts::load().unwrap();
        let payload = "<script>alert('1')</script>{{ order.id }}{% include 'x' %}\"&<b>";
        for language in Language::ALL {
            let occasion = Occasion::OrderCancelled(order(None, Some(payload)));
            let mail = texts.mail(language.tag(), &occasion, payload).unwrap();
            assert_eq!(
                mail.html.matches("&lt;script&gt;").count(),
                2,
                "{}",
                mail.html
            );
            for mark in ["<script", "<b>", "alert('"] {
                assert!(!mail.html.contains(mark), "{mark} {}", mail.html);
            }
            for text in [&mail.text, &mail.html] {
                assert_eq!(
                    text.matches("{{ order.id }}{% include").count(),
                    2,
                    "{text}"
                );
            }
            assert_eq!(mail.text.matches(payload).count(), 2, "{}", mail.text);
            assert!(!mail.subject.contains("script") && !mail.subject.contains('\n'));
        }
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
            for (locale, greeting) in [
                ("en", "Hello,\n"),
                ("de", "Guten Tag,\n"),
                ("ru", "Здравствуйте!\n"),
            ] {
                let texts = Texts::load().unwrap();
                let mail = texts.mail(locale, &Occasion::Welcome, name).unwrap();
                assert!(mail.text.starts_with(greeting), "{}", mail.text);
            }
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

    /// The largest amount there is, in the languages of one alphabet in one segment, in Russian in two.
    #[test]
    fn text_messages_are_short() {
        let texts = Texts::load().unwrap();
        for (language, segments_max) in [
            (Language::English, 1),
            (Language::German, 1),
            (Language::Russian, SMS_SEGMENTS_MAX),
        ] {
            let largest = OrderNotice {
                total: euros(i64::MAX),
                ..order(Some(2_000), Some("why not"))
            };
            for occasion in [
                Occasion::OrderCreated(largest.clone()),
                Occasion::OrderCompleted(largest.clone()),
                Occasion::OrderCancelled(largest),
            ] {
                let sms = texts.sms(language.tag(), &occasion).unwrap();
                assert!(segments(&sms) <= segments_max, "{sms}");
                assert!(sms.ends_with('.') && !sms.contains('\n'), "{sms}");
            }
        }
    }
}
