//! A record that nobody can read: its partition stops there, everything else goes on, and an operator sets it aside.

use std::time::Duration;

use end_to_end::{
    alone, eventually,
    http::{Answer, call},
    orders::{contents_of, order_of},
    own_stack::OwnStack,
    people::{registration, unique, unique_email},
    stack::{BACK_WITHIN, counter},
    stranger,
};
use events::{Topic, partition::partition_of};
use reqwest::Method;
use serde_json::{Value, json};

const PARTITIONS: u16 = 6;
const NOT_NEEDED: [&str; 2] = ["gateway", "notifier"];
/// A service looks every half second whether the record at which it stands was set aside.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// The stack of this test, and a customer in it.
struct Shop {
    stack: OwnStack,
    commands: String,
    queries: String,
    token: String,
}

impl Shop {
    async fn open() -> Self {
        let stack = OwnStack::without("set-aside", &NOT_NEEDED).await;
        let environment = stack.environment().await;
        let commands = environment["ORDERLOG_COMMAND_URLS"].clone();
        let mut shop = Self {
            stack,
            queries: environment["ORDERLOG_QUERY_URL"].clone(),
            commands,
            token: String::new(),
        };
        let registration = registration(&unique_email());
        shop.posts("/register", &registration).await.is(201);
        let log_in = json!({"email": registration["email"], "password": registration["password"]});
        let tokens = shop.posts("/login", &log_in).await.is(200);
        shop.token = tokens.text("access_token");
        shop
    }

    async fn posts(&self, path: &str, body: &Value) -> Answer {
        let call = call(Method::POST, &self.commands, path).json(body);
        match self.token.as_str() {
            "" => call.send().await,
            token => call.token(token).send().await,
        }
    }

    /// The id of a new order in a partition for which this holds, and the answer to it.
    async fn orders_where(&self, holds: impl Fn(u16) -> bool) -> (String, Answer) {
        loop {
            let created = self.posts("/orders", &order_of(&unique("sku-"))).await;
            let id = created.is(201);
            let (id, created) = (id.text("id"), id);
            if holds(partition_of(id.as_bytes(), PARTITIONS)) {
                return (id, created);
            }
        }
    }

    /// What is answered about an order, after the command of that answer.
    async fn reads(&self, id: &str, after: &Answer) -> Answer {
        let call = call(Method::GET, &self.queries, &format!("/orders/{id}"));
        let call = call.token(&self.token).after(&after.consistency_token());
        call.header("prefer", "wait=2").send().await
    }

    /// `projections status --json` of orders.
    async fn status(&self) -> Value {
        let said = self.projections(&["status", "--json"]).await;
        let said: Value = serde_json::from_str(&said.expect("a status")).expect("JSON");
        said["orders"].clone()
    }

    async fn projections(&self, arguments: &[&str]) -> Result<String, String> {
        self.stack.program("projections", arguments).await
    }

    async fn readiness(&self) -> Answer {
        call(Method::GET, &self.queries, "/readyz").send().await
    }
}

