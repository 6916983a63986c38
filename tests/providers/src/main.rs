//! `providers`: the stand-in for SendGrid and Twilio, as a process.

use std::net::TcpListener;

use anyhow::Context;
use clap::Parser;
use providers::{Credentials, MESSAGES_COUNT_MAX, Settings};
use tracing_subscriber::EnvFilter;

/// Speaks the HTTP APIs of SendGrid and Twilio, keeps what it is sent, and fails when told to.
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
        credentials: Credentials {
            sendgrid_api_key: args.sendgrid_api_key,
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
