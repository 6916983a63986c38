//! `create-admin`: the first admin, whom nobody but the operator can make. It goes the way every command
//! goes; that the operator may do it, he proves with the key that tokens are signed with.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use events::{StreamVersion, ids::UserId, user::Role};
use reqwest::{Client, Response, StatusCode};
use runtime::{
    auth::{KeyRing, PublicKey, TokenVerifier},
    retry::Backoff,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{identity::tokens::TokenSigner, settings::CreateAdminSettings};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nodes that are not ready are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const ADMIN_NAME: &str = "Administrator";
/// What the operator signs for himself no change of the user cuts off: later than any version.
const EVERY_VERSION: StreamVersion = u32::MAX as StreamVersion;

#[derive(Deserialize)]
struct Registered {
    id: UserId,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
}

/// Registers the admin unless that has happened, and gives the role unless it is given.
pub async fn create(settings: &CreateAdminSettings) -> anyhow::Result<()> {
    let password = settings
        .admin_password
        .as_ref()
        .context("ORDERLOG_ADMIN_PASSWORD is not set")?;
    let published = PublicKey::read_all(&settings.token_public_key_file)?;
    let signer = TokenSigner::from_file(&settings.token_signing_key_file, &published)?;
    let nodes = Nodes {
        client: Client::builder().timeout(REQUEST_TIMEOUT).build()?,
        urls: &settings.command_urls,
    };
    let (email, password) = (settings.admin_email.as_str(), password.as_str());

    let registered = nodes
        .send(|client, url| {
            let body = json!({"email": email, "password": password, "name": ADMIN_NAME});
            client.post(format!("{url}/register")).json(&body)
        })
        .await?;
    let id = match registered.status() {
        StatusCode::CREATED => registered.json::<Registered>().await?.id,
        StatusCode::CONFLICT => {
            let keys = Arc::new(KeyRing::new(&published)?);
            log_in(&nodes, &TokenVerifier::new(keys), email, password).await?
        }
        _ => return Err(refused("registering", registered).await),
    };
    let token = signer
        .sign(id, Role::Admin, EVERY_VERSION)
        .context("signing a token")?;
    let changed = nodes
        .send(|client, url| {
            client
                .put(format!("{url}/users/{id}/role"))
                .bearer_auth(&token)
                .json(&json!({"role": "admin"}))
        })
        .await?;
    if changed.status() != StatusCode::OK {
        return Err(refused("giving the role", changed).await);
    }
    tracing::info!(user_id = %id, "there is an admin");
    Ok(())
}

/// Who has the address already must be who the operator means.
async fn log_in(
    nodes: &Nodes<'_>,
    verifier: &TokenVerifier,
    email: &str,
    password: &str,
) -> anyhow::Result<UserId> {
    let answer = nodes
        .send(|client, url| {
            client
                .post(format!("{url}/login"))
                .json(&json!({"email": email, "password": password}))
        })
        .await?;
    match answer.status() {
        StatusCode::OK => {
            let token = answer.json::<LoggedIn>().await?.access_token;
            let caller = verifier
                .verify(&token)
                .context("the node signs with another key than TOKEN_SIGNING_KEY_FILE")?;
            Ok(caller.user_id)
        }
        StatusCode::UNAUTHORIZED => {
            bail!(
                "ORDERLOG_ADMIN_EMAIL is registered already, with another password than ORDERLOG_ADMIN_PASSWORD"
            )
        }
        _ => Err(refused("logging in", answer).await),
    }
}

async fn refused(what: &str, answer: Response) -> anyhow::Error {
    let status = answer.status();
    let problem = answer.json::<Value>().await.unwrap_or_default();
    anyhow::anyhow!(
        "{what} was refused: {status}, {} {}",
        problem["detail"],
        problem["errors"]
    )
}

struct Nodes<'a> {
    client: Client,
    urls: &'a [String],
}

impl Nodes<'_> {
    /// The first answer of a node that is ready for the request.
    async fn send(
        &self,
        request: impl Fn(&Client, &str) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<Response> {
        let begun = std::time::Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let mut why = String::new();
            for url in self.urls {
                match request(&self.client, url.trim().trim_end_matches('/'))
                    .send()
                    .await
                {
                    Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                        why = format!("{url} is not ready");
                    }
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        why = format!(
                            "{url} does not answer ({error}); start it with command-api serve"
                        )
                    }
                }
            }
            if begun.elapsed() > PATIENCE {
                bail!("{why}");
            }
            tracing::info!(why, "waiting");
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }
}
