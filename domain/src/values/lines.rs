//! The lines of an order, with their sums.

use events::order::OrderLine;
use serde::{Deserialize, Serialize};

use super::{Invalid, InvalidPart, LineName, Quantity, Sku};
use crate::money::{self, Price};

/// How many lines an order may have.
pub const LINES_MAX: usize = 2_000;

/// One position of an order as asked for, in the order's currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// Which article.
    pub sku: Sku,
    /// What it is called.
    pub name: Option<LineName>,
    /// How many pieces.
    pub quantity: Quantity,
    /// What one piece costs.
    pub unit_price: Price,
}

/// The lines of an order with their amounts and their sum: 1 to [`LINES_MAX`] of them, each amount and
/// the sum within 64 bits of minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    lines: Vec<OrderLine>,
    total_minor: i64,
}

impl Lines {
    /// Works out amounts and total.
    pub fn parse(lines: Vec<NewLine>) -> Result<Self, InvalidPart> {
        let whole = |invalid| InvalidPart {
            pointer: String::new(),
            invalid,
        };
        if lines.is_empty() {
            return Err(whole(Invalid::TooFew { min: 1 }));
        }
        if lines.len() > LINES_MAX {
            return Err(whole(Invalid::TooMany { max: LINES_MAX }));
        }
        let lines = lines
            .into_iter()
            .enumerate()
            .map(with_amount)
            .collect::<Result<Vec<_>, _>>()?;
        let total_minor = money::total(lines.iter().map(|line| line.amount_minor))
            .map_err(|error| whole(error.into()))?;
        Ok(Self { lines, total_minor })
    }

    /// Each line, in the order they were given.
    pub fn as_slice(&self) -> &[OrderLine] {
        &self.lines
    }

    /// The sum of all amounts in minor units.
    pub const fn total_minor(&self) -> i64 {
        self.total_minor
    }

    /// Lines that the log holds.
    pub(crate) fn recorded(lines: &[OrderLine], total_minor: i64) -> Self {
        Self {
            lines: lines.to_vec(),
            total_minor,
        }
    }

    pub(crate) fn into_vec(self) -> Vec<OrderLine> {
        self.lines
    }
}

fn with_amount((index, line): (usize, NewLine)) -> Result<OrderLine, InvalidPart> {
    let amount_minor =
        money::amount(line.quantity, line.unit_price).map_err(|error| InvalidPart {
            pointer: format!("/{index}"),
            invalid: error.into(),
        })?;
    Ok(OrderLine {
        sku: line.sku.into(),
        name: line.name.map(String::from),
        quantity: line.quantity.get(),
        unit_price_minor: line.unit_price.minor(),
        amount_minor,
    })
}
