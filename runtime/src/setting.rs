//! Settings that may hold a secret: what is said about one that makes no sense never repeats it, as clap's own
//! errors do.

use std::{ffi::OsStr, str::FromStr};

use clap::{Arg, Command, Error, builder::TypedValueParser, error::ErrorKind};

/// Reads a setting that may hold a secret.
#[derive(Debug, Clone, Copy)]
pub struct Confidential<T>(fn(&str) -> Result<T, String>);

/// Reads a setting as a `T`, whose error must not repeat it either.
pub const fn confidential<T: FromStr<Err = String>>() -> Confidential<T> {
    Confidential(T::from_str)
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Confidential<T> {
    type Value = T;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let read = value
            .to_str()
            .ok_or_else(|| "must be UTF-8".to_owned())
            .and_then(self.0);
        read.map_err(|reason| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let told = format!("the value of '{name}' makes no sense: {reason}\n");
            Error::raw(ErrorKind::ValueValidation, told).with_cmd(cmd)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::postgres::PostgresSettings;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        postgres: PostgresSettings,
    }

    #[test]
    fn a_mistyped_connection_url_is_not_repeated() {
        let url = "postgres://me:hunter2@127.0.0.1:port/orderlog";
        let told = Only::try_parse_from(["test", "--database-url", url]).unwrap_err();
        let told = format!("{told} {told:?}");
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("--database-url"), "{told}");
        assert!(told.contains("not a Postgres connection URL"), "{told}");
        let good = url.replace(":port", "");
        let read = Only::try_parse_from(["test", "--database-url", &good]).unwrap();
        assert!(!format!("{read:?}").contains("hunter2"));
    }
}
