//! The people and things of the examples. All examples together are one story, which a test executes: a value stands
//! for the same thing wherever it appears.

use serde_json::{Value, json};

/// Ada, who registers and orders.
pub const USER_ID: &str = "01a2052c-3e41-7208-b168-4a72a5d67524";
/// Ada's order.
pub const ORDER_ID: &str = "01a2052c-7777-7097-9bd0-1c8facef2437";
/// Ada's address.
pub const EMAIL: &str = "ada@example.com";
/// Ada's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// The one that she takes later.
pub const NEW_PASSWORD: &str = "a longer horse, a better battery";

/// The events of her order's first versions.
const EVENT_IDS: [&str; 2] = [
    "c2b3c9fc-4d0a-5d0e-9b0a-7d6f4b8f5a11",
    "7f6d1f0e-0d54-5a5c-8b3e-1d5b0c6f9a42",
];
/// The request behind them, as every request of the examples is called.
pub const REQUEST_ID: &str = "018f5c3e-52d1-7c3f-9d55-6f2f3c1a0b77";
/// When each version of Ada's record came to be.
const USER_CHANGED_AT: [&str; 3] = [
    "2026-11-22T21:31:55.201417Z",
    "2026-11-22T21:33:40.118264Z",
    "2026-11-22T21:35:02.730951Z",
];
/// When each version of her order came to be.
const ORDER_CHANGED_AT: [&str; 4] = [
    "2026-11-22T21:32:09.975043Z",
    "2026-11-22T21:32:51.402118Z",
    "2026-11-22T21:34:11.064209Z",
    "2026-11-22T21:34:37.551872Z",
];

/// What becomes of Ada's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderNow {
    /// Version 1.
    Created,
    /// Version 2: one more piece.
    Replaced,
    /// Version 3: being worked on.
    InProgress,
    /// Version 4: called off.
    Cancelled,
}

/// What becomes of Ada's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNow {
    /// Version 2: another name, and no SMS.
    ProfileUpdated,
    /// Version 3: an admin.
    Promoted,
}

/// Ada's order, as it is answered.
pub fn order(now: OrderNow) -> Value {
    let (quantity, amount, status) = match now {
        OrderNow::Created => (2, "8.50", "created"),
        OrderNow::Replaced => (3, "12.75", "created"),
        OrderNow::InProgress => (3, "12.75", "in_progress"),
        OrderNow::Cancelled => (3, "12.75", "cancelled"),
    };
    let version = now as usize;
    json!({
        "id": ORDER_ID,
        "customer_id": USER_ID,
        "status": status,
        "currency": "GBP",
        "lines": [{
            "sku": "TEA-250",
            "name": "Assam leaf tea 250 g",
            "quantity": quantity,
            "unit_price": "4.25",
            "amount": amount,
        }],
        "total": amount,
        "shipping_address": address(),
        "note": "Ring twice",
        "attributes": {"gift": true},
        "version": version + 1,
        "created_at": ORDER_CHANGED_AT.first(),
        "updated_at": ORDER_CHANGED_AT.get(version),
    })
}

/// What has happened to her order up to its second version.
pub fn order_history() -> Value {
    let (created, replaced) = (order(OrderNow::Created), order(OrderNow::Replaced));
    let fields = [
        "status",
        "currency",
        "lines",
        "total",
        "shipping_address",
        "note",
        "attributes",
    ];
    let change = |now: &Value, before: Option<&Value>| -> Value {
        let changed =
            |field: &&str| before.is_none_or(|before| before.get(*field) != now.get(*field));
        let changes = fields.into_iter().filter(changed).map(|field| {
            let from = before.and_then(|before| before.get(field));
            (
                field.to_owned(),
                json!({"from": from, "to": now.get(field)}),
            )
        });
        let version = now.get("version");
        json!({
            "version": version,
            "event": if before.is_none() { "order_created" } else { "order_updated" },
            "event_id": if before.is_none() { EVENT_IDS[0] } else { EVENT_IDS[1] },
            "at": now.get("updated_at"),
            "actor": {"role": "user", "id": USER_ID},
            "correlation_id": REQUEST_ID,
            "reason": null,
            "changes": changes.collect::<serde_json::Map<_, _>>(),
        })
    };
    json!([change(&created, None), change(&replaced, Some(&created))])
}

/// Where her order is sent to.
pub fn address() -> Value {
    json!({
        "recipient": "Ada Lovelace",
        "street": "12 St James's Square",
        "street2": null,
        "postal_code": "SW1Y 4JH",
        "city": "London",
        "region": null,
        "country": "GB",
    })
}

/// Ada's record, as it is answered.
pub fn user(now: UserNow) -> Value {
    let (role, version) = match now {
        UserNow::ProfileUpdated => ("user", 1),
        UserNow::Promoted => ("admin", 2),
    };
    json!({
        "id": USER_ID,
        "email": EMAIL,
        "name": "Ada King",
        "phone": null,
        "locale": "en-GB",
        "role": role,
        "status": "active",
        "email_verified": false,
        "preferences": {"order_emails": true, "order_sms": false},
        "version": version + 1,
        "created_at": USER_CHANGED_AT.first(),
        "updated_at": USER_CHANGED_AT.get(version),
    })
}
