//! Commands about a user's account: its password, and its end.

use domain::user::{self, Action};
use events::ids::{CredentialId, UserId};
use runtime::{
    auth::Caller,
    json::{self, Json},
    problem::Problem,
};
use uuid::Uuid;

use super::{
    Api, Context, Done, error, id_of, read,
    users::{command, of_user, settled, submit},
};
use crate::shard::{Answer, Command, KnownUser, Refused, Request, Resource};

/// Gives a user a new password if the current one is right. `body` is that of `PUT /users/{id}/password`. Asked for
/// again after it was done, when the new one is the current one already, it is done: so whoever lost the answer can
/// send the request once more.
pub async fn change_password(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<Done, Problem> {
    let change = read::password_change(body)?;
    let user = user_himself(api, caller, id_of(id)?).await?;
    let resource = Resource::User(user.id);
    let idempotency = context.name(Some(caller.user_id), resource, &"change password")?;
    let replaces = user.credential_id;
    let stored = api.credentials.password_hash(replaces).await;
    let stored = stored.map_err(error::of_identity)?;
    let is_right = |password| {
        let compared = api.passwords.is_right(password, stored.clone());
        async { compared.await.map_err(error::of_identity) }
    };
    let answer = if is_right(&change.current_password).await? {
        let password = change.new_password.expose();
        replaced(api, caller, &user, password, |command| {
            context.request(command, idempotency)
        })
        .await?
    } else if is_right(change.new_password.expose()).await? {
        let already = Action::ChangePassword {
            credential_id: replaces,
            replaces,
        };
        let command = command(user.id, caller, already);
        submit(api, context.request(command, idempotency)).await?
    } else {
        return Err(wrong_password());
    };
    // The old password's row goes, sessions end, and tokens no longer count.
    settled(api, &answer).await?;
    Ok(Done::of(&answer))
}

/// Erases a user, as he or an admin asks: what is sealed with his key cannot be read any more, wherever it lies. Also
/// for one who is erased: what was asked for is so.
pub async fn erase(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
) -> Result<Done, Problem> {
    let id = id_of(id)?;
    let idempotency = context.name(Some(caller.user_id), Resource::User(id), &Action::Erase)?;
    let command = command(id, caller, Action::Erase);
    let answer = submit(api, context.request(command, idempotency)).await?;
    settled(api, &answer).await?;
    Ok(Done::of(&answer))
}

/// Stores the new password, and has it recorded that it counts.
async fn replaced(
    api: &Api,
    caller: Caller,
    user: &KnownUser,
    password: &str,
    request: impl FnOnce(Command) -> Request,
) -> Result<Answer<user::State>, Problem> {
    let (credential_id, replaces) = (CredentialId(Uuid::now_v7()), user.credential_id);
    let hash = api.passwords.hash(password).await;
    let hash = hash.map_err(error::of_identity)?;
    let credentials = &api.credentials;
    let added = credentials.add(credential_id, user.id, Some(replaces), &hash);
    added.await.map_err(error::of_identity)?;
    let action = Action::ChangePassword {
        credential_id,
        replaces,
    };
    let command = command(user.id, caller, action);
    match api.shards.submit(request(command)).await {
        Ok(accepted) => {
            let answer = of_user(accepted)?;
            let recorded = answer.state.user().map(|user| user.credential_id);
            if recorded == Some(credential_id) {
                return Ok(answer);
            }
            // The answer to an earlier request of this name, which was about another password: that one is current by now.
            discard(api, credential_id).await;
            Err(error::of_refused(Refused::KeyReused))
        }
        Err(refused) => {
            // What the log may have recorded needs its row.
            if refused != Refused::OutcomeUnknown {
                discard(api, credential_id).await;
            }
            Err(error::of_refused(refused))
        }
    }
}

/// Only the user himself, who shows that he knows the current password. An admin does not.
async fn user_himself(api: &Api, caller: Caller, id: UserId) -> Result<KnownUser, Problem> {
    if !caller.may_see(id) {
        return Err(Problem::not_found());
    }
    let user = api.shards.user(id).await.map_err(error::of_refused)?;
    let user = user.ok_or_else(Problem::not_found)?;
    if caller.user_id != id {
        return Err(Problem::not_allowed(
            "a password is changed by its user alone",
        ));
    }
    Ok(user)
}

fn wrong_password() -> Problem {
    let refused = json::check(|place| {
        place
            .member("current_password")
            .fail::<()>("wrong", "is not the current password")
    });
    refused.err().unwrap_or_else(Problem::not_found)
}

/// Removes a row that no event will ever name. One left over harms nobody.
async fn discard(api: &Api, credential_id: CredentialId) {
    if let Err(error) = api.credentials.discard(credential_id).await {
        tracing::warn!(%error, "a credential that does not count is left over");
    }
}
