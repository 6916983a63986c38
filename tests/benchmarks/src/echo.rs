//! A server that does nothing, to see what the load generator costs by itself.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::http::message_extent;

/// As long as the answer to an order of three lines.
const BODY_BYTES: usize = 700;
const BUFFER_BYTES: usize = 16 * 1024;

/// The server, on a thread of its own; ends when dropped.
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Echo {
    /// Starts it on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        std::thread::Builder::new()
            .name("echo".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        ended = serve(listener) => drop(ended),
                        _ended = stopped => {}
                    }
                });
            })
            .context("no thread for the echo")?;
        Ok(Self {
            address,
            _stop: stop,
        })
    }
}

async fn serve(listener: std::net::TcpListener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
    let body = "x".repeat(BODY_BYTES);
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-length: {BODY_BYTES}\r\netag: \"1\"\r\n\r\n{body}"
    );
    let (mut buffer, mut filled) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let free = buffer.get_mut(filled..).unwrap_or_default();
        match stream.read(free).await? {
            0 => return Ok(()),
            received => filled += received,
        }
        let extent = message_extent(buffer.get(..filled).unwrap_or_default())?;
        if extent.is_some_and(|extent| filled >= extent.head + extent.body) {
            stream.write_all(answer.as_bytes()).await?;
            filled = 0;
        }
    }
}
