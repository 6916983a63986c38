//! A proxy between a program of ours and Kafka that can hold one kind of request, lose its answers, or cut the network.
//!
//! Kafka advertises the proxy's address to whoever comes through its listener PROXIED (`scripts/orderlog_stack`), so a
//! program that starts from the proxy never speaks to Kafka past it. Of Kafka's protocol the proxy knows the frames: a
//! length of four bytes, then in a request its kind, the kind's version, and the correlation id. A broker answers the
//! requests of a connection in their order, which tells what is an answer to what.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use crate::environment::variable;

/// Larger than any frame between a node and Kafka.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Kind, version and correlation id.
const HEADER_BYTES: usize = 8;
/// How long something that a test waits for at the proxy may take.
const SEEN_WITHIN: Duration = Duration::from_secs(40);

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Records to be written.
    Produce,
    /// Records to be read.
    Fetch,
    /// A member of a group says that it lives.
    Heartbeat,
    /// Fences the earlier writer of a transactional id, and settles what it left open.
    InitProducerId,
    /// Tells the coordinator what the transaction will write to.
    AddPartitionsToTxn,
    /// Commits, or aborts.
    EndTxn,
}

impl Kind {
    fn of(request: &[u8]) -> Option<Self> {
        match u16::from_be_bytes(*request.first_chunk()?) {
            0 => Some(Self::Produce),
            1 => Some(Self::Fetch),
            12 => Some(Self::Heartbeat),
            22 => Some(Self::InitProducerId),
            24 => Some(Self::AddPartitionsToTxn),
            26 => Some(Self::EndTxn),
            _ => None,
        }
    }
}

/// What is done to the requests of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// They are held, and all that follows them on their connection, until [`KafkaProxy::deliver`].
    Hold,
    /// Kafka gets them; their answers are lost, and the client waits.
    LoseAnswers,
    /// Kafka gets them and answers; instead of the answer the client gets the end of the connection.
    CutInsteadOfAnswer,
    /// Kafka does not get them; the client is told that all is well. For heartbeats only.
    Pretend,
}

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    /// Nothing passes, and nobody is told.
    Silent,
    /// There are no connections.
    Cut,
}

#[derive(Debug)]
struct State {
    network: Network,
    /// How often it was cut: connections from before a cut are no more.
    cuts: usize,
    rules: HashMap<Kind, Rule>,
    /// How many requests of a kind a rule was applied to.
    met: HashMap<Kind, usize>,
    /// How many came in all.
    seen: HashMap<Kind, usize>,
    /// Held requests have numbers; those up to this one are let go.
    let_go: usize,
    held: usize,
}

/// A running proxy; ended when dropped.
pub struct KafkaProxy {
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

impl KafkaProxy {
    /// Where clients find it.
    pub fn address() -> String {
        variable("ORDERLOG_KAFKA_PROXY")
    }

    /// Starts it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(Self::address())
            .await
            .expect("the proxy's port");
        let (state, _) = watch::channel(State {
            network: Network::Up,
            cuts: 0,
            rules: HashMap::new(),
            met: HashMap::new(),
            seen: HashMap::new(),
            let_go: 0,
            held: 0,
        });
        let state = Arc::new(state);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { state, accepting }
    }

    /// From now on this is done to requests of that kind.
    pub fn set(&self, kind: Kind, rule: Rule) {
        self.state.send_modify(|state| {
            state.rules.insert(kind, rule);
        });
    }

    /// From now on requests of that kind pass. What is held stays held.
    pub fn pass(&self, kind: Kind) {
        self.state.send_modify(|state| {
            state.rules.remove(&kind);
        });
    }

    /// Lets Kafka have what is held, however late it is.
    pub fn deliver(&self) {
        self.state.send_modify(|state| state.let_go = state.held);
    }

    /// Cuts all connections; there will be no others until [`Self::reconnect`].
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.network = Network::Cut;
            state.cuts += 1;
        });
    }

    /// Lets nothing pass any more, and tells nobody, until [`Self::reconnect`].
    pub fn fall_silent(&self) {
        self.network(Network::Silent);
    }

    /// There is a network again; rules stay.
    pub fn reconnect(&self) {
        self.network(Network::Up);
    }

    /// Everything passes again. What is held stays held.
    pub fn mend(&self) {
        self.state.send_modify(|state| {
            state.rules.clear();
            state.network = Network::Up;
        });
    }

    /// How many requests of a kind were met by a rule so far.
    pub fn met(&self, kind: Kind) -> usize {
        count(&self.state.borrow().met, kind)
    }

    /// How many requests of a kind came so far.
    pub fn seen(&self, kind: Kind) -> usize {
        count(&self.state.borrow().seen, kind)
    }

    /// Waits until a rule has met so many requests of a kind.
    pub async fn meets(&self, kind: Kind, wanted: usize) {
        self.reaches(kind, wanted, |state| &state.met).await;
    }

    /// Waits until so many requests of a kind came.
    pub async fn sees(&self, kind: Kind, wanted: usize) {
        self.reaches(kind, wanted, |state| &state.seen).await;
    }

    async fn reaches(&self, kind: Kind, wanted: usize, of: fn(&State) -> &HashMap<Kind, usize>) {
        let mut state = self.state.subscribe();
        let reached = state.wait_for(|state| count(of(state), kind) >= wanted);
        if tokio::time::timeout(SEEN_WITHIN, reached).await.is_err() {
            let state = self.state.borrow();
            panic!("{wanted} × {kind:?} wanted at the proxy: {state:?}");
        }
    }

    fn network(&self, network: Network) {
        self.state.send_modify(|state| state.network = network);
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn count(counts: &HashMap<Kind, usize>, kind: Kind) -> usize {
    counts.get(&kind).copied().unwrap_or_default()
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        if state.borrow().network == Network::Cut {
            continue;
        }
        let Ok(broker) = TcpStream::connect(variable("ORDERLOG_KAFKA_PROXIED")).await else {
            continue; // Kafka is away: so is the proxy.
        };
        // Small requests must not wait for each other.
        if client.set_nodelay(true).is_ok() && broker.set_nodelay(true).is_ok() {
            tokio::spawn(Connection::carry(client, broker, Arc::clone(&state)));
        }
    }
}

