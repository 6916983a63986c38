//! What is read, what is skipped, and why.

use std::io::Write;

use crate::file::{Invoice, OrdersFile, Skip, read, read_path};
use crate::money::Unit;

const HEADER: &str =
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

fn read_rows(rows: &str) -> OrdersFile {
    read(
        format!("{HEADER}{rows}").as_bytes(),
        Unit::of_code("GBP").unwrap(),
    )
    .unwrap()
}

fn told(invoice: &Invoice) -> (String, u64, Vec<(String, i64, i64)>) {
    let lines = invoice
        .lines
        .iter()
        .map(|l| (l.sku.to_string(), l.quantity, l.unit_price_minor));
    (
        invoice.number.to_string(),
        invoice.customer,
        lines.collect(),
    )
}

#[test]
fn the_lines_of_an_invoice_are_grouped_wherever_they_stand() {
    let file = read_rows(
        "1,A,Alpha ,2,2011-01-01,4.15,12923.0,EIRE\n\
         2,B,,1,,1.0,7,France\n\
         1,C,\"Gamma, \"\"large\"\"\",3,,0.29,12923.0,EIRE\n\
         1,A,Alpha,1,,4.15,12923,EIRE\n",
    );
    let lines = [("A", 2, 415), ("C", 3, 29), ("A", 1, 415)];
    let lines = lines
        .map(|(sku, quantity, price)| (sku.to_owned(), quantity, price))
        .to_vec();
    assert_eq!(told(&file.invoices[0]), ("1".to_owned(), 12923, lines));
    assert_eq!(file.invoices[0].total_minor(), 2 * 415 + 3 * 29 + 415);
    assert_eq!(
        file.invoices[0].lines[1].name.as_deref(),
        Some("Gamma, \"large\"")
    );
    assert_eq!(&*file.invoices[0].country, "EIRE");
    assert_eq!(file.invoices[1].lines[0].name, None);
    assert_eq!((file.rows_count, file.invoices_seen_count), (4, 2));
    assert!(file.skipped_lines.is_empty());
}

#[test]
fn every_reason_to_skip_a_line_is_told_apart() {
    let cases = [
        ("1,A,a,1,,1.00,,EIRE", Skip::NoCustomer),
        ("C1,A,a,-1,,1.00,7,EIRE", Skip::Cancellation),
        ("c1,A,a,1,,1.00,,EIRE", Skip::Cancellation),
        ("1,A,a,0,,1.00,7,EIRE", Skip::NoQuantity),
        ("1,A,a,-5,,1.00,7,EIRE", Skip::NoQuantity),
        ("1,A,a,1,,0.0,7,EIRE", Skip::NoPrice),
        ("1,A,a,1,,-1.00,7,EIRE", Skip::NoPrice),
        ("1,A,a,1,,0.00,,EIRE", Skip::NoPrice),
        ("1,A,a,1,,1.005,7,EIRE", Skip::TooManyDecimals),
        ("1,,a,1,,1.00,7,EIRE", Skip::NoSku),
        ("1,A B,a,1,,1.00,7,EIRE", Skip::NoSku),
        ("1,A,a,1.5,,1.00,7,EIRE", Skip::Unreadable),
        ("1,A,a,1,,one,7,EIRE", Skip::Unreadable),
        ("1,A,a,1,,1.00,seven,EIRE", Skip::Unreadable),
        ("1,A,a,1,,1.00,-7,EIRE", Skip::Unreadable),
        (",A,a,1,,1.00,7,EIRE", Skip::Unreadable),
        ("1 2,A,a,1,,1.00,7,EIRE", Skip::Unreadable),
        ("1,A,a", Skip::Unreadable),
    ];
    for (row, skip) in cases {
        let file = read_rows(&format!("{row}\n"));
        assert_eq!(
            file.skipped_lines.into_iter().collect::<Vec<_>>(),
            [(skip, 1)],
            "{row}"
        );
        assert!(file.invoices.is_empty(), "{row}");
    }
    let long = read_rows(&format!("1,{},a,1,,1.00,7,EIRE\n", "x".repeat(65)));
    assert_eq!(long.skipped_lines.get(&Skip::NoSku), Some(&1));
}

