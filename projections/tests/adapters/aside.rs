//! Records that were set aside, in each database.

use projections::{
    aside::{Gap, SetAside},
    store::ReadModel,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::world::{Orders, Users};

pub fn record(partition: u16, offset: i64, gap: Option<Gap>) -> SetAside {
    SetAside {
        partition,
        offset,
        gap,
        error: "no headers".to_owned(),
        reason: "written by hand, \"$where\"".to_owned(),
        operator: "grace".to_owned(),
        // Databases keep microseconds.
        at: OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_234_567),
    }
}

async fn remembers(model: &impl ReadModel) {
    assert_eq!(model.all_set_aside().await.unwrap(), []);
    let gap = Gap {
        stream: Uuid::from_u128(7),
        after: 4,
        version: 5,
    };
    let (first, second, third) = (
        record(0, 1 << 40, None),
        record(3, 9, Some(gap)),
        record(3, 10, None),
    );
    for each in [&third, &first, &second] {
        assert!(model.set_aside(each).await.unwrap());
    }
    let again = SetAside {
        operator: "somebody else".to_owned(),
        ..second.clone()
    };
    assert!(!model.set_aside(&again).await.unwrap());
    assert_eq!(model.all_set_aside().await.unwrap(), [first, second, third]);
}

#[tokio::test]
async fn what_was_set_aside_is_remembered_once_in_the_order_of_the_log() {
    remembers(&Orders::fresh().await.store).await;
    remembers(&Users::fresh().await.store).await;
}
