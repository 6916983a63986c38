//! Commands about orders.

use actix_web::http::StatusCode;
use runtime::{
    json::JSON,
    openapi::{
        Answer, Description, Tag,
        examples::{self, OrderNow},
        parameters,
    },
    problem::{NOT_ALLOWED, NOT_FOUND, PRECONDITION_REQUIRED, RULE_BROKEN},
    representation::Order,
};
use serde_json::{Value, json};
use utoipa::openapi::Required;

use super::{body, command};
use crate::commands::read;

pub fn create_order() -> Description {
    let refused = json!({
        "currency": "GBP",
        "lines": [{"sku": "", "quantity": 0, "unit_price": "4.25"}],
        "colour": "red",
    });
    let mut accepted = contents(2);
    accepted["currency"] = "GBP".into();
    let description = Description::new("createOrder", Tag::Orders, "Places an order")
        .text("The customer is the caller; an admin may name another.")
        .signed_in();
    command(description, Required::False)
        .body(body::<read::NewOrder, _>(
            JSON,
            accepted,
            refused,
            read::new_order,
        ))
        .answer(
            Answer::json::<Order<'_>>(
                StatusCode::CREATED,
                "The order, or the one that the first request with this key created.",
                examples::order(OrderNow::Created),
            )
            .of_creation(),
        )
        .problems(&[&NOT_ALLOWED])
}

pub fn replace_order() -> Description {
    let refused = json!({"lines": [], "shipping_address": {"country": "Albion"}});
    let description = Description::new(
        "replaceOrder",
        Tag::Orders,
        "Replaces lines, address, note and attributes of an order",
    )
    .text("While it is created. What is left out goes; the same contents again change nothing.");
    let description = change(description, Required::True)
        .body(body::<read::Contents, _>(
            JSON,
            contents(3),
            refused,
            |value| read::replacement(value, None),
        ))
        .answer(order(OrderNow::Replaced));
    description.problems(&[&PRECONDITION_REQUIRED])
}

pub fn set_order_status() -> Description {
    let description = Description::new("setOrderStatus", Tag::Orders, "Moves an order on")
        .text(
            "`created` → `in_progress` → `completed`, or `cancelled` from the first two. For admins; its owner may cancel \
             while it is created. The status it has already changes nothing.",
        );
    change(description, Required::False)
        .body(body::<read::StatusChange, _>(
            JSON,
            json!({"status": "in_progress", "reason": "packed"}),
            json!({"status": "lost"}),
            read::status_change,
        ))
        .answer(order(OrderNow::InProgress))
}

pub fn cancel_order() -> Description {
    let description = Description::new("cancelOrder", Tag::Orders, "Cancels an order")
        .text("Its owner may while it is created, an admin also while it is in progress.");
    let body = body::<read::Reasoned, _>(
        JSON,
        json!({"reason": "out of stock"}),
        json!({"reason": 1}),
        read::reasoned,
    );
    change(description, Required::False)
        .body(body.may_be_left_out())
        .answer(order(OrderNow::Cancelled))
}

fn change(description: Description, condition: Required) -> Description {
    let description = description
        .signed_in()
        .parameter("OrderId", parameters::order_id())
        .problems(&[&NOT_ALLOWED, &NOT_FOUND, &RULE_BROKEN]);
    command(description, condition)
}

fn order(now: OrderNow) -> Answer {
    let example = examples::order(now);
    Answer::json::<Order<'_>>(StatusCode::OK, "The order as it is now.", example).of_command()
}

fn contents(quantity: u8) -> Value {
    json!({
        "lines": [{
            "sku": "TEA-250",
            "name": "Assam leaf tea 250 g",
            "quantity": quantity,
            "unit_price": "4.25",
        }],
        "shipping_address": examples::address(),
        "note": "Ring twice",
        "attributes": {"gift": true},
    })
}
