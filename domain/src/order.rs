//! Orders: `created → in_progress → completed`, or `cancelled` from the first two.
//!
//! The owner may update and cancel while the order is created; an admin may take every step that the
//! order's state allows, on any order. Asking for what already is changes nothing, in every state.

use std::sync::Arc;

use events::{
    Actor,
    currency::Currency,
    ids::{OrderId, UserId},
    order::{OrderCancelled, OrderCreated, OrderLine, OrderStatusChanged, OrderStep, OrderUpdated},
    sealed::Sealed,
    timestamp::Timestamp,
};

pub use events::OrderEvent;
use serde::{Deserialize, Serialize};

use crate::{
    Decider, Refusal, is_oneself, may_do_everything,
    values::{Attributes, Invalid, Lines, Reason},
};

/// What may be done to an order, by whom and when.
pub type Command = crate::Command<Action>;

/// What may be done to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Order something.
    Create {
        /// The new order.
        order_id: OrderId,
        /// Whose order it is.
        customer_id: UserId,
        /// The currency of all its prices, for good.
        currency: Currency,
        /// What is ordered.
        contents: Contents,
    },
    /// Replace the contents.
    Update {
        /// The contents from now on, priced in the order's currency.
        contents: Contents,
    },
    /// Take a step, or cancel.
    SetStatus {
        /// The status from now on.
        status: NewStatus,
        /// Why.
        reason: Option<Reason>,
    },
    /// Cancel.
    Cancel {
        /// Why.
        reason: Option<Reason>,
    },
}

/// The part of an order that can be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// What is ordered.
    pub lines: Lines,
    /// Where to, sealed with the customer's key.
    pub shipping_address: Option<Sealed>,
    /// The customer's words, sealed with the customer's key.
    pub note: Option<Sealed>,
    /// The free part.
    pub attributes: Attributes,
}

/// A status that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NewStatus {
    /// Work begins.
    InProgress,
    /// It is done.
    Completed,
    /// It is called off.
    Cancelled,
}

impl NewStatus {
    /// Reads the name of a status that can be asked for.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        match name {
            "in_progress" => Ok(Self::InProgress),
            "completed" => Ok(Self::Completed),
            "cancelled" => Ok(Self::Cancelled),
            _ => Err(Invalid::NotOneOf {
                allowed: "in_progress, completed, cancelled",
            }),
        }
    }
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// Ordered; nobody works on it yet.
    Created,
    /// Being worked on.
    InProgress,
    /// Done.
    Completed,
    /// Called off.
    Cancelled,
}

impl Status {
    /// The name in requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<NewStatus> for Status {
    fn from(status: NewStatus) -> Self {
        match status {
            NewStatus::InProgress => Self::InProgress,
            NewStatus::Completed => Self::Completed,
            NewStatus::Cancelled => Self::Cancelled,
        }
    }
}

/// The phases of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// There is no such order.
    NotCreated,
    /// Ordered; nobody works on it yet.
    Created(Order),
    /// Being worked on.
    InProgress(Order),
    /// Done.
    Completed(Order),
    /// Called off.
    Cancelled(Order),
}

impl State {
    /// The order, once it was created.
    pub const fn order(&self) -> Option<&Order> {
        match self {
            Self::NotCreated => None,
            Self::Created(order)
            | Self::InProgress(order)
            | Self::Completed(order)
            | Self::Cancelled(order) => Some(order),
        }
    }

    /// Where the order stands, once it was created.
    pub const fn status(&self) -> Option<Status> {
        match self {
            Self::NotCreated => None,
            Self::Created(_) => Some(Status::Created),
            Self::InProgress(_) => Some(Status::InProgress),
            Self::Completed(_) => Some(Status::Completed),
            Self::Cancelled(_) => Some(Status::Cancelled),
        }
    }

    /// The same phase with the order changed.
    fn map(self, change: impl FnOnce(Order) -> Order) -> Self {
        match self {
            Self::NotCreated => Self::NotCreated,
            Self::Created(order) => Self::Created(change(order)),
            Self::InProgress(order) => Self::InProgress(change(order)),
            Self::Completed(order) => Self::Completed(change(order)),
            Self::Cancelled(order) => Self::Cancelled(change(order)),
        }
    }

    /// The order in another phase, since `at`.
    fn into_phase(self, phase: fn(Order) -> Self, at: Timestamp) -> Self {
        match self {
            Self::NotCreated => Self::NotCreated,
            Self::Created(order)
            | Self::InProgress(order)
            | Self::Completed(order)
            | Self::Cancelled(order) => phase(Order {
                updated_at: at,
                ..order
            }),
        }
    }
}

/// An order; its contents are shared, so that clones are cheap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub customer_id: UserId,
    /// The currency of its prices.
    pub currency: Currency,
    /// What is ordered.
    pub contents: Arc<Contents>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its latest event was decided.
    pub updated_at: Timestamp,
}

