//! An order as its events make it, and its rules, written once more for the checker.

use events::ids::UserId;

use super::{Found, Kind};
use crate::history::{Call, Caller, Fact, Says, Sent, Shown, Status};

/// What the events up to a version amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) customer: UserId,
    pub(super) status: Status,
    pub(super) sku: String,
}

impl Folded {
    /// Whether an answer shows just this.
    pub(super) fn is(&self, shown: &Shown) -> bool {
        self.customer == shown.customer && self.status == shown.status && self.sku == shown.sku
    }

    /// Whether what is asked for is so already.
    pub(super) fn is_already(&self, sent: &Sent) -> bool {
        match sent {
            Sent::Create { .. } => false,
            Sent::Update { sku, .. } => self.sku == *sku,
            Sent::Cancel { .. } => self.status == Status::Cancelled,
            Sent::Status { to, .. } => self.status == *to,
        }
    }

    /// Whether the rules say no.
    pub(super) fn refuses(&self, call: &Call) -> bool {
        if self.is_already(&call.sent) {
            return false;
        }
        let to = match &call.sent {
            Sent::Create { .. } => return false,
            Sent::Update { .. } => return self.status != Status::Created,
            Sent::Cancel { .. } => Status::Cancelled,
            Sent::Status { to, .. } => *to,
        };
        !may_go(self.status, to, call.caller)
    }
}

fn may_go(from: Status, to: Status, caller: Caller) -> bool {
    match (from, to) {
        (Status::Created, Status::InProgress | Status::Cancelled)
        | (Status::InProgress, Status::Completed) => true,
        (Status::InProgress, Status::Cancelled) => caller == Caller::Admin,
        (Status::Created, Status::Created | Status::Completed)
        | (Status::InProgress, Status::Created | Status::InProgress)
        | (Status::Completed | Status::Cancelled, _) => false,
    }
}

/// The states of an order from version 0 (there is none) on.
pub(super) fn states(facts: &[&Fact], found: &mut Found) -> Vec<Option<Folded>> {
    let mut states = vec![None];
    for fact in facts {
        let before = states.last().cloned().flatten();
        let after = after(before.as_ref(), fact);
        if after.is_none() {
            found.add(Kind::AgainstTheRules, format!("{fact:?} after {before:?}"));
        }
        states.push(after.or(before));
    }
    states
}

fn after(before: Option<&Folded>, fact: &Fact) -> Option<Folded> {
    match (before, &fact.says) {
        (None, Says::Created { customer, sku }) => Some(Folded {
            customer: *customer,
            status: Status::Created,
            sku: sku.clone(),
        }),
        (Some(order), Says::Updated { sku }) if order.status == Status::Created => Some(Folded {
            sku: sku.clone(),
            ..order.clone()
        }),
        (Some(order), Says::Moved { to }) if may_go(order.status, *to, fact.actor) => {
            Some(Folded {
                status: *to,
                ..order.clone()
            })
        }
        (None | Some(_), Says::Created { .. } | Says::Updated { .. } | Says::Moved { .. }) => None,
    }
}
