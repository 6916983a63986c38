//! Commands about users.

use domain::user::{self, Action, ProfilePatch};
use events::{
    Actor,
    ids::{CredentialId, EmailHash, UserId},
    sealed::{DataKey, Field, Sealed},
    user::Role,
};
use runtime::{auth::Caller, json::Json, problem::Problem};
use uuid::Uuid;

use super::{Api, ChangedUser, Context, Registered, error, id_of, now, read};
use crate::shard::{Accepted, Answer, Command, Refused, Request, Resource};

/// Registers a user. `body` is that of `POST /register`.
pub async fn register(
    api: &Api,
    mut context: Context,
    body: Json<'_>,
) -> Result<Registered, Problem> {
    let new = read::registration(body)?;
    let email_hash = api.email_hasher.hash(&new.email);
    let idempotency = context.name(None, Resource::Address(email_hash), &"register")?;
    // The claim decides; asking first spares the hashing. A named request may have been sent before.
    if idempotency.is_none() {
        let claimed_by = api.shards.user_of(email_hash).await;
        if claimed_by.map_err(error::of_refused)?.is_some() {
            return Err(Problem::address_taken());
        }
    }
    let (id, credential_id) = (
        api.shards.new_user_id(email_hash),
        CredentialId(Uuid::now_v7()),
    );
    let prepared = prepare(api, id, credential_id, email_hash, &new).await;
    let outcome = match prepared {
        Ok(registration) => {
            let command = user::Command {
                actor: Actor::User(id, Role::User),
                at: now(),
                action: Action::Register(registration),
            };
            let command = Command::Register {
                email_hash,
                id,
                command,
            };
            let submitted = api.shards.submit(context.request(command, idempotency));
            submitted.await.map_err(Failed::Refused)
        }
        Err(problem) => Err(Failed::Before(problem)),
    };
    let answer = match outcome {
        Ok(Accepted::User(answer)) => answer,
        Ok(Accepted::Order(_)) => return Err(Problem::not_found()),
        // What the log may have recorded needs its rows.
        Err(Failed::Refused(Refused::OutcomeUnknown)) => {
            return Err(error::of_refused(Refused::OutcomeUnknown));
        }
        Err(failed) => {
            discard(api, id, credential_id).await;
            return Err(failed.into());
        }
    };
    let user = answer.state.user().ok_or_else(Problem::not_found)?;
    if user.id != id {
        // Somebody was registered by a request of this name before: our rows are nobody's.
        discard(api, id, credential_id).await;
        if !was_asked_for(api, user, &new).await? {
            return Err(error::of_refused(Refused::KeyReused));
        }
    }
    Ok(Registered {
        id: user.id,
        version: answer.version,
        token: answer.token,
    })
}

/// Whether a request asks for what this user was registered with. The log does not say: sealed values of two users differ
/// also where the texts are the same, and of passwords it knows nothing.
async fn was_asked_for(
    api: &Api,
    user: &user::User,
    new: &read::Registration,
) -> Result<bool, Problem> {
    let key = api.data_keys.get(user.id).await;
    let Some(key) = key.map_err(error::of_data_key)? else {
        return Ok(false); // Erased since.
    };
    let asked = seal(&key, user.id, new)?;
    let profile = &user.profile;
    let registered = (&user.email, &profile.name, &profile.phone);
    if (&asked.email, &asked.name, &asked.phone) != registered || new.locale != profile.locale {
        return Ok(false);
    }
    let stored = api.credentials.password_hash(user.credential_id).await;
    let stored = stored.map_err(error::of_identity)?;
    let is_right = api.passwords.is_right(new.password.expose(), stored).await;
    is_right.map_err(error::of_identity)
}

enum Failed {
    Before(Problem),
    Refused(Refused),
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Before(problem) => problem,
            Failed::Refused(refused) => error::of_refused(refused),
        }
    }
}

/// Stores what the event will name, and seals what it will hold.
async fn prepare(
    api: &Api,
    user_id: UserId,
    credential_id: CredentialId,
    email_hash: EmailHash,
    new: &read::Registration,
) -> Result<user::Registration, Problem> {
    let hash = api
        .passwords
        .hash(new.password.expose())
        .await
        .map_err(error::of_identity)?;
    api.credentials
        .add(credential_id, user_id, None, &hash)
        .await
        .map_err(error::of_identity)?;
    let key = api
        .data_keys
        .create(user_id)
        .await
        .map_err(error::of_data_key)?;
    let sealed = seal(&key, user_id, new)?;
    Ok(user::Registration {
        user_id,
        email: sealed.email,
        email_hash,
        name: sealed.name,
        phone: sealed.phone,
        locale: new.locale.clone(),
        role: Role::User,
        credential_id,
    })
}

/// What is personal of a registration, sealed.
struct SealedRegistration {
    email: Sealed,
    name: Sealed,
    phone: Option<Sealed>,
}

