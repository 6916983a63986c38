//! What an event costs to write and to read, beside the way that goes through generic Avro values.
//! `cargo bench -p events`
#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic")]

#[path = "../tests/samples/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod samples;

use apache_avro::Schema;
use divan::{Bencher, black_box};
use events::{
    Event, EventType,
    codec::{self, WriterSchema},
};

fn main() {
    divan::main();
}

#[divan::bench]
fn write(bencher: Bencher<'_, '_>) {
    let event = samples::sample(EventType::OrderCreated);
    bencher.bench(|| codec::encode(black_box(&event), 7, Vec::with_capacity(512)));
}

#[divan::bench]
fn write_through_generic_values(bencher: Bencher<'_, '_>) {
    let schema = Schema::parse_str(EventType::OrderCreated.schema_json()).unwrap();
    let Event::OrderCreated(fact) = samples::sample(EventType::OrderCreated) else {
        return;
    };
    bencher.bench(|| {
        let value = apache_avro::to_value(black_box(&fact))
            .and_then(|value| value.resolve(&schema))
            .unwrap();
        #[expect(deprecated, reason = "the naive way is what is measured")]
        apache_avro::to_avro_datum(&schema, value).unwrap()
    });
}

#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let event = samples::sample(EventType::OrderCreated);
    let bytes = codec::encode(&event, 7, Vec::new()).unwrap();
    let writer: WriterSchema = EventType::OrderCreated.schema_json().parse().unwrap();
    bencher.bench(|| {
        codec::decode(
            EventType::OrderCreated,
            black_box(&writer),
            black_box(&bytes),
        )
    });
}
