//! Customers: registered, or recognised when they already are.
//!
//! Nothing is kept between runs. A customer's password is derived from the seed and his number, so
//! that a later run can log him in and learn his id from the token.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;

use crate::api::{Answer, Api, Call, NoAnswer};
use crate::progress::Progress;
use crate::refusals::Refusals;
use crate::stop::Stop;

/// Most registrations under way at once: the server hashes passwords in a short queue, and other
/// users' logins must find a place in it.
pub const CONCURRENCY_COUNT_MAX: usize = 16;
/// Bytes of the derived password before it is written in hex.
const PASSWORD_BYTES: usize = 20;

/// What became of the customers.
#[derive(Debug, Default)]
pub struct Customers {
    /// The user's id by customer number.
    pub ids: HashMap<u64, Uuid>,
    /// How many were registered by this run.
    pub registered_count: u64,
    /// How many were there already.
    pub known_count: u64,
    /// Who was refused, and why.
    pub refusals: Refusals,
}

enum Outcome {
    Registered(Uuid),
    Known(Uuid),
    Refused(String),
}

/// Registers all customers, as many at once as told but at most [`CONCURRENCY_COUNT_MAX`].
///
/// A stop leaves the rest out; an answer that cannot be understood ends the run.
///
/// # Errors
/// When an answer cannot be understood.
pub async fn register_all(
    api: &Api,
    numbers: &BTreeSet<u64>,
    seed: &[u8],
    concurrency: usize,
    stop: &Stop,
) -> anyhow::Result<Customers> {
    let progress = Progress::begin("registering customers", numbers.len() as u64);
    let mut customers = Customers::default();
    let outcomes = stream::iter(numbers)
        .take_until(stop.ordered())
        .map(|number| async move { (*number, register(api, *number, seed).await) })
        .buffer_unordered(concurrency.min(CONCURRENCY_COUNT_MAX));
    let mut outcomes = pin!(outcomes);
    while let Some((number, outcome)) = outcomes.next().await {
        match outcome? {
            Some(Outcome::Registered(id)) => {
                customers.registered_count += 1;
                customers.ids.insert(number, id);
            }
            Some(Outcome::Known(id)) => {
                customers.known_count += 1;
                customers.ids.insert(number, id);
            }
            Some(Outcome::Refused(why)) => {
                customers.refusals.add(why, &format!("customer {number}"))
            }
            None => continue,
        }
        progress.advance(1);
    }
    progress.end();
    Ok(customers)
}

/// Nothing when there was no answer; the stop says why.
async fn register(api: &Api, number: u64, seed: &[u8]) -> anyhow::Result<Option<Outcome>> {
    match try_register(api, number, seed).await {
        Ok(outcome) => Ok(Some(outcome)),
        Err(error) if error.is::<NoAnswer>() => Ok(None),
        Err(error) => Err(error.context(format!("registering customer {number}"))),
    }
}

async fn try_register(api: &Api, number: u64, seed: &[u8]) -> anyhow::Result<Outcome> {
    let email = format!("customer-{number}@retail.example");
    let password = password(seed, number)?;
    let body = json!({
        "email": email,
        "password": password,
        "name": format!("Customer {number}"),
        "locale": "en-GB",
    });
    let call = Call {
        method: Method::POST,
        path: "/register".to_owned(),
        body: Some(body.to_string().into_bytes()),
        as_admin: false,
        headers: Vec::new(),
    };
    let answer = api.call(&call).await?;
    if answer.status == StatusCode::CREATED {
        let created: Created = answer.json()?;
        return Ok(Outcome::Registered(created.id));
    }
    if answer.status != StatusCode::CONFLICT || answer.problem().name() != "address-taken" {
        return Ok(Outcome::Refused(refusal(&answer)));
    }
    let answer = api.log_in(&email, &password).await?;
    if answer.status != StatusCode::OK {
        let advice = "the address is taken with another password; give the former run's --seed";
        return Ok(Outcome::Refused(format!(
            "{} at login: {advice}",
            answer.status.as_u16()
        )));
    }
    let logged_in: LoggedIn = answer.json()?;
    Ok(Outcome::Known(subject(&logged_in.access_token)?))
}

fn refusal(answer: &Answer) -> String {
    format!("{} {}", answer.status.as_u16(), answer.problem().in_short())
}

#[derive(Deserialize)]
struct Created {
    id: Uuid,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
}

/// HMAC-SHA-256 of the customer's number under the seed, cut and written in hex.
fn password(seed: &[u8], number: u64) -> anyhow::Result<String> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(seed).context("the seed cannot be used as a key")?;
    mac.update(b"orderlog import customer ");
    mac.update(number.to_string().as_bytes());
    let digest = mac.finalize().into_bytes();
    Ok(digest
        .iter()
        .take(PASSWORD_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The user an access token was given to. The token is the server's own answer to a login, so its
/// signature need not be checked.
fn subject(access_token: &str) -> anyhow::Result<Uuid> {
    #[derive(Deserialize)]
    struct Claims {
        sub: Uuid,
    }
    let payload = access_token
        .split('.')
        .nth(1)
        .context("the access token is no JWT")?;
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .context("the access token is no JWT")?;
    let claims: Claims =
        serde_json::from_slice(&payload).context("the access token names no user")?;
    Ok(claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_depends_on_seed_and_customer_and_on_nothing_else() {
        let first = password(b"seed", 12923).unwrap();
        assert_eq!(first, password(b"seed", 12923).unwrap());
        assert_eq!(first.len(), 2 * PASSWORD_BYTES);
        assert_ne!(first, password(b"seed", 12924).unwrap());
        assert_ne!(first, password(b"other", 12923).unwrap());
    }

    #[test]
    fn the_user_is_read_from_the_token() {
        let id = Uuid::now_v7();
        let claims = URL_SAFE_NO_PAD.encode(json!({ "sub": id, "role": "customer" }).to_string());
        assert_eq!(subject(&format!("e30.{claims}.signature")).unwrap(), id);
        for bad in ["", "e30", "e30.e30.e30", "a.!.b"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }
}
