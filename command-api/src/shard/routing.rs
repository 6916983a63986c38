//! The way of commands and questions to the owner of their shard: here, or over gRPC to the node that owns it. Whatever goes
//! wrong on the way, it is tried again until the deadline or a limit (`attempts.rs`), as long as that cannot do anything twice.
//!
//! ```text
//!                 owner here ──► its queue ──► reads its shard again, nothing was done ──► a pause, from the start
//!  command ──► ?
//!                 owner elsewhere ──► gRPC, deadline handed on ──► its queue there
//!                      │ "not mine, it is X's"            ──► X
//!                      │ not reached, shard moves         ──► a pause, the directory is read anew
//!                      │ the way broke after it was sent  ──► with a key: asked again; else outcome-unknown
//!                      ▼
//!                 nobody until the deadline ──► unavailable
//! ```
//!
//! What was forwarded once is never forwarded again: [`Shards::submit_here`] and [`Shards::ask_here`] are what other nodes get.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use event_log::membership::LastOwner;
use events::{
    Topic,
    ids::{EmailHash, OrderId, UserId},
};
use prost::bytes::Bytes;
use runtime::trace::{self, Span, SpanKind};
use serde::de::DeserializeOwned;
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    COMMAND_DEADLINE, KnownUser, Shards,
    attempts::Attempts,
    directory::Directory,
    here::Here,
    ids,
    known::Versioned,
    peers::{Errand, NotTold, Peers},
    question::{Question, Told},
    request::{Accepted, Command, Refused, Request, Why},
    wire::{self, Reply},
};
use crate::measures::{Forwarded, Kind, MEASURES};
use domain::{order, user};

/// Commands and questions for one shard elsewhere at most, those that wait for its owner to be found included; more are
/// refused. Half of what a connection carries at a time, so that a shard that does not answer leaves room for the others of
/// its node.
pub(super) const FORWARDED_MAX: usize = 512;
/// The pauses before the owner is looked for again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// An owner answers so long before the deadline of whoever forwarded, so that "nothing was done" arrives in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);
/// How long a node that is asked for what it does not own looks for who does.
const OWNER_NAMED_WITHIN: Duration = Duration::from_millis(500);
/// Questions are answered by their kind; another answer tells nothing.
const NOT_TOLD: Refused = Refused::Unavailable(Why::ReadAgain);

/// The way to shards on other nodes.
pub struct Elsewhere {
    /// Who owns what.
    pub directory: Directory,
    /// The way there.
    pub peers: Peers,
}

impl Shards {
    /// Carries a command out, wherever its shard is. The answer comes after the commit.
    pub async fn submit(&self, request: Request) -> Result<Accepted, Refused> {
        let kind = Kind::of(&request.command);
        let answer = self.carry_out(request).await;
        MEASURES.answered(kind, &answer);
        answer
    }

    async fn carry_out(&self, request: Request) -> Result<Accepted, Refused> {
        let (shard, topic) = self.place_of(&request.command);
        let load = self.load(request)?;
        let repeatable = load.request.idempotency.is_some();
        let mut search = Search::begin(self, shard);
        loop {
            let tried = match self.try_here(shard, topic, &load, search.until).await {
                Here::Answered(answer) => search.here(answer, repeatable).await,
                Here::NotHere => {
                    let content = || wire::written(&load.request);
                    search.elsewhere(Errand::Submit, repeatable, content).await
                }
            };
            if let ControlFlow::Break(answer) = tried {
                if search.attempts.is_too_much() {
                    let correlation_id = load.request.correlation_id;
                    tracing::error!(
                        shard,
                        %correlation_id,
                        "refused: the shard was read again too often with this command in its hands"
                    );
                }
                return search.attempts.settled(answer);
            }
        }
    }

    /// Carries out what another node forwarded, if the shard is this node's.
    pub async fn submit_here(
        &self,
        shard: u16,
        request: Request,
        within: Duration,
    ) -> Reply<Accepted> {
        let (right, topic) = self.place_of(&request.command);
        if right != shard {
            return Reply::NotOwner { owner: None };
        }
        let until = Instant::now() + within.saturating_sub(ANSWER_MARGIN);
        let load = match self.load(request) {
            Ok(load) => load,
            Err(refused) => return Reply::Done(Err(refused)),
        };
        match self.try_here(shard, topic, &load, until).await {
            Here::Answered(answer) => Reply::Done(answer),
            Here::NotHere => self.not_owner(shard).await,
        }
    }

