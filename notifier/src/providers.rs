//! The providers as the settings choose them: which, in which order, and with which accounts. One that is named and
//! not configured ends the process at its start.

use anyhow::{Context, ensure};

use crate::{
    channel::{
        self, MailProvider, Mailgun, Route, SendGrid, SmsProvider, Smtp, Twilio, twilio::Account,
    },
    settings::{MailChoice, ProviderSettings, SendingSettings, SmsChoice},
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
    let from = with.mail_from.clone().with_context(needed("MAIL_FROM"))?;
    Ok(match choice {
        MailChoice::Sendgrid => {
            let key = with.sendgrid_api_key.as_ref();
            let key = key.with_context(needed("SENDGRID_API_KEY"))?;
            MailProvider::SendGrid(SendGrid::new(
                client.clone(),
                bounds,
                &with.sendgrid_api_url,
                key.expose().to_owned(),
                from,
            ))
        }
        MailChoice::Mailgun => {
            let key = with.mailgun_api_key.as_ref();
            let key = key.with_context(needed("MAILGUN_API_KEY"))?;
            let domain = with.mailgun_domain.as_ref();
            MailProvider::Mailgun(Mailgun::new(
                client.clone(),
                bounds,
                &with.mailgun_api_url,
                domain.with_context(needed("MAILGUN_DOMAIN"))?,
                key.expose().to_owned(),
                from,
            ))
        }
        MailChoice::Smtp => {
            let url = with.smtp_url.clone().with_context(needed("SMTP_URL"))?;
            let ca_pem = with.smtp_ca_file.as_deref().map(certificates).transpose()?;
            MailProvider::Smtp(Smtp::new(bounds, url, ca_pem.as_deref(), &from)?)
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
            let sid = with.twilio_account_sid.clone();
            let token = with.twilio_auth_token.as_ref();
            let account = Account {
                sid: sid.with_context(needed("TWILIO_ACCOUNT_SID"))?,
                auth_token: token
                    .with_context(needed("TWILIO_AUTH_TOKEN"))?
                    .expose()
                    .to_owned(),
            };
            SmsProvider::Twilio(Twilio::new(
                client.clone(),
                bounds,
                &with.twilio_api_url,
                account,
                with.sms_from.clone().with_context(needed("SMS_FROM"))?,
                &with.public_url,
            ))
        }
    })
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

    #[derive(Parser)]
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
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let mut only = Only::parse_from(ALL);
        only.providers.smtp_ca_file = None;
        change(&mut only.providers);
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
    fn what_makes_no_sense_is_said() {
        let told = complaint(|with| with.mail_from = Some("no address".to_owned()));
        assert!(told.unwrap().contains("MAIL_FROM is no e-mail address"));
        let told = complaint(|with| with.smtp_ca_file = Some("/nowhere/ca.pem".into()));
        assert_eq!(told.unwrap(), "SMTP_CA_FILE /nowhere/ca.pem cannot be read");
    }
}
