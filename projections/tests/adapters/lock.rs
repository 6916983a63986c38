//! One rebuild of a read model at a time.

use projections::{
    lock::{LockError, RebuildLock},
    model::Model,
};

use crate::world::Users;

#[tokio::test]
async fn a_second_rebuild_is_refused_and_told_who_is_at_it() {
    let users = Users::unprepared().await;
    let mut first = RebuildLock::take(&users.pool, Model::Users).await.unwrap();
    let second = RebuildLock::take(&users.pool, Model::Users).await;
    let Err(LockError::Held { holder, .. }) = second else {
        panic!("two rebuilds at once")
    };
    assert!(
        holder.contains(&format!("process {}", std::process::id())),
        "{holder}"
    );
    RebuildLock::take(&users.pool, Model::Orders)
        .await
        .expect("another model is free");
    first.confirm().await.unwrap();
    drop(first);
    // Postgres notices the closed connection in its own time.
    let free = async { while RebuildLock::take(&users.pool, Model::Users).await.is_err() {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), free)
        .await
        .expect("the lock goes with its holder");
}
