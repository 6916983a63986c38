//! The import client on the running system: killed in the middle and repeated, it doubles nothing and loses nothing.

use std::{fmt::Write, path::PathBuf};

use end_to_end::{
    alone, environment, eventually,
    log::events_of,
    people::unique,
    stack::{BACK_WITHIN, OwnProcess, run},
};
use event_log::topics::end_positions;
use events::{Event, Topic};

const INVOICES: usize = 1_000;
const CUSTOMERS: usize = 3;
/// How far the log has grown when the client is killed, at least: events with the markers of their transactions.
const KILLED_AFTER: i64 = 100;

/// A CSV file with a return and with invoices that nobody else has; `prefix` begins their numbers.
fn csv_file(prefix: &str) -> PathBuf {
    let first_customer = uuid::Uuid::new_v4().as_u64_pair().0 >> 16;
    let mut text =
        "InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID,Country\n".to_owned();
    for number in 0..INVOICES {
        let customer = first_customer + (number % CUSTOMERS) as u64;
        for (sku, quantity) in [("TEA-250", 2), ("CUP-1", 1)] {
            writeln!(
                text,
                "{prefix}-{number},{sku},\"TEA, OR A CUP\",{quantity},4.25,{customer},France"
            )
            .unwrap();
        }
    }
    writeln!(
        text,
        "C{prefix},TEA-250,TEA,-2,4.25,{first_customer},France"
    )
    .unwrap();
    let path = std::env::temp_dir().join(format!("orderlog-{prefix}.csv"));
    std::fs::write(&path, text).unwrap();
    path
}

async fn end_of_the_log() -> i64 {
    let ends = end_positions(&environment::kafka(), Topic::Orders).await;
    ends.unwrap().values().sum()
}

/// How many orders of this import are in the log, and their lines.
async fn in_the_log(prefix: &str) -> (usize, usize) {
    let (mut orders, mut lines) = (0, 0);
    for recorded in events_of(Topic::Orders).await {
        let key = recorded.envelope.metadata.idempotency.as_ref();
        let ours = key.is_some_and(|it| it.key.starts_with(&format!("invoice-{prefix}-")));
        if let Event::OrderCreated(fact) = &recorded.envelope.event
            && ours
        {
            orders += 1;
            lines += fact.lines.len();
        }
    }
    (orders, lines)
}

#[test]
fn an_import_that_is_killed_and_repeated_doubles_nothing_and_reconciles() {
    alone(async {
        let prefix = unique("i");
        let file = csv_file(&prefix);
        let path = file.to_str().unwrap();
        let slowly = [path, "--concurrency", "1"];
        let before = end_of_the_log().await;
        let import = OwnProcess::start("import-killed", "import-orders", &slowly, &[]).await;
        eventually("orders in the log", BACK_WITHIN, async || {
            let grown = end_of_the_log().await - before;
            if grown >= KILLED_AFTER {
                Ok(())
            } else {
                Err(format!("grown by {grown}"))
            }
        })
        .await;
        import.kill();
        let (done, _) = in_the_log(&prefix).await;
        assert!((1..INVOICES).contains(&done), "{done} when it was killed");

        let (succeeded, printed) = run("import-orders", &[path]).await;
        assert!(succeeded, "{printed}");
        assert!(
            printed.contains("complete: every order is there and equal to the file"),
            "{printed}"
        );
        assert_eq!(in_the_log(&prefix).await, (INVOICES, 2 * INVOICES));

        let (succeeded, printed) = run("import-orders", &[path]).await;
        assert!(succeeded, "{printed}");
        assert_eq!(count_after(&printed, "accepted now"), 0, "{printed}");
        assert_eq!(in_the_log(&prefix).await, (INVOICES, 2 * INVOICES));
        std::fs::remove_file(&file).unwrap();
    });
}

/// The number behind a label of the report.
fn count_after(printed: &str, label: &str) -> usize {
    let line = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix(label));
    line.and_then(|rest| rest.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {label}: {printed}"))
}
