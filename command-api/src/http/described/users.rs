//! Commands about users.

use actix_web::http::StatusCode;
use runtime::{
    json::{JSON, MERGE_PATCH},
    openapi::{
        Answer, Description, Tag,
        examples::{self, UserNow},
        parameters,
    },
    problem::{ADDRESS_TAKEN, NOT_ALLOWED, NOT_FOUND, OUTCOME_UNKNOWN, RULE_BROKEN},
    representation::User,
};
use serde_json::json;
use utoipa::openapi::Required;

use super::{body, command, named};
use crate::{commands::read, http::users::Registered};

pub fn register() -> Description {
    let accepted = json!({
        "email": examples::EMAIL,
        "password": examples::PASSWORD,
        "name": "Ada Lovelace",
        "locale": "en-GB",
    });
    let refused = json!({"email": "ada", "password": "short", "role": "admin"});
    let description = Description::new("register", Tag::Sessions, "Registers a user")
        .text("Whoever registers is a `user`, and can log in at once.");
    named(description)
        .body(body::<read::Registration, _>(
            JSON,
            accepted,
            refused,
            read::registration,
        ))
        .answer(
            Answer::json::<Registered>(
                StatusCode::CREATED,
                "The new user's id.",
                json!({"id": examples::USER_ID}),
            )
            .of_creation(),
        )
        .problems(&[&ADDRESS_TAKEN, &OUTCOME_UNKNOWN])
}

pub fn update_profile() -> Description {
    let description = Description::new(
        "updateProfile",
        Tag::Users,
        "Changes name, phone, language and preferences",
    )
    .text("One's own; an admin may change anybody's. A JSON merge patch: what is left out stays.");
    let accepted = json!({"name": "Ada King", "preferences": {"order_sms": false}});
    let refused = json!({"name": null, "phone": "0151", "role": "admin"});
    change(description)
        .body(body::<read::Profile, _>(
            MERGE_PATCH,
            accepted,
            refused,
            read::profile,
        ))
        .answer(user(UserNow::ProfileUpdated))
}

pub fn change_password() -> Description {
    let description = Description::new(
        "changePassword",
        Tag::Users,
        "Exchanges one's password",
    )
    .text(
        "One's own only. Ends all sessions; access tokens are refused within 5 s. A current password that is wrong is an \
         `invalid` value at `/current_password`.",
    )
    .problems(&[&NOT_ALLOWED]);
    change(description)
        .body(body::<read::PasswordChange, _>(
            JSON,
            json!({"current_password": examples::PASSWORD, "new_password": examples::NEW_PASSWORD}),
            json!({"new_password": "short"}),
            read::password_change,
        ))
        .answer(
            Answer::empty(
                StatusCode::NO_CONTENT,
                "The new password opens the account.",
            )
            .of_command(),
        )
}

pub fn erase_user() -> Description {
    let description = Description::new("eraseUser", Tag::Users, "Erases a user")
        .text(
            "Oneself, or as an admin anybody. The key of the user's personal data is destroyed: what is sealed with it, in the \
             log and in every copy, can never be read again. The address is free for somebody new.",
        )
        .problems(&[&NOT_ALLOWED]);
    change(description).answer(
        Answer::empty(
            StatusCode::NO_CONTENT,
            "The user is erased, also when he was before.",
        )
        .of_command(),
    )
}

pub fn change_role() -> Description {
    let description = Description::new("changeRole", Tag::Users, "Gives a user another role")
        .text("For admins. Ends the user's sessions.")
        .problems(&[&NOT_ALLOWED]);
    change(description)
        .body(body::<read::NewRole, _>(
            JSON,
            json!({"role": "admin"}),
            json!({"role": "king"}),
            read::new_role,
        ))
        .answer(user(UserNow::Promoted))
}

fn change(description: Description) -> Description {
    let description = description
        .signed_in()
        .parameter("UserId", parameters::user_id())
        .problems(&[&NOT_FOUND, &RULE_BROKEN]);
    command(description, Required::False)
}

fn user(now: UserNow) -> Answer {
    let example = examples::user(now);
    Answer::json::<User<'_>>(StatusCode::OK, "The user as he is now.", example).of_command()
}
