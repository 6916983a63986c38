//! What a node does with commands for the shards of others: it has them carried out there, and nobody but a node can ask
//! for that.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use end_to_end::{
    alone, beside_others,
    environment::{command_url, home, query_url, variable},
    eventually,
    grpc::{Service, connected_to, direct, signed},
    http::{Answer, Call, call},
    log::events_of,
    nodes::{Way, forwarded, node_addresses, nodes, shared_out},
    orders::{contents_of, full_order, order_request},
    people::{PASSWORD, User, admin, registered_user, registration, unique, unique_email},
    stack::{OwnProcess, ready, run},
    traces::{Caller, Node, RECEIVED_WITHIN, roots},
};
use events::Topic;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::{
    internal::{AskRequest, HelloRequest, SubmitRequest, shards_client::ShardsClient},
    v1::{CreateOrderRequest, order_service_client::OrderServiceClient},
};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::{Code, Request, transport::Channel};

const NEW_PASSWORD: &str = "another correct horse battery";
/// Customers of each node: their shards, and those of their orders, are spread over all nodes.
const CUSTOMERS: usize = 6;
/// The number of the format that nodes speak.
const FORMAT: u32 = 1;

/// A user who was registered at one node and logged in at another.
async fn registered_at(urls: &[String; 2]) -> User {
    let email = unique_email();
    let register = call(Method::POST, &urls[0], "/register").json(&registration(&email));
    let registered = register.send().await.is(201);
    let credentials = json!({"email": email, "password": PASSWORD});
    let login = call(Method::POST, &urls[1], "/login").json(&credentials);
    User {
        id: registered.text("id"),
        token: login.send().await.is(200).text("access_token"),
        consistency_token: registered.consistency_token(),
        email,
    }
}

/// All that users and admins do, each step at another node.
async fn everything(urls: &[String], first: usize) {
    let at = |turn: usize| urls[(first + turn) % urls.len()].clone();
    let user = registered_at(&[at(0), at(1)]).await;
    let admin = admin().await;
    let as_user = |turn, method, path: &str| call(method, &at(turn), path).token(&user.token);
    let as_admin = |turn, method, path: &str| call(method, &at(turn), path).token(&admin.token);

    let key = unique("key-");
    let creates = |turn| as_user(turn, Method::POST, "/orders").json(&full_order());
    let created = creates(2).key(&key).send().await.is(201);
    let again = creates(0).key(&key).send().await.is(201);
    assert_eq!(
        created.body, again.body,
        "one order, whichever node is asked"
    );
    let order = format!("/orders/{}", created.text("id"));

    let mut for_customer = order_request();
    for_customer["customer_id"] = json!(user.id);
    let of_admin = as_admin(1, Method::POST, "/orders").json(&for_customer);
    let of_admin = of_admin.send().await.is(201);
    let of_admin = format!("/orders/{}", of_admin.text("id"));
    let mut for_nobody = order_request();
    for_nobody["customer_id"] = json!(uuid::Uuid::now_v7());
    let for_nobody = as_admin(2, Method::POST, "/orders").json(&for_nobody);
    for_nobody.send().await.points_at(&["/customer_id"]);

    let replaces = |turn, sku, etag: &str| {
        let put = as_user(turn, Method::PUT, &order).json(&contents_of(sku));
        put.if_match(etag)
    };
    let replaced = replaces(0, "B", "\"1\"").send().await.is(200);
    assert_eq!(replaced.etag(), "\"2\"");
    let stale = replaces(1, "C", "\"1\"").send().await;
    assert_eq!(stale.problem(412, "stale-version")["current_version"], 2);
    let cancel = format!("{order}/cancel");
    let cancels = as_user(2, Method::POST, &cancel).json(&json!({}));
    assert_eq!(cancels.send().await.is(200).text("status"), "cancelled");
    let settled = replaces(0, "D", "\"3\"").send().await;
    settled.problem(409, "rule-broken");
    let step = json!({"status": "in_progress"});
    let steps = as_admin(0, Method::PUT, &format!("{of_admin}/status")).json(&step);
    assert_eq!(steps.send().await.is(200).text("status"), "in_progress");

    let profile = format!("/users/{}", user.id);
    let renames = as_user(1, Method::PATCH, &profile).json(&json!({"name": "Ada King"}));
    assert_eq!(renames.send().await.is(200).text("name"), "Ada King");
    let passwords = json!({"current_password": PASSWORD, "new_password": NEW_PASSWORD});
    let changes = as_user(2, Method::PUT, &format!("{profile}/password"));
    changes.json(&passwords).send().await.is(204);
    let credentials = json!({"email": user.email, "password": NEW_PASSWORD});
    let login = |turn| call(Method::POST, &at(turn), "/login").json(&credentials);
    login(0).send().await.is(200);
    let erases = as_admin(1, Method::DELETE, &profile);
    erases.send().await.is(204);
    login(2).send().await.is(401);
    // His address is free again.
    let register = call(Method::POST, &at(0), "/register").json(&registration(&user.email));
    register.send().await.is(201);
}