fn seal(
    key: &DataKey,
    user_id: UserId,
    new: &read::Registration,
) -> Result<SealedRegistration, Problem> {
    let seal = |field, text: &str| sealed(key, user_id, field, text);
    let phone = new.phone.as_ref();
    Ok(SealedRegistration {
        email: seal(Field::Email, new.email.as_str())?,
        name: seal(Field::Name, new.name.as_str())?,
        phone: phone
            .map(|phone| seal(Field::Phone, phone.as_str()))
            .transpose()?,
    })
}

/// Removes the rows of a registration that was not recorded. Rows left over harm nobody.
async fn discard(api: &Api, user_id: UserId, credential_id: CredentialId) {
    if let Err(error) = api.credentials.discard(credential_id).await {
        tracing::warn!(%error, "a credential that nobody names is left over");
    }
    if let Err(error) = api.data_keys.destroy(user_id).await {
        tracing::warn!(%error, "a data key that nobody uses is left over");
    }
}

/// Changes what a user says about himself. `body` is that of `PATCH /users/{id}`.
pub async fn update_profile(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<ChangedUser, Problem> {
    let profile = read::profile(body)?;
    let id: UserId = id_of(id)?;
    if !caller.may_see(id) {
        return Err(Problem::not_found());
    }
    let key = key_of(api, id).await?;
    let seal = |field, text: &str| sealed(&key, id, field, text);
    let patch = ProfilePatch {
        name: profile
            .name
            .map(|name| seal(Field::Name, name.as_str()))
            .transpose()?,
        phone: match profile.phone {
            Some(Some(phone)) => Some(Some(seal(Field::Phone, phone.as_str())?)),
            Some(None) => Some(None),
            None => None,
        },
        locale: profile.locale,
        order_emails: profile.order_emails,
        order_sms: profile.order_sms,
    };
    let action = Action::UpdateProfile(patch);
    let idempotency = context.name(Some(caller.user_id), Resource::User(id), &action)?;
    let command = command(id, caller, action);
    let answer = submit(api, context.request(command, idempotency)).await?;
    Ok(ChangedUser::of(answer, key))
}

/// Gives a user another role. `body` is that of `PUT /users/{id}/role`.
pub async fn change_role(
    api: &Api,
    caller: Caller,
    mut context: Context,
    id: &str,
    body: Json<'_>,
) -> Result<ChangedUser, Problem> {
    let role = read::new_role(body)?;
    let id: UserId = id_of(id)?;
    if !caller.may_see(id) {
        return Err(Problem::not_found());
    }
    let key = key_of(api, id).await?;
    let action = Action::ChangeRole { role };
    let idempotency = context.name(Some(caller.user_id), Resource::User(id), &action)?;
    let command = command(id, caller, action);
    let answer = submit(api, context.request(command, idempotency)).await?;
    // Sessions with the old role end, and its tokens no longer count.
    settled(api, &answer).await?;
    Ok(ChangedUser::of(answer, key))
}

/// The key that a user's record is sealed with, had before anything is done, so that what was done can be shown.
/// Whoever has none is unknown or erased.
async fn key_of(api: &Api, id: UserId) -> Result<DataKey, Problem> {
    let key = api.data_keys.get(id).await;
    if let Some(key) = key.map_err(error::of_data_key)? {
        return Ok(key);
    }
    if api.shards.is_erased(id).await.map_err(error::of_refused)? {
        return Err(error::of_refused(Refused::User(user::Rejection::Erased)));
    }
    Err(Problem::not_found())
}

/// Waits until what follows from a change has been done: sessions ended, tokens cut off, keys destroyed. When that
/// takes too long it will be done later; asked again, nothing is recorded and it is waited for again.
pub(super) async fn settled(api: &Api, answer: &Answer<user::State>) -> Result<(), Problem> {
    let drawn = api.consequences.up_to(answer.token).await;
    drawn.map_err(|error| error::not_shown(&error))
}

pub(super) fn command(id: UserId, caller: Caller, action: Action) -> Command {
    Command::User {
        id,
        command: user::Command {
            actor: caller.into(),
            at: now(),
            action,
        },
    }
}

pub(super) async fn submit(api: &Api, request: Request) -> Result<Answer<user::State>, Problem> {
    let accepted = api.shards.submit(request).await;
    of_user(accepted.map_err(error::of_refused)?)
}

pub(super) fn of_user(accepted: Accepted) -> Result<Answer<user::State>, Problem> {
    match accepted {
        Accepted::User(answer) => Ok(answer),
        // Users are answered with users.
        Accepted::Order(_) => Err(Problem::not_found()),
    }
}

fn sealed(key: &DataKey, subject: UserId, field: Field, text: &str) -> Result<Sealed, Problem> {
    key.seal(subject, field, text).ok_or_else(error::not_sealed)
}