impl Order {
    /// Each line, in the order they were given.
    pub fn lines(&self) -> &[OrderLine] {
        self.contents.lines.as_slice()
    }

    /// The sum of all lines in minor units.
    pub fn total_minor(&self) -> i64 {
        self.contents.lines.total_minor()
    }
}

/// Why a command broke a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// The id is taken.
    #[error("this order exists already")]
    AlreadyExists,
    /// There is no such order; whoever asks [`Decider::permit`] first never sees this.
    #[error("there is no such order")]
    NotCreated,
    /// The contents are settled.
    #[error("an order can be updated only while it is created; this one is {}", .status.name())]
    ContentsSettled {
        /// Where the order stands.
        status: Status,
    },
    /// The steps do not lead there.
    #[error("an order cannot go from {} to {}", .from.name(), .to.name())]
    StepNotPossible {
        /// Where the order stands.
        from: Status,
        /// What was asked for.
        to: Status,
    },
    /// Work on it began, so only an admin can still cancel.
    #[error("its owner can cancel an order only while it is created; ask the seller")]
    CancelledTooLate,
}

impl Rejection {
    /// The stable name of the broken rule.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::AlreadyExists => "order-exists-already",
            Self::NotCreated => "order-does-not-exist",
            Self::ContentsSettled { .. } => "order-update-only-while-created",
            Self::StepNotPossible { .. } => "order-step-not-possible",
            Self::CancelledTooLate => "order-cancel-by-owner-only-while-created",
        }
    }
}

/// The streams of orders.
#[derive(Debug, Clone, Copy)]
pub enum OrderStream {}

impl Decider for OrderStream {
    type Command = Command;
    type Event = OrderEvent;
    type State = State;
    type Rejection = Rejection;

    fn initial() -> State {
        State::NotCreated
    }

    fn permit(state: &State, command: &Command) -> Result<(), Refusal> {
        permit(state, command.actor, &command.action)
    }

    fn decide(state: &State, command: Command) -> Result<Vec<OrderEvent>, Rejection> {
        let crate::Command { actor, at, action } = command;
        match action {
            Action::Create {
                order_id,
                customer_id,
                currency,
                contents,
            } => match state {
                State::NotCreated => {
                    Ok(vec![created(order_id, customer_id, currency, contents, at)])
                }
                State::Created(_)
                | State::InProgress(_)
                | State::Completed(_)
                | State::Cancelled(_) => Err(Rejection::AlreadyExists),
            },
            Action::Update { contents } => update(state, contents, at),
            Action::SetStatus {
                status: NewStatus::InProgress,
                reason,
            } => begin(state, reason, at),
            Action::SetStatus {
                status: NewStatus::Completed,
                reason,
            } => complete(state, reason, at),
            Action::SetStatus {
                status: NewStatus::Cancelled,
                reason,
            }
            | Action::Cancel { reason } => cancel(state, actor, reason, at),
        }
    }

    fn evolve(state: State, event: &OrderEvent) -> State {
        match event {
            OrderEvent::Created(fact) => State::Created(Order {
                id: fact.order_id,
                customer_id: fact.customer_id,
                currency: fact.currency,
                contents: Arc::new(Contents {
                    lines: Lines::recorded(&fact.lines, fact.total_minor),
                    shipping_address: fact.shipping_address.clone(),
                    note: fact.note.clone(),
                    attributes: Attributes::recorded(&fact.attributes),
                }),
                created_at: fact.occurred_at,
                updated_at: fact.occurred_at,
            }),
            OrderEvent::Updated(fact) => state.map(|order| Order {
                contents: Arc::new(Contents {
                    lines: Lines::recorded(&fact.lines, fact.total_minor),
                    shipping_address: fact.shipping_address.clone(),
                    note: fact.note.clone(),
                    attributes: Attributes::recorded(&fact.attributes),
                }),
                updated_at: fact.occurred_at,
                ..order
            }),
            OrderEvent::StatusChanged(fact) => {
                let phase = match fact.status {
                    OrderStep::InProgress => State::InProgress,
                    OrderStep::Completed => State::Completed,
                };
                state.into_phase(phase, fact.occurred_at)
            }
            OrderEvent::Cancelled(fact) => state.into_phase(State::Cancelled, fact.occurred_at),
        }
    }
}

/// Unknown and foreign orders are not found. Steps other than cancelling are for admins, whatever the
/// order's state; so is ordering for somebody else.
fn permit(state: &State, actor: Actor, action: &Action) -> Result<(), Refusal> {
    if let Action::Create { customer_id, .. } = action {
        let may = is_oneself(actor, *customer_id) || may_do_everything(actor);
        return if may {
            Ok(())
        } else {
            Err(Refusal::NotAllowed)
        };
    }
    let order = state.order().ok_or(Refusal::NotFound)?;
    if may_do_everything(actor) {
        return Ok(());
    }
    if !is_oneself(actor, order.customer_id) {
        return Err(Refusal::NotFound);
    }
    match action {
        Action::SetStatus {
            status: NewStatus::InProgress | NewStatus::Completed,
            ..
        } => Err(Refusal::NotAllowed),
        Action::SetStatus {
            status: NewStatus::Cancelled,
            ..
        }
        | Action::Create { .. }
        | Action::Update { .. }
        | Action::Cancel { .. } => Ok(()),
    }
}

