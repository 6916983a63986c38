//! One order is one trace, from its request to the mail about it; and a collector that is away is nobody's trouble.

use end_to_end::{
    alone, beside_others,
    environment::{command_url, notifier_url, query_url},
    eventually,
    grpc::{Service, channel, signed},
    http::{Answer, command},
    log::events_of_order,
    orders::full_order,
    people::{PASSWORD, User, log_in, registration, unique, unique_email, unique_phone},
    postbox::{DELIVERED_WITHIN, ledger_of, settled},
    stack::{counter, memory_of, stack},
    traces::{Caller, log_lines, shown, traced},
    workload::Workload,
};
use proto::v1::{CreateOrderRequest, NewOrderLine, order_service_client::OrderServiceClient};
use reqwest::Method;
use serde_json::json;

/// What an order of a customer with a phone gives rise to.
const OF_AN_ORDER: &str = "command-api: POST /orders (server) > [command-api: append orders (producer) > [\
    notifier: react orders (consumer) > [\
    notifier: send email (consumer) > [notifier: POST sendgrid (client)], \
    notifier: send sms (consumer) > [notifier: POST twilio (client)]], \
    projections: project orders (consumer)]]";
/// What a registration gives rise to: the claim of the address and the user are two events.
const OF_A_REGISTRATION: &str = "command-api: POST /register (server) > [command-api: append users (producer) > [\
    notifier: react users (consumer) > [\
    notifier: send email (consumer) > [notifier: POST sendgrid (client)]], \
    projections: project users (consumer)]]";
const DROPPED: &str = "orderlog_trace_spans_dropped_total";
const EXPORTED: &str = "orderlog_trace_spans_exported_total";
/// What a client may write anywhere, and no span repeats.
const MARK: &str = "Zanzibar";
const CLIENTS: usize = 64;
/// Commands during an outage, at two spans each: more than fit in the queue.
const ORDERS_WITHOUT_COLLECTOR: usize = 5_000;
/// The queue, what is being sent, and the state of so many orders in a debug build.
const GROWTH_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A customer with a phone, registered within a trace; also what no span may say.
async fn customer(caller: &Caller) -> (User, Vec<String>) {
    let (email, phone, name) = (unique_email(), unique_phone(), unique("Ada "));
    let mut body = registration(&email);
    body["phone"] = json!(phone);
    body["name"] = json!(name);
    let registered = command(Method::POST, "/register")
        .header("traceparent", &caller.traceparent())
        .json(&body)
        .send()
        .await
        .is(201);
    let user = User {
        id: registered.text("id"),
        token: log_in(&email, PASSWORD).await.text("access_token"),
        consistency_token: registered.consistency_token(),
        email: email.clone(),
    };
    // Once the account was told of, its contact is known: what is ordered now is told at the first attempt.
    eventually("the account to be told of", DELIVERED_WITHIN, async || {
        let rows = ledger_of(&user.id).await;
        let sent = rows.iter().find(|row| row.status == "sent");
        sent.map(drop).ok_or_else(|| format!("{rows:?}"))
    })
    .await;
    let secret = user.token.clone();
    let personal = vec![email, phone, name, secret, PASSWORD.into(), MARK.into()];
    (user, personal)
}

async fn orders(user: &User, caller: &Caller) -> Answer {
    let call = user.command(Method::POST, &format!("/orders?{MARK}"));
    call.header("traceparent", &caller.traceparent())
        .header("user-agent", MARK)
        .json(&full_order())
        .send()
        .await
        .is(201)
}

#[test]
fn an_order_is_one_trace_from_its_request_to_the_mail() {
    beside_others(async {
        // Until the notifier has told what earlier tests did: so many spans that the first of this one would be forgotten.
        customer(&Caller::unsampled()).await;
        let (registers, asks) = (Caller::sampled(), Caller::sampled());
        let (user, mut personal) = customer(&registers).await;
        traced(&registers, OF_A_REGISTRATION).await;
        let created = orders(&user, &asks).await;
        let request = traced(&asks, OF_AN_ORDER).await;
        assert_eq!(request.attribute("http.route"), "/orders");
        assert_eq!(request.attribute("http.response.status_code"), 201);

        // What recorded the event is what the event names, and what all that follows is below of.
        let append = request.find("append orders").unwrap();
        let events = events_of_order(&created.text("id")).await;
        let [event] = events.as_slice() else {
            panic!("{events:?}")
        };
        let origin = event.envelope.metadata.traceparent.unwrap();
        assert_eq!(origin.span_id().to_string(), append.span_id);
        let project = request.find("project orders").unwrap();
        for (of, attribute, value) in [
            (append, "messaging.kafka.offset", json!(event.place.offset)),
            (project, "messaging.kafka.offset", json!(event.place.offset)),
            (project, "orderlog.event", json!("order_created")),
            (
                request.find("send email").unwrap(),
                "messaging.message.id",
                json!(event.envelope.metadata.event_id.to_string()),
            ),
            (
                request.find("POST sendgrid").unwrap(),
                "http.response.status_code",
                json!(202),
            ),
        ] {
            assert_eq!(of.attribute(attribute), &value, "{attribute} of {of:?}");
        }

        // Ids, numbers and names of ours; nothing of a person.
        let order = full_order();
        let address = &order["shipping_address"];
        for text in [&address["recipient"], &address["street"], &order["note"]] {
            personal.push(text.as_str().unwrap().to_owned());
        }
        for trace_id in [&registers.trace_id, &asks.trace_id] {
            let text = shown(trace_id).await.unwrap().to_string();
            for secret in &personal {
                assert!(!text.contains(secret.as_str()), "{secret} in {text}");
            }
        }
    });
}

