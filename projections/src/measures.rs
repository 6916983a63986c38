//! What this service measures: every name with its meaning, entered at zero when the process starts, so that a first
//! increase is seen as one.

use std::time::Duration;

use event_log::lag::Lag;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::model::{Generation, Model};

const EVENTS: &str = "projections_events_total";
const ROUND: &str = "projections_round_duration_seconds";
const HALTED: &str = "projections_halted_partitions";
const WAIT: &str = "projections_query_wait_seconds";
const LOOKUP: &str = "projections_lookup_duration_seconds";
const OWN: &str = "projections_own_partitions";
const SET_ASIDE: &str = "projections_set_aside_records";
const POSITION: &str = "projections_position";
const LAG_EVENTS: &str = "projections_lag_events";
const LAG_SECONDS: &str = "projections_lag_seconds";
const GENERATION: &str = "projections_live_generation";
const GENERATION_BEGUN: &str = "projections_last_generation";
const PROGRESS: &str = "projections_rebuild_progress_ratio";
const REBUILD_RECORDS: &str = "projections_rebuild_records";

/// Enters everything; to be called once the recorder was started.
pub fn enter() {
    describe_counter!(EVENTS, Unit::Count, "Events applied to a read model.");
    describe_histogram!(
        ROUND,
        Unit::Seconds,
        "How long writing one round of events took."
    );
    describe_histogram!(
        WAIT,
        Unit::Seconds,
        "How long queries with a consistency token waited, by whether the read model got there in time."
    );
    describe_histogram!(
        LOOKUP,
        Unit::Seconds,
        "How long reading events of one order from the log took, for its history or a former state, by outcome."
    );
    for (name, meaning) in [
        (
            HALTED,
            "Partitions that stopped at a record; nothing behind it is applied.",
        ),
        (
            OWN,
            "Partitions that this process follows; processes of one version share them out.",
        ),
        (
            SET_ASIDE,
            "Records that an operator has set aside; the read model goes on as if they were not in the log.",
        ),
        (
            POSITION,
            "The next offset that the served generation will read.",
        ),
        (
            LAG_EVENTS,
            "Records from there to the end of the log; transaction markers count.",
        ),
        (
            GENERATION,
            "The number of the generation that queries are answered from.",
        ),
        (
            GENERATION_BEGUN,
            "The number of the generation that is being filled, or was by a rebuild that was interrupted; else of the live one.",
        ),
        (
            PROGRESS,
            "How much of the log the generation holds that is being filled; 1 when there is none.",
        ),
        (
            REBUILD_RECORDS,
            "Records of the log up to where the generation is that is being filled; 0 when there is none. Its increase is the rate.",
        ),
    ] {
        describe_gauge!(name, Unit::Count, meaning);
    }
    describe_gauge!(
        LAG_SECONDS,
        Unit::Seconds,
        "How long the log has held the first record that was not applied."
    );
    for model in Model::ALL {
        counter!(EVENTS, "model" => model.name()).absolute(0);
        drop(histogram!(ROUND, "model" => model.name()));
        halted(model, 0);
        set_aside(model, 0);
        own(model, 0);
    }
    for outcome in ["reached", "not_reached"] {
        drop(histogram!(WAIT, "outcome" => outcome));
    }
    for outcome in ["found", "failed"] {
        drop(histogram!(LOOKUP, "outcome" => outcome));
    }
}

/// One round was written.
pub fn round(model: Model, events: usize, took: Duration) {
    histogram!(ROUND, "model" => model.name()).record(took);
    counter!(EVENTS, "model" => model.name()).increment(events as u64);
}

/// So many partitions of a read model stand still.
pub fn halted(model: Model, partitions: usize) {
    gauge!(HALTED, "model" => model.name()).set(partitions as f64);
}

/// So many partitions are this process' own.
pub fn own(model: Model, partitions: usize) {
    gauge!(OWN, "model" => model.name()).set(partitions as f64);
}

/// So many records are set aside.
pub fn set_aside(model: Model, records: usize) {
    gauge!(SET_ASIDE, "model" => model.name()).set(records as f64);
}

/// A query has waited for its consistency token.
pub fn waited(is_reached: bool, took: Duration) {
    let outcome = if is_reached { "reached" } else { "not_reached" };
    histogram!(WAIT, "outcome" => outcome).record(took);
}

/// Events of an order were read from the log, or could not be.
pub fn looked_up(is_found: bool, took: Duration) {
    let outcome = if is_found { "found" } else { "failed" };
    histogram!(LOOKUP, "outcome" => outcome).record(took);
}

/// How far the served generation is.
pub fn lag(model: Model, lag: Lag) {
    let set = |name: &'static str, value: f64| {
        gauge!(name, "model" => model.name(), "partition" => lag.partition.to_string()).set(value);
    };
    set(POSITION, lag.position as f64);
    set(LAG_EVENTS, lag.records as f64);
    set(LAG_SECONDS, lag.delay.as_secs_f64());
}

/// How far the generation is that is being filled: records, and of all that there are how many.
pub fn rebuild(model: Model, records: i64, progress: f64) {
    gauge!(REBUILD_RECORDS, "model" => model.name()).set(records as f64);
    gauge!(PROGRESS, "model" => model.name()).set(progress);
}

/// Which generations there are.
pub fn generations(model: Model, live: Generation, filling: Option<Generation>) {
    gauge!(GENERATION, "model" => model.name()).set(live.0);
    gauge!(GENERATION_BEGUN, "model" => model.name()).set(filling.unwrap_or(live).0);
}
