//! Who may see and do what.

use end_to_end::{
    beside_others,
    orders::{contents_of, order_request},
    people::{admin, registered_user},
};
use reqwest::Method;
use serde_json::json;

#[test]
fn somebody_elses_things_are_as_if_they_were_not_there() {
    beside_others(async {
        let (owner, stranger) = (registered_user().await, registered_user().await);
        let created = owner.creates(&order_request()).await;
        let theirs = created.text("id");
        let none = uuid::Uuid::now_v7().to_string();
        owner
            .query(&format!("/orders/{theirs}"))
            .after(&created.consistency_token())
            .send()
            .await
            .is(200);
        let mut bodies = Vec::new();
        for id in [theirs.as_str(), &none, "not-a-uuid"] {
            let calls = [
                stranger.query(&format!("/orders/{id}")),
                stranger
                    .command(Method::PUT, &format!("/orders/{id}"))
                    .if_match("*")
                    .json(&contents_of("X")),
                stranger
                    .command(Method::PUT, &format!("/orders/{id}/status"))
                    .json(&json!({"status": "cancelled"})),
                stranger
                    .command(Method::PUT, &format!("/orders/{id}/status"))
                    .json(&json!({"status": "in_progress"})),
                stranger
                    .command(Method::POST, &format!("/orders/{id}/cancel"))
                    .json(&json!({})),
            ];
            for call in calls {
                let answer = call.send().await;
                answer.problem(404, "not-found");
                bodies.push(answer.body);
            }
        }
        for id in [owner.id.as_str(), &none, "not-a-uuid"] {
            let calls = [
                stranger.query(&format!("/users/{id}")),
                stranger
                    .command(Method::PATCH, &format!("/users/{id}"))
                    .json(&json!({"name": "Mallory"})),
            ];
            for call in calls {
                let answer = call.send().await;
                answer.problem(404, "not-found");
                bodies.push(answer.body);
            }
        }
        assert!(
            bodies.iter().all(|body| *body == bodies[0]),
            "unknown and foreign can be told apart"
        );
    });
}

#[test]
fn steps_are_for_admins() {
    beside_others(async {
        let user = registered_user().await;
        let id = user.creates(&order_request()).await.text("id");
        for status in ["in_progress", "completed"] {
            let call = user.command(Method::PUT, &format!("/orders/{id}/status"));
            call.json(&json!({"status": status}))
                .send()
                .await
                .problem(403, "not-allowed");
        }
    });
}

#[test]
fn only_an_admin_orders_for_somebody_else() {
    beside_others(async {
        let (customer, other, admin) = (
            registered_user().await,
            registered_user().await,
            &admin().await,
        );
        let mut order = order_request();
        order["customer_id"] = json!(customer.id);
        let call = other.command(Method::POST, "/orders").json(&order);
        call.send().await.problem(403, "not-allowed");
        assert_eq!(
            customer.creates(&order).await.text("customer_id"),
            customer.id
        );
        let for_customer = admin.creates(&order).await;
        assert_eq!(for_customer.text("customer_id"), customer.id);
        let path = format!("/orders/{}", for_customer.text("id"));
        customer
            .query(&path)
            .after(&for_customer.consistency_token())
            .send()
            .await
            .is(200);
        other.query(&path).send().await.problem(404, "not-found");

        order["customer_id"] = json!(uuid::Uuid::now_v7());
        let nobody = admin
            .command(Method::POST, "/orders")
            .json(&order)
            .send()
            .await;
        nobody.points_at(&["/customer_id"]);
    });
}

#[test]
fn an_admin_reads_and_changes_what_belongs_to_others() {
    beside_others(async {
        let (user, admin) = (registered_user().await, &admin().await);
        let created = user.creates(&order_request()).await;
        let path = format!("/orders/{}", created.text("id"));
        let read = admin
            .query(&path)
            .after(&created.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json(), created.json());
        let path = format!("/users/{}", user.id);
        let patched = admin
            .command(Method::PATCH, &path)
            .json(&json!({"name": "Ada King"}))
            .send()
            .await
            .is(200);
        let read = admin
            .query(&path)
            .after(&patched.consistency_token())
            .send()
            .await
            .is(200);
        assert_eq!(read.json()["name"], "Ada King");
        let list = admin
            .query(&format!("/orders?customer_id={}", user.id))
            .send()
            .await
            .is(200)
            .json();
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    });
}
