//! What holds for the generations of every read model.

use projections::{
    model::{Generation, Stage},
    store::{ReadModel, StoreError},
};

use crate::world::{KEPT, LIVE, Orders, Users};

async fn stages(model: &impl ReadModel) -> Vec<(Generation, Stage)> {
    let known = model.generations().await.unwrap();
    known
        .into_iter()
        .map(|each| (each.generation, each.stage))
        .collect()
}

async fn swap(model: &impl ReadModel, from: Generation, to: Generation) -> Result<(), StoreError> {
    model.swap(Some(from), to, KEPT).await
}

async fn refuses_swaps(model: &impl ReadModel) {
    let (first, second) = (
        model.begin_generation().await.unwrap(),
        model.begin_generation().await.unwrap(),
    );
    swap(model, LIVE, second).await.unwrap();
    for (from, to) in [(LIVE, first), (second, Generation(9))] {
        let refused = swap(model, from, to).await;
        assert!(matches!(refused, Err(StoreError::Gone(..))), "{refused:?}");
    }
    let refused = model.swap(None, first, KEPT).await;
    assert!(matches!(refused, Err(StoreError::Gone(..))), "{refused:?}");
    let known = stages(model).await;
    assert!(
        matches!(
            known.as_slice(),
            [
                (_, Stage::Kept { .. }),
                (_, Stage::Filling { .. }),
                (_, Stage::Live { .. })
            ]
        ),
        "a swap that is refused changes nothing: {known:?}"
    );
    let refused = model.drop_generation(second).await;
    assert!(
        matches!(refused, Err(StoreError::IsLive(..))),
        "{refused:?}"
    );
    assert_eq!(model.live().await.unwrap(), second);
}

#[tokio::test]
async fn a_swap_from_what_is_not_live_or_to_what_is_not_there_is_refused() {
    refuses_swaps(&Orders::fresh().await.store).await;
    refuses_swaps(&Users::fresh().await.store).await;
}

async fn keeps_what_was_live(model: &impl ReadModel) {
    let next = model.begin_generation().await.unwrap();
    swap(model, LIVE, next).await.unwrap();
    let known = stages(model).await;
    assert!(
        matches!(
            known.as_slice(),
            [
                (
                    LIVE,
                    Stage::Kept {
                        rest_s: 58..=60,
                        ..
                    }
                ),
                (
                    _,
                    Stage::Live {
                        followed_ago_s: 0..=2
                    }
                ),
            ]
        ),
        "{known:?}"
    );
    swap(model, next, LIVE).await.unwrap();
    let known = stages(model).await;
    assert!(
        matches!(
            known.as_slice(),
            [(LIVE, Stage::Live { .. }), (_, Stage::Kept { .. })]
        ),
        "{known:?}"
    );
    model.drop_generation(next).await.unwrap();
    assert_eq!(model.live().await.unwrap(), LIVE);
    assert_eq!(
        model.begin_generation().await.unwrap(),
        Generation(3),
        "no number twice"
    );
    let known = stages(model).await;
    assert!(
        matches!(
            known.as_slice(),
            [.., (Generation(3), Stage::Filling { begun_ago_s: 0..=2 })]
        ),
        "{known:?}"
    );
}

#[tokio::test]
async fn what_was_live_is_kept_and_can_be_gone_back_to() {
    keeps_what_was_live(&Orders::fresh().await.store).await;
    keeps_what_was_live(&Users::fresh().await.store).await;
}
