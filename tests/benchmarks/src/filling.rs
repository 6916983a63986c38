//! Filling the log quickly: orders as the command-api records them, written past it while it is stopped.

use std::sync::Arc;

use anyhow::Context;
use event_log::{Schemas, topics::end_positions, writer::ShardWriter};
use events::{
    Actor, Envelope, Event, Idempotency, Metadata, Topic,
    currency::Currency,
    ids::{CommandId, CorrelationId, CredentialId, EmailHash, EventId, OrderId, UserId},
    order::{OrderCreated, OrderLine},
    partition::partition_of,
    sealed::Sealed,
    timestamp::Timestamp,
    user::{Role, UserRegistered},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    bench::{Bench, NODE, say},
    reading,
};

/// An address and a name, sealed.
const EMAIL_BYTES: usize = 60;
const NAME_BYTES: usize = 50;
/// Orders in one transaction.
const BATCH: u64 = 2_000;
const SOURCE: &str = "/orderlog/command-api";

/// Sees to it that the log holds at least `wanted` orders. The command-api is stopped meanwhile, and started again.
pub async fn fill(bench: &mut Bench, wanted: u64) -> anyhow::Result<u64> {
    bench.register_orderers().await?;
    bench.stack.stop(NODE)?;
    let there = write(bench, wanted).await;
    let starting = bench.stack.start(NODE)?;
    bench.stack.started(starting)?;
    there
}

/// The same while the command-api is stopped. How many orders there are now.
pub async fn write(bench: &Bench, wanted: u64) -> anyhow::Result<u64> {
    // Blocking this thread is fine: nothing else of this program runs meanwhile.
    let there = reading::count_only(&bench.settings.kafka, bench.partitions)?.events;
    let missing = wanted.saturating_sub(there);
    if missing > 0 {
        say(&format!("writing {missing} orders"));
    }
    let shards = bench.partitions;
    let written = append(bench, missing, |customer, shard| {
        order(customer, shard, shards)
    });
    Ok(there + written.await?)
}

/// Sees to it that the log holds at least `wanted` users. The command-api is stopped meanwhile, and started again.
pub async fn fill_users(bench: &mut Bench, wanted: u64) -> anyhow::Result<()> {
    let there: i64 = end_positions(&bench.settings.kafka, Topic::Users)
        .await?
        .values()
        .sum();
    let missing = wanted.saturating_sub(there.unsigned_abs());
    if missing == 0 {
        return Ok(());
    }
    say(&format!("writing {missing} users"));
    bench.register_orderers().await?;
    bench.stack.stop(NODE)?;
    let shards = bench.partitions;
    let written = append(bench, missing, |_, shard| user(shard, shards)).await;
    let starting = bench.stack.start(NODE)?;
    bench.stack.started(starting)?;
    written.map(drop)
}

/// An order that was written under a key.
pub struct Named {
    /// Whose it is.
    pub customer: UserId,
    /// The key.
    pub key: String,
}

/// Writes `count` orders, each under a key, of requests with this fingerprint, while the command-api is stopped. Returns how
/// many there are, and every so many of them.
pub async fn write_named(
    bench: &Bench,
    count: u64,
    fingerprint: [u8; 32],
    every: u64,
) -> anyhow::Result<(u64, Vec<Named>)> {
    say(&format!("writing {count} orders with keys"));
    let (shards, mut some, mut made) = (bench.partitions, Vec::new(), 0_u64);
    let written = append(bench, count, |customer, shard| {
        let mut envelope = order(customer, shard, shards)?;
        let key = key_on(customer, shard, shards);
        if made.is_multiple_of(every) {
            some.push(Named {
                customer,
                key: key.clone(),
            });
        }
        made += 1;
        envelope.metadata.idempotency = Some(Idempotency { key, fingerprint });
        Ok(envelope)
    });
    let written = written.await?;
    Ok((written, some))
}

/// A new key of this customer that falls on `shard`, as the command-api spreads them.
fn key_on(customer: UserId, shard: u16, shards: u16) -> String {
    loop {
        let key = Uuid::now_v7().to_string();
        if partition_of(format!("{customer} {key}").as_bytes(), shards) == shard {
            return key;
        }
    }
}

