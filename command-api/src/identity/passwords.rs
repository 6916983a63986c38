//! Password hashing: slow on purpose, so on threads of its own, few of them and with a short queue. A flood
//! of logins is turned away and leaves orders alone.

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bcrypt::{non_truncating_hash, non_truncating_verify};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use metrics::gauge;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::IdentityError;
use crate::measures::MEASURES;

/// How passwords are hashed.
#[derive(Debug, Clone, clap::Args)]
pub struct PasswordSettings {
    /// bcrypt's cost: each step doubles the time. Below 12 only where nothing is at stake.
    #[arg(long, env = "BCRYPT_COST", default_value_t = 12, value_parser = clap::value_parser!(u32).range(4..=31))]
    pub bcrypt_cost: u32,
    /// Threads that hash passwords; at most that many processors are kept busy by logins.
    #[arg(long, env = "PASSWORD_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub password_threads: u16,
    /// Passwords that wait for a thread; more are turned away.
    #[arg(long, env = "PASSWORD_QUEUE_MAX", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub password_queue_max: u16,
}

type Job = Box<dyn FnOnce() + Send>;

/// The threads that hash passwords; clones share them.
#[derive(Clone)]
pub struct Passwords {
    jobs: Sender<Job>,
    cost: u32,
    /// What a password of an unknown user is compared with, so that it takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// Starts the threads; they end with the last clone.
    pub fn start(settings: &PasswordSettings) -> Result<Self, IdentityError> {
        let (jobs, queue) = bounded::<Job>(usize::from(settings.password_queue_max));
        for number in 0..settings.password_threads {
            let queue: Receiver<Job> = queue.clone();
            std::thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || queue.iter().for_each(|job| job()))
                .map_err(|error| {
                    IdentityError::Broken(format!("no thread for passwords: {error}"))
                })?;
        }
        gauge!("command_api_password_threads").set(settings.password_threads);
        gauge!("command_api_passwords_waiting_limit").set(settings.password_queue_max);
        let cost = settings.bcrypt_cost;
        let nobody = hash(&STANDARD.encode(rand::random::<[u8; 32]>()), cost)?.into();
        Ok(Self { jobs, cost, nobody })
    }

    /// Tells Prometheus how many wait for a thread.
    pub fn report(&self) {
        gauge!("command_api_passwords_waiting").set(self.jobs.len() as f64);
    }

    /// The hash to store for a password.
    pub async fn hash(&self, password: &str) -> Result<String, IdentityError> {
        let (password, cost) = (Zeroizing::new(password.to_owned()), self.cost);
        self.run(move || hash(&password, cost)).await?
    }

    /// Whether the password is the one of this hash. Without a hash the answer is no, and takes as long.
    pub async fn is_right(
        &self,
        password: &str,
        stored: Option<String>,
    ) -> Result<bool, IdentityError> {
        let password = Zeroizing::new(password.to_owned());
        let (known, hash) = match stored {
            Some(hash) => (true, hash),
            None => (false, self.nobody.to_string()),
        };
        let matches = self.run(move || verify(&password, &hash)).await??;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IdentityError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Whoever hung up does not take the others' turn.
            if !reply.is_closed() {
                let begun = Instant::now();
                let done = job();
                MEASURES.password.record(begun.elapsed());
                drop(reply.send(done));
            }
        });
        self.jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => {
                MEASURES.passwords_turned_away.increment(1);
                IdentityError::Busy
            }
            TrySendError::Disconnected(_) => {
                IdentityError::Broken("the password threads ended".into())
            }
        })?;
        answer
            .await
            .map_err(|_| IdentityError::Broken("a password thread panicked".into()))
    }
}

/// bcrypt reads 72 bytes and stops at a zero byte: the digest in base64 has 44 and none.
fn digest(password: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(Sha256::digest(password)))
}

fn hash(password: &str, cost: u32) -> Result<String, IdentityError> {
    non_truncating_hash(digest(password).as_bytes(), cost)
        .map_err(|error| IdentityError::Broken(error.to_string()))
}

fn verify(password: &str, hash: &str) -> Result<bool, IdentityError> {
    non_truncating_verify(digest(password).as_bytes(), hash)
        .map_err(|error| IdentityError::Broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(queue: u16) -> Passwords {
        Passwords::start(&PasswordSettings {
            bcrypt_cost: 4,
            password_threads: 1,
            password_queue_max: queue,
        })
        .unwrap()
    }

    #[tokio::test]
    async fn only_the_whole_password_opens() {
        let passwords = start(4);
        let shared = "x".repeat(72);
        for (password, others) in [
            (
                "correct horse battery".to_owned(),
                vec!["correct horse batterY".to_owned(), String::new()],
            ),
            (
                format!("{shared}1"),
                vec![format!("{shared}2"), shared.clone(), format!("{shared}1 ")],
            ),
            (
                "nul\0byte-password".to_owned(),
                vec!["nul\0byte-passwore".to_owned(), "nul".to_owned()],
            ),
            (
                "пароль-из-двенадцати".to_owned(),
                vec!["пароль-из-двенадцатИ".to_owned()],
            ),
        ] {
            let hash = passwords.hash(&password).await.unwrap();
            assert!(hash.starts_with("$2b$04$"));
            assert!(
                passwords
                    .is_right(&password, Some(hash.clone()))
                    .await
                    .unwrap()
            );
            for other in others {
                assert!(
                    !passwords
                        .is_right(&other, Some(hash.clone()))
                        .await
                        .unwrap(),
                    "{other:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn nobody_has_a_password() {
        assert!(!start(4).is_right("anything at all", None).await.unwrap());
    }

    #[tokio::test]
    async fn a_flood_is_turned_away() {
        let passwords = start(1);
        let (release, wait) = bounded::<()>(0);
        let (begun, has_begun) = bounded::<()>(1);
        let busy: Job = Box::new(move || {
            begun.send(()).unwrap();
            wait.recv().ok();
        });
        passwords.jobs.send(busy).unwrap();
        has_begun.recv().unwrap();
        passwords.jobs.send(Box::new(|| ())).unwrap();
        assert!(matches!(
            passwords.hash("one too many").await,
            Err(IdentityError::Busy)
        ));
        drop(release);
        // Room comes back once the thread goes on.
        while let Err(error) = passwords.hash("now there is room").await {
            assert!(matches!(error, IdentityError::Busy));
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_and_no_answer() {
        assert!(
            start(4)
                .is_right("anything", Some("damaged".into()))
                .await
                .is_err()
        );
    }
}
