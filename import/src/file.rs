//! The CSV file: rows to invoices, and what of it is skipped.
//!
//! The rows of one invoice need not stand together, so the whole file is read and its lines are
//! held in memory before anything is sent, at most [`LINES_COUNT_MAX`] of them. Texts that repeat
//! (article numbers, descriptions, countries) are held once.
//!
//! A line that cannot be ordered is skipped alone and counted; an invoice none of whose lines is
//! left is skipped too, for the reason its first line was.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail};
use csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;

use crate::money::{NoAmount, Unit};

/// Most lines held in memory at once.
pub const LINES_COUNT_MAX: usize = 5_000_000;
/// Longest row read, so that a missing quote does not read the whole file as one field.
pub const ROW_BYTES_MAX: u64 = 1024 * 1024;
/// Longest article number that can be ordered, in characters.
pub const SKU_CHARS_MAX: usize = 64;
/// Longest invoice number, in bytes: it must fit into an Idempotency-Key.
pub const INVOICE_NO_BYTES_MAX: usize = 64;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 64 * 1024;

/// Why a line is skipped. The first reason that holds is the one counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// A column is missing, a number is none, or the invoice number is missing or too odd to send.
    Unreadable,
    /// The invoice number begins with C: a cancellation.
    Cancellation,
    /// The quantity is zero or negative: goods sent back or written off.
    NoQuantity,
    /// The price is zero or negative.
    NoPrice,
    /// The price is no whole number of the currency's minor units.
    TooManyDecimals,
    /// Nobody to order for.
    NoCustomer,
    /// Another customer than the invoice's first line names.
    OtherCustomer,
    /// The article number is missing, too long, or not visible text.
    NoSku,
}

impl Skip {
    /// The reasons a file is expected to have; the report names them even if there are none.
    pub const EXPECTED: [Self; 5] = [
        Self::Cancellation,
        Self::NoQuantity,
        Self::NoPrice,
        Self::TooManyDecimals,
        Self::NoCustomer,
    ];

    /// The reason in words for the report.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable row",
            Self::Cancellation => "return (invoice number begins with C)",
            Self::NoQuantity => "return (quantity zero or negative)",
            Self::NoCustomer => "no customer",
            Self::OtherCustomer => "another customer than the invoice's first line",
            Self::NoSku => "no usable article number",
            Self::NoPrice => "price zero or negative",
            Self::TooManyDecimals => "price with too many decimals",
        }
    }
}

/// A line that can be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The article number.
    pub sku: Arc<str>,
    /// The description, if there is one.
    pub name: Option<Arc<str>>,
    /// How many, at least 1.
    pub quantity: i64,
    /// The price of one, in minor units, more than 0.
    pub unit_price_minor: i64,
}

impl Line {
    /// Quantity times price, in minor units.
    #[must_use]
    pub fn amount_minor(&self) -> i128 {
        i128::from(self.quantity) * i128::from(self.unit_price_minor)
    }
}

/// The lines of one invoice that can be ordered, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// The invoice number.
    pub number: Arc<str>,
    /// The customer's number.
    pub customer: u64,
    /// The country named by the invoice's first line; empty if none.
    pub country: Arc<str>,
    /// At least one.
    pub lines: Vec<Line>,
}

impl Invoice {
    /// The sum of the lines, in minor units.
    #[must_use]
    pub fn total_minor(&self) -> i128 {
        self.lines.iter().map(Line::amount_minor).sum()
    }
}

/// What the file holds.
#[derive(Debug, Default)]
pub struct OrdersFile {
    /// In the order of their first line that can be ordered or was skipped.
    pub invoices: Vec<Invoice>,
    /// Rows behind the header.
    pub rows_count: u64,
    /// Different invoice numbers, skipped ones included.
    pub invoices_seen_count: u64,
    /// Skipped lines by reason.
    pub skipped_lines: BTreeMap<Skip, u64>,
    /// Invoices without any line left, by the reason of their first line.
    pub skipped_invoices: BTreeMap<Skip, u64>,
}

/// Opens a file, gzip or plain (told by its first bytes), and reads it.
///
/// # Errors
/// When the file cannot be read, a column is missing, a row is too long, or there are too many.
pub fn read_path(path: &Path, unit: Unit) -> anyhow::Result<OrdersFile> {
    let name = || path.display().to_string();
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", name()))?;
    let mut magic = Vec::new();
    file.by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .with_context(name)?;
    let is_gzip = magic == GZIP_MAGIC;
    let whole = io::Cursor::new(magic).chain(file);
    if is_gzip {
        let plain = MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, whole));
        read(plain, unit).with_context(name)
    } else {
        read(whole, unit).with_context(name)
    }
}