    /// Tells another node what a shard knows, if it is this node's.
    pub async fn ask_here(&self, shard: u16, question: Question, within: Duration) -> Reply<Told> {
        let until = Instant::now() + within.saturating_sub(ANSWER_MARGIN);
        if question.shard(self.count()) != shard {
            return Reply::NotOwner { owner: None };
        }
        match self.try_asking_here(shard, question, until).await {
            Here::Answered(told) => Reply::Done(told),
            Here::NotHere => self.not_owner(shard).await,
        }
    }

    /// Says whose the shard is now, as far as that can be had quickly.
    async fn not_owner<T>(&self, shard: u16) -> Reply<T> {
        let Some(Elsewhere { directory, .. }) = self.elsewhere() else {
            return Reply::NotOwner { owner: None };
        };
        let asked = directory.owner(shard, Some(Instant::now()));
        let owner = match tokio::time::timeout(OWNER_NAMED_WITHIN, asked).await {
            Ok(LastOwner::At(address)) if !directory.is_here(&address) => Some(address.to_string()),
            Ok(LastOwner::At(_) | LastOwner::Somewhere | LastOwner::Nobody) | Err(_) => None,
        };
        Reply::NotOwner { owner }
    }

    /// An id for a new order: on the shard of (caller, key) where there is a key, else on one of this node's, if it has any.
    pub fn new_order_id(&self, key: Option<(UserId, &str)>) -> OrderId {
        let shard = match key {
            Some((caller, key)) => ids::shard_of_key(caller, key, self.count()),
            None => self.any(),
        };
        ids::draw_order(shard, self.count())
    }

    /// An id for the user who claims this address: on the address's shard.
    pub fn new_user_id(&self, email: EmailHash) -> UserId {
        ids::draw_user(ids::shard_of(email, self.count()), self.count())
    }

    /// The user who has claimed this address.
    pub async fn user_of(&self, email: EmailHash) -> Result<Option<KnownUser>, Refused> {
        match self.ask(Question::Claimant(email)).await? {
            Told::Claimant(Some(id)) => self.user(id).await,
            Told::Claimant(None) => Ok(None),
            Told::User(_) | Told::Order(_) => Err(NOT_TOLD),
        }
    }

    /// The user of this id, unless erased.
    pub async fn user(&self, id: UserId) -> Result<Option<KnownUser>, Refused> {
        let known = self.user_state(id).await?;
        let version = known.version;
        Ok(match known.state {
            user::State::Active(user) => Some(KnownUser { user, version }),
            user::State::NotRegistered | user::State::Erased(_) => None,
        })
    }

    /// Whether there was a user of this id who is erased.
    pub async fn is_erased(&self, id: UserId) -> Result<bool, Refused> {
        let known = self.user_state(id).await?;
        Ok(matches!(known.state, user::State::Erased(_)))
    }

    async fn user_state(&self, id: UserId) -> Result<Versioned<user::State>, Refused> {
        match self.ask(Question::User(id)).await? {
            Told::User(known) => Ok(known),
            Told::Claimant(_) | Told::Order(_) => Err(NOT_TOLD),
        }
    }

    /// The order of this id as it is now.
    pub async fn order(&self, id: OrderId) -> Result<order::State, Refused> {
        match self.ask(Question::Order(id)).await? {
            Told::Order(order) => Ok(order),
            Told::User(_) | Told::Claimant(_) => Err(NOT_TOLD),
        }
    }

    /// Asks the owner, wherever he is. Asking twice does nothing twice.
    async fn ask(&self, question: Question) -> Result<Told, Refused> {
        let shard = question.shard(self.count());
        let mut search = Search::begin(self, shard);
        loop {
            let tried = match self.try_asking_here(shard, question, search.until).await {
                Here::Answered(told) => search.here(told, true).await,
                Here::NotHere => {
                    let content = || wire::written(&question);
                    search.elsewhere(Errand::Ask, true, content).await
                }
            };
            if let ControlFlow::Break(told) = tried {
                return told;
            }
        }
    }

