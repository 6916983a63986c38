//! Millions of commands under keys of the last 24 hours: what remembering them takes of memory and disk, and how long it takes
//! to find one of them.

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Context, ensure};
use events::ids::UserId;

use super::restart::{self, Start};
use crate::{
    bench::{Bench, NODE, say},
    filling::{self, Named},
    http::Connection,
    people::Person,
    statistics::{Latencies, count},
    table::{Table, ms},
};

/// How many of them are asked for again, one after another.
const ASKED_FOR: u64 = 10_000;
/// Of no request that is sent.
const FINGERPRINT: [u8; 32] = [0; 32];
const REUSED: &str = "/problems/idempotency-key-reused";

struct Measured {
    keys: u64,
    cold: Start,
    /// The highest memory of the cold start.
    highest: u64,
    with_store: Start,
    on_disk: u64,
    found: Latencies,
    /// Memory after they were asked for.
    resident: u64,
}

/// Measures it, with the read side held still.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.register_orderers().await?;
    let store = restart::store(bench)?.context("this command-api keeps no state store")?;
    let measured = bench.with_read_side_held(async |bench| {
        let measured = remembered(bench, &store).await;
        bench.start_node()?;
        measured
    });
    Ok(table(&measured.await?))
}

async fn remembered(bench: &mut Bench, store: &Path) -> anyhow::Result<Measured> {
    let (wanted, person) = (bench.extent.keys, bench.person().await?);
    bench.stack.stop(NODE)?;
    let every = wanted.div_ceil(ASKED_FOR);
    let (keys, some) = filling::write_named(bench, wanted, FINGERPRINT, every).await?;
    std::fs::remove_dir_all(store)?;
    say("starting cold");
    let cold = restart::start(bench, &person.order()).await?;
    let highest = bench.stack.highest_memory(NODE)?;
    let with_store = restart::restart(bench, None, 1).await?;
    let found = asked_for(bench, &some).await?;
    let resident = bench.stack.memory().get(NODE).copied();
    Ok(Measured {
        keys,
        cold,
        highest,
        with_store,
        on_disk: bytes_in(store)?,
        found,
        resident: resident.unwrap_or_default(),
    })
}

/// Sends another order under each of these keys: who remembers the key refuses it.
async fn asked_for(bench: &mut Bench, some: &[Named]) -> anyhow::Result<Latencies> {
    say(&format!("asking for {} of them", some.len()));
    let people = bench.people().await?;
    let people: BTreeMap<UserId, Person> = people.into_iter().map(|one| (one.id, one)).collect();
    let mut connection = Connection::open(&bench.command).await?;
    let mut took = Vec::new();
    for Named { customer, key } in some {
        let person = people.get(customer).context("a stranger's order")?;
        let request = person.order_with_key(key);
        let begun = Instant::now();
        let answer = connection.exchange(&request).await?.json(422)?;
        took.push(u32::try_from(begun.elapsed().as_micros())?);
        ensure!(answer["type"] == REUSED, "{answer}");
    }
    Ok(Latencies::of(took))
}

fn bytes_in(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn table(measured: &Measured) -> String {
    let mut table = Table::new("Keys that are remembered", &["what", "figure"]);
    let megabytes = |bytes: u64| format!("{} MB", count(bytes as f64 / 1e6));
    let seconds = |start: &Start| format!("{:.1} s", start.first_order.as_secs_f64());
    let found = |share| format!("{} ms", ms(measured.found.percentile_ms(share)));
    for (what, figure) in [
        (
            "orders, each under a key of its own",
            count(measured.keys as f64),
        ),
        (
            "first order of a node that has no store",
            seconds(&measured.cold),
        ),
        (
            "… its memory at most until then",
            megabytes(measured.highest),
        ),
        ("the store on disk", megabytes(measured.on_disk)),
        (
            "first order of a node that has one",
            seconds(&measured.with_store),
        ),
        ("… its memory", megabytes(measured.with_store.resident)),
        ("a key found again, p50", found(0.5)),
        ("… p99", found(0.99)),
        ("… memory afterwards", megabytes(measured.resident)),
    ] {
        table.row([what.to_owned(), figure]);
    }
    let note = format!(
        "Once. The orders were written past the node, with keys as it records them. Under {} of them, evenly spread, another order was then \
         sent, one after another, and refused, which only who remembers the key can do.",
        count(measured.found.count() as f64)
    );
    table.note(&note)
}
