//! What an expression of Prometheus asks for: which metrics, with which labels.

use std::collections::BTreeSet;

use promql_parser::parser::{self, Expr, VectorSelector};

/// A metric, and the labels that its series must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The metric.
    pub name: String,
    /// The labels that it is selected by.
    pub labels: BTreeSet<String>,
}

/// A label that an expression groups or matches by: some of the metrics below must have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared {
    /// The label.
    pub label: String,
    /// The metrics below.
    pub metrics: BTreeSet<String>,
}

/// All that an expression asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Each metric with its labels.
    pub wanted: BTreeSet<Wanted>,
    /// The labels that results are grouped or matched by.
    pub shared: BTreeSet<Shared>,
}

/// What an expression asks for.
///
/// # Errors
/// When it cannot be parsed, or selects a metric by something else than its name.
pub fn asked(expression: &str) -> Result<Asked, String> {
    let mut asked = Asked::default();
    gather(&parser::parse(expression)?, &mut asked)?;
    Ok(asked)
}

/// Adds what is asked for below `expression`; answers with the metrics there.
fn gather(expression: &Expr, asked: &mut Asked) -> Result<BTreeSet<String>, String> {
    Ok(match expression {
        Expr::VectorSelector(selector) => select(selector, asked)?,
        Expr::MatrixSelector(selector) => select(&selector.vs, asked)?,
        Expr::Aggregate(aggregate) => {
            let mut metrics = gather(&aggregate.expr, asked)?;
            if let Some(modifier) = &aggregate.modifier {
                share(&modifier.labels().labels, &metrics, asked);
            }
            if let Some(parameter) = &aggregate.param {
                metrics.extend(gather(parameter, asked)?);
            }
            metrics
        }
        Expr::Binary(binary) => {
            let (mut left, right) = (gather(&binary.lhs, asked)?, gather(&binary.rhs, asked)?);
            let matching = binary
                .modifier
                .iter()
                .filter_map(|each| each.matching.as_ref());
            for labels in matching.map(|matching| &matching.labels().labels) {
                share(labels, &left, asked);
                share(labels, &right, asked);
            }
            left.extend(right);
            left
        }
        Expr::Unary(unary) => gather(&unary.expr, asked)?,
        Expr::Paren(paren) => gather(&paren.expr, asked)?,
        Expr::Subquery(subquery) => gather(&subquery.expr, asked)?,
        Expr::Call(call) => {
            let mut metrics = BTreeSet::new();
            for argument in &call.args.args {
                metrics.extend(gather(argument, asked)?);
            }
            metrics
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => BTreeSet::new(),
    })
}

fn select(selector: &VectorSelector, asked: &mut Asked) -> Result<BTreeSet<String>, String> {
    let Some(name) = &selector.name else {
        return Err(format!("{selector} names no metric"));
    };
    let matchers = &selector.matchers;
    let matchers = matchers
        .matchers
        .iter()
        .chain(matchers.or_matchers.iter().flatten());
    asked.wanted.insert(Wanted {
        name: name.clone(),
        labels: matchers.map(|matcher| matcher.name.clone()).collect(),
    });
    Ok(BTreeSet::from([name.clone()]))
}

fn share(labels: &[String], metrics: &BTreeSet<String>, asked: &mut Asked) {
    asked.shared.extend(labels.iter().map(|label| Shared {
        label: label.clone(),
        metrics: metrics.clone(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn wanted(name: &str, labels: &[&str]) -> Wanted {
        Wanted {
            name: name.to_owned(),
            labels: names(labels),
        }
    }

    fn shared(label: &str, metrics: &[&str]) -> Shared {
        Shared {
            label: label.to_owned(),
            metrics: names(metrics),
        }
    }

    #[test]
    fn metrics_and_labels_are_found_and_nothing_else() {
        for (expression, wants, shares) in [
            ("up == 0", vec![wanted("up", &[])], vec![]),
            (
                r#"sum by (job, le) (rate(a_bucket{b="x}",c!~"d=e"}[5m]))"#,
                vec![wanted("a_bucket", &["b", "c"])],
                vec![shared("job", &["a_bucket"]), shared("le", &["a_bucket"])],
            ),
            (
                "max(job:a:rate5m) / on (i) group_left () b_total offset 5m",
                vec![wanted("job:a:rate5m", &[]), wanted("b_total", &[])],
                vec![shared("i", &["job:a:rate5m"]), shared("i", &["b_total"])],
            ),
            (
                "histogram_quantile(0.99, sum(rate(x[1m])) by (le)) > bool 1e3",
                vec![wanted("x", &[])],
                vec![shared("le", &["x"])],
            ),
            ("count(a == 0) or vector(0)", vec![wanted("a", &[])], vec![]),
        ] {
            let expected = Asked {
                wanted: wants.into_iter().collect(),
                shared: shares.into_iter().collect(),
            };
            assert_eq!(asked(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_or_names_nothing_is_refused() {
        for expression in ["sum(up", "rate(up)", "up{job=}", "", r#"{job="a"}"#] {
            assert!(asked(expression).is_err(), "{expression}");
        }
    }
}
