//! The providers as the settings choose them: which, in which order, and with which accounts. One that is named and
//! not configured ends the process at its start.

use anyhow::{Context, anyhow, ensure};

use crate::{
    channel::{
        self, MailProvider, Mailgun, Route, SendGrid, SmsProvider, Smtp, Twilio, twilio::Account,
    },
    settings::{MailChoice, ProviderSettings, Secret, SendingSettings, SmsChoice, SmtpUrl},
};

/// Most bytes of a file with certificates.
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The route of every channel.
///
/// # Errors
/// One line that says which setting is missing or makes no sense.
pub fn routes(
    providers: &ProviderSettings,
    sending: &SendingSettings,
) -> anyhow::Result<[Route; 2]> {
    let bounds = sending.bounds();
    let client = channel::client(bounds)?;
    each_once("MAIL_PROVIDERS", &providers.mail_providers)?;
    each_once("SMS_PROVIDERS", &providers.sms_providers)?;
    let mail = providers
        .mail_providers
        .iter()
        .map(|choice| mail_provider(*choice, providers, bounds, &client));
    let sms = providers
        .sms_providers
        .iter()
        .map(|choice| sms_provider(*choice, providers, bounds, &client));
    let limits = sending.route_limits();
    Ok([
        Route::mail(mail.collect::<anyhow::Result<_>>()?, limits),
        Route::sms(sms.collect::<anyhow::Result<_>>()?, limits),
    ])
}

fn mail_provider(
    choice: MailChoice,
    with: &ProviderSettings,
    bounds: channel::Bounds,
    client: &reqwest::Client,
) -> anyhow::Result<MailProvider> {
    let needed =
        |setting| move || format!("MAIL_PROVIDERS names {choice}, but {setting} is not set");
    let from = given(with.mail_from.as_deref()).with_context(needed("MAIL_FROM"))?;
    Ok(match choice {
        MailChoice::Sendgrid => {
            let key = secret(with.sendgrid_api_key.as_ref());
            MailProvider::SendGrid(SendGrid::new(
                client.clone(),
                bounds,
                &with.sendgrid_api_url,
                key.with_context(needed("SENDGRID_API_KEY"))?.to_owned(),
                from.to_owned(),
            ))
        }
        MailChoice::Mailgun => {
            let key = secret(with.mailgun_api_key.as_ref());
            let key = key.with_context(needed("MAILGUN_API_KEY"))?;
            let domain = given(with.mailgun_domain.as_deref());
            MailProvider::Mailgun(Mailgun::new(
                client.clone(),
                bounds,
                &with.mailgun_api_url,
                domain.with_context(needed("MAILGUN_DOMAIN"))?,
                key.to_owned(),
                from.to_owned(),
            ))
        }
        MailChoice::Smtp => {
            let url = secret(with.smtp_url.as_ref()).with_context(needed("SMTP_URL"))?;
            // The reason never repeats the URL, which holds a password.
            let url: SmtpUrl = url
                .parse()
                .map_err(|reason| anyhow!("SMTP_URL makes no sense: {reason}"))?;
            let ca_file = with.smtp_ca_file.as_deref();
            let ca_file = ca_file.filter(|file| !file.as_os_str().is_empty());
            let ca_pem = ca_file.map(certificates).transpose()?;
            MailProvider::Smtp(Smtp::new(bounds, url, ca_pem.as_deref(), from)?)
        }
    })
}

fn sms_provider(
    choice: SmsChoice,
    with: &ProviderSettings,
    bounds: channel::Bounds,
    client: &reqwest::Client,
) -> anyhow::Result<SmsProvider> {
    let needed =
        |setting| move || format!("SMS_PROVIDERS names {choice}, but {setting} is not set");
    Ok(match choice {
        SmsChoice::Twilio => {
            let sid = given(with.twilio_account_sid.as_deref());
            let token = secret(with.twilio_auth_token.as_ref());
            let from = given(with.sms_from.as_deref());
            let account = Account {
                sid: sid.with_context(needed("TWILIO_ACCOUNT_SID"))?.to_owned(),
                auth_token: token.with_context(needed("TWILIO_AUTH_TOKEN"))?.to_owned(),
            };
            SmsProvider::Twilio(Twilio::new(
                client.clone(),
                bounds,
                &with.twilio_api_url,
                account,
                from.with_context(needed("SMS_FROM"))?.to_owned(),
                &with.public_url,
            ))
        }
    })
}

/// What a setting says; an empty one says nothing.
fn given(setting: Option<&str>) -> Option<&str> {
    setting.filter(|text| !text.is_empty())
}

fn secret(setting: Option<&Secret>) -> Option<&str> {
    given(setting.map(Secret::expose))
}

fn each_once<T: PartialEq + std::fmt::Display>(setting: &str, order: &[T]) -> anyhow::Result<()> {
    ensure!(!order.is_empty(), "{setting} names nobody");
    for (at, name) in order.iter().enumerate() {
        ensure!(
            !order.iter().take(at).any(|earlier| earlier == name),
            "{setting} names {name} twice"
        );
    }
    Ok(())
}

