//! What the rules and the dashboards ask Prometheus for is really measured.

use std::time::Duration;

use end_to_end::{
    beside_others,
    environment::{command_url, notifier_url, query_url},
    eventually,
    grpc::{Service, channel, signed},
    http::call,
    orders::order_request,
    people::registered_user_with_phone,
    prometheus::{Prometheus, Series, advice, panels},
    promql,
};
use proto::v1::{
    CreateOrderRequest, GetOrderRequest, NewOrderLine, order_service_client::OrderServiceClient,
};
use reqwest::Method;

/// Until what has happened is scraped twice, and recorded from that.
const RECORDED_WITHIN: Duration = Duration::from_secs(90);
/// Prometheus' own: there only while an alert is.
const ALERTS: &str = "ALERTS";

/// A registration, an order and a read that waits for it, by HTTP and by gRPC.
async fn traffic() {
    let (user, _) = registered_user_with_phone().await;
    user.creates_visibly(&order_request()).await;
    let mut orders = OrderServiceClient::new(channel(Service::Commands).await);
    let line = NewOrderLine {
        sku: "measured".to_owned(),
        quantity: 1,
        unit_price: "1.00".to_owned(),
        ..NewOrderLine::default()
    };
    let request = CreateOrderRequest {
        currency: "EUR".to_owned(),
        lines: vec![line],
        ..CreateOrderRequest::default()
    };
    let created = orders
        .create_order(signed(request, Some(&user.token)))
        .await;
    let id = created.unwrap().into_inner().order.unwrap().id;
    let read = signed(
        GetOrderRequest {
            id,
            ..GetOrderRequest::default()
        },
        Some(&user.token),
    );
    let mut orders = OrderServiceClient::new(channel(Service::Queries).await);
    // Whether it is found already is no matter: it was asked for.
    let _ = orders.get_order(read).await;
}

/// What `expression` asks for and nothing has.
fn missing(expression: &str, series: &Series) -> Vec<String> {
    let asked = match promql::asked(expression) {
        Ok(asked) => asked,
        Err(error) => return vec![error],
    };
    let has = |metric: &str, label: &String| {
        let series = series.get(metric);
        metric == ALERTS || series.is_some_and(|all| all.iter().any(|each| each.contains(label)))
    };
    let metrics = asked.wanted.iter().filter(|wanted| wanted.name != ALERTS);
    let metrics = metrics.filter(|wanted| {
        !series
            .get(&wanted.name)
            .is_some_and(|all| all.iter().any(|each| wanted.labels.is_subset(each)))
    });
    let labels = asked.shared.iter();
    let labels =
        labels.filter(|shared| !shared.metrics.iter().any(|each| has(each, &shared.label)));
    metrics
        .map(|wanted| format!("no {} with {:?}", wanted.name, wanted.labels))
        .chain(labels.map(|shared| format!("no label {} on {:?}", shared.label, shared.metrics)))
        .collect()
}

#[test]
fn every_metric_that_a_rule_or_a_panel_names_is_in_a_live_scrape() {
    beside_others(async {
        traffic().await;
        let prometheus = Prometheus::start().await;
        let panels = panels();
        for (place, expression) in &panels {
            let evaluated = prometheus.evaluate(expression).await;
            assert!(evaluated.is_ok(), "{place}: {expression}: {evaluated:?}");
        }
        let rules = prometheus.rules().await.unwrap();
        let rules = rules
            .into_iter()
            .map(|rule| (format!("rule {}", rule.name), rule.query));
        let expressions: Vec<_> = rules.chain(panels).collect();
        eventually(
            "everything that is asked for",
            RECORDED_WITHIN,
            async || {
                let series = prometheus.series().await?;
                let missing: Vec<_> = expressions
                    .iter()
                    .flat_map(|(place, expression)| {
                        let missing = missing(expression, &series).into_iter();
                        missing.map(move |what| format!("{place}: {what}"))
                    })
                    .collect();
                match missing.is_empty() {
                    true => Ok(()),
                    false => Err(missing.join("\n")),
                }
            },
        )
        .await;
        let series = prometheus.series().await.unwrap();
        for expression in [
            "rate(command_api_no_such_thing_total[5m])",
            r#"up{no_such_label="x"}"#,
            "sum by (no_such_label) (up)",
            "sum(up",
        ] {
            assert_eq!(missing(expression, &series).len(), 1, "{expression}");
        }
        assert!(prometheus.evaluate("sum(up").await.is_err());
    });
}

#[test]
fn every_service_names_and_describes_its_metrics_as_prometheus_advises() {
    beside_others(async {
        traffic().await;
        for base in [command_url(), query_url(), notifier_url()] {
            let scraped = call(Method::GET, &base, "/metrics").send().await.is(200);
            let scraped = String::from_utf8_lossy(&scraped.body).into_owned();
            assert_eq!(advice(&scraped), "", "{base}");
        }
        assert!(advice("# TYPE nameless counter\nnameless 1\n").contains("nameless"));
    });
}