/// One connection of a client, and the one to Kafka that belongs to it.
struct Connection {
    state: Arc<watch::Sender<State>>,
    /// What is to be done with the answers that Kafka still owes, in order.
    owed: Mutex<VecDeque<Option<Rule>>>,
    /// Whenever Kafka has answered.
    answered: Notify,
    /// What the client is to get.
    to_client: mpsc::UnboundedSender<Vec<u8>>,
}

impl Connection {
    /// Carries everything to and fro until one of both ends it, or the network is cut. What the client sent before it
    /// went is carried to Kafka all the same, as a network does.
    async fn carry(client: TcpStream, broker: TcpStream, state: Arc<watch::Sender<State>>) {
        let (mut from_client, mut client) = client.into_split();
        let (mut from_broker, mut broker) = broker.into_split();
        let (to_client, answers) = mpsc::unbounded_channel();
        let mut network = state.subscribe();
        let cuts = network.borrow().cuts;
        let connection = Self {
            state,
            owed: Mutex::default(),
            answered: Notify::new(),
            to_client,
        };
        let requests = async {
            // What fails here is the end of a connection, which is no failure of a proxy.
            drop(
                connection
                    .carry_requests(&mut from_client, &mut broker)
                    .await,
            );
            while !connection.owed().is_empty() {
                connection.answered.notified().await;
            }
        };
        tokio::select! {
            () = requests => {}
            _ = connection.carry_answers(&mut from_broker) => {}
            () = write_answers(&mut client, answers) => {}
            _ = network.wait_for(|state| state.cuts > cuts) => {}
        }
    }

    async fn carry_requests(
        &self,
        client: &mut OwnedReadHalf,
        broker: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        loop {
            let request = frame(client).await?;
            self.passable().await;
            let rule = Kind::of(&request).and_then(|kind| self.meet(kind));
            match rule {
                Some((Rule::Hold, number)) => self.held(number).await,
                Some((Rule::Pretend, _)) => {
                    self.pretend(&request);
                    continue;
                }
                Some((Rule::LoseAnswers | Rule::CutInsteadOfAnswer, _)) | None => {}
            }
            self.owed().push_back(rule.map(|(rule, _)| rule));
            write_frame(broker, &request).await?;
        }
    }

    async fn carry_answers(&self, broker: &mut OwnedReadHalf) -> io::Result<()> {
        loop {
            let answer = frame(broker).await?;
            self.passable().await;
            let rule = self.owed().pop_front().flatten();
            self.answered.notify_one();
            match rule {
                Some(Rule::LoseAnswers) => {}
                Some(Rule::CutInsteadOfAnswer) => return Ok(()),
                // The client may be gone; Kafka is heard to the end all the same.
                Some(Rule::Hold | Rule::Pretend) | None => drop(self.to_client.send(answer)),
            }
        }
    }

    /// Counts a request; the rule for its kind, and its number among the held.
    fn meet(&self, kind: Kind) -> Option<(Rule, usize)> {
        let mut met = None;
        self.state.send_modify(|state| {
            *state.seen.entry(kind).or_default() += 1;
            if let Some(rule) = state.rules.get(&kind).copied() {
                *state.met.entry(kind).or_default() += 1;
                state.held += usize::from(rule == Rule::Hold);
                met = Some((rule, state.held));
            }
        });
        met
    }

    async fn held(&self, number: usize) {
        let mut state = self.state.subscribe();
        // The sender lives as long as this does.
        drop(state.wait_for(|state| state.let_go >= number).await);
    }

    async fn passable(&self) {
        let mut state = self.state.subscribe();
        drop(
            state
                .wait_for(|state| state.network != Network::Silent)
                .await,
        );
    }

    /// Answers a heartbeat (versions 1 to 3): no time to wait, no error.
    fn pretend(&self, request: &[u8]) {
        if let Some(correlation_id) = request.get(4..HEADER_BYTES) {
            let answer = [correlation_id, &[0; 4], &[0; 2]].concat();
            drop(self.to_client.send(answer));
        }
    }

    fn owed(&self) -> std::sync::MutexGuard<'_, VecDeque<Option<Rule>>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never ends by itself. A client that is gone gets nothing more.
async fn write_answers(client: &mut OwnedWriteHalf, mut answers: mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut is_there = true;
    while let Some(answer) = answers.recv().await {
        is_there = is_there && write_frame(client, &answer).await.is_ok();
    }
}

async fn frame(from: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if !(4..=FRAME_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(to: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    to.write_u32(length).await?;
    to.write_all(frame).await
}
