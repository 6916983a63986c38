//! Makes Rust of `orderlog/v1/*.proto`, without `protoc`: messages, clients, servers, the list of methods, and the
//! descriptors that reflection shows. Of `orderlog/internal`, which is not for clients, messages, client and server alone.

use std::{env, error::Error, fmt::Write, fs, path::Path};

const ROOT: &str = ".";
const PROTOS: [&str; 4] = [
    "orderlog/v1/order.proto",
    "orderlog/v1/order_service.proto",
    "orderlog/v1/user.proto",
    "orderlog/v1/user_service.proto",
];
/// What nodes ask of each other: nothing that a client is shown knows of it.
const INTERNAL: &str = "orderlog/internal/v1/shards.proto";
/// Messages that hold personal data or secrets: what `Debug` says of them is written by hand.
const CONFIDENTIAL: [&str; 13] = [
    "orderlog.v1.Address",
    "orderlog.v1.CreateOrderRequest",
    "orderlog.v1.ReplaceOrderRequest",
    "orderlog.v1.Order",
    "orderlog.v1.FieldChange",
    "orderlog.v1.User",
    "orderlog.v1.RegisterRequest",
    "orderlog.v1.LoginRequest",
    "orderlog.v1.Tokens",
    "orderlog.v1.RefreshTokenRequest",
    "orderlog.v1.LogoutRequest",
    "orderlog.v1.UpdateProfileRequest",
    "orderlog.v1.ChangePasswordRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=orderlog");
    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(PROTOS)?;
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    fs::write(
        out.join("orderlog.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let descriptors = compiler.file_descriptor_set();

    let mut methods = "&[".to_owned();
    for file in &descriptors.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service, name) = (file.package(), service.name(), method.name());
                writeln!(
                    methods,
                    r#"Method {{ service: "{package}.{service}", name: "{name}", path: "/{package}.{service}/{name}" }},"#
                )?;
            }
        }
    }
    methods.push(']');
    fs::write(out.join("methods.rs"), methods)?;

    tonic_prost_build::configure()
        .codec_path("crate::codec::Bounded")
        // Each service answers its half of the methods.
        .generate_default_stubs(true)
        .skip_debug(CONFIDENTIAL)
        .compile_fds(descriptors)?;
    tonic_prost_build::configure()
        .bytes(".orderlog.internal")
        .compile_fds(protox::compile([INTERNAL], [ROOT])?)?;
    Ok(())
}
