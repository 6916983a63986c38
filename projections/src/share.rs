//! Which partitions this process projects: processes of one version share them out as members of a group of Kafka. That two
//! take the same partition for theirs for a moment does no harm: a checkpoint moves only from where its reader found it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use event_log::{
    LogError,
    membership::{Group, Membership, Ownership},
};
use tokio::sync::watch;

use crate::{source::Log, store::ReadModel};

/// How long the group waits for a silent process before others take over: the least that Kafka accepts.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// The partitions of one process.
pub type Partitions = Arc<BTreeSet<u16>>;

/// Why a process can be no member of the group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoMember(String);

/// What is known of this process' partitions.
#[derive(Debug, Clone)]
enum Known {
    /// The group has not shared them out yet.
    Nothing,
    /// These are its own.
    Own(Partitions),
    /// There will be none.
    Failed(NoMember),
}

/// The share of this process.
pub struct Share {
    membership: Membership,
    known: watch::Receiver<Known>,
}

impl Share {
    /// Joins the group of those who project `M`.
    pub fn join<M: ReadModel>(log: &Log) -> Result<Self, LogError> {
        let (tell, known) = watch::channel(Known::Nothing);
        let listener = move |change| {
            tell.send_modify(|known| {
                let own = match &*known {
                    Known::Own(own) => own.as_ref().clone(),
                    Known::Nothing | Known::Failed(_) => BTreeSet::new(),
                };
                *known = match change {
                    Ownership::Assigned(more) => {
                        Known::Own(Arc::new(own.into_iter().chain(more).collect()))
                    }
                    Ownership::Revoked(lost) => {
                        let kept = own.into_iter().filter(|it| !lost.contains(it));
                        let kept: BTreeSet<u16> = kept.collect();
                        // It may get others, or hear that there are none for it.
                        match kept.is_empty() {
                            true => Known::Nothing,
                            false => Known::Own(Arc::new(kept)),
                        }
                    }
                    Ownership::Failed(reason) => Known::Failed(NoMember(reason)),
                };
            });
        };
        let group = Group {
            name: format!("projections-{}-{}", M::MODEL, M::VERSION),
            topic: M::MODEL.topic(),
            shards: log.partitions,
            session_timeout: SESSION_TIMEOUT,
        };
        let name = group.name.clone();
        let membership = Membership::join(&log.kafka, group, &name, "", Arc::new(listener))?;
        Ok(Self { membership, known })
    }

    /// The partitions of this process, if they are known.
    pub fn own(&self) -> Option<Partitions> {
        match &*self.known.borrow() {
            Known::Own(own) => Some(Arc::clone(own)),
            Known::Nothing | Known::Failed(_) => None,
        }
    }

    /// Waits until the partitions of this process are other than `before`, or are known no more.
    pub async fn other_than(&mut self, before: Option<&Partitions>) -> Result<(), NoMember> {
        let is_news = |known: &Known| match known {
            Known::Nothing => before.is_some(),
            Known::Own(own) => Some(own) != before,
            Known::Failed(_) => true,
        };
        match self.known.wait_for(is_news).await.as_deref() {
            Ok(Known::Own(_) | Known::Nothing) => Ok(()),
            Ok(Known::Failed(reason)) => Err(reason.clone()),
            Err(_) => Err(NoMember("its thread has ended".to_owned())),
        }
    }

    /// Leaves the group, so that others take over at once.
    pub async fn leave(self) {
        let membership = self.membership;
        if tokio::task::spawn_blocking(move || membership.leave())
            .await
            .is_err()
        {
            tracing::error!("leaving the group panicked");
        }
    }
}
