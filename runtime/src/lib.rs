//! What the three services share, and nothing that only one of them needs: how a process starts, says how
//! it is, and ends; how a request is received, checked and answered; how personal data is opened.

mod apart;
pub mod auth;
pub mod consistency;
pub mod data_keys;
pub mod etag;
pub mod grpc;
pub mod health;
pub mod http;
pub mod json;
pub mod one_line;
pub mod openapi;
pub mod postgres;
pub mod problem;
pub mod process;
pub mod reload;
pub mod representation;
pub mod request_id;
pub mod request_metrics;
pub mod retry;
pub mod scrape;
pub mod secret_file;
pub mod setting;
pub mod shutdown;
pub mod telemetry;
pub mod trace;
pub mod vital;
