//! Reading the whole topic of orders: as every service reads it, and with a consumer that only counts.

use std::sync::Arc;

use event_log::Schemas;

use crate::{
    bench::{Bench, say},
    filling,
    reading::{self, Read},
    statistics::count,
    table::{Table, spread},
};

/// Measures it, on as many orders as the log is to have.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let wanted = bench.extent.orders_in_log.iter().copied().max();
    filling::fill(bench, wanted.unwrap_or_default()).await?;
    let (kafka, partitions) = (&bench.settings.kafka, bench.partitions);
    let schemas: Arc<Schemas> = Schemas::load(kafka).await?;
    // Blocking this thread is fine: nothing else of this program runs meanwhile.

    // The first reading brings the log into the page cache, so that all the others find it there.
    let weighed = reading::count_bytes(kafka, partitions)?;
    let (mut fed, mut counted) = (Vec::new(), Vec::new());
    for round in 1..=bench.extent.rounds {
        fed.push(reading::feed(kafka, &schemas).await?);
        counted.push(reading::count_only(kafka, partitions)?);
        say(&format!("round {round}: read twice"));
    }
    Ok(table(&fed, &counted, &weighed))
}

fn table(fed: &[Read], counted: &[Read], weighed: &Read) -> String {
    let mut table = Table::new("Replay", &["what", "events/s", "ratio"]);
    let counted = spread(counted, Read::rate);
    let fed = spread(fed, Read::rate);
    table.row([
        "a bare consumer that counts".to_owned(),
        counted.to_string(),
        "1".to_owned(),
    ]);
    table.row([
        "consumed and decoded, as every service does it".to_owned(),
        fed.to_string(),
        format!("{:.2}", fed.median / counted.median.max(1.0)),
    ]);
    table.note(&format!(
        "The topic `orders` from its beginning to its end: {} events, {} MB.",
        count(weighed.events as f64),
        count(weighed.bytes as f64 / 1e6)
    ))
}
