//! What correctness rests on in Kafka: a node that finds it otherwise does not begin, or ends, and says how it is mended.

use std::time::Duration;

use end_to_end::{alone, eventually, own_stack::OwnStack};
use events::Topic;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
};

const NODE: &str = "command-api-1";
/// As `command-api prepare` makes a topic.
const AS_MADE: [(&str, &str); 5] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("max.message.bytes", "2097152"),
    ("min.insync.replicas", "1"),
];
const NOT_NEEDED: [&str; 4] = ["gateway", "notifier", "projections", "mongodb"];
/// A node asks every 5 s how many partitions there are.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Somebody who may alter topics.
struct Operator(AdminClient<DefaultClientContext>);

impl Operator {
    fn of(kafka: &str) -> Self {
        let client = ClientConfig::new().set("bootstrap.servers", kafka).create();
        Self(client.expect("a client"))
    }

    /// Sets a topic's settings to how they are made, but for one.
    async fn sets(&self, topic: Topic, (name, value): (&str, &str)) {
        let resource = ResourceSpecifier::Topic(topic.name());
        let made = AS_MADE.into_iter().filter(|(made, _)| *made != name);
        let altered = made
            .chain([(name, value)])
            .fold(AlterConfig::new(resource), |all, (name, value)| {
                all.set(name, value)
            });
        let altered = self.0.alter_configs([&altered], &AdminOptions::new()).await;
        for each in altered.expect("an answer") {
            each.expect("altered");
        }
    }

    async fn adds_a_partition(&self, topic: Topic, now: usize) {
        let more = NewPartitions::new(topic.name(), now);
        let made = self.0.create_partitions([&more], &AdminOptions::new());
        for each in made.await.expect("an answer") {
            each.expect("made");
        }
    }
}

#[test]
fn a_topic_that_is_not_as_it_must_be_stops_a_node_which_says_how_to_mend_it() {
    alone(async {
        let own = OwnStack::without("topic-facts", &NOT_NEEDED).await;
        let environment = own.environment().await;
        let operator = Operator::of(&environment["KAFKA_BOOTSTRAP_SERVERS"]);
        own.works(&["stop", NODE]).await;
        for (topic, name, wrong, right) in [
            (Topic::Orders, "retention.ms", "86400000", "-1"),
            (Topic::Users, "cleanup.policy", "compact", "delete"),
            (Topic::Orders, "max.message.bytes", "1000000", "2097152"),
            (Topic::Users, "min.insync.replicas", "2", "1"),
        ] {
            operator.sets(topic, (name, wrong)).await;
            let said = own.run(&["start", NODE]).await;
            let said = said.expect_err("a node that began");
            let topic_name = topic.name();
            for part in [
                format!("topic {topic_name} has {name}={wrong}, which "),
                format!("kafka-configs --alter --topic {topic_name} --add-config {name}={right}"),
            ] {
                assert!(said.contains(&part), "no {part:?} in {said}");
            }
            operator.sets(topic, (name, right)).await;
        }
        own.works(&["start", NODE]).await;

        // Ids would be looked for in partitions where they are not.
        operator.adds_a_partition(Topic::Orders, 7).await;
        let gone = "topic orders has 7 partitions and had 6";
        eventually("the node to end", NOTICED_WITHIN, async || {
            let status = own.works(&["status"]).await;
            let of_node = status.lines().find(|line| line.starts_with(NODE));
            match of_node {
                Some(line) if line.contains("running") => Err(line.to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        let said = own.works(&["logs", NODE]).await;
        assert!(said.contains(gone), "no {gone:?} in {said}");
        let said = own.run(&["start", NODE]).await;
        let said = said.expect_err("a node that began");
        let differ = "the topics must have the same number of partitions";
        assert!(said.contains(differ), "no {differ:?} in {said}");
    });
}