/// Reads CSV text.
///
/// # Errors
/// When it cannot be read, a column is missing, a row is too long, or there are too many.
pub fn read(input: impl Read, unit: Unit) -> anyhow::Result<OrdersFile> {
    let since_row = Rc::new(Cell::new(0));
    let bounded = BoundedRows {
        input,
        since_row: Rc::clone(&since_row),
    };
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES)
        .from_reader(bounded);
    let columns = Columns::find(reader.byte_headers()?)?;
    let mut reading = Reading::default();
    let mut row = ByteRecord::new();
    since_row.set(0);
    while reader.read_byte_record(&mut row)? {
        since_row.set(0);
        reading.take(&columns, &row, unit)?;
    }
    Ok(reading.finish())
}

/// Refuses to read more than [`ROW_BYTES_MAX`] (and what the buffer holds) without a row.
struct BoundedRows<R> {
    input: R,
    since_row: Rc<Cell<u64>>,
}

impl<R: Read> Read for BoundedRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let since_row = self.since_row.get().saturating_add(count as u64);
        self.since_row.set(since_row);
        if since_row > ROW_BYTES_MAX + BUFFER_BYTES as u64 {
            let message = format!("a row is longer than {ROW_BYTES_MAX} bytes (a quote missing?)");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

/// Where each column stands.
struct Columns {
    invoice_no: usize,
    stock_code: usize,
    description: usize,
    quantity: usize,
    unit_price: usize,
    customer_id: usize,
    country: usize,
}

impl Columns {
    fn find(header: &ByteRecord) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut find = |name: &'static str| {
            let at = header.iter().position(|column| {
                std::str::from_utf8(column).is_ok_and(|c| c.trim().eq_ignore_ascii_case(name))
            });
            at.unwrap_or_else(|| {
                missing.push(name);
                usize::MAX
            })
        };
        let columns = Self {
            invoice_no: find("InvoiceNo"),
            stock_code: find("StockCode"),
            description: find("Description"),
            quantity: find("Quantity"),
            unit_price: find("UnitPrice"),
            customer_id: find("CustomerID"),
            country: find("Country"),
        };
        if !missing.is_empty() {
            bail!("the header names no column {}", missing.join(", "));
        }
        Ok(columns)
    }

    /// The texts of a row, trimmed; none if a column is missing or is no UTF-8.
    fn texts<'a>(&self, row: &'a ByteRecord) -> Option<Texts<'a>> {
        let text = |at: usize| Some(std::str::from_utf8(row.get(at)?).ok()?.trim());
        Some(Texts {
            invoice_no: text(self.invoice_no)?,
            sku: text(self.stock_code)?,
            name: text(self.description)?,
            quantity: text(self.quantity)?,
            unit_price: text(self.unit_price)?,
            customer: text(self.customer_id)?,
            country: text(self.country)?,
        })
    }
}

struct Texts<'a> {
    invoice_no: &'a str,
    sku: &'a str,
    name: &'a str,
    quantity: &'a str,
    unit_price: &'a str,
    customer: &'a str,
    country: &'a str,
}

/// A row that can be ordered, as far as it can be told without the rest of its invoice.
struct Good {
    customer: u64,
    quantity: i64,
    unit_price_minor: i64,
}

impl Texts<'_> {
    fn judge(&self, unit: Unit) -> Result<Good, Skip> {
        if self.invoice_no.starts_with(['C', 'c']) {
            return Err(Skip::Cancellation);
        }
        let quantity = whole_number(self.quantity).ok_or(Skip::Unreadable)?;
        if quantity <= 0 {
            return Err(Skip::NoQuantity);
        }
        let unit_price = unit.parse(self.unit_price).map_err(|why| match why {
            NoAmount::NotDecimal => Skip::Unreadable,
            NoAmount::TooManyDecimals => Skip::TooManyDecimals,
        })?;
        if unit_price <= 0 {
            return Err(Skip::NoPrice);
        }
        let unit_price_minor = i64::try_from(unit_price).map_err(|_| Skip::Unreadable)?;
        if self.customer.is_empty() {
            return Err(Skip::NoCustomer);
        }
        let customer = whole_number(self.customer).and_then(|number| u64::try_from(number).ok());
        let customer = customer.ok_or(Skip::Unreadable)?;
        if !is_sku(self.sku) {
            return Err(Skip::NoSku);
        }
        Ok(Good {
            customer,
            quantity,
            unit_price_minor,
        })
    }
}

