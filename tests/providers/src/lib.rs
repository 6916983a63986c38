//! Stand-in for the providers of e-mail and SMS.
//!
//! It speaks the part of each provider's HTTP API that the notifier uses, as the provider's
//! public description says: authentication, required fields, answers, error bodies; and takes mail
//! by SMTP under TLS. It keeps what it got (`GET /messages`, a page for people at `/`) and fails
//! when told to (`POST /faults`).
//!
//! One module per provider ([`sendgrid`], [`mailgun`], [`twilio`], [`smtp`]); a further provider
//! with an HTTP API is a module with one handler of the same shape, a variant of
//! [`kept::Provider`], and a line in [`serve`].

pub mod basic;
pub mod certificate;
pub mod control;
pub mod faults;
pub mod kept;
pub mod mailgun;
pub mod mime;
pub mod page;
pub mod sendgrid;
pub mod smtp;
pub mod twilio;

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpServer, web};

use crate::faults::Faults;
use crate::kept::Kept;

/// Most messages kept unless the settings say otherwise; beyond it the oldest are dropped.
pub const MESSAGES_COUNT_MAX: usize = 50_000;
/// Most bytes of messages kept; beyond it the oldest are dropped.
pub const MESSAGES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest request body read. SendGrid's own limit is 30 MB with attachments.
pub const BODY_BYTES_MAX: usize = 30 * 1024 * 1024;
const WORKERS_COUNT: usize = 2;
const SHUTDOWN_SECONDS_MAX: u64 = 2;
/// Longer than clients keep idle connections, so that the client is the one who closes.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// What the providers accept as proof of who is calling.
#[derive(Clone)]
pub struct Credentials {
    /// SendGrid: the bearer token.
    pub sendgrid_api_key: String,
    /// Mailgun: the key, its Basic password.
    pub mailgun_api_key: String,
    /// Mailgun: the sending domain.
    pub mailgun_domain: String,
    /// SMTP: the user name.
    pub smtp_username: String,
    /// SMTP: the password.
    pub smtp_password: String,
    /// Twilio: the account, also the Basic user name.
    pub twilio_account_sid: String,
    /// Twilio: the Basic password.
    pub twilio_auth_token: String,
}

/// Everything [`serve`] must be told.
#[derive(Clone)]
pub struct Settings {
    /// What the providers accept as proof of who is calling.
    pub credentials: Credentials,
    /// How many messages are kept; beyond it the oldest are dropped.
    pub messages_count_max: usize,
    /// Where mail is taken by SMTP.
    pub smtp: Vec<smtp::Door>,
}

/// What the handlers share.
pub struct Shared {
    /// What the providers accept as proof of who is calling.
    pub credentials: Credentials,
    /// The messages received.
    pub kept: Kept,
    /// The failures ordered.
    pub faults: Faults,
}

/// Starts serving on bound listeners; to be called within a runtime. The answer is a future that ends
/// when the HTTP server is stopped (SIGTERM, SIGINT, or its handle); mail is taken as long as the runtime runs.
///
/// # Errors
/// When a listener cannot be taken over.
pub fn serve(listener: TcpListener, settings: Settings) -> std::io::Result<Server> {
    let shared = web::Data::new(Shared {
        credentials: settings.credentials,
        kept: Kept::new(settings.messages_count_max, MESSAGES_BYTES_MAX),
        faults: Faults::default(),
    });
    for door in settings.smtp {
        door.open(shared.clone().into_inner())?;
    }
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
            .configure(sendgrid::routes)
            .configure(mailgun::routes)
            .configure(twilio::routes)
            .configure(control::routes)
            .configure(page::routes)
            .default_service(web::to(control::not_found))
    })
    .on_connect(faults::remember_connection)
    .workers(WORKERS_COUNT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(SHUTDOWN_SECONDS_MAX)
    .listen(listener)?;
    Ok(server.run())
}
