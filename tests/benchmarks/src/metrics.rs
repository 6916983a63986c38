//! What a service says of itself under /metrics.

use anyhow::ensure;

use crate::http::{Connection, request};

/// The series of one scrape.
#[derive(Debug, Default)]
pub struct Metrics(Vec<Series>);

#[derive(Debug)]
struct Series {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    /// Asks a service.
    pub async fn of(address: &str) -> anyhow::Result<Self> {
        let mut connection = Connection::open(address).await?;
        let answer = connection
            .exchange(&request("GET", "/metrics", &[], ""))
            .await?;
        ensure!(answer.status == 200, "/metrics: {}", answer.status);
        Ok(Self::parse(std::str::from_utf8(answer.body)?))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Series {
                name: name.to_owned(),
                labels: labels.trim_end_matches('}').to_owned(),
                value: value.parse().ok()?,
            })
        });
        Self(series.collect())
    }

    /// The sum over all series of this name.
    pub fn sum(&self, name: &str) -> f64 {
        let named = self.0.iter().filter(|series| series.name == name);
        named.map(|series| series.value).sum()
    }

    /// The values of a label for which the series of this name are not zero.
    pub fn where_set(&self, name: &str, label: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|series| series.name == name);
        named
            .filter(|series| series.value > 0.0)
            .filter_map(|series| {
                let (_, rest) = series.labels.split_once(label)?;
                rest.strip_prefix("=\"")?.split('"').next()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_and_their_labels_read() {
        let metrics = Metrics::parse(
            "# TYPE a gauge\na{shard=\"0\"} 1\na{shard=\"1\"} 0\na{shard=\"4\"} 1\nb_sum 2.5\n",
        );
        assert_eq!(metrics.sum("a"), 2.0);
        assert_eq!(metrics.where_set("a", "shard"), ["0", "4"]);
        assert_eq!(metrics.sum("b_sum"), 2.5);
    }
}
