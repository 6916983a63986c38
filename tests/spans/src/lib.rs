//! Stand-in for a collector of traces: receives spans by OTLP over gRPC, keeps the latest traces, and shows each as a tree.
//!
//! For tests and demonstrations, where no Jaeger runs. Nothing is stored; what is kept is bounded.

pub mod http;
pub mod kept;
pub mod otlp;
pub mod tree;
