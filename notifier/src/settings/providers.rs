//! The settings of the providers: which there are, and what may stand in their addresses. One that is empty counts as
//! not set, so that a file of settings can name what may be left out.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use runtime::setting::confidential;

/// Where mail is handed in under TLS, RFC 8314.
const SUBMISSIONS_PORT: u16 = 465;
/// Where mail is handed in, RFC 6409.
const SUBMISSION_PORT: u16 = 587;

/// Which providers there are, where they are, and who we are there.
#[derive(Debug, Args)]
pub struct ProviderSettings {
    /// The providers of e-mail, in the order in which they take over from one another.
    #[arg(
        long,
        env = "MAIL_PROVIDERS",
        value_enum,
        value_delimiter = ',',
        default_value = "sendgrid"
    )]
    pub mail_providers: Vec<MailChoice>,
    /// The providers of text messages, in the order in which they take over from one another.
    #[arg(
        long,
        env = "SMS_PROVIDERS",
        value_enum,
        value_delimiter = ',',
        default_value = "twilio"
    )]
    pub sms_providers: Vec<SmsChoice>,
    /// Base of SendGrid's API, without the version path.
    #[arg(
        long,
        env = "SENDGRID_API_URL",
        default_value = "https://api.sendgrid.com",
        value_parser = confidential::<ProviderUrl>()
    )]
    pub sendgrid_api_url: ProviderUrl,
    /// Key of SendGrid's API.
    #[arg(long, env = "SENDGRID_API_KEY", hide_env_values = true)]
    pub sendgrid_api_key: Option<Secret>,
    /// Base of Mailgun's API, without the version path; accounts in the EU have https://api.eu.mailgun.net.
    #[arg(
        long,
        env = "MAILGUN_API_URL",
        default_value = "https://api.mailgun.net",
        value_parser = confidential::<ProviderUrl>()
    )]
    pub mailgun_api_url: ProviderUrl,
    /// Key of Mailgun's API.
    #[arg(long, env = "MAILGUN_API_KEY", hide_env_values = true)]
    pub mailgun_api_key: Option<Secret>,
    /// The sending domain at Mailgun.
    #[arg(long, env = "MAILGUN_DOMAIN")]
    pub mailgun_domain: Option<String>,
    /// A server that takes mail for others: `smtps://user:password@host` (TLS from the start, port 465 unless given)
    /// or `smtp://user:password@host?tls=required` (STARTTLS, port 587 unless given). Without TLS, which is
    /// `smtp://host:port`, on this machine only. User and password percent-encoded where need be.
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<Secret>,
    /// File with the certificates (PEM) that the server's is checked with, instead of the public authorities'.
    #[arg(long, env = "SMTP_CA_FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub smtp_ca_file: Option<PathBuf>,
    /// Base of Twilio's API, without the version path.
    #[arg(
        long,
        env = "TWILIO_API_URL",
        default_value = "https://api.twilio.com",
        value_parser = confidential::<ProviderUrl>()
    )]
    pub twilio_api_url: ProviderUrl,
    /// Account of Twilio's API.
    #[arg(long, env = "TWILIO_ACCOUNT_SID")]
    pub twilio_account_sid: Option<String>,
    /// Password of the account of Twilio's API.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    pub twilio_auth_token: Option<Secret>,
    /// Address that mails come from.
    #[arg(long, env = "MAIL_FROM")]
    pub mail_from: Option<String>,
    /// Number or name that text messages come from.
    #[arg(long, env = "SMS_FROM")]
    pub sms_from: Option<String>,
    /// Base of the URL that Twilio is told to report to; the report's query names the event.
    #[arg(
        long,
        env = "PUBLIC_URL",
        default_value = "http://127.0.0.1",
        value_parser = confidential::<ProviderUrl>()
    )]
    pub public_url: ProviderUrl,
}

/// A provider of e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MailChoice {
    /// SendGrid's API.
    Sendgrid,
    /// Mailgun's API.
    Mailgun,
    /// Any server that takes mail for others.
    Smtp,
}

impl fmt::Display for MailChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sendgrid => "sendgrid",
            Self::Mailgun => "mailgun",
            Self::Smtp => "smtp",
        })
    }
}

/// A provider of text messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SmsChoice {
    /// Twilio's API.
    Twilio,
}

impl fmt::Display for SmsChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Twilio => "twilio",
        })
    }
}

/// A secret; never shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The base of an API: https, or http on this machine only; without credentials, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderUrl(Url);

