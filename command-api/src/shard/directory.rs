//! Who owns which shard, as far as this node has heard: from the group, and from other nodes. It may be wrong at any time;
//! then the wrong node is asked, says so, and the group is asked anew.

use std::{sync::Arc, time::Duration};

use event_log::membership::{LastOwner, Membership};
use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

/// What was read from the group a moment ago is as good as new: when a shard moves, thousands may ask at once.
const AS_GOOD_AS_NEW: Duration = Duration::from_millis(50);

/// The directory of owners.
pub struct Directory {
    membership: Arc<Membership>,
    own_address: Arc<str>,
    shards: u16,
    known: RwLock<Known>,
    /// Held by the one who asks the group; the others wait for what he hears.
    asking: Mutex<()>,
}

struct Known {
    /// When the group was asked.
    as_of: Option<Instant>,
    owners: Vec<LastOwner>,
}

impl Directory {
    /// Knows nothing yet. This node's own address is `own_address`.
    pub fn new(membership: Arc<Membership>, own_address: &str, shards: u16) -> Self {
        Self {
            membership,
            own_address: own_address.into(),
            shards,
            known: RwLock::new(Known {
                as_of: None,
                owners: vec![LastOwner::Nobody; usize::from(shards)],
            }),
            asking: Mutex::default(),
        }
    }

    /// The owner of `shard`, as known, or as the group says after `newer_than`.
    pub async fn owner(&self, shard: u16, newer_than: Option<Instant>) -> LastOwner {
        if !self.is_known(newer_than) {
            let _asking = self.asking.lock().await;
            if !self.is_known(newer_than) {
                self.ask().await;
            }
        }
        let known = self.known.read();
        let owner = known.owners.get(usize::from(shard));
        owner.cloned().unwrap_or(LastOwner::Nobody)
    }

    /// Whether this is where this node is.
    pub fn is_here(&self, address: &str) -> bool {
        *self.own_address == *address
    }

    /// Another node says that `shard` is this one's.
    pub fn heard(&self, shard: u16, address: &Arc<str>) {
        if let Some(owner) = self.known.write().owners.get_mut(usize::from(shard)) {
            *owner = LastOwner::At(Arc::clone(address));
        }
    }

    fn is_known(&self, newer_than: Option<Instant>) -> bool {
        match (self.known.read().as_of, newer_than) {
            (Some(as_of), Some(newer_than)) => as_of + AS_GOOD_AS_NEW >= newer_than,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Asks the group. When it does not answer, what was known is all there is for now.
    async fn ask(&self) {
        let (begun, membership, shards) =
            (Instant::now(), Arc::clone(&self.membership), self.shards);
        let told = tokio::task::spawn_blocking(move || membership.owners(shards)).await;
        let mut known = self.known.write();
        known.as_of = Some(begun);
        match told {
            Ok(Ok(owners)) => known.owners = owners,
            Ok(Err(error)) => tracing::debug!(%error, "the group does not say who owns what"),
            // An address that is no text.
            Err(error) => tracing::warn!(%error, "what the group says about owners is unreadable"),
        }
    }
}
