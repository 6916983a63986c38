//! What an owner takes from its queue.

use tokio::sync::Semaphore;

use super::*;
use crate::shard::{
    store::Opening,
    tests::{OWNER, create_request},
};

type Heard = oneshot::Receiver<Result<Accepted, Refused>>;

fn task(since: Instant) -> (Task, Heard) {
    let mut request = create_request(OWNER);
    let span = CommandSpan::begin(&mut request, Topic::Orders, 0);
    let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let work = Work {
        request,
        room: room.into(),
        span,
    };
    let (reply, heard) = oneshot::channel();
    let task = Task::Command {
        work: Arc::new(Mutex::new(Some(work))),
        id: CommandId(uuid::Uuid::from_u128(7)),
        since,
        reply,
    };
    (task, heard)
}

fn taken(task: Task) -> Batch {
    let dir = tempfile::tempdir().unwrap();
    let mut state = ShardState::open(dir.path(), 0, 1, Opening::Checked, 1 << 20).unwrap();
    let mut batch = Batch::default();
    batch.take(task, &mut state).unwrap();
    batch
}

#[test]
fn a_command_that_somebody_waits_for_is_decided() {
    let (task, _heard) = task(Instant::now());
    assert_eq!(taken(task).events.len(), 1);
}

#[test]
fn a_command_that_nobody_waits_for_any_more_is_not_done() {
    let (task, heard) = task(Instant::now());
    drop(heard);
    assert!(taken(task).events.is_empty());
}

#[test]
fn a_command_that_has_waited_too_long_is_not_done_and_that_is_said() {
    let (task, mut heard) = task(Instant::now() - COMMAND_DEADLINE);
    assert!(taken(task).events.is_empty());
    let told = heard.try_recv().unwrap();
    assert_eq!(told.unwrap_err(), Refused::Unavailable(Why::TooLate));
}
