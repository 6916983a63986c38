//! Reading one order: through the query API, and with the driver of its database alone; and how soon one is shown that was just
//! written, beside one bare transaction.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Document, RawDocumentBuf, doc},
};

use crate::{
    bench::{Bench, say},
    goals::{self, Bound, Goal, ratio},
    http::Connection,
    orders::{self, Bare},
    people::Person,
    processes::{Taken, load_thread_time},
    producer::Scratch,
    read_side::{self, Alone},
    sections::rebuild::live_storage,
    statistics::Latencies,
    table::{Table, each_ms, fine, ms, spread},
};

const PROJECTIONS: &str = "projections";
/// Orders that are asked for in a round, one after another.
const ASKED_FOR: u32 = 5_000;
/// The others, which are not counted: connections and caches are warm then.
const FIRST: u32 = 500;
/// The percentiles of the time until an order is shown, and how many times that of one bare transaction they may be.
const SHOWN_WITHIN: [(&str, f64, f64); 2] = [("p50", 0.5, 3.0), ("p99", 0.99, 10.0)];

/// A round of one way.
struct Round {
    p50_ms: f64,
    p99_ms: f64,
    /// Processor time of who asks the database, for each.
    processor_ms: f64,
    /// That of the database.
    database_ms: f64,
}

/// Measures it on the orders that are there, and on as many as memory is looked at after.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    bench.fill(bench.extent.orders_first).await?;
    let person = bench.person().await?;
    let storage = live_storage(&bench.binaries, "orders")?;
    let uri = bench.stack.variable("MONGODB_URI")?;
    let database = Client::with_uri_str(&uri).await?.database("orderlog");
    let orders: Collection<RawDocumentBuf> = database.collection(&storage);
    let ids = ids_of(&database.collection(&storage), &person).await?;
    let scratch = Scratch::make(&bench.settings.kafka, bench.partitions).await?;
    let (mut asked, mut bare) = (Vec::new(), Vec::new());
    let (mut alone, mut transactions) = (Vec::new(), Vec::new());
    for round in 1..=bench.extent.rounds {
        asked.push(through_the_api(bench, &person, &ids).await?);
        bare.push(with_the_driver(bench, &orders, &ids).await?);
        say(&format!("round {round}: asked in both ways"));
        let count = bench.extent.orders_looked_for;
        alone.push(read_side::visible(&bench.command, &bench.query, &person, count).await?);
        bench.orders += count as u64;
        let (extent, stack) = (bench.extent, &bench.stack);
        transactions.push(orders::bare(1, bench.partitions, &scratch, extent, stack)?);
        say(&format!("round {round}: written and looked for"));
    }
    scratch.delete().await?;
    Ok(format!(
        "{}\n{}",
        reads(&asked, &bare),
        shown(&alone, &transactions)
    ))
}

fn shown(alone: &[Alone], transactions: &[Bare]) -> String {
    let goals = SHOWN_WITHIN.map(|(name, share, bound)| Goal {
        what: format!("answered → shown : one bare transaction, {name}"),
        bound: Bound::AtMost(bound),
        measured: ratio(
            alone,
            transactions,
            |it| it.visible.percentile_ms(share),
            |it| it.one.latencies.percentile_ms(share),
        ),
    });
    let mut text = goals::table("Shown after it was written", &goals);
    let each = |of: fn(&Alone) -> &Latencies, share| {
        fine(spread(alone, |it| of(it).percentile_ms(share)), 2)
    };
    text.push_str(&format!(
        "\nOrders one after another, each asked for as soon as it is answered, with its Consistency-Token, everything at work: \
         answered after {} ms (p99 {}), shown {} ms after that (p99 {}).\n",
        each(|it| &it.answered, 0.5),
        each(|it| &it.answered, 0.99),
        each(|it| &it.visible, 0.5),
        each(|it| &it.visible, 0.99),
    ));
    text
}

fn reads(asked: &[Round], bare: &[Round]) -> String {
    let columns = [
        "one order by its id",
        "p50 ms",
        "p99 ms",
        "processor ms",
        "of the database, ms",
    ];
    let mut table = Table::new("One after another", &columns);
    for (what, rounds) in [
        ("`GET /orders/{id}`, past the gateway", asked),
        ("`find_one` of the driver", bare),
    ] {
        table.row([
            what.to_owned(),
            fine(spread(rounds, |it| it.p50_ms), 2),
            fine(spread(rounds, |it| it.p99_ms), 2),
            ms(spread(rounds, |it| it.processor_ms).median),
            ms(spread(rounds, |it| it.database_ms).median),
        ]);
    }
    table.note(&format!(
        "{ASKED_FOR} orders in each round. Processor time is that of projections, and of the program with the driver in it. \
         Projections check the token and the rights, read the order, open what is sealed in it and answer with JSON and a tag."
    ))
}

async fn ids_of(orders: &Collection<Document>, person: &Person) -> anyhow::Result<Vec<String>> {
    let own = orders
        .find(doc! { "customer_id": person.id.to_string() })
        .projection(doc! { "_id": 1 })
        .limit(ASKED_FOR.into())
        .await?;
    let own: Vec<Document> = own.try_collect().await?;
    let ids = own.iter().map(|order| Ok(order.get_str("_id")?.to_owned()));
    ids.collect()
}

async fn through_the_api(bench: &Bench, person: &Person, ids: &[String]) -> anyhow::Result<Round> {
    let mut connection = Connection::open(&bench.query).await?;
    let asked = ask(bench, ids, async |id| {
        connection.exchange(&person.look_at(id)).await?.json(200)?;
        Ok(())
    });
    let (took, taken, _) = asked.await?;
    Ok(Round::of(&took, taken.of(PROJECTIONS), &taken))
}

async fn with_the_driver(
    bench: &Bench,
    orders: &Collection<RawDocumentBuf>,
    ids: &[String],
) -> anyhow::Result<Round> {
    let asked = ask(bench, ids, async |id| {
        let found = orders.find_one(doc! { "_id": id }).await?;
        found.context("an order that is gone")?;
        Ok(())
    });
    let (took, taken, own) = asked.await?;
    Ok(Round::of(&took, own, &taken))
}

/// Asks for one order after another: how long each took, what processor time the processes took for those that count, and what this
/// thread did.
async fn ask(
    bench: &Bench,
    ids: &[String],
    mut ask_for: impl AsyncFnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<(Latencies, Taken, Duration)> {
    let mut took = Vec::new();
    let (mut before, mut own) = (bench.stack.processor_time(), load_thread_time());
    for (number, id) in (0..FIRST + ASKED_FOR).zip(ids.iter().cycle()) {
        if number == FIRST {
            took.clear();
            (before, own) = (bench.stack.processor_time(), load_thread_time());
        }
        let begun = Instant::now();
        ask_for(id).await?;
        took.push(u32::try_from(begun.elapsed().as_micros())?);
    }
    let taken = bench.stack.processor_time().taken_since(&before);
    let own = load_thread_time().saturating_sub(own);
    Ok((Latencies::of(took), taken, own))
}

impl Round {
    fn of(took: &Latencies, processor: Duration, taken: &Taken) -> Self {
        Self {
            p50_ms: took.percentile_ms(0.5),
            p99_ms: took.percentile_ms(0.99),
            processor_ms: each_ms(processor, ASKED_FOR.into()),
            database_ms: each_ms(taken.of("mongodb"), ASKED_FOR.into()),
        }
    }
}