fn certificates(file: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let size = std::fs::metadata(file)
        .with_context(|| format!("SMTP_CA_FILE {shown} cannot be read"))?
        .len();
    ensure!(
        size <= CA_FILE_BYTES_MAX,
        "SMTP_CA_FILE {shown} is larger than {CA_FILE_BYTES_MAX} bytes"
    );
    std::fs::read(file).with_context(|| format!("SMTP_CA_FILE {shown} cannot be read"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        providers: ProviderSettings,
        #[command(flatten)]
        sending: SendingSettings,
    }

    const ALL: [&str; 10] = [
        "test",
        "--mail-providers=smtp,sendgrid,mailgun",
        "--mail-from=shop@example.com",
        "--sms-from=+15005550006",
        "--sendgrid-api-key=SG.1",
        "--twilio-account-sid=AC1",
        "--twilio-auth-token=t",
        "--mailgun-api-key=k",
        "--mailgun-domain=mg.example.com",
        "--smtp-url=smtps://u:p@mail.example.com",
    ];

    /// The line that the process ends with when the settings are changed so, if it does.
    fn complaint(change: impl FnOnce(&mut ProviderSettings)) -> Option<String> {
        let mut only = Only::parse_from(ALL);
        only.providers.smtp_ca_file = None;
        change(&mut only.providers);
        complaint_of(&only)
    }

    fn complaint_of(only: &Only) -> Option<String> {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let chosen = routes(&only.providers, &only.sending);
        chosen.err().map(|error| error.to_string())
    }

    #[test]
    fn who_is_named_must_be_configured() {
        assert_eq!(complaint(|_| ()), None);
        type Change = fn(&mut ProviderSettings);
        let cases: [(Change, &str); 8] = [
            (
                |with| with.sendgrid_api_key = None,
                "MAIL_PROVIDERS names sendgrid, but SENDGRID_API_KEY is not set",
            ),
            (
                |with| with.mailgun_api_key = None,
                "MAIL_PROVIDERS names mailgun, but MAILGUN_API_KEY is not set",
            ),
            (
                |with| with.mailgun_domain = None,
                "MAIL_PROVIDERS names mailgun, but MAILGUN_DOMAIN is not set",
            ),
            (
                |with| with.smtp_url = None,
                "MAIL_PROVIDERS names smtp, but SMTP_URL is not set",
            ),
            (
                |with| with.mail_from = None,
                "MAIL_PROVIDERS names smtp, but MAIL_FROM is not set",
            ),
            (
                |with| with.twilio_auth_token = None,
                "SMS_PROVIDERS names twilio, but TWILIO_AUTH_TOKEN is not set",
            ),
            (
                |with| with.mail_providers.push(MailChoice::Smtp),
                "MAIL_PROVIDERS names smtp twice",
            ),
            (
                |with| with.sms_providers.clear(),
                "SMS_PROVIDERS names nobody",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(complaint(change).as_deref(), Some(expected));
        }
    }

    #[test]
    fn who_is_not_named_need_not_be_configured() {
        let only_smtp = |with: &mut ProviderSettings| {
            with.mail_providers = vec![MailChoice::Smtp];
            with.sendgrid_api_key = None;
            with.mailgun_api_key = None;
        };
        assert_eq!(complaint(only_smtp), None);
    }

    #[test]
    fn who_is_named_and_has_an_empty_setting_is_not_configured() {
        for setting in [
            "SENDGRID_API_KEY",
            "MAILGUN_API_KEY",
            "MAILGUN_DOMAIN",
            "SMTP_URL",
            "MAIL_FROM",
            "TWILIO_ACCOUNT_SID",
            "TWILIO_AUTH_TOKEN",
            "SMS_FROM",
        ] {
            let argument = format!("--{}=", setting.to_lowercase().replace('_', "-"));
            let others = ALL.iter().filter(|given| !given.starts_with(&argument));
            let arguments = others
                .copied()
                .chain([argument.as_str(), "--smtp-ca-file="]);
            let told = complaint_of(&Only::parse_from(arguments)).unwrap();
            let expected = format!(", but {setting} is not set");
            assert!(told.ends_with(&expected), "{setting}: {told}");
        }
        let only = Only::parse_from(ALL.iter().copied().chain(["--smtp-ca-file="]));
        assert_eq!(complaint_of(&only), None);
    }

    #[test]
    fn what_is_said_about_a_mistyped_url_does_not_repeat_its_password() {
        for (mistyped, reason) in [
            (
                "smtp://me:hunter2@mail.example.com",
                "use smtps, or ?tls=required",
            ),
            (
                "smtps://me:hunter2@mail.example.com:port",
                "invalid port number",
            ),
            (
                "smtps//me:hunter2@mail.example.com",
                "relative URL without a base",
            ),
        ] {
            let others = ALL.iter().filter(|given| !given.starts_with("--smtp-url"));
            let argument = format!("--smtp-url={mistyped}");
            let arguments = others.copied().chain([argument.as_str()]);
            let told = match Only::try_parse_from(arguments) {
                Ok(only) => complaint_of(&only).unwrap(),
                Err(error) => error.to_string(),
            };
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.starts_with("SMTP_URL makes no sense: "), "{told}");
            assert!(told.contains(reason), "{told}");
        }
        for setting in [
            "sendgrid-api-url",
            "mailgun-api-url",
            "twilio-api-url",
            "public-url",
        ] {
            let mistyped = format!("--{setting}=https://me:hunter2@api.example.com");
            let told = Only::try_parse_from(["test", &mistyped]).unwrap_err();
            let told = format!("{told} {told:?}");
            assert!(!told.contains("hunter2"), "{told}");
            assert!(told.contains("must have no credentials"), "{told}");
            assert!(told.contains(setting), "{told}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let told = complaint(|with| with.mail_from = Some("no address".to_owned()));
        assert!(told.unwrap().contains("MAIL_FROM is no e-mail address"));
        let told = complaint(|with| with.smtp_ca_file = Some("/nowhere/ca.pem".into()));
        assert_eq!(told.unwrap(), "SMTP_CA_FILE /nowhere/ca.pem cannot be read");
    }
}