/// Appends at least `count` orders, as many on each shard. How many they were.
async fn append(
    bench: &Bench,
    count: u64,
    mut make: impl FnMut(UserId, u16) -> anyhow::Result<Envelope>,
) -> anyhow::Result<u64> {
    let (kafka, partitions) = (&bench.settings.kafka, bench.partitions);
    let customers: Vec<UserId> = bench.accounts.iter().map(|account| account.id).collect();
    let schemas: Arc<Schemas> = Schemas::load(kafka).await?;
    let share = count.div_ceil(partitions.into());
    for partition in 0..partitions {
        let mut writer = ShardWriter::open(kafka, Arc::clone(&schemas), partition)?;
        let mut customers = customers.iter().cycle();
        let mut left = share;
        while left > 0 {
            let batch = (0..left.min(BATCH)).map(|_| {
                let customer = customers.next().context("nobody is registered")?;
                make(*customer, partition)
            });
            let batch = batch.collect::<anyhow::Result<Vec<_>>>()?;
            std::thread::sleep(writer.rest());
            writer.append(&batch)?;
            left -= batch.len() as u64;
        }
    }
    Ok(share * u64::from(partitions))
}

/// A new id on this shard.
fn id_on(shard: u16, shards: u16) -> Uuid {
    let mut text = Uuid::encode_buffer();
    loop {
        let id = Uuid::now_v7();
        if partition_of(id.hyphenated().encode_lower(&mut text).as_bytes(), shards) == shard {
            return id;
        }
    }
}

/// The first event of a stream, as the command-api would record it for this user.
fn first(user: UserId, event: Event, now: Timestamp) -> Envelope {
    let command_id = CommandId(Uuid::now_v7());
    Envelope {
        metadata: Metadata {
            event_id: EventId::derived(command_id, 0),
            source: SOURCE.to_owned(),
            time: now,
            version: 1,
            command_id,
            correlation_id: CorrelationId(Uuid::now_v7()),
            causation_id: command_id.0,
            actor: Actor::User(user, Role::User),
            idempotency: None,
            traceparent: None,
        },
        event,
    }
}

/// A registration on this shard, with as much personal data as people have.
fn user(shard: u16, shards: u16) -> anyhow::Result<Envelope> {
    let user_id = UserId(id_on(shard, shards));
    let now = Timestamp::from(OffsetDateTime::now_utc());
    let sealed = |bytes: usize| {
        let of_this = user_id.0.as_bytes().iter().copied();
        Sealed::from_bytes(of_this.cycle().take(bytes).collect())
    };
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(user_id.0.as_bytes())
        .for_each(|(to, from)| *to = *from);
    let event = Event::UserRegistered(UserRegistered {
        user_id,
        email: sealed(EMAIL_BYTES),
        email_hash: EmailHash(hash),
        name: sealed(NAME_BYTES),
        phone: None,
        locale: "en-GB".to_owned(),
        role: Role::User,
        credential_id: CredentialId(Uuid::now_v7()),
        occurred_at: now,
    });
    Ok(first(user_id, event, now))
}

/// The order that the load sends, as the command-api would record it on this shard.
fn order(customer: UserId, shard: u16, shards: u16) -> anyhow::Result<Envelope> {
    let order_id = OrderId(id_on(shard, shards));
    let now = Timestamp::from(OffsetDateTime::now_utc());
    let line = |sku: &str, name: &str, quantity: i32, unit_price_minor: i64| OrderLine {
        sku: sku.to_owned(),
        name: Some(name.to_owned()),
        quantity,
        unit_price_minor,
        amount_minor: unit_price_minor * i64::from(quantity),
    };
    let lines = vec![
        line("TEA-0001", "Darjeeling, first flush, 250 g", 2, 1_250),
        line("CUP-0042", "Cup with saucer, white", 6, 795),
        line("POT-0007", "Teapot, cast iron, 1.2 l", 1, 4_900),
    ];
    let currency: Currency = "EUR".parse()?;
    let event = Event::OrderCreated(OrderCreated {
        order_id,
        customer_id: customer,
        currency,
        total_minor: lines.iter().map(|line| line.amount_minor).sum(),
        lines,
        shipping_address: None,
        note: None,
        attributes: "{}".to_owned(),
        occurred_at: now,
    });
    Ok(first(customer, event, now))
}