#[test]
fn every_node_takes_every_command() {
    alone(async {
        let urls = nodes(3).await;
        for turn in 0..CUSTOMERS * urls.len() {
            everything(&urls, turn).await;
        }
        for url in &urls {
            assert!(forwarded(url, "submit", "answered").await > 0.0, "{url}");
            assert!(forwarded(url, "ask", "answered").await > 0.0, "{url}");
        }
    });
}

/// Starts a second node, which others reach over this way.
async fn node_behind(way: &Way, at: [u16; 3]) -> OwnProcess {
    let [http, grpc, node] = at.map(|port| format!("127.0.0.1:{port}"));
    let states = home().join("data").join("command-api-behind");
    let settings = [
        ("COMMAND_API_INSTANCE", "command-api-behind"),
        ("COMMAND_API_LISTEN", &http),
        ("COMMAND_API_GRPC_LISTEN", &grpc),
        ("COMMAND_API_NODE_LISTEN", &node),
        ("COMMAND_API_NODE_ADDRESS", &way.address),
        ("COMMAND_API_STATE_DIR", states.to_str().unwrap()),
    ];
    OwnProcess::start("command-api-behind", "command-api", &["serve"], &settings).await
}

fn with_note(mut body: Value) -> Value {
    body["note"] = json!("n".repeat(1_900));
    body
}

#[test]
fn a_command_whose_answer_is_lost_between_nodes_is_done_once_and_never_guessed() {
    alone(async {
        let user = registered_user().await;
        let first: u16 = command_url().rsplit(':').next().unwrap().parse().unwrap();
        // Where the second node of the stack would be.
        let at = [first + 1, first + 21, first + 51];
        let way = Way::to(format!("127.0.0.1:{}", at[2])).await;
        let _behind = node_behind(&way, at).await;
        let urls = [command_url(), format!("http://127.0.0.1:{}", at[0])];
        ready(&urls[1]).await;
        shared_out(&urls).await;
        let sends = |method, node: usize, path: &str, body: &Value| {
            call(method, &urls[node], path)
                .token(&user.token)
                .json(body)
        };
        // With a key it is asked again, and the record answers.
        let order = with_note(order_request());
        let mut key = String::new();
        while way.cuts() == 0 {
            key = unique("key-");
            way.loses_the_next_answer();
            let created = sends(Method::POST, 0, "/orders", &order).key(&key);
            created.send().await.is(201);
        }
        let done = events_of(Topic::Orders).await;
        let keys = done
            .iter()
            .filter_map(|each| each.envelope.metadata.idempotency.as_ref());
        assert_eq!(keys.filter(|it| it.key == key).count(), 1);
        // Without one nobody can know.
        let created = sends(Method::POST, 1, "/orders", &order_request())
            .send()
            .await
            .is(201);
        let path = format!("/orders/{}", created.text("id"));
        way.loses_the_next_answer();
        let contents = with_note(contents_of("CHANGED"));
        let replaces = || sends(Method::PUT, 0, &path, &contents).if_match("\"1\"");
        replaces().send().await.problem(503, "outcome-unknown");
        assert_eq!(way.cuts(), 2);
        let again = replaces().send().await;
        assert_eq!(again.problem(412, "stale-version")["current_version"], 2);
    });
}