fn update(state: &State, contents: Contents, at: Timestamp) -> Result<Vec<OrderEvent>, Rejection> {
    let settled = |status| Rejection::ContentsSettled { status };
    match state {
        State::NotCreated => Err(Rejection::NotCreated),
        State::Created(order)
        | State::InProgress(order)
        | State::Completed(order)
        | State::Cancelled(order)
            if *order.contents == contents =>
        {
            Ok(vec![])
        }
        State::Created(order) => Ok(vec![updated(order, contents, at)]),
        State::InProgress(_) => Err(settled(Status::InProgress)),
        State::Completed(_) => Err(settled(Status::Completed)),
        State::Cancelled(_) => Err(settled(Status::Cancelled)),
    }
}

fn begin(
    state: &State,
    reason: Option<Reason>,
    at: Timestamp,
) -> Result<Vec<OrderEvent>, Rejection> {
    let not_from = |from| Rejection::StepNotPossible {
        from,
        to: Status::InProgress,
    };
    match state {
        State::NotCreated => Err(Rejection::NotCreated),
        State::Created(order) => Ok(vec![stepped(order, OrderStep::InProgress, reason, at)]),
        State::InProgress(_) => Ok(vec![]),
        State::Completed(_) => Err(not_from(Status::Completed)),
        State::Cancelled(_) => Err(not_from(Status::Cancelled)),
    }
}

fn complete(
    state: &State,
    reason: Option<Reason>,
    at: Timestamp,
) -> Result<Vec<OrderEvent>, Rejection> {
    let not_from = |from| Rejection::StepNotPossible {
        from,
        to: Status::Completed,
    };
    match state {
        State::NotCreated => Err(Rejection::NotCreated),
        State::Created(_) => Err(not_from(Status::Created)),
        State::InProgress(order) => Ok(vec![stepped(order, OrderStep::Completed, reason, at)]),
        State::Completed(_) => Ok(vec![]),
        State::Cancelled(_) => Err(not_from(Status::Cancelled)),
    }
}

fn cancel(
    state: &State,
    actor: Actor,
    reason: Option<Reason>,
    at: Timestamp,
) -> Result<Vec<OrderEvent>, Rejection> {
    match state {
        State::NotCreated => Err(Rejection::NotCreated),
        State::Created(order) => Ok(vec![cancelled(order, reason, at)]),
        State::InProgress(order) if may_do_everything(actor) => {
            Ok(vec![cancelled(order, reason, at)])
        }
        State::InProgress(_) => Err(Rejection::CancelledTooLate),
        State::Completed(_) => Err(Rejection::StepNotPossible {
            from: Status::Completed,
            to: Status::Cancelled,
        }),
        State::Cancelled(_) => Ok(vec![]),
    }
}

fn created(
    order_id: OrderId,
    customer_id: UserId,
    currency: Currency,
    contents: Contents,
    at: Timestamp,
) -> OrderEvent {
    OrderEvent::Created(OrderCreated {
        order_id,
        customer_id,
        currency,
        total_minor: contents.lines.total_minor(),
        lines: contents.lines.into_vec(),
        shipping_address: contents.shipping_address,
        note: contents.note,
        attributes: contents.attributes.into(),
        occurred_at: at,
    })
}

fn updated(order: &Order, contents: Contents, at: Timestamp) -> OrderEvent {
    OrderEvent::Updated(OrderUpdated {
        order_id: order.id,
        customer_id: order.customer_id,
        currency: order.currency,
        total_minor: contents.lines.total_minor(),
        lines: contents.lines.into_vec(),
        shipping_address: contents.shipping_address,
        note: contents.note,
        attributes: contents.attributes.into(),
        occurred_at: at,
    })
}

fn stepped(order: &Order, step: OrderStep, reason: Option<Reason>, at: Timestamp) -> OrderEvent {
    OrderEvent::StatusChanged(OrderStatusChanged {
        order_id: order.id,
        customer_id: order.customer_id,
        status: step,
        reason: reason.map(String::from),
        occurred_at: at,
    })
}

fn cancelled(order: &Order, reason: Option<Reason>, at: Timestamp) -> OrderEvent {
    OrderEvent::Cancelled(OrderCancelled {
        order_id: order.id,
        customer_id: order.customer_id,
        reason: reason.map(String::from),
        occurred_at: at,
    })
}

#[cfg(test)]
mod tests;
