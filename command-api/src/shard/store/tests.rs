//! The store by itself: what was saved is there again, and what cannot be believed is not.

use std::{
    fs::{File, OpenOptions},
    io::{Seek, SeekFrom, Write},
};

use domain::order;
use events::ids::{OrderId, UserId};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::shard::known::{KeyName, KeyRecord, Outcome, Resource, Versioned};

const SHARD: u16 = 3;
const SHARDS: u16 = 6;

fn order(number: u128) -> (Name, Known) {
    let known = Versioned {
        version: 1,
        state: order::State::NotCreated,
    };
    (
        Name::Order(OrderId(Uuid::from_u128(number))),
        Known::Order(known),
    )
}

fn key(number: u128, at_micros: i64) -> (Name, Known) {
    let name = KeyName {
        caller: Some(UserId(Uuid::from_u128(1))),
        resource: Resource::Orders,
        key: format!("key-{number}"),
    };
    let record = KeyRecord {
        at: Timestamp::from_micros(at_micros),
        fingerprint: [1; 32],
        outcome: Outcome::Order(Versioned {
            version: 1,
            state: order::State::NotCreated,
        }),
    };
    (Name::Key(name), Known::Key(record))
}

fn reflected(offset: i64) -> Reflected {
    let id = EventId(Uuid::from_u128(5));
    Reflected::from([(Topic::Orders, LastEvent { offset, id })])
}

fn save(store: &Store, known: &[(Name, Known)], offset: i64, now: Option<Timestamp>) {
    let changes: Vec<_> = known.iter().map(|(name, known)| (name, known)).collect();
    store.save(&changes, &reflected(offset), now).unwrap();
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), SHARD, SHARDS, Opening::Checked).unwrap()
}

fn get(store: &Store, (name, _): &(Name, Known)) -> Option<Known> {
    store.reader().unwrap().get(name).unwrap()
}

/// A store with many orders, closed.
fn filled() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(&dir);
    dir
}

fn file(dir: &TempDir) -> File {
    let path = path(dir.path(), SHARD);
    OpenOptions::new().write(true).open(path).unwrap()
}

#[test]
fn what_was_saved_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (order(1), order(2));
    let store = open(&dir);
    assert_eq!(store.reflected(), &Reflected::new());
    save(&store, std::slice::from_ref(&one), 7, None);
    drop(store);
    let store = open(&dir);
    assert_eq!(store.reflected(), &reflected(7));
    assert_eq!(get(&store, &one), Some(one.1));
    assert_eq!(get(&store, &other), None);
}

#[test]
fn a_reader_sees_what_was_saved_when_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let before = store.reader().unwrap();
    save(&store, &[order(1)], 7, None);
    assert_eq!(before.get(&order(1).0).unwrap(), None);
    assert!(get(&store, &order(1)).is_some());
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(&dir);
    let refused = Store::open(dir.path(), SHARD, SHARDS, Opening::Checked).unwrap_err();
    assert!(matches!(refused, StoreError::InUse(_)), "{refused}");
    assert!(!refused.is_damage());
}

#[test]
fn another_number_of_shards_or_another_shard_is_another_store() {
    let dir = filled();
    let other = Store::open(dir.path(), SHARD, SHARDS + 1, Opening::Checked).unwrap();
    assert_eq!(other.reflected(), &Reflected::new());
    assert_eq!(get(&other, &order(1)), None);
}

#[test]
fn another_version_is_another_store() {
    let dir = filled();
    let mut store = open(&dir);
    store.head.version += 1;
    save(&store, &[], 7, None);
    drop(store);
    assert_eq!(open(&dir).reflected(), &Reflected::new());
}

#[test]
fn a_file_that_was_cut_off_is_thrown_away() {
    let dir = filled();
    let length = file(&dir).metadata().unwrap().len();
    for left in [0, 1, 100, 4_096, length / 2, length - 1] {
        file(&dir).set_len(left).unwrap();
        assert_eq!(
            open(&dir).reflected(),
            &Reflected::new(),
            "{left} bytes left"
        );
        fill(&dir);
    }
}

#[test]
fn a_file_with_other_bytes_in_it_is_thrown_away_or_whole() {
    let dir = filled();
    let length = file(&dir).metadata().unwrap().len();
    for place in (0..length).step_by(4_096) {
        let mut damaged = file(&dir);
        damaged.seek(SeekFrom::Start(place + 40)).unwrap();
        damaged.write_all(&[0xa5; 64]).unwrap();
        drop(damaged);
        let store = open(&dir);
        // Where it hit nothing that counts, nothing is missing.
        if store.reflected() == &reflected(7) {
            let reader = store.reader().unwrap();
            for number in 0..5_000 {
                let (name, known) = order(number);
                assert_eq!(
                    reader.get(&name).unwrap(),
                    Some(known),
                    "damaged at {place}"
                );
            }
        }
        drop(store);
        fill(&dir);
    }
}

/// Fills the store anew.
fn fill(dir: &TempDir) {
    let orders: Vec<_> = (0..5_000).map(order).collect();
    throw_away(dir.path(), SHARD, &"it is filled anew").unwrap();
    save(&open(dir), &orders, 7, None);
}

#[test]
fn records_of_keys_are_forgotten_and_others_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let (old, young) = (key(1, 0), key(2, 1_000));
    save(&store, &[old.clone(), young.clone()], 1, None);
    // A key that was used again keeps the record of its second use.
    let (twice, again) = (key(3, 0), key(3, 2_000));
    save(&store, &[twice], 2, None);
    save(&store, std::slice::from_ref(&again), 3, None);
    let now = Timestamp::from_micros(KEY_KEPT_MICROS + 500);
    save(&store, &[], 4, Some(now));
    assert_eq!(get(&store, &old), None);
    assert_eq!(get(&store, &young), Some(young.1));
    assert_eq!(get(&store, &again), Some(again.1));
}