/// Whether it is seen in a trace how a command was forwarded, from the first node to the log. A call that was not sent, as
/// the nodes were just meeting, has nothing below it.
fn shows_the_way(root: &Node) -> bool {
    const SUBMIT: &str = "orderlog.internal.v1.Shards/Submit";
    root.children
        .iter()
        .filter(|it| it.name == SUBMIT && it.kind == "client")
        .flat_map(|client| &client.children)
        .filter(|it| it.name == SUBMIT && it.kind == "server")
        .flat_map(|server| &server.children)
        .any(|it| it.name == "append orders")
}

#[test]
fn a_forwarded_order_is_one_trace_from_its_first_node_to_the_log() {
    alone(async {
        let (user, urls) = (registered_user().await, nodes(2).await);
        let before = forwarded(&urls[0], "submit", "answered").await;
        let mut caller = Caller::sampled();
        // Until a key's shard is the other node's.
        while forwarded(&urls[0], "submit", "answered").await == before {
            caller = Caller::sampled();
            let order = call(Method::POST, &urls[0], "/orders").token(&user.token);
            let order = order.header("traceparent", &caller.traceparent());
            let order = order.key(&unique("key-")).json(&order_request());
            order.send().await.is(201);
        }
        eventually("the trace to be whole", RECEIVED_WITHIN, async || {
            let roots = roots(&caller.trace_id).await;
            match roots.as_slice() {
                [root] if shows_the_way(root) => Ok(()),
                _ => Err(format!(
                    "{:?}",
                    roots.iter().map(Node::outline).collect::<Vec<_>>()
                )),
            }
        })
        .await;
        // What nobody wants recorded is not recorded on its way either.
        let unsampled = Caller::unsampled();
        for _ in 0..12 {
            let order = call(Method::POST, &urls[0], "/orders").token(&user.token);
            let order = order.header("traceparent", &unsampled.traceparent());
            let order = order.key(&unique("key-")).json(&order_request());
            order.send().await.is(201);
        }
        assert!(roots(&unsampled.trace_id).await.is_empty());
    });
}

/// The parts of a node's token, as a node would sign it.
fn node_token(header: &Header, alter: impl FnOnce(&mut Value), key: &EncodingKey) -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut claims = json!({
        "iss": "orderlog", "aud": "orderlog-nodes", "sub": "command-api-9",
        "iat": now, "nbf": now, "exp": now + 60, "jti": uuid::Uuid::now_v7(),
    });
    alter(&mut claims);
    jsonwebtoken::encode(header, &claims, key).unwrap()
}

/// The key that this installation signs with, and its name.
fn signing_key(token: &str) -> (EncodingKey, Header) {
    let pem = std::fs::read(variable("TOKEN_SIGNING_KEY_FILE")).unwrap();
    let head = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
    let head: Value = serde_json::from_slice(&head.unwrap()).unwrap();
    let header = Header {
        typ: Some("node+jwt".to_owned()),
        kid: head["kid"].as_str().map(str::to_owned),
        ..Header::new(Algorithm::ES256)
    };
    (EncodingKey::from_ec_pem(&pem).unwrap(), header)
}

async fn key_of_another_installation() -> EncodingKey {
    let directory = std::env::temp_dir().join(unique("another-installation-"));
    let named = directory.to_str().unwrap();
    let (made, printed) = run("command-api", &["create-secrets", "--dir", named]).await;
    assert!(made, "{printed}");
    let pem = std::fs::read(directory.join("token-signing-key.pem")).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    EncodingKey::from_ec_pem(&pem).unwrap()
}

