//! Commands about orders.

use domain::order::{self, Action};
use events::{
    ids::{OrderId, UserId},
    sealed::{DataKey, Field, Sealed},
};
use runtime::{
    auth::Caller,
    json::{self, Json},
    problem::Problem,
};

use super::{
    Api, ChangedOrder, Context, error, id_of, now,
    read::{self, Contents},
};
use crate::shard::{Accepted, Answer, Command, Refused, Request, Resource};

/// Creates an order for the caller, or for the customer that an admin names. `body` is that of `POST /orders`.
pub async fn create(
    api: &Api,
    caller: Caller,
    mut context: Context,
    body: Json<'_>,
) -> Result<ChangedOrder, Problem> {
    let new = read::new_order(body)?;
    let customer_id = new.customer_id.unwrap_or(caller.user_id);
    check_customer(api, caller, customer_id).await?;
    let (contents, data_key) = seal(api, customer_id, new.contents).await?.ok_or_else(|| {
        // A key is destroyed when its user is erased; tokens live a little longer.
        if customer_id == caller.user_id {
            Problem::not_authenticated()
        } else {
            no_such_customer()
        }
    })?;
    let asked = ("create", customer_id, new.currency, &contents);
    let idempotency = context.name(Some(caller.user_id), Resource::Orders, &asked)?;
    let scope = idempotency
        .as_ref()
        .map(|request| (caller.user_id, request.name.key.as_str()));
    let order_id = api.shards.new_order_id(scope);
    let action = Action::Create {
        order_id,
        customer_id,
        currency: new.currency,
        contents,
    };
    let command = command(order_id, caller, action);
    let answer = submit(api, context.request(command, idempotency)).await?;
    ChangedOrder::of(answer, data_key, &api.data_keys).await
}

/// Replaces the contents of an order. `body` is that of `PUT /orders/{id}`.
pub async fn replace(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<ChangedOrder, Problem> {
    // Prices are read in the order's currency, and sealed is with its customer's key. That there is no such order is
    // said in its turn.
    let found = match id_of(id) {
        Ok(id) => api.shards.order(id).await.map(|state| (id, state)),
        Err(_) => Err(Refused::NotFound),
    };
    let order = found.as_ref().ok().and_then(|(_, state)| state.order());
    let order = order.filter(|order| caller.may_see(order.customer_id));
    let contents = read::replacement(body, order.map(|order| order.currency))?;
    if context.expected.is_none() {
        return Err(Problem::precondition_required());
    }
    let (id, _) = *found
        .as_ref()
        .map_err(|refused| error::of_refused(*refused))?;
    let (order, contents) = order.zip(contents).ok_or_else(Problem::not_found)?;
    let (contents, data_key) = seal(api, order.customer_id, contents)
        .await?
        .ok_or_else(Problem::not_found)?;
    let action = Action::Update { contents };
    let idempotency = context.name(Some(caller.user_id), Resource::Order(id), &action)?;
    let command = command(id, caller, action);
    let answer = submit(api, context.request(command, idempotency)).await?;
    ChangedOrder::of(answer, data_key, &api.data_keys).await
}

/// Moves an order on. `body` is that of `PUT /orders/{id}/status`.
pub async fn set_status(
    api: &Api,
    caller: Caller,
    context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<ChangedOrder, Problem> {
    let change = read::status_change(body)?;
    let action = Action::SetStatus {
        status: change.status,
        reason: change.reason,
    };
    step(api, caller, context, id, action).await
}

/// Cancels an order. `body` is that of `POST /orders/{id}/cancel`.
pub async fn cancel(
    api: &Api,
    caller: Caller,
    context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<ChangedOrder, Problem> {
    let reason = read::reasoned(body)?.reason;
    step(api, caller, context, id, Action::Cancel { reason }).await
}

async fn step(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
    action: Action,
) -> Result<ChangedOrder, Problem> {
    let id = id_of(id)?;
    let data_key = key_of(api, caller, id).await?;
    let idempotency = context.name(Some(caller.user_id), Resource::Order(id), &action)?;
    let command = command(id, caller, action);
    let answer = submit(api, context.request(command, idempotency)).await?;
    ChangedOrder::of(answer, data_key, &api.data_keys).await
}

/// The key that an order is to be shown with, had before anything is done: what was done must be possible to show.
async fn key_of(api: &Api, caller: Caller, id: OrderId) -> Result<Option<DataKey>, Problem> {
    let state = api.shards.order(id).await.map_err(error::of_refused)?;
    let order = state.order().filter(|order| {
        let contents = &order.contents;
        let is_sealed = contents.shipping_address.is_some() || contents.note.is_some();
        is_sealed && caller.may_see(order.customer_id)
    });
    match order {
        Some(order) => {
            let key = api.data_keys.get(order.customer_id).await;
            key.map_err(error::of_data_key)
        }
        None => Ok(None),
    }
}

fn command(id: OrderId, caller: Caller, action: Action) -> Command {
    Command::Order {
        id,
        command: order::Command {
            actor: caller.into(),
            at: now(),
            action,
        },
    }
}

async fn submit(api: &Api, request: Request) -> Result<Answer<order::State>, Problem> {
    match api
        .shards
        .submit(request)
        .await
        .map_err(error::of_refused)?
    {
        Accepted::Order(answer) => Ok(answer),
        // Orders are answered with orders.
        Accepted::User(_) => Err(Problem::not_found()),
    }
}

/// The customer is the caller; an admin may name another, who must exist.
async fn check_customer(api: &Api, caller: Caller, customer_id: UserId) -> Result<(), Problem> {
    if customer_id == caller.user_id {
        return Ok(());
    }
    if !caller.is_admin() {
        return Err(Problem::not_allowed(
            "only an admin may order for somebody else",
        ));
    }
    match api
        .shards
        .user(customer_id)
        .await
        .map_err(error::of_refused)?
    {
        Some(_) => Ok(()),
        None => Err(no_such_customer()),
    }
}

fn no_such_customer() -> Problem {
    let refused = json::check(|place| {
        place
            .member("customer_id")
            .fail::<()>("unknown_customer", "must be a user's id")
    });
    refused.err().unwrap_or_else(Problem::not_found)
}

/// Seals the personal part with the customer's key, which comes along where it was needed; `None` when it is needed
/// and destroyed.
async fn seal(
    api: &Api,
    customer_id: UserId,
    contents: Contents,
) -> Result<Option<(order::Contents, Option<DataKey>)>, Problem> {
    let Contents {
        lines,
        shipping_address,
        note,
        attributes,
    } = contents;
    if shipping_address.is_none() && note.is_none() {
        let contents = order::Contents {
            lines,
            shipping_address: None,
            note: None,
            attributes,
        };
        return Ok(Some((contents, None)));
    }
    let Some(key) = api
        .data_keys
        .get(customer_id)
        .await
        .map_err(error::of_data_key)?
    else {
        return Ok(None);
    };
    let shipping_address = match shipping_address {
        Some(address) => {
            let json = serde_json::to_string(&address).map_err(|_| error::not_sealed())?;
            Some(sealed(&key, customer_id, Field::ShippingAddress, &json)?)
        }
        None => None,
    };
    let note = note
        .map(|note| sealed(&key, customer_id, Field::Note, note.as_str()))
        .transpose()?;
    let contents = order::Contents {
        lines,
        shipping_address,
        note,
        attributes,
    };
    Ok(Some((contents, Some(key))))
}

fn sealed(key: &DataKey, subject: UserId, field: Field, text: &str) -> Result<Sealed, Problem> {
    key.seal(subject, field, text).ok_or_else(error::not_sealed)
}
