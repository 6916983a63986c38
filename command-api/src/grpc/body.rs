//! Messages as the bodies that HTTP clients send: what a message leaves out is left out, and a text that is needed and
//! empty is left out as well, as Protobuf cannot tell the two apart.

use std::{borrow::Cow, collections::BTreeMap};

use proto::{order_status_name, v1};
use runtime::{
    json::{self, Json},
    problem::Problem,
};

/// More paths than anyone needs in `update_mask`.
const PATHS_MAX: usize = 100;
const PREFERENCES: &str = "preferences";
const EACH_PREFERENCE: [&str; 2] = ["order_emails", "order_sms"];

/// The body of `POST /orders`.
pub fn new_order(message: &v1::CreateOrderRequest) -> Result<Json<'_>, Problem> {
    Ok(object([
        ("attributes", attributes(message.attributes_json.as_ref())?),
        ("currency", needed(&message.currency)),
        ("customer_id", given(message.customer_id.as_ref())),
        ("lines", Some(lines(&message.lines))),
        ("note", given(message.note.as_ref())),
        (
            "shipping_address",
            message.shipping_address.as_ref().map(address),
        ),
    ]))
}

/// The body of `PUT /orders/{id}`.
pub fn replacement(message: &v1::ReplaceOrderRequest) -> Result<Json<'_>, Problem> {
    Ok(object([
        ("attributes", attributes(message.attributes_json.as_ref())?),
        ("lines", Some(lines(&message.lines))),
        ("note", given(message.note.as_ref())),
        (
            "shipping_address",
            message.shipping_address.as_ref().map(address),
        ),
    ]))
}

/// The body of `PUT /orders/{id}/status`.
pub fn status_change(message: &v1::SetOrderStatusRequest) -> Json<'_> {
    object([
        ("reason", given(message.reason.as_ref())),
        ("status", order_status_name(message.status).map(Json::Text)),
    ])
}

/// The body of `POST /orders/{id}/cancel`.
pub fn reasoned(message: &v1::CancelOrderRequest) -> Json<'_> {
    object([("reason", given(message.reason.as_ref()))])
}

/// The body of `POST /register`.
pub fn registration(message: &v1::RegisterRequest) -> Json<'_> {
    object([
        ("email", needed(&message.email)),
        ("locale", given(message.locale.as_ref())),
        ("name", needed(&message.name)),
        ("password", needed(&message.password)),
        ("phone", given(message.phone.as_ref())),
    ])
}

/// The body of `POST /login`.
pub fn credentials(message: &v1::LoginRequest) -> Json<'_> {
    object([
        ("email", needed(&message.email)),
        ("password", needed(&message.password)),
    ])
}

/// The body of `POST /token/refresh` and `POST /logout`.
pub fn refresh_token(token: &str) -> Json<'_> {
    object([("refresh_token", needed(token))])
}

/// The body of `PUT /users/{id}/password`.
pub fn password_change(message: &v1::ChangePasswordRequest) -> Json<'_> {
    object([
        ("current_password", needed(&message.current_password)),
        ("new_password", needed(&message.new_password)),
    ])
}

/// The body of `PUT /users/{id}/role`.
pub fn new_role(message: &v1::ChangeRoleRequest) -> Json<'_> {
    let role = match v1::Role::try_from(message.role) {
        Ok(v1::Role::Unspecified) => None,
        Ok(v1::Role::User) => Some("user".into()),
        Ok(v1::Role::Admin) => Some("admin".into()),
        Err(_) => Some(message.role.to_string().into()),
    };
    object([("role", role.map(Json::Text))])
}

/// The body of `PATCH /users/{id}`: what the mask lists, `null` where the message does not give it; without a mask, what
/// the message gives. A path that is none of a profile becomes a member that is not known there.
pub fn profile(message: &v1::UpdateProfileRequest) -> Result<Json<'_>, Problem> {
    let mask = message.update_mask.as_ref();
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.len() > PATHS_MAX {
        let detail = format!("update_mask may have {PATHS_MAX} paths");
        return Err(Problem::unreadable(detail));
    }
    if paths.is_empty() {
        let preferences = message.preferences.as_ref();
        return Ok(object([
            ("locale", profile_member(message, "locale")),
            ("name", profile_member(message, "name")),
            ("phone", profile_member(message, "phone")),
            (
                PREFERENCES,
                preferences
                    .map(|_| object(EACH_PREFERENCE.map(|name| (name, preference(message, name))))),
            ),
        ]));
    }
    let (mut members, mut preferences) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        if path == PREFERENCES {
            preferences.extend(EACH_PREFERENCE.map(|name| (name, preference(message, name))));
        } else if let Some(name) = path.strip_prefix("preferences.") {
            preferences.insert(name, preference(message, name));
        } else {
            members.insert(path.as_str(), profile_member(message, path));
        }
    }
    if !preferences.is_empty() {
        members.insert(PREFERENCES, Some(patch(preferences)));
    }
    Ok(patch(members))
}