    fn place_of(&self, command: &Command) -> (u16, Topic) {
        let count = self.count();
        match command {
            Command::Order { id, .. } => (ids::shard_of(id, count), Topic::Orders),
            Command::User { id, .. } => (ids::shard_of(id, count), Topic::Users),
            Command::Register { email_hash, .. } => {
                (ids::shard_of(email_hash, count), Topic::Users)
            }
        }
    }
}

/// The search for an owner who does what he is asked.
struct Search<'s> {
    shards: &'s Shards,
    shard: u16,
    /// When it ends.
    until: Instant,
    /// The next pause.
    pause: Duration,
    /// Where the last one who was asked says that the owner is.
    named: Option<Arc<str>>,
    /// What the directory said before that has proved wrong.
    newer_than: Option<Instant>,
    attempts: Attempts,
    content: Option<Bytes>,
    /// Room on the way to another node.
    room_elsewhere: Option<SemaphorePermit<'s>>,
}

impl<'s> Search<'s> {
    fn begin(shards: &'s Shards, shard: u16) -> Self {
        Self {
            shards,
            shard,
            until: Instant::now() + COMMAND_DEADLINE,
            pause: PAUSE_MIN,
            named: None,
            newer_than: None,
            attempts: Attempts::default(),
            content: None,
            room_elsewhere: None,
        }
    }

    /// Takes an answer from here. It goes on, after a pause, where asking again may bring a better one.
    async fn here<T>(
        &mut self,
        answer: Result<T, Refused>,
        is_repeatable: bool,
    ) -> ControlFlow<Result<T, Refused>> {
        let Err(refused) = answer else {
            return ControlFlow::Break(answer);
        };
        if !self.attempts.go_on_after(refused, is_repeatable) {
            return ControlFlow::Break(Err(refused));
        }
        let Some(_room) = self.shards.room_to_wait(self.shard) else {
            return ControlFlow::Break(Err(refused));
        };
        match self.pause().await {
            Ok(()) => ControlFlow::Continue(()),
            Err(refused) => ControlFlow::Break(Err(refused)),
        }
    }

    /// Tries one node. It goes on when that was not the owner, after a pause where that helps.
    async fn elsewhere<T: DeserializeOwned>(
        &mut self,
        errand: Errand,
        is_repeatable: bool,
        content: impl FnOnce() -> Option<Bytes>,
    ) -> ControlFlow<Result<T, Refused>> {
        match self.try_elsewhere(errand, is_repeatable, content).await {
            Ok(Some(told)) => ControlFlow::Break(Ok(told)),
            Ok(None) => ControlFlow::Continue(()),
            Err(refused) => ControlFlow::Break(Err(refused)),
        }
    }

    async fn try_elsewhere<T: DeserializeOwned>(
        &mut self,
        errand: Errand,
        is_repeatable: bool,
        content: impl FnOnce() -> Option<Bytes>,
    ) -> Result<Option<T>, Refused> {
        let Some(elsewhere) = self.shards.elsewhere() else {
            return Err(Refused::NotOwner);
        };
        let content = self.take_along(content)?;
        let was_named = self.named.is_some();
        let Some(address) = self.next_address(&elsewhere.directory).await? else {
            self.pause().await?;
            return Ok(None);
        };
        let sent = Instant::now();
        let told = self.send(elsewhere, &address, errand, content).await;
        MEASURES.forwarded(errand, forwarded(&told), sent.elapsed());
        match told {
            Ok(Reply::Done(Ok(told))) => return Ok(Some(told)),
            Ok(Reply::Done(Err(refused))) => {
                if !self.attempts.go_on_after(refused, is_repeatable) {
                    return Err(refused);
                }
            }
            Ok(Reply::NotOwner { owner: Some(owner) })
                // Two that name each other do so after a pause.
                if !was_named && !elsewhere.directory.is_here(&owner) && *owner != *address =>
            {
                let owner = owner.into();
                elsewhere.directory.heard(self.shard, &owner);
                self.named = Some(owner);
                MEASURES.routing_retries.increment(1);
                return Ok(None);
            }
            Ok(Reply::NotOwner { .. }) => self.attempts.nobody_there(),
            Err(NotTold::NotSent(reason)) => {
                tracing::debug!(%address, reason, "not sent");
                self.attempts.nobody_there();
            }
            Err(NotTold::Broken(reason)) if is_repeatable => {
                tracing::debug!(%address, reason, "asking again");
                self.attempts.put_in_doubt();
            }
            Err(NotTold::Broken(reason)) => {
                tracing::info!(%address, reason, "the way broke after a command was sent");
                return Err(Refused::OutcomeUnknown);
            }
            Err(NotTold::Late) => {
                self.attempts.put_in_doubt();
                return Err(Refused::Unavailable(Why::TooLate));
            }
            // It is left to the gateway to find a node that can.
            Err(NotTold::Stranger(reason)) => {
                tracing::warn!(%address, reason, "another node does not take what is forwarded");
                return Err(Refused::NotOwner);
            }
        }
        self.newer_than = Some(sent);
        self.pause().await?;
        Ok(None)
    }

