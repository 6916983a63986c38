//! What is told of another node that fails, over real connections: what certainly did not arrive, and what may have.

use std::{net::SocketAddr, sync::Arc};

use p256::pkcs8::{EncodePrivateKey, LineEnding};
use proto::internal::{
    AskResponse, HelloResponse, SubmitResponse,
    shards_server::{Shards, ShardsServer},
};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use tonic::{Response, transport::server::TcpIncoming};

use super::*;
use crate::identity::tokens::TokenSigner;

/// Longer than any time-out of the connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Another node, which answers as the test says.
#[derive(Clone, Default)]
struct Other {
    refuses: Option<Code>,
    /// A submitted command is under way from the first until the second.
    arrived: Arc<Notify>,
    answers: Arc<Notify>,
}

#[tonic::async_trait]
impl Shards for Other {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        match self.refuses {
            Some(code) => Err(Status::new(code, "no")),
            None => Ok(Response::new(HelloResponse {})),
        }
    }

    async fn submit(&self, _: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        self.arrived.notify_one();
        self.answers.notified().await;
        let reply = Bytes::from_static(b"done");
        Ok(Response::new(SubmitResponse { reply }))
    }

    async fn ask(&self, _: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let reply = Bytes::from_static(b"told");
        Ok(Response::new(AskResponse { reply }))
    }
}

impl Other {
    /// Serves until `ends`; where.
    fn serve(&self, ends: &CancellationToken) -> Arc<str> {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let incoming = TcpIncoming::bind(any).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        let service = ShardsServer::new(self.clone());
        let served = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, ends.clone().cancelled_owned());
        tokio::spawn(served);
        address.into()
    }
}

fn peers() -> Arc<Peers> {
    let secret = <p256::SecretKey as p256::elliptic_curve::Generate>::generate();
    let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    let signer = TokenSigner::from_pem(&pem).unwrap();
    Arc::new(Peers::new(NodeSigner::new(
        Arc::new(signer),
        "command-api-1",
    )))
}

async fn send(peers: &Peers, address: &Arc<str>, errand: Errand) -> Result<Bytes, NotTold> {
    let content = (0, Bytes::new());
    let until = Instant::now() + PATIENCE;
    peers.send(address, errand, content, None, until).await
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    drop(listener);
    let told = send(&peers(), &address, Errand::Submit).await;
    assert!(matches!(told, Err(NotTold::NotSent(_))), "{told:?}");
}

#[tokio::test]
async fn to_whom_does_not_introduce_himself_nothing_is_sent() {
    // As of a process that stands still: the kernel takes the connection.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let begun = Instant::now();
    let told = send(&peers(), &address, Errand::Submit).await;
    assert!(matches!(told, Err(NotTold::NotSent(_))), "{told:?}");
    assert!(begun.elapsed() < CONNECT_WITHIN + HELLO_WITHIN + HELLO_WITHIN);
}

#[tokio::test]
async fn who_does_not_let_this_node_in_is_a_stranger() {
    for code in [Code::Unauthenticated, Code::FailedPrecondition] {
        let other = Other {
            refuses: Some(code),
            ..Other::default()
        };
        let ends = CancellationToken::new();
        let told = send(&peers(), &other.serve(&ends), Errand::Ask).await;
        assert!(matches!(told, Err(NotTold::Stranger(_))), "{told:?}");
    }
}

#[tokio::test]
async fn a_node_that_ends_answers_what_it_has_and_takes_nothing_more() {
    let (other, ends, peers) = (Other::default(), CancellationToken::new(), peers());
    let address = other.serve(&ends);
    let first = tokio::spawn({
        let (peers, address) = (Arc::clone(&peers), Arc::clone(&address));
        async move { send(&peers, &address, Errand::Submit).await }
    });
    other.arrived.notified().await;
    ends.cancel();
    // Until the other side's word that it ends is here, it still answers.
    loop {
        match send(&peers, &address, Errand::Ask).await {
            Ok(reply) => assert_eq!(reply, "told"),
            Err(NotTold::NotSent(_)) => break,
            Err(other) => panic!("{other:?}"),
        }
        tokio::task::yield_now().await;
    }
    other.answers.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), "done");
}

#[tokio::test]
async fn what_was_under_way_when_the_connection_broke_may_have_arrived() {
    let (other, ends, peers) = (Other::default(), CancellationToken::new(), peers());
    let node = other.serve(&ends);
    // A way that can be cut.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let way = tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.unwrap();
        let mut there = TcpStream::connect(&*node).await.unwrap();
        tokio::io::copy_bidirectional(&mut here, &mut there).await
    });
    let sent = tokio::spawn({
        let peers = Arc::clone(&peers);
        async move { send(&peers, &address, Errand::Submit).await }
    });
    other.arrived.notified().await;
    way.abort();
    let told = sent.await.unwrap();
    assert!(matches!(told, Err(NotTold::Broken(_))), "{told:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_given_up_within_seconds() {
    let (other, ends, peers) = (Other::default(), CancellationToken::new(), peers());
    let node = other.serve(&ends);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Arc<str> = listener.local_addr().unwrap().to_string().into();
    let (hushed, hush) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    tokio::spawn({
        let (hushed, hush) = (Arc::clone(&hushed), Arc::clone(&hush));
        async move {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = TcpStream::connect(&*node).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                () = hush.notified() => hushed.notify_one(),
            }
            // Both ends stay open.
            std::future::pending::<()>().await;
        }
    });
    let sent = tokio::spawn({
        let peers = Arc::clone(&peers);
        async move { send(&peers, &address, Errand::Submit).await }
    });
    other.arrived.notified().await;
    hush.notify_one();
    hushed.notified().await;
    let begun = Instant::now();
    let told = sent.await.unwrap();
    assert!(matches!(told, Err(NotTold::Broken(_))), "{told:?}");
    let took = begun.elapsed();
    assert!(
        took < KEEP_ALIVE_EVERY + KEEP_ALIVE_WITHIN + KEEP_ALIVE_EVERY,
        "{took:?}"
    );
}
