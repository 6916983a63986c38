//! The edge: TLS, origins, limits, and requests that are not what they should be.

use std::{
    io::{Read, Write},
    time::Duration,
};

use end_to_end::{
    beside_others,
    environment::{self, variable},
    gateway::{OwnGateway, service_that_repeats},
    http::{Answer, call, command, query},
    orders::order_request,
    people::{User, registered_user},
    tls::{Tls, connect, gateway_address},
};
use reqwest::Method;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);
const HEAD_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn the_door_opens_for_tls_1_2_and_1_3_only() {
    beside_others(async {
        for (version, protocol) in [
            (&rustls::version::TLS12, "http/1.1"),
            (&rustls::version::TLS12, "h2"),
            (&rustls::version::TLS13, "http/1.1"),
            (&rustls::version::TLS13, "h2"),
        ] {
            let tls = Tls::with(&gateway_address(), &[version], &[protocol]).unwrap();
            assert_eq!(tls.protocol().as_deref(), Some(protocol), "{version:?}");
        }
        assert!(hello_is_refused([3, 2]), "TLS 1.1");
        assert!(hello_is_refused([3, 1]), "TLS 1.0");
    });
}

/// Whether a ClientHello of this version is answered with an alert: no library sends one any more.
fn hello_is_refused(version: [u8; 2]) -> bool {
    let mut hello = version.to_vec();
    hello.extend([7; 32]); // random
    hello.push(0); // no session
    hello.extend([0, 4, 0xc0, 0x13, 0xc0, 0x09]); // ECDHE with AES-128-CBC, RSA and ECDSA
    hello.extend([1, 0]); // no compression
    let extensions = [
        0, 10, 0, 4, 0, 2, 0, 23, // the curve P-256
        0, 11, 0, 2, 1, 0, // uncompressed points
    ];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, version[0], version[1], 0, hello.len() as u8 + 4];
    record.extend([1, 0, 0, hello.len() as u8]);
    record.extend(hello);
    let mut stream = connect(&gateway_address());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&record).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // An alert (21), fatal (2): protocol_version (70).
    answer.first() == Some(&21) && answer.get(5..7) == Some(&[2, 70])
}