#[test]
fn an_order_over_grpc_is_one_trace_as_well() {
    beside_others(async {
        let (user, _) = customer(&Caller::unsampled()).await;
        let caller = Caller::sampled();
        let line = NewOrderLine {
            sku: "TEA-1".to_owned(),
            quantity: 1,
            unit_price: "4.25".to_owned(),
            name: None,
        };
        let message = CreateOrderRequest {
            currency: "EUR".to_owned(),
            lines: vec![line],
            ..CreateOrderRequest::default()
        };
        let mut call = signed(message, Some(&user.token));
        let traceparent = caller.traceparent().parse().unwrap();
        call.metadata_mut().insert("traceparent", traceparent);
        let mut client = OrderServiceClient::new(channel(Service::Commands).await);
        client.create_order(call).await.unwrap();
        let over_grpc = "command-api: orderlog.v1.OrderService/CreateOrder (server)";
        let outline = OF_AN_ORDER.replace("command-api: POST /orders (server)", over_grpc);
        let request = traced(&caller, &outline).await;
        assert_eq!(request.attribute("rpc.grpc.status_code"), 0);
    });
}

#[test]
fn what_its_caller_does_not_want_traced_has_no_span() {
    beside_others(async {
        let (user, _) = customer(&Caller::unsampled()).await;
        let (unwanted, wanted) = (Caller::unsampled(), Caller::sampled());
        let created = orders(&user, &unwanted).await;
        let events = events_of_order(&created.text("id")).await;
        let metadata = &events.first().unwrap().envelope.metadata;
        // What was in the caller's head is kept all the same, with the gateway's place in it.
        let origin = metadata.traceparent.unwrap();
        assert_eq!(origin.trace_id().to_string(), unwanted.trace_id);
        assert!(!origin.is_sampled());
        settled(&user.id, &[metadata.event_id.0], DELIVERED_WITHIN).await;
        let path = format!("/orders/{}", created.text("id"));
        let asked = user.query(&path).after(&created.consistency_token());
        asked
            .header("traceparent", &unwanted.traceparent())
            .send()
            .await
            .is(200);
        // Spans leave a process in the order in which they end.
        orders(&user, &wanted).await;
        traced(&wanted, OF_AN_ORDER).await;
        assert!(shown(&unwanted.trace_id).await.is_none());
    });
}

#[test]
fn a_log_line_leads_to_the_trace_and_to_the_request() {
    beside_others(async {
        let (user, _) = customer(&Caller::sampled()).await;
        let (commands, queries) = (Caller::sampled(), Caller::sampled());
        let created = orders(&user, &commands).await;
        let request = traced(&commands, OF_AN_ORDER).await;
        let path = format!("/orders/{}", created.text("id"));
        let read = user.query(&path).after(&created.consistency_token());
        let read = read.header("traceparent", &queries.traceparent());
        let read = read.send().await.is(200);
        let query = traced(&queries, "projections: GET /orders/{id} (server)").await;

        let send = request.find("send email").unwrap();
        for (process, caller, answer, span) in [
            ("command-api-1", &commands, &created, Some(&request)),
            ("projections", &queries, &read, Some(&query)),
            ("notifier", &commands, &created, None),
        ] {
            let lines = eventually("a line of the trace", DELIVERED_WITHIN, async || {
                let lines = log_lines(process, &caller.trace_id);
                if lines.is_empty() {
                    Err(format!("none in the log of {process}"))
                } else {
                    Ok(lines)
                }
            })
            .await;
            let line = lines.first().unwrap();
            let about = &line["span"];
            assert_eq!(about["trace_id"], caller.trace_id, "{line}");
            assert_eq!(
                about["correlation_id"],
                answer.header("x-request-id"),
                "{line}"
            );
            match span {
                Some(span) => assert_eq!(about["span_id"], span.span_id, "{line}"),
                None => assert_eq!(line["event_id"], *send.attribute("messaging.message.id")),
            }
        }
    });
}

#[test]
fn commands_go_on_while_no_collector_listens_and_traces_when_it_is_back() {
    alone(async {
        let workload = Workload::start(CLIENTS).await;
        workload.acknowledges(CLIENTS).await;
        let told = || log_lines("command-api-1", "traces cannot be exported").len();
        let (memory, lines) = (memory_of("command-api-1").await, told());
        let dropped = counter(&command_url(), DROPPED).await;
        stack(&["kill", "spans"]).await;
        workload.acknowledges(ORDERS_WITHOUT_COLLECTOR).await;
        let grown = memory_of("command-api-1").await.saturating_sub(memory);
        assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
        assert!(counter(&command_url(), DROPPED).await > dropped);
        let lines = told() - lines;
        assert!((1..=3).contains(&lines), "told {lines} times");

        stack(&["start", "spans"]).await;
        for base in [command_url(), query_url(), notifier_url()] {
            let exported = counter(&base, EXPORTED).await;
            eventually("spans to be exported again", DELIVERED_WITHIN, async || {
                let now = counter(&base, EXPORTED).await;
                if now > exported {
                    Ok(())
                } else {
                    Err(format!("{base}: still {now}"))
                }
            })
            .await;
        }
        workload.end().await.nothing_is_lost_or_doubled().await;
        // What waited has left the queue: a new order is whole.
        let caller = Caller::sampled();
        let (user, _) = customer(&Caller::unsampled()).await;
        orders(&user, &caller).await;
        traced(&caller, OF_AN_ORDER).await;
    });
}
