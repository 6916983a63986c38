//! Facts: every event that Orderlog records, what is known about it, and its bytes. Pure: no clock, no
//! randomness, no I/O. To add an event, add its line to the list below; the compiler and the tests lead on.

pub mod codec;
pub mod currency;
pub mod ids;
pub mod metadata;
pub mod order;
pub mod partition;
pub mod sealed;
pub mod timestamp;
pub mod trace;
pub mod user;

use ids::StreamId;
use order::{OrderCancelled, OrderCreated, OrderStatusChanged, OrderUpdated};
use user::{
    UserEmailChanged, UserEmailClaimed, UserEmailReleased, UserErased, UserPasswordChanged,
    UserProfileUpdated, UserRegistered, UserRoleChanged,
};

pub use metadata::{Actor, Envelope, Idempotency, Metadata, StreamVersion};
pub use trace::TraceContext;

/// A Kafka topic of the event store: one per stream category.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum Topic {
    /// Users and the claims of e-mail addresses.
    Users,
    /// Orders.
    Orders,
}

impl Topic {
    /// Every topic of the event store.
    pub const ALL: [Self; 2] = [Self::Users, Self::Orders];

    /// The name in Kafka.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }
}

macro_rules! events {
    ($(
        $(#[$stream_doc:meta])*
        $stream:ident in $topic:ident, stream of $subject:ident {
            $( $variant:ident($record:ident) = $name:literal, $schema:literal; )+
        }
    )+) => {
        $(
            $(#[$stream_doc])*
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub enum $stream { $(
                #[doc = concat!("`", $name, "`")]
                $variant($record),
            )+ }

            impl $stream {
                /// The type of this event.
                pub const fn event_type(&self) -> EventType {
                    match self { $( Self::$variant(_) => EventType::$record, )+ }
                }

                /// The stream that this event belongs to.
                pub fn stream_id(&self) -> StreamId {
                    match self { $( Self::$variant(fact) => fact.$subject.into(), )+ }
                }

                /// When the event was decided.
                pub fn occurred_at(&self) -> timestamp::Timestamp {
                    match self { $( Self::$variant(fact) => fact.occurred_at, )+ }
                }
            }

            impl From<$stream> for Event {
                fn from(event: $stream) -> Self { match event { $( $stream::$variant(fact) => Self::$record(fact), )+ } }
            }

            impl TryFrom<Event> for $stream {
                type Error = Event;
                fn try_from(event: Event) -> Result<Self, Event> {
                    match event { $( Event::$record(fact) => Ok(Self::$variant(fact)), )+ other => Err(other) }
                }
            }
        )+

        /// Any event of any stream.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Event { $($(
            #[doc = concat!("`", $name, "`")]
            $record($record),
        )+)+ }

        /// The type of an event, without its contents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum EventType { $($(
            #[doc = concat!("`", $name, "`")]
            $record,
        )+)+ }

        /// An event by the kind of its stream.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum StreamEvent { $(
            #[doc = concat!("Any [`", stringify!($stream), "`].")]
            $stream($stream),
        )+ }

        impl From<Event> for StreamEvent {
            fn from(event: Event) -> Self {
                match event { $($( Event::$record(fact) => Self::$stream($stream::$variant(fact)), )+)+ }
            }
        }

        impl Event {
            /// The type of this event.
            pub const fn event_type(&self) -> EventType {
                match self { $($( Self::$record(_) => EventType::$record, )+)+ }
            }

            /// The stream that this event belongs to; its text is the Kafka key.
            pub fn stream_id(&self) -> StreamId {
                match self { $($( Self::$record(fact) => fact.$subject.into(), )+)+ }
            }

            /// When the event was decided.
            pub const fn occurred_at(&self) -> timestamp::Timestamp {
                match self { $($( Self::$record(fact) => fact.occurred_at, )+)+ }
            }

            pub(crate) fn write_body(&self, out: Vec<u8>) -> Result<Vec<u8>, codec::CodecError> {
                match self { $($( Self::$record(fact) => codec::write(fact, EventType::$record, out), )+)+ }
            }

            pub(crate) fn read_body(
                event_type: EventType,
                writer: &codec::WriterSchema,
                body: &[u8],
            ) -> Result<Self, codec::CodecError> {
                match event_type { $($( EventType::$record => codec::read(writer, body).map(Self::$record), )+)+ }
            }
        }

        impl EventType {
            /// Every type there is.
            pub const ALL: &'static [Self] = &[ $($( Self::$record, )+)+ ];

            /// The name (`ce_type`).
            pub const fn name(self) -> &'static str {
                match self { $($( Self::$record => $name, )+)+ }
            }

            /// The topic that events of this type are recorded in.
            pub const fn topic(self) -> Topic {
                match self { $($( Self::$record => Topic::$topic, )+)+ }
            }

            /// The Avro schema, as committed.
            pub const fn schema_json(self) -> &'static str {
                match self { $($( Self::$record => include_str!(concat!("../../schemas/", $schema)), )+)+ }
            }
        }

        impl std::str::FromStr for EventType {
            type Err = UnknownEventType;
            fn from_str(name: &str) -> Result<Self, UnknownEventType> {
                match name { $($( $name => Ok(Self::$record), )+)+ _ => Err(UnknownEventType) }
            }
        }
    };
}

/// A `ce_type` that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type")]
pub struct UnknownEventType;

events! {
    /// What happens to a user.
    UserEvent in Users, stream of user_id {
        Registered(UserRegistered) = "user_registered", "users/UserRegistered.avsc";
        ProfileUpdated(UserProfileUpdated) = "user_profile_updated", "users/UserProfileUpdated.avsc";
        PasswordChanged(UserPasswordChanged) = "user_password_changed", "users/UserPasswordChanged.avsc";
        EmailChanged(UserEmailChanged) = "user_email_changed", "users/UserEmailChanged.avsc";
        RoleChanged(UserRoleChanged) = "user_role_changed", "users/UserRoleChanged.avsc";
        Erased(UserErased) = "user_erased", "users/UserErased.avsc";
    }
    /// What happens to the claim of an e-mail address.
    EmailEvent in Users, stream of email_hash {
        Claimed(UserEmailClaimed) = "user_email_claimed", "users/UserEmailClaimed.avsc";
        Released(UserEmailReleased) = "user_email_released", "users/UserEmailReleased.avsc";
    }
    /// What happens to an order.
    OrderEvent in Orders, stream of order_id {
        Created(OrderCreated) = "order_created", "orders/OrderCreated.avsc";
        Updated(OrderUpdated) = "order_updated", "orders/OrderUpdated.avsc";
        StatusChanged(OrderStatusChanged) = "order_status_changed", "orders/OrderStatusChanged.avsc";
        Cancelled(OrderCancelled) = "order_cancelled", "orders/OrderCancelled.avsc";
    }
}

impl EventType {
    /// The full name of the Avro record: namespace and name.
    pub fn record_name(self) -> String {
        format!("orderlog.{}.{self:?}", self.topic().name())
    }

    /// The subject in the schema registry (TopicRecordNameStrategy).
    pub fn subject(self) -> String {
        format!("{}-{}", self.topic().name(), self.record_name())
    }
}
