//! Commands about users and sessions.

use proto::v1::{
    self, ChangePasswordRequest, ChangePasswordResponse, ChangeRoleRequest, ChangeRoleResponse,
    EraseUserRequest, EraseUserResponse, LoginRequest, LoginResponse, LogoutRequest,
    LogoutResponse, RefreshTokenRequest, RefreshTokenResponse, RegisterRequest, RegisterResponse,
    UpdateProfileRequest, UpdateProfileResponse, user_service_server::UserService,
};
use runtime::problem::Problem;
use tonic::{Request, Response, Status};

use super::{Commands, body, text};
use crate::commands::{ChangedUser, accounts, sessions, users};

const TOKEN_TYPE: &str = "Bearer";

#[tonic::async_trait]
impl UserService for Commands {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.of_anybody(request, |api, context, message| async move {
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::registration(&message);
            let registered = users::register(&api, context, body).await?;
            Ok(RegisterResponse {
                id: registered.id.to_string(),
                version: registered.version,
                consistency_token: text(registered.token),
            })
        })
        .await
    }

    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        self.of_anybody(request, |api, _, message| async move {
            let tokens = sessions::login(&api, body::credentials(&message)).await?;
            let tokens = Some(tokens.into());
            Ok(LoginResponse { tokens })
        })
        .await
    }

    async fn refresh_token(
        &self,
        request: Request<RefreshTokenRequest>,
    ) -> Result<Response<RefreshTokenResponse>, Status> {
        self.of_anybody(request, |api, _, message| async move {
            let body = body::refresh_token(&message.refresh_token);
            let tokens = sessions::refresh(&api, body).await?;
            let tokens = Some(tokens.into());
            Ok(RefreshTokenResponse { tokens })
        })
        .await
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        self.of_anybody(request, |api, _, message| async move {
            sessions::logout(&api, body::refresh_token(&message.refresh_token)).await?;
            Ok(LogoutResponse {})
        })
        .await
    }

    async fn update_profile(
        &self,
        request: Request<UpdateProfileRequest>,
    ) -> Result<Response<UpdateProfileResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::profile(&message)?;
            let changed = users::update_profile(&api, caller, context, &message.id, body).await?;
            let (user, consistency_token) = shown(&changed)?;
            Ok(UpdateProfileResponse {
                user,
                consistency_token,
            })
        })
        .await
    }

    async fn change_role(
        &self,
        request: Request<ChangeRoleRequest>,
    ) -> Result<Response<ChangeRoleResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::new_role(&message);
            let changed = users::change_role(&api, caller, context, &message.id, body).await?;
            let (user, consistency_token) = shown(&changed)?;
            Ok(ChangeRoleResponse {
                user,
                consistency_token,
            })
        })
        .await
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let body = body::password_change(&message);
            let done = accounts::change_password(&api, caller, context, &message.id, body).await?;
            Ok(ChangePasswordResponse {
                version: done.version,
                consistency_token: text(done.token),
            })
        })
        .await
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        self.of_caller(request, |api, caller, context, message| async move {
            let context = context.expecting(message.expected_version);
            let context = context.named(message.idempotency_key.as_deref())?;
            let done = accounts::erase(&api, caller, context, &message.id).await?;
            Ok(EraseUserResponse {
                version: done.version,
                consistency_token: text(done.token),
            })
        })
        .await
    }
}

impl From<sessions::Tokens> for v1::Tokens {
    fn from(tokens: sessions::Tokens) -> Self {
        Self {
            token_type: TOKEN_TYPE.to_owned(),
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh_token.expose().to_owned(),
            access_token: tokens.access_token,
        }
    }
}

/// A user after a command, and how far a read model must be to show him.
fn shown(changed: &ChangedUser) -> Result<(Option<v1::User>, String), Problem> {
    Ok((Some(changed.shown()?.into()), text(changed.token())))
}