/// Something that can stand in an Idempotency-Key as it is.
fn is_invoice_no(text: &str) -> bool {
    (1..=INVOICE_NO_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn is_sku(text: &str) -> bool {
    (1..=SKU_CHARS_MAX).contains(&text.chars().count())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// A whole number, also written as float text (`12923.0`), as tables with gaps often have it.
fn whole_number(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// The file while it is read.
#[derive(Default)]
struct Reading {
    file: OrdersFile,
    invoices: Vec<Open>,
    by_number: HashMap<Arc<str>, usize>,
    texts: HashSet<Arc<str>>,
    lines_count: usize,
}

/// An invoice of which more lines may come.
struct Open {
    number: Arc<str>,
    country: Arc<str>,
    customer: Option<u64>,
    lines: Vec<Line>,
    first_skip: Option<Skip>,
}

impl Reading {
    fn take(&mut self, columns: &Columns, row: &ByteRecord, unit: Unit) -> anyhow::Result<()> {
        self.file.rows_count += 1;
        let Some(texts) = columns.texts(row) else {
            self.count_skipped(Skip::Unreadable);
            return Ok(());
        };
        if !is_invoice_no(texts.invoice_no) {
            self.count_skipped(Skip::Unreadable);
            return Ok(());
        }
        let at = self.open(&texts);
        let judged = texts
            .judge(unit)
            .and_then(|good| self.of_one_customer(at, good));
        let Some(invoice) = self.invoices.get_mut(at) else {
            bail!("the invoice just opened is gone");
        };
        match judged {
            Ok(good) => {
                if self.lines_count >= LINES_COUNT_MAX {
                    bail!("more than {LINES_COUNT_MAX} lines; split the file between invoices");
                }
                self.lines_count += 1;
                invoice.customer = Some(good.customer);
                let name = (!texts.name.is_empty()).then(|| shared(&mut self.texts, texts.name));
                invoice.lines.push(Line {
                    sku: shared(&mut self.texts, texts.sku),
                    name,
                    quantity: good.quantity,
                    unit_price_minor: good.unit_price_minor,
                });
            }
            Err(skip) => {
                invoice.first_skip.get_or_insert(skip);
                self.count_skipped(skip);
            }
        }
        Ok(())
    }

    fn count_skipped(&mut self, skip: Skip) {
        *self.file.skipped_lines.entry(skip).or_default() += 1;
    }

    fn open(&mut self, texts: &Texts<'_>) -> usize {
        if let Some(at) = self.by_number.get(texts.invoice_no) {
            return *at;
        }
        let number: Arc<str> = Arc::from(texts.invoice_no);
        self.by_number
            .insert(Arc::clone(&number), self.invoices.len());
        self.invoices.push(Open {
            number,
            country: shared(&mut self.texts, texts.country),
            customer: None,
            lines: Vec::new(),
            first_skip: None,
        });
        self.invoices.len() - 1
    }

    fn of_one_customer(&self, at: usize, good: Good) -> Result<Good, Skip> {
        let known = self.invoices.get(at).and_then(|invoice| invoice.customer);
        if known.is_some_and(|customer| customer != good.customer) {
            return Err(Skip::OtherCustomer);
        }
        Ok(good)
    }

    fn finish(self) -> OrdersFile {
        let mut file = self.file;
        file.invoices_seen_count = self.invoices.len() as u64;
        for open in self.invoices {
            let Open {
                number,
                country,
                customer,
                lines,
                first_skip,
            } = open;
            match customer {
                Some(customer) => {
                    file.invoices.push(Invoice {
                        number,
                        customer,
                        country,
                        lines,
                    });
                }
                None => {
                    let skip = first_skip.unwrap_or(Skip::Unreadable);
                    *file.skipped_invoices.entry(skip).or_default() += 1;
                }
            }
        }
        file
    }
}

/// The one copy of a text that repeats.
fn shared(texts: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = texts.get(text) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(text);
    texts.insert(Arc::clone(&new));
    new
}
