//! Holds the state stores of a node against the log: each must equal the fold of the log up to the place that it names.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::{Context, bail, ensure};
use event_log::{KafkaSettings, Recorded, Schemas, replay::replay_shard, topics};
use time::OffsetDateTime;

use super::{
    known::Known,
    state::ShardState,
    store::{LastEvent, Opening, Reflected, Store},
};

/// Memory for the fold, besides what is not written yet.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Events between two hand-overs of the fold to its file.
const TOGETHER: u64 = 10_000;
/// Differences that are told of a shard at most.
const DIFFERENCES_MAX: usize = 10;

/// Compares every store in `dir`, of a node that does not run, with the log, and prints what it finds. Fails when one
/// differs, or there is none.
pub async fn verify(kafka: KafkaSettings, dir: PathBuf) -> anyhow::Result<()> {
    let schemas = Arc::new(Schemas::load(&kafka).await.context("schemas")?);
    let shards = topics::partition_count(&kafka).await?;
    let checked = tokio::task::spawn_blocking(move || {
        let (mut found, mut different) = (0, 0);
        for shard in 0..shards {
            let Some(store) = Store::of(&dir, shard, shards)? else {
                continue;
            };
            found += 1;
            let fold = Fold {
                kafka: &kafka,
                schemas: &schemas,
                shard,
                shards,
            };
            let differences = fold.differences(&store);
            let differences = differences.with_context(|| format!("shard {shard}"))?;
            different += usize::from(!differences.is_empty());
            for difference in differences {
                println!("shard {shard}: {difference}");
            }
        }
        anyhow::Ok((found, different, dir))
    });
    let (found, different, dir) = checked.await??;
    if found == 0 {
        bail!("no state store in {}", dir.display());
    }
    ensure!(
        different == 0,
        "{different} of {found} stores differ from the log: delete them, they are made anew"
    );
    println!("{found} stores equal the log");
    Ok(())
}

/// What the log says of a shard.
struct Fold<'a> {
    kafka: &'a KafkaSettings,
    schemas: &'a Arc<Schemas>,
    shard: u16,
    shards: u16,
}

impl Fold<'_> {
    /// Where `store` is not what the log says.
    fn differences(&self, store: &Store) -> anyhow::Result<Vec<String>> {
        let kept = tempfile::tempdir().context("a directory for the fold")?;
        let (dir, opening) = (kept.path(), Opening::Checked);
        let mut fold = ShardState::open(dir, self.shard, self.shards, opening, CACHE_BYTES)?;
        let reached = self.read(&mut fold, store.reflected())?;
        if reached != *store.reflected() {
            let (named, reached) = (store.reflected(), reached);
            return Ok(vec![format!("it names {named:?}, the log has {reached:?}")]);
        }
        // Then all of it is in its file.
        drop(fold);
        let fold = Store::of(dir, self.shard, self.shards)?;
        compare(store, &fold.context("the file of the fold is gone")?)
    }

    fn read(&self, fold: &mut ShardState, upto: &Reflected) -> anyhow::Result<Reflected> {
        let mut reached = Reflected::new();
        let mut count = 0;
        let apply = |recorded: Recorded| {
            let (place, id) = (recorded.place, recorded.envelope.metadata.event_id);
            let is_reflected = upto
                .get(&place.topic)
                .is_some_and(|last| place.offset <= last.offset);
            if is_reflected {
                fold.apply(recorded.envelope)?;
                let offset = place.offset;
                reached.insert(place.topic, LastEvent { offset, id });
                count += 1;
                if count % TOGETHER == 0 {
                    fold.committed(reached.clone())?;
                }
            }
            anyhow::Ok(())
        };
        let from = BTreeMap::new();
        replay_shard(
            self.kafka,
            self.schemas,
            self.shard,
            &from,
            &mut |_| true,
            apply,
        )?;
        fold.committed(reached.clone())?;
        Ok(reached)
    }
}

/// Goes through both in the order of their names.
fn compare(store: &Store, fold: &Store) -> anyhow::Result<Vec<String>> {
    let mut differences = Vec::new();
    let (mut stored, mut folded) = (store.rows()?, fold.rows()?);
    let (mut one, mut other) = (stored.next().transpose()?, folded.next().transpose()?);
    while differences.len() < DIFFERENCES_MAX {
        let order = match (&one, &other) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(other)) => one.name.cmp(&other.name),
        };
        if order.is_eq() && one != other {
            differences.push(format!("{one:?} instead of {other:?}"));
        }
        if order.is_lt() && one.as_ref().is_some_and(|row| counts(&row.known)) {
            differences.push(format!("{one:?} is not in the log"));
        }
        if order.is_gt() && other.as_ref().is_some_and(|row| counts(&row.known)) {
            differences.push(format!("{other:?} is missing"));
        }
        if order.is_le() {
            one = stored.next().transpose()?;
        }
        if order.is_ge() {
            other = folded.next().transpose()?;
        }
    }
    Ok(differences)
}

/// Records of keys are forgotten in time, in the one file sooner than in the other.
fn counts(known: &Known) -> bool {
    match known {
        Known::Key(record) => record.counts_at(OffsetDateTime::now_utc().into()),
        Known::User(_) | Known::Email(_) | Known::Order(_) => true,
    }
}
