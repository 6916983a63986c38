//! `notifier dead-letters`: what could not be sent, for the operator.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    ledger::{self, DeadLetter, SetAside},
    settings::DeadLetterSettings,
};

#[derive(Serialize)]
struct Listing {
    dead_letters: Vec<DeadLetter>,
    set_aside: Vec<SetAside>,
}

/// Prints the dead letters, and the records that could not be read.
///
/// # Errors
/// When Postgres is not there, has no ledger yet, or the output is closed.
pub async fn list(settings: &DeadLetterSettings) -> anyhow::Result<()> {
    let pool = runtime::postgres::pool(&settings.postgres, "notifier dead-letters");
    let listing = Listing {
        dead_letters: ledger::dead_letters(&pool, settings.after, settings.rows_max).await?,
        set_aside: ledger::set_aside(&pool, settings.rows_max).await?,
    };
    let mut out = io::stdout().lock();
    if settings.json {
        serde_json::to_writer(&mut out, &listing)?;
        writeln!(out)?;
    } else {
        write_table(&mut out, &listing)?;
    }
    Ok(())
}

fn write_table(out: &mut impl Write, listing: &Listing) -> io::Result<()> {
    for each in &listing.dead_letters {
        writeln!(
            out,
            "{:>8}  {}  {:<5}  {:<15}  event {}  to {}  attempts {}  {}",
            each.id,
            each.given_up_at,
            each.channel,
            each.occasion,
            each.event_id,
            each.recipient,
            each.attempts,
            each.reason
        )?;
    }
    for each in &listing.set_aside {
        writeln!(
            out,
            "{}/{}@{}  {}  {}",
            each.topic, each.partition, each.offset, each.set_aside_at, each.reason
        )?;
    }
    writeln!(
        out,
        "{} dead letters, {} records set aside",
        listing.dead_letters.len(),
        listing.set_aside.len()
    )
}