impl ProviderUrl {
    /// The URL of a path below the base.
    pub fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // An error only for URLs that cannot be a base, which http and https can.
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl FromStr for ProviderUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare {
            return Err("must have no credentials, query or fragment".to_owned());
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => {
                Err("plain http is only for this machine's own address: use https".to_owned())
            }
            _ => Err("must be an https URL".to_owned()),
        }
    }
}

/// How the connection to a mail server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the start.
    Implicit,
    /// TLS from the first command on; without it nothing is sent.
    StartTls,
    /// Not at all; on this machine only.
    None,
}

/// A server that takes mail for others.
#[derive(Debug, Clone)]
pub struct SmtpUrl {
    /// Its name or address, as its certificate must have it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept secret.
    pub encryption: Encryption,
    /// Who we are there.
    pub credentials: Option<(String, Secret)>,
}

impl FromStr for SmtpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        let host = host(&url).ok_or("must name a server")?;
        let encryption = match (url.scheme(), url.query()) {
            ("smtps", None) => Encryption::Implicit,
            ("smtp", Some("tls=required")) => Encryption::StartTls,
            ("smtp", None) if is_loopback(&url) => Encryption::None,
            ("smtp", None) => {
                return Err("SMTP without TLS is only for this machine's own address: use smtps, or ?tls=required".to_owned());
            }
            _ => return Err("must be smtps://… or smtp://…?tls=required".to_owned()),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("must have no path and no fragment".to_owned());
        }
        let plain = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let not_utf8 = |_| "user and password must be UTF-8".to_owned();
        let user = plain(url.username()).map_err(not_utf8)?;
        let password = plain(url.password().unwrap_or_default()).map_err(not_utf8)?;
        let default_port = match encryption {
            Encryption::Implicit => SUBMISSIONS_PORT,
            Encryption::StartTls | Encryption::None => SUBMISSION_PORT,
        };
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(default_port),
            encryption,
            credentials: (!user.is_empty()).then_some((user, Secret(password))),
        })
    }
}

/// The host of a URL, an IPv6 address without its brackets.
fn host(url: &Url) -> Option<&str> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = host(url) else {
        return false;
    };
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in [
            "https://api.sendgrid.com",
            "http://127.0.0.1:21005",
            "http://127.1.2.3/",
            "http://[::1]:80/base/",
            "http://localhost:1",
        ] {
            assert!(good.parse::<ProviderUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://api.sendgrid.com",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1@evil.example",
            "https://u:p@api.sendgrid.com",
            "https://api.sendgrid.com/?a=b",
            "ftp://127.0.0.1",
            "api.sendgrid.com",
            "",
        ] {
            assert!(bad.parse::<ProviderUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_joined_and_escaped() {
        let join = |base: &str, segments: &[&str]| {
            base.parse::<ProviderUrl>()
                .unwrap()
                .join(segments)
                .to_string()
        };
        assert_eq!(
            join("https://x.example", &["v3", "mail"]),
            "https://x.example/v3/mail"
        );
        assert_eq!(
            join("https://x.example/base/", &["a/b"]),
            "https://x.example/base/a%2Fb"
        );
    }

    #[test]
    fn a_mail_server_is_asked_under_tls_unless_it_is_this_machine() {
        let read = |text: &str| {
            let url: SmtpUrl = text.parse().unwrap();
            let user = url.credentials.map(|(user, password)| (user, password.0));
            (url.host, url.port, url.encryption, user)
        };
        let host = || "mail.example.com".to_owned();
        let user = Some(("me@x".to_owned(), "p/w".to_owned()));
        for (text, expected) in [
            (
                "smtps://mail.example.com",
                (host(), 465, Encryption::Implicit, None),
            ),
            (
                "smtps://me%40x:p%2Fw@mail.example.com:1465/",
                (host(), 1465, Encryption::Implicit, user.clone()),
            ),
            (
                "smtp://me%40x:p%2Fw@mail.example.com?tls=required",
                (host(), 587, Encryption::StartTls, user),
            ),
            (
                "smtp://[::1]:2525",
                ("::1".to_owned(), 2525, Encryption::None, None),
            ),
            (
                "smtp://127.0.0.1",
                ("127.0.0.1".to_owned(), 587, Encryption::None, None),
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for bad in [
            "smtp://mail.example.com",
            "smtp://10.0.0.1",
            "smtp://127.0.0.1.evil.example",
            "smtp://mail.example.com?tls=opportunistic",
            "smtps://mail.example.com?tls=none",
            "smtps://mail.example.com/ehlo",
            "smtps://",
            "https://mail.example.com",
            "mail.example.com",
        ] {
            assert!(bad.parse::<SmtpUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", Secret::from("hunter2")).contains("hunter2"));
        let url: SmtpUrl = "smtps://me:hunter2@mail.example.com".parse().unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
