//! Personal data is nowhere to be read but in answers and messages: not in the log, not in a database, not in
//! what the services write about themselves.

use end_to_end::{
    beside_others,
    environment::{command_url, notifier_url, query_url},
    http::call,
    orders::full_order,
    people::{register, registration, unique, unique_phone},
    postbox::{DELIVERED_WITHIN, settled},
    searched::{Kept, found_in, in_kafka, in_mongodb, in_postgres, in_service_logs},
};
use events::Topic;
use reqwest::Method;
use serde_json::json;

#[test]
fn personal_data_cannot_be_read_where_it_is_kept() {
    beside_others(async {
        let word = |what: &str| unique(&format!("{what}Zanzibar"));
        let (name, note, street, recipient, password) = (
            word("Name"),
            word("Note"),
            word("Street"),
            word("Recipient"),
            word("Password"),
        );
        let email = format!("{}@example.com", unique("zanzibar"));
        let (phone, new_name, sku) = (unique_phone(), word("Renamed"), unique("SKU-"));
        let mut body = registration(&email);
        body["name"] = json!(name);
        body["phone"] = json!(phone);
        body["password"] = json!(password);
        let user = register(&body).await;
        let mut order = full_order();
        order["lines"][0]["sku"] = json!(sku);
        order["note"] = json!(note);
        order["shipping_address"]["street"] = json!(street);
        order["shipping_address"]["recipient"] = json!(recipient);
        let created = user.creates(&order).await;
        let path = format!("/users/{}", user.id);
        let patched = user
            .command(Method::PATCH, &path)
            .json(&json!({"name": new_name}))
            .send()
            .await
            .is(200);

        // It is there: whoever may see it, sees it.
        let path = format!("/orders/{}", created.text("id"));
        let read = user
            .query(&path)
            .after(&created.consistency_token())
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(read["note"], note);
        assert_eq!(read["shipping_address"]["street"], street);
        let me = user
            .query("/users/me")
            .after(&patched.consistency_token())
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(
            (&me["email"], &me["name"]),
            (&json!(email), &json!(new_name))
        );
        let order_events = end_to_end::log::events_of_order(&created.text("id")).await;
        let created_event = order_events[0].envelope.metadata.event_id.0;
        settled(&user.id, &[created_event], DELIVERED_WITHIN).await;
        // Bad requests and refused logins are where logs like to tell too much.
        let wrong = json!({"email": email, "password": format!("{password}x"), "name": name});
        call(Method::POST, &command_url(), "/login")
            .json(&wrong)
            .send()
            .await
            .is(422);
        call(Method::POST, &command_url(), "/register")
            .json(&body)
            .send()
            .await
            .is(409);

        let (kafka, postgres, mongodb) =
            (in_kafka().await, in_postgres().await, in_mongodb().await);
        let (logs, metrics) = (in_service_logs(), in_metrics().await);
        // And we look in the right places: what is no secret is found.
        assert!(!found_in(&kafka, &sku).is_empty(), "the sku in the log");
        assert!(!found_in(&mongodb, &sku).is_empty(), "the sku in MongoDB");
        let id = hyphenless(&user.id);
        assert!(
            postgres
                .iter()
                .any(|each| memchr::memmem::find(&each.bytes, &id).is_some()),
            "the id in Postgres"
        );
        assert!(!logs.is_empty() && !metrics.is_empty());
        for (what, secret) in [
            ("e-mail", &email),
            ("name", &name),
            ("phone", &phone),
            ("former name", &new_name),
            ("note", &note),
            ("street", &street),
            ("recipient", &recipient),
            ("password", &password),
            ("token", &user.token),
        ] {
            for place in [&kafka, &postgres, &mongodb, &logs, &metrics] {
                let found = found_in(place, secret);
                assert!(found.is_empty(), "{what} can be read in {found:?}");
            }
        }
        assert!(Topic::ALL.len() == 2, "another topic: is it searched?");
    });
}

fn hyphenless(id: &str) -> Vec<u8> {
    id.parse::<uuid::Uuid>().unwrap().as_bytes().to_vec()
}

async fn in_metrics() -> Vec<Kept> {
    let mut kept = Vec::new();
    for base in [command_url(), query_url(), notifier_url()] {
        let bytes = call(Method::GET, &base, "/metrics")
            .send()
            .await
            .is(200)
            .body;
        kept.push(Kept {
            place: format!("{base}/metrics"),
            bytes,
        });
    }
    kept
}