    /// What is sent, written when it is first needed.
    fn take_along(&mut self, content: impl FnOnce() -> Option<Bytes>) -> Result<Bytes, Refused> {
        if self.room_elsewhere.is_none() {
            let room = self.shards.room_elsewhere(self.shard);
            self.room_elsewhere = Some(room.ok_or(Refused::Unavailable(Why::QueueFull))?);
        }
        if self.content.is_none() {
            self.content = content();
        }
        // Whatever is asked can be written.
        self.content.clone().ok_or(NOT_TOLD)
    }

    /// Where to try next; `None` when that is not known yet, or would be this node.
    async fn next_address(&mut self, directory: &Directory) -> Result<Option<Arc<str>>, Refused> {
        if let Some(address) = self.named.take() {
            return Ok(Some(address));
        }
        let now = Instant::now();
        let asked = directory.owner(self.shard, self.newer_than);
        match timeout_at(self.until, asked).await {
            Ok(LastOwner::At(address)) if !directory.is_here(&address) => Ok(Some(address)),
            Ok(LastOwner::Somewhere) => Err(Refused::NotOwner),
            Ok(LastOwner::At(_) | LastOwner::Nobody) | Err(_) => {
                self.newer_than = Some(now);
                self.attempts.nobody_there();
                Ok(None)
            }
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        elsewhere: &Elsewhere,
        address: &Arc<str>,
        errand: Errand,
        content: Bytes,
    ) -> Result<Reply<T>, NotTold> {
        let mut span = Span::below(trace::current(), errand.method(), SpanKind::Client);
        if let Some(span) = &mut span {
            span.set("rpc.system", "grpc");
            span.set("server.address", address.to_string());
        }
        let place = span.as_ref().and_then(Span::context);
        let content = (self.shard, content);
        let peers = &elsewhere.peers;
        let told = peers.send(address, errand, content, place, self.until);
        let told = told.await.and_then(|reply| {
            wire::read(&reply).ok_or_else(|| NotTold::Broken("an unreadable reply".to_owned()))
        });
        if let (Some(span), Err(_)) = (&mut span, &told) {
            span.fail("not-told");
        }
        told
    }

    /// Waits a little, and longer the next time; an error when that would be past the deadline.
    async fn pause(&mut self) -> Result<(), Refused> {
        if Instant::now() + self.pause >= self.until {
            return Err(self.attempts.over());
        }
        MEASURES.routing_retries.increment(1);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

fn forwarded<T>(told: &Result<Reply<T>, NotTold>) -> Forwarded {
    match told {
        Ok(Reply::Done(_)) => Forwarded::Answered,
        Ok(Reply::NotOwner { .. }) => Forwarded::NotOwner,
        Err(NotTold::NotSent(_)) => Forwarded::NotSent,
        Err(NotTold::Broken(_)) => Forwarded::Broken,
        Err(NotTold::Late) => Forwarded::Late,
        Err(NotTold::Stranger(_)) => Forwarded::Stranger,
    }
}
