//! `orderlog.v1`: the gRPC services and what they exchange, made from the `.proto` files of this folder.