#[test]
fn plain_http_gets_no_answer() {
    beside_others(async {
        let mut stream = connect(&gateway_address());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        // Closed in whatever way.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    });
}

#[test]
fn every_answer_has_its_headers_and_none_tells_what_is_running() {
    beside_others(async {
        let user = registered_user().await;
        for call in [
            user.query("/orders"),
            query("/orders"),
            query("/nowhere"),
            query("/metrics"),
            command(Method::DELETE, "/login"),
            command(Method::POST, "/orders").token(&user.token),
        ] {
            let answer = call.send().await;
            let hsts = answer.header("strict-transport-security");
            assert!(hsts.contains("max-age=31536000"), "{answer:?}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert_eq!(answer.header("cache-control"), "no-store");
            for telling in ["server", "via", "x-powered-by", "x-orderlog-not-owner"] {
                assert!(answer.header_if_there(telling).is_none(), "{answer:?}");
            }
            let envoy = answer.headers.keys();
            assert!(
                !envoy
                    .into_iter()
                    .any(|name| name.as_str().contains("envoy")),
                "{answer:?}"
            );
        }
    });
}

#[test]
fn metrics_and_unknown_paths_are_found_nowhere() {
    beside_others(async {
        let user = registered_user().await;
        for path in [
            "/metrics",
            "/metrics/",
            "/",
            "/admin",
            "/users/1/2",
            "/x/../metrics",
        ] {
            for call in [query(path), user.query(path)] {
                call.send().await.problem(404, "not-found");
            }
        }
        // What looks like one path to one program and like another to the next.
        for path in ["/orders%2f1", "/orders%5C1", "/orders/%2e%2e%2fmetrics"] {
            user.query(path).send().await.problem(400, "unreadable");
        }
        user.query("//orders").send().await.is(200);
    });
}

#[test]
fn a_request_keeps_its_name_when_it_is_a_uuid_and_gets_one_when_not() {
    beside_others(async {
        let user = registered_user().await;
        let id = "0199c0de-1234-7abc-8def-0123456789ab";
        let names = |answer: &Answer| {
            let all = answer.headers.get_all("x-request-id").iter();
            all.map(|it| it.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let doors = || [user.query("/orders"), query("/orders"), query("/nowhere")];
        for call in doors() {
            let answer = call.header("x-request-id", id).send().await;
            assert_eq!(names(&answer), [id], "{answer:?}");
        }
        for wrong in [
            "",
            "Zanzibar",
            "0199c0de-1234-7abc-8def-0123456789a",
            "' OR 1=1",
        ] {
            for call in doors() {
                let answer = call.header("x-request-id", wrong).send().await;
                let names = names(&answer);
                assert_eq!(names.len(), 1, "{answer:?}");
                assert!(names[0].parse::<uuid::Uuid>().is_ok(), "{answer:?}");
            }
        }
    });
}

#[test]
fn only_pages_of_allowed_origins_may_read_answers() {
    beside_others(async {
        let user = registered_user().await;
        let allowed = variable("ORDERLOG_ALLOWED_ORIGIN");
        let doors = |origin: &str| {
            [user.query("/orders"), query("/orders"), query("/users/1")]
                .map(|call| call.header("origin", origin))
        };
        for call in doors(&allowed) {
            let answer = call.send().await;
            assert_eq!(answer.header("access-control-allow-origin"), allowed);
            let exposed = answer
                .header("access-control-expose-headers")
                .to_lowercase();
            for name in [
                "etag",
                "location",
                "consistency-token",
                "x-request-id",
                "retry-after",
            ] {
                assert!(exposed.contains(name), "{name}: {answer:?}");
            }
            let credentials = answer.header_if_there("access-control-allow-credentials");
            assert!(credentials.is_none(), "{answer:?}");
        }
        for foreign in [
            "https://evil.example",
            &format!("{allowed}.evil.example"),
            &format!("{allowed}0"),
            &format!("https://evil.example/{allowed}"),
            &allowed.replace("http:", "https:"),
            &allowed.to_uppercase(),
            "null",
            "",
        ] {
            for call in doors(foreign) {
                let answer = call.send().await;
                assert!(!has_cors_headers(&answer), "{foreign}: {answer:?}");
            }
            assert!(!has_cors_headers(&preflight(foreign).await), "{foreign}");
        }
        let answer = preflight(&allowed).await.is(200);
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        for method in ["PUT", "PATCH", "DELETE"] {
            assert!(
                answer
                    .header("access-control-allow-methods")
                    .contains(method)
            );
        }
        let headers = answer.header("access-control-allow-headers").to_lowercase();
        for name in [
            "authorization",
            "content-type",
            "idempotency-key",
            "if-match",
            "consistency-token",
            "prefer",
        ] {
            assert!(headers.contains(name), "{name}: {answer:?}");
        }
    });
}

fn has_cors_headers(answer: &Answer) -> bool {
    let mut names = answer.headers.keys();
    names.any(|name| name.as_str().starts_with("access-control-"))
}

async fn preflight(origin: &str) -> Answer {
    call(Method::OPTIONS, &environment::url(), "/orders")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,idempotency-key",
        )
        .send()
        .await
}

#[test]
fn tries_are_limited_for_each_address_whatever_a_client_says_about_it() {
    beside_others(async {
        let gateway = OwnGateway::start(&[("GATEWAY_CREDENTIALS_PER_MINUTE", "5")]).await;
        let (mut refused, mut passed) = (0, 0);
        for attempt in 0..20 {
            let (method, path, passes) = match attempt % 3 {
                0 => (Method::POST, "/login", (422, "invalid")),
                1 => (Method::POST, "/register?x=1", (422, "invalid")),
                _ => (
                    Method::PUT,
                    "/users/me/password",
                    (401, "not-authenticated"),
                ),
            };
            let mut tried = call(method, &gateway.url, path).json(&json!({}));
            for name in [
                "x-forwarded-for",
                "forwarded",
                "x-real-ip",
                "true-client-ip",
                "x-envoy-external-address",
            ] {
                tried = tried.header(name, &format!("203.0.113.{attempt}"));
            }
            let answer = tried.send().await;
            if answer.status == 429 {
                answer.problem(429, "too-many-requests");
                assert_eq!(answer.header("retry-after"), "12");
                refused += 1;
            } else {
                answer.problem(passes.0, passes.1);
                passed += 1;
            }
        }
        // One more may come back while it lasts.
        assert!(
            (5..=6).contains(&passed),
            "{passed} passed, {refused} refused"
        );
        let others = call(Method::GET, &gateway.url, "/problems/invalid");
        others.send().await.is(200);
    });
}

#[test]
fn services_hear_from_the_gateway_only_who_asks() {
    beside_others(async {
        let service = service_that_repeats();
        let gateway = OwnGateway::start(&[("COMMAND_API_ADDRESS", &service)]).await;
        let mut asked = call(Method::POST, &gateway.url, "/login");
        for (name, value) in [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-port", "7"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-client-cert", "By=evil.example"),
            ("forwarded", "for=203.0.113.7;host=evil.example"),
            ("x-real-ip", "203.0.113.7"),
            ("x-envoy-external-address", "203.0.113.7"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-upstream-rq-timeout-ms", "7"),
        ] {
            asked = asked.header(name, value);
        }
        let heard = String::from_utf8(asked.send().await.is(200).body).unwrap();
        let heard = heard.to_lowercase();
        assert!(heard.starts_with("post /login http/1.1"), "{heard}");
        for forged in [
            "203.0.113.7",
            "evil.example",
            "gopher",
            "5xx",
            ": 7\r\n",
            "internal",
        ] {
            assert!(!heard.contains(forged), "{forged}: {heard}");
        }
        assert!(heard.contains("x-forwarded-proto: https\r\n"), "{heard}");
    });
}

#[test]
fn requests_are_limited_for_each_address() {
    beside_others(async {
        let gateway = OwnGateway::start(&[("GATEWAY_REQUESTS_PER_SECOND", "10")]).await;
        let asked = (0..60).map(|_| call(Method::GET, &gateway.url, "/problems/invalid").send());
        let answers = futures_util::future::join_all(asked).await;
        let refused: Vec<_> = answers.iter().filter(|it| it.status == 429).collect();
        assert!(refused.len() >= 30, "{} of 60 refused", refused.len());
        for answer in refused {
            answer.problem(429, "too-many-requests");
        }
    });
}

#[test]
fn a_head_must_arrive_in_time_also_the_second_one_of_a_connection() {
    beside_others(async {
        let mut tls = Tls::open();
        tls.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let first = tls.answer(PATIENCE);
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        tls.send(b"GET /healthz HTTP/1.1\r\nHost: local");
        let (rest, after) = tls.until_closed(2 * HEAD_WITHIN);
        assert!(
            after >= HEAD_WITHIN / 2 && after < 2 * HEAD_WITHIN,
            "{after:?}"
        );
        assert!(
            rest.is_empty() || rest.contains("/problems/unreadable"),
            "{rest}"
        );
    });
}

#[test]
fn a_body_may_not_pause() {
    beside_others(async {
        let user = registered_user().await;
        let pause = Duration::from_secs(2);
        let gateway = OwnGateway::start(&[("GATEWAY_IDLE_SECONDS", "2")]).await;
        let mut tls = Tls::to(&gateway.address());
        tls.send(&posts(&user, "Content-Length: 100"));
        tls.send(b"{");
        let (answer, after) = tls.until_closed(PATIENCE);
        assert!(after >= pause / 2 && after < 5 * pause, "{after:?}");
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("/problems/unreadable"), "{answer}");
    });
}

#[test]
fn heads_have_a_limit() {
    beside_others(async {
        let user = registered_user().await;
        let large = user
            .query("/orders")
            .header("x-large", &"a".repeat(40 * 1024));
        large.send().await.problem(413, "too-large");
        let mut many = user.query("/orders");
        for number in 0..110 {
            many = many.header(&format!("x-{number}"), "1");
        }
        many.send().await.problem(413, "too-large");
        let long = query(&format!("/{}", "a".repeat(40 * 1024)));
        long.send().await.problem(413, "too-large");
    });
}

fn posts(user: &User, headers: &str) -> Vec<u8> {
    format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{headers}\r\n\r\n",
        user.token
    )
    .into_bytes()
}

#[test]
fn a_body_without_a_length_has_the_same_limit() {
    beside_others(async {
        let user = registered_user().await;
        for (pieces, status) in [(15, "400"), (17, "413")] {
            let mut tls = Tls::open();
            tls.send(&posts(&user, "Transfer-Encoding: chunked"));
            for _ in 0..pieces {
                tls.send(b"10000\r\n");
                tls.send(&[b' '; 0x10000]);
                tls.send(b"\r\n");
            }
            tls.send(b"0\r\n\r\n");
            let answer = tls.answer(PATIENCE);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    });
}

#[test]
fn a_request_that_could_be_read_in_two_ways_is_read_in_none() {
    beside_others(async {
        let user = registered_user().await;
        let hidden = "GET /problems/invalid HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let length = hidden.len() + 5;
        for headers in [
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
            "Content-Length: 5\r\nContent-Length: 6".to_owned(),
            "Transfer-Encoding: xchunked".to_owned(),
            "Transfer-Encoding: chunked, chunked".to_owned(),
            "Content-Length: +5".to_owned(),
            "Transfer-Encoding : chunked".to_owned(),
            "content_length: 5".to_owned(),
        ] {
            let mut tls = Tls::open();
            let mut request = posts(&user, &headers);
            request.extend(format!("0\r\n\r\n{hidden}").into_bytes());
            tls.send(&request);
            let (answers, _) = tls.until_closed(PATIENCE);
            assert!(answers.starts_with("HTTP/1.1 400"), "{headers}: {answers}");
            let heads = answers.lines().filter(|line| line.starts_with("HTTP/"));
            assert_eq!(heads.count(), 1, "{headers}: {answers}");
            assert!(
                answers.contains("/problems/unreadable"),
                "{headers}: {answers}"
            );
        }
    });
}

#[test]
fn a_session_that_is_signed_in_may_create_an_order_over_http_1_and_nothing_is_said_twice() {
    beside_others(async {
        let user = registered_user().await;
        let body = order_request().to_string();
        let mut tls = Tls::open();
        let mut request = posts(&user, &format!("Content-Length: {}", body.len()));
        request.extend(body.into_bytes());
        tls.send(&request);
        let answer = tls.answer(PATIENCE).to_lowercase();
        assert!(answer.starts_with("http/1.1 201"), "{answer}");
        for once in [
            "\r\nx-request-id:",
            "\r\netag:",
            "\r\nx-content-type-options:",
            "\r\ncache-control:",
            "\r\ncontent-type:",
        ] {
            assert_eq!(answer.matches(once).count(), 1, "{once}: {answer}");
        }
    });
}
