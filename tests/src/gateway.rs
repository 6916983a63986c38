//! Gateways of a test's own, beside that of the stack: with other limits, or before services that misbehave.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Method;

use crate::{environment, eventually, http::call};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// An Envoy with the stack's certificate; killed when dropped.
pub struct OwnGateway {
    /// Its base URL.
    pub url: String,
    directory: PathBuf,
    process: Child,
}

impl OwnGateway {
    /// Starts one before the services of the stack, with these settings instead of the template's own.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let home = environment::home();
        let (listen, admin) = (free_address(), free_address());
        let directory =
            std::env::temp_dir().join(format!("orderlog-gateway-{}", listen.replace(':', "-")));
        std::fs::create_dir_all(&directory).expect("a directory");
        let render = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/render"))
            .envs([
                ("GATEWAY_LISTEN", listen.as_str()),
                ("GATEWAY_ADMIN_LISTEN", admin.as_str()),
                ("PROJECTIONS_ADDRESS", &host_of(&environment::query_url())),
                ("COMMAND_API_ADDRESS", &host_of(&environment::command_url())),
                ("COMMAND_API_GRPC_ADDRESS", "127.0.0.1:1"),
                ("PROJECTIONS_GRPC_ADDRESS", "127.0.0.1:1"),
            ])
            .env("GATEWAY_CERTIFICATE_FILE", home.join("secrets/gateway.pem"))
            .env(
                "GATEWAY_PRIVATE_KEY_FILE",
                home.join("secrets/gateway-key.pem"),
            )
            .envs(settings.iter().copied())
            .output()
            .expect("gateway/render");
        assert!(
            render.status.success(),
            "{}",
            String::from_utf8_lossy(&render.stderr)
        );
        let configuration = directory.join("envoy.yaml");
        std::fs::write(&configuration, render.stdout).expect("a configuration");
        let process = Command::new(program())
            .arg("--config-path")
            .arg(&configuration)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--log-level", "warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("envoy");
        let own = Self {
            url: format!("https://{listen}"),
            directory,
            process,
        };
        let admin = format!("http://{admin}");
        eventually("a gateway of its own", READY_WITHIN, async || {
            match call(Method::GET, &admin, "/ready").try_send().await {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        own
    }
}

impl OwnGateway {
    /// Its host:port.
    pub fn address(&self) -> String {
        host_of(&self.url)
    }
}

impl Drop for OwnGateway {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The program that the stack's own gateway runs.
fn program() -> PathBuf {
    let record = environment::home().join("run/gateway.json");
    let text = std::fs::read_to_string(&record).expect("a gateway that was started");
    let record: serde_json::Value = serde_json::from_str(&text).expect("its record");
    std::fs::read_link(format!("/proc/{}/exe", record["pid"])).expect("a gateway that runs")
}

/// A service that takes a connection, reads what it is sent, and hangs up without a word. Returns its address; it lives
/// as long as the process.
pub fn service_that_hangs_up() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut part = [0; 64 * 1024];
            let _ = stream.read(&mut part);
            let _ = stream.flush();
        }
    });
    address
}

/// A service that answers with the head of the request it got. Returns its address; it lives as long as the process.
pub fn service_that_repeats() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut part) = (Vec::new(), [0; 64 * 1024]);
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(length) if length > 0 => head.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let length = head.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
            // A gateway that has gone away is no concern of a service.
            let _ = stream.write_all(&[answer.as_bytes(), &head].concat());
        }
    });
    address
}

/// An address where nobody listens.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn host_of(url: &str) -> String {
    url.rsplit('/').next().unwrap_or_default().to_owned()
}
