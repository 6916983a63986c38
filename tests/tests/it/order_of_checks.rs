//! 401, then 415, 413, 400, then 422, then 428, then 404, then 403, then 412, then 409: of two things that are
//! wrong, the earlier one is answered.

use end_to_end::{
    beside_others,
    orders::{contents_of, order_request},
    people::{admin, registered_user},
};
use reqwest::Method;
use serde_json::json;

#[test]
fn of_two_wrong_things_the_earlier_is_answered() {
    beside_others(async {
        let (user, stranger, admin) = (
            registered_user().await,
            registered_user().await,
            &admin().await,
        );
        let id = user.creates(&order_request()).await.text("id");
        let (order, status) = (format!("/orders/{id}"), format!("/orders/{id}/status"));
        let nowhere = format!("/orders/{}", uuid::Uuid::now_v7());
        let invalid = json!({"lines": []});

        let no_token = end_to_end::http::command(Method::PUT, &order).body("text/plain", "{");
        no_token.send().await.problem(401, "not-authenticated");
        let wrong_type = user.command(Method::PUT, &order).body("text/plain", "{");
        wrong_type
            .send()
            .await
            .problem(415, "unsupported-media-type");
        let broken = user
            .command(Method::PUT, &nowhere)
            .body("application/json", "{");
        broken.send().await.problem(400, "unreadable");
        let values = user.command(Method::PUT, &nowhere).json(&invalid);
        values.send().await.points_at(&["/lines"]);
        let no_condition = user.command(Method::PUT, &nowhere).json(&contents_of("A"));
        no_condition
            .send()
            .await
            .problem(428, "precondition-required");
        let foreign = stranger
            .command(Method::PUT, &order)
            .if_match("\"9\"")
            .json(&contents_of("A"));
        foreign.send().await.problem(404, "not-found");
        let role = user
            .command(Method::PUT, &status)
            .if_match("\"9\"")
            .json(&json!({"status": "in_progress"}));
        role.send().await.problem(403, "not-allowed");
        let stale = admin
            .command(Method::PUT, &status)
            .if_match("\"9\"")
            .json(&json!({"status": "completed"}));
        stale.send().await.problem(412, "stale-version");
        let rule = admin
            .command(Method::PUT, &status)
            .if_match("\"1\"")
            .json(&json!({"status": "completed"}));
        rule.send().await.problem(409, "rule-broken");
    });
}

#[test]
fn a_replacement_without_a_condition_is_refused_and_does_nothing() {
    beside_others(async {
        let user = registered_user().await;
        let id = user.creates(&order_request()).await.text("id");
        let path = format!("/orders/{id}");
        let call = user.command(Method::PUT, &path).json(&contents_of("A"));
        call.send().await.problem(428, "precondition-required");
        assert_eq!(end_to_end::log::events_of_order(&id).await.len(), 1);
    });
}
