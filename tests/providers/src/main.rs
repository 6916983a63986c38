//! `providers`: the stand-in for the providers of e-mail and SMS, as a process.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use providers::certificate::Certificate;
use providers::smtp::{Door, Start};
use providers::{Credentials, MESSAGES_COUNT_MAX, Settings};
use tracing_subscriber::EnvFilter;

/// Speaks the HTTP APIs of SendGrid, Mailgun and Twilio, takes mail by SMTP under TLS, keeps what it is sent, and
/// fails when told to.
///
/// For tests and demonstrations only: nothing is ever delivered.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address to listen on, host:port (port 0: any free one, named in the log).
    #[arg(long, env = "PROVIDERS_LISTEN", default_value = "127.0.0.1:21005")]
    listen: String,

    /// The key SendGrid's API shall accept as bearer token.
    #[arg(long, env = "SENDGRID_API_KEY", hide_env_values = true, value_parser = not_empty)]
    sendgrid_api_key: String,

    /// The key of Mailgun's API, its Basic password.
    #[arg(long, env = "MAILGUN_API_KEY", hide_env_values = true, value_parser = not_empty)]
    mailgun_api_key: String,

    /// The sending domain of Mailgun's API.
    #[arg(long, env = "MAILGUN_DOMAIN", value_parser = not_empty)]
    mailgun_domain: String,

    /// Address to take mail on, host:port, under TLS from the command STARTTLS on; unless given, none is taken.
    #[arg(long, env = "PROVIDERS_SMTP_LISTEN", requires_all = ["smtp_username", "smtp_password", "certificate_dir"])]
    smtp_listen: Option<String>,

    /// Address to take mail on, host:port, under TLS from the start; unless given, none is taken.
    #[arg(long, env = "PROVIDERS_SMTPS_LISTEN", requires_all = ["smtp_username", "smtp_password", "certificate_dir"])]
    smtps_listen: Option<String>,

    /// The user name that mail is handed in with.
    #[arg(long, env = "SMTP_USERNAME", value_parser = not_empty)]
    smtp_username: Option<String>,

    /// The password that mail is handed in with.
    #[arg(long, env = "SMTP_PASSWORD", hide_env_values = true, value_parser = not_empty)]
    smtp_password: Option<String>,

    /// Directory of the certificate (smtp.pem) and its key (smtp-key.pem); made where they are missing.
    #[arg(long, env = "PROVIDERS_CERTIFICATE_DIR")]
    certificate_dir: Option<PathBuf>,

    /// The account of Twilio's API, also its Basic user name.
    #[arg(long, env = "TWILIO_ACCOUNT_SID", value_parser = not_empty)]
    twilio_account_sid: String,

    /// The Basic password of Twilio's API.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true, value_parser = not_empty)]
    twilio_auth_token: String,

    /// How many messages are kept; beyond it the oldest are dropped.
    #[arg(long, env = "PROVIDERS_MESSAGES_COUNT_MAX", default_value_t = MESSAGES_COUNT_MAX)]
    messages_count_max: usize,

    /// What is logged, as a tracing filter.
    #[arg(long, env = "LOG_FILTER", default_value = "info")]
    log_filter: String,
}

fn not_empty(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(value.to_owned())
}

impl Args {
    /// The doors for mail, bound.
    fn doors(&self) -> anyhow::Result<Vec<Door>> {
        let Some(directory) = &self.certificate_dir else {
            return Ok(Vec::new());
        };
        let certificate = Certificate::in_directory(directory)?;
        let mut doors = Vec::new();
        let listens = [
            (&self.smtp_listen, Start::Plain),
            (&self.smtps_listen, Start::Encrypted),
        ];
        for (address, start) in listens {
            let Some(address) = address else { continue };
            let listener = TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}"))?;
            doors.push(Door::new(listener, start, &certificate)?);
            tracing::info!(address, ?start, "taking mail");
        }
        Ok(doors)
    }
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log_filter).context("LOG_FILTER cannot be read")?;
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .init();
    let listener = TcpListener::bind(&args.listen)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let settings = Settings {
        smtp: args.doors()?,
        credentials: Credentials {
            sendgrid_api_key: args.sendgrid_api_key,
            mailgun_api_key: args.mailgun_api_key,
            mailgun_domain: args.mailgun_domain,
            smtp_username: args.smtp_username.unwrap_or_default(),
            smtp_password: args.smtp_password.unwrap_or_default(),
            twilio_account_sid: args.twilio_account_sid,
            twilio_auth_token: args.twilio_auth_token,
        },
        messages_count_max: args.messages_count_max,
    };
    let server = providers::serve(listener, settings)?;
    tracing::info!(%address, "listening; open http://{address}/ to see the messages");
    server.await?;
    tracing::info!("stopped");
    Ok(())
}