#[test]
fn a_record_that_cannot_be_read_stops_its_partition_until_it_is_set_aside() {
    alone(async {
        let shop = Shop::open().await;
        let (order, created) = shop.orders_where(|_| true).await;
        let partition = partition_of(order.as_bytes(), PARTITIONS);
        shop.reads(&order, &created).await.is(200);
        let kafka = shop.stack.environment().await["KAFKA_BOOTSTRAP_SERVERS"].clone();
        stranger::writes(&kafka, Topic::Orders, (partition, &order), "no event").await;
        let place = eventually("the partition to stop", BACK_WITHIN, async || {
            let status = shop.status().await;
            let of_it = &status["partitions"][usize::from(partition)];
            match (&of_it["stopped"]["place"], shop.readiness().await) {
                (Value::String(place), ready) if ready.status == 503 => Ok((place.clone(), ready)),
                (_, ready) => Err(format!("{of_it}: {ready:?}")),
            }
        })
        .await;
        let (place, readiness) = place;
        let prefix = format!("orders/{partition}@");
        let offset = place
            .strip_prefix(&prefix)
            .expect("the place of the record");
        let offset: i64 = offset.parse().expect("an offset");
        let waiting = &readiness.json()["waiting"][0];
        assert_eq!(waiting["component"], format!("orders/{partition}"));
        let reason = waiting["reason"].as_str().expect("a reason");
        let says = format!("stopped at offset {offset}: ");
        assert!(reason.starts_with(&says), "{reason}");
        let halted = counter(&shop.queries, "projections_halted_partitions").await;
        assert!((halted - 1.0).abs() < f64::EPSILON, "{halted}");

        // Everything else goes on, and what lies behind the record waits.
        let (other, created) = shop.orders_where(|it| it != partition).await;
        shop.reads(&other, &created).await.is(200);
        let (behind, behind_created) = shop.orders_where(|it| it == partition).await;
        let waits = shop.reads(&behind, &behind_created).await;
        waits.problem(503, "not-yet-consistent");
        let path = format!("/orders/{order}");
        let replaced = call(Method::PUT, &shop.commands, &path).token(&shop.token);
        let replaced = replaced.if_match("\"1\"").json(&contents_of("TEA-1"));
        let replaced = replaced.send().await.is(200);

        // What is there is right, as far as it goes; and nothing goes further.
        let verified = shop.projections(&["verify", "orders"]).await;
        let verified = verified.expect("equal up to there");
        assert!(
            verified.contains(&format!("{partition}@{offset}")),
            "{verified}"
        );
        let rebuilt = shop.projections(&["rebuild", "orders"]).await;
        let said = rebuilt.expect_err("a read model without the record");
        assert!(said.contains(&place), "{said}");

        // Only this record can be set aside, with a reason.
        let beside = format!("{prefix}{}", offset + 2);
        let healthy = partition_of(other.as_bytes(), PARTITIONS);
        let healthy = format!("orders/{healthy}@0");
        let beyond = format!("{prefix}999999");
        for (wrong, says) in [
            (
                vec![&*beside, "--reason", "a test"],
                "has stopped at offset",
            ),
            (vec![&*healthy, "--reason", "a test"], "has not stopped"),
            (vec![&*beyond, "--reason", "a test"], "the log ends at"),
            (vec!["orders/7000", "--reason", "a test"], "a place is"),
            (vec![&*place], "--reason"),
            (vec![&*place, "--reason", " "], "it says nothing"),
        ] {
            let skip = ["skip", "--operator", "grace"];
            let said = shop.projections(&[&skip, &*wrong].concat()).await;
            let said = said.expect_err("a record that was set aside");
            assert!(said.contains(says), "{wrong:?}: {said}");
        }
        let skip = [
            "skip",
            &*place,
            "--reason",
            "written by hand",
            "--operator",
            "grace",
        ];
        let said = shop.projections(&skip).await.expect("set aside");
        assert!(said.contains(&format!("{place} is set aside")), "{said}");
        eventually(
            "the partition to go on",
            NOTICED_WITHIN,
            async || match shop.readiness().await {
                ready if ready.status == 200 => Ok(()),
                ready => Err(format!("{ready:?}")),
            },
        )
        .await;
        shop.reads(&behind, &behind_created).await.is(200);
        let read = shop.reads(&order, &replaced).await.is(200);
        assert_eq!(read.json()["version"], 2);
        let again = shop.projections(&skip).await.expect_err("twice");
        assert!(again.contains("set aside already, by grace"), "{again}");

        // It is counted and listed, and whoever folds the log says the same without it.
        let counted = counter(&shop.queries, "projections_set_aside_records").await;
        assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
        assert_eq!(shop.status().await["set_aside"], 1);
        let listed = shop.projections(&["skipped", "--json"]).await.expect("all");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let record = &listed["orders"][0];
        assert_eq!(record["offset"], offset);
        assert_eq!(record["reason"], "written by hand");
        assert_eq!(record["operator"], "grace");
        assert_eq!(record["gap"]["stream"], *order);
        for arguments in [["rebuild", "orders"], ["verify", "orders"]] {
            let said = shop.projections(&arguments).await.expect("without it");
            assert!(said.contains("equal to a fold of the log"), "{said}");
        }
    });
}
