//! The notifier: folds the log into who must be told what, keeps a ledger of it in Postgres, and talks to the
//! providers of e-mail and SMS.
//!
//! An event becomes notifications in [`react`] (pure), they are entered in the ledger by [`store`] together with
//! the checkpoint, claimed and recorded through [`ledger`] by a [`sender`] per channel, brought by the
//! [`courier`] to the providers of its [`channel`], and what then becomes of them is decided in [`schedule`] (pure). To add a notification: an arm
//! in `react`, a variant of `Occasion`, and its templates.

pub mod changes;
pub mod channel;
pub mod contacts;
pub mod courier;
pub mod dead_letters;
pub mod lag;
pub mod ledger;
pub mod measures;
pub mod origin;
pub mod providers;
pub mod react;
pub mod schedule;
pub mod sender;
pub mod serve;
pub mod settings;
pub mod store;
pub mod texts;
pub mod worker;

#[cfg(test)]
mod samples;
