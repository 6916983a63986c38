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

/// What a rebuild and a comparison read the log with.
const REBUILD_THREADS: u16 = 2;

/// Measures it, on as many orders as the log is to have.
pub async fn measure(bench: &mut Bench) -> anyhow::Result<String> {
    let wanted = bench.extent.orders_in_log.iter().copied().max();
    filling::fill(bench, wanted.unwrap_or_default()).await?;
    let (kafka, partitions) = (bench.settings.kafka.clone(), bench.partitions);
    let schemas: Arc<Schemas> = Schemas::load(&kafka).await?;
    // Blocking this thread is fine: nothing else of this program runs meanwhile.

    // The first reading brings the log into the page cache, so that all the others find it there.
    let weighed = reading::count_bytes(&kafka, partitions)?;
    let (mut fed, mut fed_wide, mut counted) = (Vec::new(), Vec::new(), Vec::new());
    bench
        .with_read_side_held(async |bench| {
            for round in 1..=bench.extent.rounds {
                fed.push(reading::feed(&kafka, &schemas, 1).await?);
                fed_wide.push(reading::feed(&kafka, &schemas, REBUILD_THREADS).await?);
                counted.push(reading::count_only(&kafka, partitions)?);
                say(&format!("round {round}: read three times"));
            }
            Ok(())
        })
        .await?;
    Ok(table(&fed, &fed_wide, &counted, &weighed))
}

fn table(fed: &[Read], fed_wide: &[Read], counted: &[Read], weighed: &Read) -> String {
    let mut table = Table::new("Replay", &["what", "events/s", "ratio"]);
    let counted = spread(counted, Read::rate);
    table.row([
        "a bare consumer that counts".to_owned(),
        counted.to_string(),
        "1".to_owned(),
    ]);
    for (what, read) in [
        ("consumed and decoded, as every service does it", fed),
        ("the same by two threads, as a rebuild does it", fed_wide),
    ] {
        let read = spread(read, Read::rate);
        let ratio = read.median / counted.median.max(1.0);
        table.row([what.to_owned(), read.to_string(), format!("{ratio:.2}")]);
    }
    table.note(&format!(
        "The topic `orders` from its beginning to its end: {} events, {} MB.",
        count(weighed.events as f64),
        count(weighed.bytes as f64 / 1e6)
    ))
}
