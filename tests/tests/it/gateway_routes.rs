//! Who may go where: every route of the gateway, over HTTP and gRPC, tried without a token before services that would let
//! everybody in.

use end_to_end::{
    beside_others,
    gateway::{OwnGateway, free_address, service_that_repeats},
    grpc::{problem_name, through},
    http::call,
};
use reqwest::Method;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

const FOR_EVERYBODY: [(Method, &str); 10] = [
    (Method::POST, "/register"),
    (Method::POST, "/login"),
    (Method::POST, "/token/refresh"),
    (Method::POST, "/logout"),
    (Method::GET, "/.well-known/jwks.json"),
    (Method::GET, "/openapi.json"),
    (Method::GET, "/docs"),
    (Method::GET, "/problems/invalid"),
    (Method::GET, "/healthz"),
    (Method::GET, "/readyz"),
];
const FOR_THE_SIGNED_IN: [(Method, &str); 15] = [
    (Method::GET, "/users"),
    (Method::GET, "/users/me"),
    (Method::GET, "/users/1"),
    (Method::PATCH, "/users/1"),
    (Method::DELETE, "/users/1"),
    (Method::PUT, "/users/1/password"),
    (Method::PUT, "/users/1/email"),
    (Method::PUT, "/users/1/role"),
    (Method::GET, "/orders"),
    (Method::POST, "/orders"),
    (Method::GET, "/orders/1"),
    (Method::GET, "/orders/1/history"),
    (Method::PUT, "/orders/1"),
    (Method::PUT, "/orders/1/status"),
    (Method::POST, "/orders/1/cancel"),
];
const METHODS_FOR_EVERYBODY: [&str; 4] = ["Register", "Login", "RefreshToken", "Logout"];

#[test]
fn the_gateway_itself_refuses_whoever_is_not_signed_in() {
    beside_others(async {
        let anything = service_that_repeats();
        let gateway = OwnGateway::start(&[
            ("COMMAND_API_ADDRESS", &anything),
            ("PROJECTIONS_ADDRESS", &anything),
        ])
        .await;
        for (method, path) in FOR_EVERYBODY {
            let answer = call(method, &gateway.url, path).send().await;
            answer.is(200);
        }
        for (method, path) in FOR_THE_SIGNED_IN {
            for path in [path, &format!("{path}?a=/login"), &format!("/{path}")] {
                let answer = call(method.clone(), &gateway.url, path).send().await;
                answer.problem(401, "not-authenticated");
                assert_eq!(answer.header("www-authenticate"), "Bearer");
            }
        }
    });
}

#[test]
fn the_gateway_itself_refuses_calls_over_grpc_without_a_token() {
    beside_others(async {
        let nobody = free_address();
        let gateway = OwnGateway::start(&[
            ("COMMAND_API_GRPC_ADDRESS", &nobody),
            ("PROJECTIONS_GRPC_ADDRESS", &nobody),
        ])
        .await;
        let mut client = Grpc::new(through(&gateway.address()).await);
        let mut tried = 0;
        for (service, file) in [
            (
                "OrderService",
                include_str!("../../../proto/orderlog/v1/order_service.proto"),
            ),
            (
                "UserService",
                include_str!("../../../proto/orderlog/v1/user_service.proto"),
            ),
        ] {
            let lines = file
                .lines()
                .filter_map(|line| line.trim().strip_prefix("rpc "));
            for method in lines.filter_map(|line| line.split('(').next()) {
                client.ready().await.unwrap();
                let path = format!("/orderlog.v1.{service}/{method}");
                let path = PathAndQuery::try_from(path).unwrap();
                let codec = ProstCodec::<(), ()>::default();
                let status: Result<_, Status> = client.unary(Request::new(()), path, codec).await;
                let status = status.unwrap_err();
                let refused = if METHODS_FOR_EVERYBODY.contains(&method) {
                    (Code::Unavailable, "unavailable")
                } else {
                    (Code::Unauthenticated, "not-authenticated")
                };
                let told = (status.code(), problem_name(&status));
                assert_eq!((told.0, told.1.as_str()), refused, "{method}");
                tried += 1;
            }
        }
        assert!(tried > 13, "{tried} methods");
    });
}