#[test]
fn a_bad_line_costs_only_itself() {
    let file = read_rows(
        "1,A,a,1,,0,7,EIRE\n1,B,b,1,,2.00,7,EIRE\n1,C,c,1,,2.00,8,EIRE\n1,D,d,-1,,2.00,7,EIRE\n",
    );
    let lines = vec![("B".to_owned(), 1, 200)];
    assert_eq!(told(&file.invoices[0]), ("1".to_owned(), 7, lines));
    let skipped: Vec<_> = file.skipped_lines.into_iter().collect();
    assert_eq!(
        skipped,
        [
            (Skip::NoQuantity, 1),
            (Skip::NoPrice, 1),
            (Skip::OtherCustomer, 1)
        ]
    );
    assert!(file.skipped_invoices.is_empty());
}

#[test]
fn an_invoice_without_a_line_left_is_skipped_for_its_first_reason() {
    let file = read_rows("1,A,a,1,,0,7,EIRE\n1,B,b,-1,,2.00,7,EIRE\nC2,A,a,-1,,2.00,7,EIRE\n");
    let skipped: Vec<_> = file.skipped_invoices.into_iter().collect();
    assert_eq!(skipped, [(Skip::Cancellation, 1), (Skip::NoPrice, 1)]);
    assert_eq!(file.invoices_seen_count, 2);
    assert!(file.invoices.is_empty());
}

#[test]
fn columns_are_found_by_name_and_missing_ones_named() {
    let unit = Unit::of_code("GBP").unwrap();
    let text = "\u{feff}country, customerid ,UnitPrice,Quantity,Description,StockCode,InvoiceNo\n\
                EIRE,7,1.00,1,a,A,1\n";
    let file = read(text.as_bytes(), unit).unwrap();
    assert_eq!(
        told(&file.invoices[0]),
        ("1".to_owned(), 7, vec![("A".to_owned(), 1, 100)])
    );
    let error = read("InvoiceNo,Quantity\n".as_bytes(), unit)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("StockCode, Description, UnitPrice, CustomerID, Country"),
        "{error}"
    );
}

#[test]
fn bytes_that_are_no_text_cost_only_their_row() {
    let mut bytes = HEADER.as_bytes().to_vec();
    bytes.extend(b"1,A,\xa3 caf\xe9,1,,1.00,7,EIRE\n1,B,b,1,,1.00,7,EIRE\n");
    let file = read(bytes.as_slice(), Unit::of_code("GBP").unwrap()).unwrap();
    assert_eq!(file.skipped_lines.get(&Skip::Unreadable), Some(&1));
    assert_eq!(file.invoices[0].lines.len(), 1);
}

#[test]
fn a_quote_left_open_does_not_swallow_the_file() {
    let mut text = format!("{HEADER}1,A,\"a,1,,1.00,7,EIRE\n");
    for _ in 0..100_000 {
        text.push_str("1,A,a,1,,1.00,7,EIRE\n");
    }
    let error = read(text.as_bytes(), Unit::of_code("GBP").unwrap()).unwrap_err();
    assert!(
        format!("{error:#}").contains("a row is longer"),
        "{error:#}"
    );
}

#[test]
fn gzip_is_told_by_its_first_bytes() {
    let path = std::env::temp_dir().join(format!("orders-{}.csv", uuid::Uuid::now_v7()));
    let plain = format!("{HEADER}1,A,a,1,,1.00,7,EIRE\n");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    for bytes in [plain.as_bytes(), &compressed] {
        std::fs::write(&path, bytes).unwrap();
        let file = read_path(&path, Unit::of_code("GBP").unwrap()).unwrap();
        assert_eq!(file.invoices.len(), 1);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn the_example_holds_every_case_it_is_there_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/orders.csv");
    let file = read_path(path.as_ref(), Unit::of_code("GBP").unwrap()).unwrap();
    for skip in [
        Skip::Cancellation,
        Skip::NoQuantity,
        Skip::NoCustomer,
        Skip::NoPrice,
        Skip::TooManyDecimals,
    ] {
        assert!(file.skipped_lines.contains_key(&skip), "{skip:?}");
    }
    let same_sku_twice = file.invoices.iter().any(|invoice| {
        let skus = invoice.lines.iter().map(|line| &line.sku);
        skus.collect::<std::collections::HashSet<_>>().len() < invoice.lines.len()
    });
    assert!(same_sku_twice);
    assert!(
        file.invoices
            .iter()
            .any(|invoice| &*invoice.country == "Germany")
    );
}