fn profile_member<'a>(message: &'a v1::UpdateProfileRequest, name: &str) -> Option<Json<'a>> {
    match name {
        "locale" => given(message.locale.as_ref()),
        "name" => given(message.name.as_ref()),
        "phone" => given(message.phone.as_ref()),
        _ => None,
    }
}

fn preference(message: &v1::UpdateProfileRequest, name: &str) -> Option<Json<'static>> {
    let preferences = message.preferences.as_ref()?;
    let wanted = match name {
        "order_emails" => preferences.order_emails,
        "order_sms" => preferences.order_sms,
        _ => None,
    };
    wanted.map(Json::Bool)
}

/// An object in which what is not given is taken back.
fn patch<'a>(members: BTreeMap<&'a str, Option<Json<'a>>>) -> Json<'a> {
    let members = members.into_iter();
    Json::Object(
        members
            .map(|(name, value)| (Cow::from(name), value.unwrap_or(Json::Null)))
            .collect(),
    )
}

fn lines(lines: &[v1::NewOrderLine]) -> Json<'_> {
    let lines = lines.iter().map(|line| {
        object([
            ("name", given(line.name.as_ref())),
            ("quantity", Some(Json::Number(line.quantity.into()))),
            ("sku", needed(&line.sku)),
            ("unit_price", needed(&line.unit_price)),
        ])
    });
    Json::Array(lines.collect())
}

fn address(address: &v1::Address) -> Json<'_> {
    object([
        ("city", needed(&address.city)),
        ("country", needed(&address.country)),
        ("postal_code", needed(&address.postal_code)),
        ("recipient", needed(&address.recipient)),
        ("region", given(address.region.as_ref())),
        ("street", needed(&address.street)),
        ("street2", given(address.street2.as_ref())),
    ])
}

fn attributes(text: Option<&String>) -> Result<Option<Json<'_>>, Problem> {
    text.map(|text| json::parse(text.as_bytes())).transpose()
}

/// A text that must be there.
fn needed(text: &str) -> Option<Json<'_>> {
    given(Some(text)).filter(|_| !text.is_empty())
}

/// A text that may be there.
fn given(text: Option<&(impl AsRef<str> + ?Sized)>) -> Option<Json<'_>> {
    text.map(|text| Json::Text(Cow::from(text.as_ref())))
}

/// An object of the members that are there. They are written in the order of their names.
fn object<'a, const N: usize>(members: [(&'static str, Option<Json<'a>>); N]) -> Json<'a> {
    let members = members.into_iter();
    Json::Object(
        members
            .filter_map(|(name, value)| Some((Cow::from(name), value?)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::FieldMask;
    use serde_json::{Value, json};

    fn patched(message: v1::UpdateProfileRequest, paths: &[&str]) -> Value {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let message = v1::UpdateProfileRequest {
            update_mask: Some(FieldMask { paths }),
            ..message
        };
        profile(&message).unwrap().into_value()
    }

    #[test]
    fn a_mask_says_what_is_changed_and_what_is_taken_back() {
        let message = v1::UpdateProfileRequest {
            name: Some("Ada".into()),
            preferences: Some(v1::NotificationPreferences {
                order_emails: Some(false),
                order_sms: None,
            }),
            ..v1::UpdateProfileRequest::default()
        };
        for (paths, body) in [
            (
                vec![],
                json!({"name": "Ada", "preferences": {"order_emails": false}}),
            ),
            (vec!["phone"], json!({"phone": null})),
            (
                vec!["name", "locale"],
                json!({"locale": null, "name": "Ada"}),
            ),
            (
                vec!["preferences"],
                json!({"preferences": {"order_emails": false, "order_sms": null}}),
            ),
            (
                vec![
                    "preferences.order_sms",
                    "preferences",
                    "preferences.order_sms",
                ],
                json!({"preferences": {"order_emails": false, "order_sms": null}}),
            ),
            (
                vec!["preferences.order_sms"],
                json!({"preferences": {"order_sms": null}}),
            ),
            (
                vec!["preferences.order_faxes", "role"],
                json!({"preferences": {"order_faxes": null}, "role": null}),
            ),
        ] {
            assert_eq!(patched(message.clone(), &paths), body, "{paths:?}");
        }
    }

    #[test]
    fn a_mask_has_a_bounded_number_of_paths() {
        let message = v1::UpdateProfileRequest {
            update_mask: Some(FieldMask {
                paths: vec![String::new(); PATHS_MAX + 1],
            }),
            ..v1::UpdateProfileRequest::default()
        };
        assert_eq!(profile(&message).unwrap_err().kind().name, "unreadable");
    }

    #[test]
    fn what_a_message_leaves_out_is_left_out() {
        let order = v1::CreateOrderRequest {
            lines: vec![v1::NewOrderLine::default()],
            note: Some(String::new()),
            ..v1::CreateOrderRequest::default()
        };
        let body = new_order(&order).unwrap().into_value();
        assert_eq!(body, json!({"lines": [{"quantity": 0}], "note": ""}));
        let status = v1::SetOrderStatusRequest {
            status: 17,
            ..v1::SetOrderStatusRequest::default()
        };
        assert_eq!(status_change(&status).into_value(), json!({"status": "17"}));
    }
}
