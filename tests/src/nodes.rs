//! Several command nodes at once: started, and asked one by one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    eventually,
    http::call,
    stack::{counter_of, current_environment, ready, stack},
};

/// After this without a sign of life (the setting is 10 s), the group gives a node's shards to another.
pub const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(40);
/// Calls from one node to another.
pub const FORWARDED: &str = "command_api_forwarded_calls_total";
/// What nodes say to each other besides commands, and most questions, is shorter.
const LARGE_BYTES: usize = 1_000;
const SERVING: &str = "command_api_shard_serving{";

/// Starts nodes until there are so many, and waits until each serves a part of the shards; the base URLs of all.
pub async fn nodes(count: usize) -> Vec<String> {
    for number in 2..=count {
        stack(&["start", &format!("command-api-{number}")]).await;
    }
    let urls = node_urls().await;
    assert_eq!(urls.len(), count, "{urls:?}");
    for url in &urls {
        ready(url).await;
    }
    shared_out(&urls).await;
    urls
}

/// The base URLs of the nodes that there are now.
pub async fn node_urls() -> Vec<String> {
    listed("ORDERLOG_COMMAND_URLS").await
}

/// Where the nodes that there are now take what other nodes forward.
pub async fn node_addresses() -> Vec<String> {
    listed("ORDERLOG_COMMAND_NODE_ADDRS").await
}

async fn listed(variable: &str) -> Vec<String> {
    let all = current_environment().await.remove(variable);
    let all = all.unwrap_or_else(|| panic!("no {variable}"));
    all.split(',').map(str::to_owned).collect()
}

/// Waits until every shard is served by one of these nodes, and each serves some.
pub async fn shared_out(urls: &[String]) {
    eventually(
        "the shards to be shared out",
        TAKEN_OVER_WITHIN,
        async || {
            let each = join_all(urls.iter().map(|url| serving(url))).await;
            let served: usize = each.iter().map(|(serving, _)| serving).sum();
            let is_shared = each
                .iter()
                .all(|(serving, shards)| *serving > 0 && *shards == served);
            match is_shared {
                true => Ok(()),
                false => Err(format!("served, and how many there are: {each:?}")),
            }
        },
    )
    .await;
}

/// How many shards a node serves, and how many there are: it shows each, from the moment it is one of the nodes.
pub async fn serving(url: &str) -> (usize, usize) {
    let answer = call(Method::GET, url, "/metrics").send().await.is(200);
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let shown: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(SERVING)?.rsplit_once("} "))
        .collect();
    let serving = shown.iter().filter(|(_, value)| *value == "1").count();
    (serving, shown.len())
}

/// How often a node has forwarded with this errand and this outcome.
pub async fn forwarded(url: &str, errand: &str, outcome: &str) -> f64 {
    counter_of(url, FORWARDED, &[("errand", errand), ("outcome", outcome)]).await
}

/// A way to a node that can be cut while the answer to something large is on it.
pub struct Way {
    /// Where it begins: host:port.
    pub address: String,
    armed: Arc<AtomicBool>,
    cuts: Arc<AtomicUsize>,
}

impl Way {
    /// A way that leads to this address, until it is dropped.
    pub async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            address: listener.local_addr().expect("an address").to_string(),
            armed: Arc::default(),
            cuts: Arc::default(),
        };
        let (armed, cuts) = (Arc::clone(&way.armed), Arc::clone(&way.cuts));
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (armed, cuts, address) =
                    (Arc::clone(&armed), Arc::clone(&cuts), address.clone());
                tokio::spawn(async move {
                    if let Ok(there) = TcpStream::connect(&address).await {
                        let _ = carried(here, there, &armed, &cuts).await;
                    }
                });
            }
        });
        way
    }

    /// Cuts the connection when the answer to the next large request comes; the answer is lost.
    pub fn loses_the_next_answer(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// How often that has happened.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Carries bytes in both directions until one side ends, or the way is cut.
async fn carried(
    here: TcpStream,
    there: TcpStream,
    armed: &AtomicBool,
    cuts: &AtomicUsize,
) -> std::io::Result<()> {
    let (mut from_here, mut to_here) = here.into_split();
    let (mut from_there, mut to_there) = there.into_split();
    let mut asked = 0;
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = from_here.read(&mut up) => {
                let read = up.get(..read?).unwrap_or_default();
                if read.is_empty() {
                    return Ok(());
                }
                asked = if armed.load(Ordering::SeqCst) { asked + read.len() } else { 0 };
                to_there.write_all(read).await?;
            }
            read = from_there.read(&mut down) => {
                let read = down.get(..read?).unwrap_or_default();
                if read.is_empty() {
                    return Ok(());
                }
                if asked >= LARGE_BYTES && read.len() >= LARGE_BYTES && armed.swap(false, Ordering::SeqCst) {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                to_here.write_all(read).await?;
            }
        }
    }
}
