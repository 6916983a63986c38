//! What `Debug` says of messages that hold personal data or secrets: that there is one, and nothing of what is in it.

use std::fmt;

use crate::v1;

macro_rules! confidential {
    ($($message:ident),+ $(,)?) => {
        $(
            impl fmt::Debug for v1::$message {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($message)).finish_non_exhaustive()
                }
            }
        )+
    };
}

confidential!(
    Address,
    CreateOrderRequest,
    ReplaceOrderRequest,
    Order,
    FieldChange,
    User,
    RegisterRequest,
    LoginRequest,
    Tokens,
    RefreshTokenRequest,
    LogoutRequest,
    UpdateProfileRequest,
    ChangePasswordRequest,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_confidential_is_shown() {
        let request = v1::LoginRequest {
            email: "ada@example.com".into(),
            password: "sesame".into(),
        };
        assert_eq!(format!("{request:?}"), "LoginRequest { .. }");
    }
}