async fn node() -> ShardsClient<Channel> {
    let address = node_addresses().await.remove(0);
    ShardsClient::new(connected_to(&address).await)
}

/// Every method of a node, asked with this token: the codes.
async fn asked(node: &mut ShardsClient<Channel>, token: Option<&str>) -> [Code; 3] {
    let format = FORMAT;
    let hello = node.hello(signed(HelloRequest { format }, token)).await;
    let submit = SubmitRequest {
        format,
        shard: 0,
        request: Vec::new().into(),
    };
    let ask = AskRequest {
        format,
        shard: 0,
        question: Vec::new().into(),
    };
    [
        hello.map_or_else(|status| status.code(), |_| Code::Ok),
        node.submit(signed(submit, token)).await.unwrap_err().code(),
        node.ask(signed(ask, token)).await.unwrap_err().code(),
    ]
}

#[test]
fn only_a_node_is_let_in_at_the_door_for_nodes() {
    beside_others(async {
        let user = registered_user().await;
        let (key, header) = signing_key(&user.token);
        let forged = key_of_another_installation().await;
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let mut of_access = header.clone();
        of_access.typ = Some("at+jwt".to_owned());
        let mut node = node().await;
        let good = node_token(&header, |_| (), &key);
        // Past the door it is looked at what was sent, and that was nothing.
        let let_in = [Code::Ok, Code::InvalidArgument, Code::InvalidArgument];
        assert_eq!(asked(&mut node, Some(&good)).await, let_in);
        for (what, token) in [
            ("none", None),
            ("an empty one", Some(String::new())),
            ("an access token", Some(user.token.clone())),
            ("an admin's", Some(admin().await.token)),
            ("a forged one", Some(node_token(&header, |_| (), &forged))),
            (
                "an access token's type",
                Some(node_token(&of_access, |_| (), &key)),
            ),
            (
                "another audience",
                Some(node_token(
                    &header,
                    |it| it["aud"] = json!("orderlog"),
                    &key,
                )),
            ),
            (
                "an expired one",
                Some(node_token(&header, |it| it["exp"] = json!(now - 60), &key)),
            ),
        ] {
            let codes = asked(&mut node, token.as_deref()).await;
            assert_eq!(codes, [Code::Unauthenticated; 3], "{what}");
        }
        // A node of another version is told so, and nothing of what it sent is looked at.
        let other = HelloRequest { format: FORMAT + 1 };
        let told = node.hello(signed(other, Some(&good))).await.unwrap_err();
        assert_eq!(told.code(), Code::FailedPrecondition, "{told:?}");
    });
}

#[test]
fn a_nodes_token_opens_no_public_door_and_no_public_door_leads_to_nodes() {
    beside_others(async {
        let user = registered_user().await;
        let (key, header) = signing_key(&user.token);
        let token = node_token(&header, |_| (), &key);
        let through = |url: &str| -> Call { call(Method::GET, url, "/orders?limit=1") };
        let commands = call(Method::POST, &command_url(), "/orders").json(&order_request());
        for call in [
            commands,
            through(&query_url()),
            through(&end_to_end::environment::url()),
        ] {
            let answer: Answer = call.token(&token).send().await;
            answer.problem(401, "not-authenticated");
        }
        let mut orders = OrderServiceClient::new(direct(Service::Commands).await);
        let order = signed(CreateOrderRequest::default(), Some(&token));
        let refused = orders.create_order(order).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        // The node's service is not where clients come.
        for channel in [
            direct(Service::Commands).await,
            end_to_end::grpc::channel(Service::Commands).await,
        ] {
            let hello: Request<HelloRequest> =
                signed(HelloRequest { format: FORMAT }, Some(&token));
            let told = ShardsClient::new(channel).hello(hello).await.unwrap_err();
            assert!(
                matches!(told.code(), Code::Unimplemented | Code::Unauthenticated),
                "{told:?}"
            );
        }
    });
}
