//! What is lost, late or doubled between a command node and Kafka, in the middle of a transaction: whatever the node
//! was told of it, it answers what the log says, or that it does not know.

use std::time::Duration;

use end_to_end::{
    alone,
    client::{Client, Intent},
    environment::{command_url, kafka, node_url},
    eventually,
    facts::{nothing_is_wrong, weigh},
    history::{History, IfMatch, Shown},
    kafka_proxy::{KafkaProxy, Kind, Rule},
    nodes::shared_out,
    people::{User, registered_user, unique},
    proxied::ProxiedNode,
    stack::{BACK_WITHIN, counter, ready, stack},
    stranger::Stranger,
    workload::{Ended, Workload, customers},
};
use event_log::topics::partition_count;
use events::{Topic, partition::partition_of};

const CLIENTS: usize = 8;
/// Commands that are acknowledged before and after something is broken.
const COMMANDS: usize = 100;
/// How many commands of a kind are sent at once, so that they meet in a batch.
const TOGETHER: usize = 8;
/// How often in a row the same thing goes wrong.
const TIMES: usize = 3;
/// A commit that is held is given up after 6 s; who waits for it, waits longer than this.
const COMMIT_HELD: Duration = Duration::from_secs(5);
/// How long the network is away: once shorter than a session, once longer.
const CUT: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(8);
/// How long a node is watched that must not serve yet.
const WATCHED: Duration = Duration::from_secs(3);

/// Breaks something between a node and Kafka while clients are at work, and calls the judge.
async fn survives(breaks: impl AsyncFnOnce(&ProxiedNode, &Workload)) -> Ended {
    let customers = customers(CLIENTS).await;
    let node = ProxiedNode::start().await;
    let workload = Workload::of(customers, vec![node.url()]).await;
    workload.acknowledges(COMMANDS).await;
    breaks(&node, &workload).await;
    node.proxy.mend();
    workload.acknowledges(COMMANDS).await;
    let ended = workload.end().await;
    ended.log_holds_what_was_told().await;
    ended
}

/// The next commit is held until its owner gives it up, and fences himself with a new writer.
async fn gives_a_commit_up(proxy: &KafkaProxy) {
    let opened = proxy.seen(Kind::InitProducerId);
    proxy.set(Kind::EndTxn, Rule::Hold);
    proxy.meets(Kind::EndTxn, 1).await;
    proxy.sees(Kind::InitProducerId, opened + 1).await;
    proxy.pass(Kind::EndTxn);
}

#[test]
fn without_a_fault_the_log_holds_what_was_told() {
    alone(survives(async |_, _| {}));
}

#[test]
fn a_commit_that_arrives_long_after_it_was_given_up_changes_nothing() {
    alone(survives(async |node, workload| {
        gives_a_commit_up(&node.proxy).await;
        workload.acknowledges(COMMANDS).await;
        node.proxy.deliver();
    }));
}

#[test]
fn what_was_done_without_an_answer_is_answered_from_the_log() {
    alone(survives(async |node, workload| {
        let proxy = &node.proxy;
        for kind in [Kind::EndTxn, Kind::Produce] {
            let (opened, met) = (proxy.seen(Kind::InitProducerId), proxy.met(kind));
            proxy.set(kind, Rule::LoseAnswers);
            proxy.meets(kind, met + 1).await;
            proxy.sees(Kind::InitProducerId, opened + 1).await;
            proxy.pass(kind);
            workload.acknowledges(COMMANDS / 2).await;
        }
    }));
}

#[test]
fn a_command_without_a_key_is_told_what_the_log_says_and_not_done_again() {
    alone(async {
        let (user, history) = (registered_user().await, History::default());
        let node = ProxiedNode::start().await;
        let client = Client::of(&user, &[node.url()], &history);
        let proxy = &node.proxy;
        for _ in 0..TIMES {
            let met = proxy.met(Kind::EndTxn);
            proxy.set(Kind::EndTxn, Rule::LoseAnswers);
            let heard_again = async {
                proxy.meets(Kind::EndTxn, met + 1).await;
                proxy.pass(Kind::EndTxn);
            };
            let create = Intent::create(&unique("sku-"));
            tokio::join!(client.does(&create), heard_again);
        }
        nothing_is_wrong(&weigh(&history.calls()).await);
    });
}

#[test]
fn connections_that_break_instead_of_an_answer_lose_and_double_nothing() {
    alone(survives(async |node, workload| {
        let proxy = &node.proxy;
        for kind in [
            Kind::Produce,
            Kind::AddPartitionsToTxn,
            Kind::EndTxn,
            Kind::InitProducerId,
        ] {
            let met = proxy.met(kind);
            proxy.set(kind, Rule::CutInsteadOfAnswer);
            if kind == Kind::InitProducerId {
                // Writers are opened again only where something went wrong.
                proxy.cut();
                proxy.reconnect();
            }
            proxy.meets(kind, met + TIMES).await;
            proxy.pass(kind);
            workload.acknowledges(COMMANDS / 4).await;
        }
    }));
}

#[test]
fn an_owner_that_has_to_read_its_shard_again_makes_clients_wait_and_turns_nobody_away() {
    alone(async {
        let breaks = async |node: &ProxiedNode, workload: &Workload| {
            // What is held never arrives: the owner does not find it in the log.
            gives_a_commit_up(&node.proxy).await;
            workload.acknowledges(COMMANDS).await;
        };
        let ended = survives(breaks).await;
        let turned_away = ended.turned_away_early();
        assert!(turned_away.is_empty(), "{turned_away:?}");
        assert!(ended.done_after(COMMIT_HELD) > 0, "nobody had to wait");
    });
}

#[test]
fn a_network_that_is_cut_or_falls_silent_loses_and_doubles_nothing() {
    alone(survives(async |node, workload| {
        node.proxy.cut();
        tokio::time::sleep(CUT).await; // The fault itself, not the waiting for something.
        node.proxy.mend();
        workload.acknowledges(COMMANDS).await;
        node.proxy.fall_silent();
        tokio::time::sleep(SILENCE).await; // As above.
    }));
}

#[test]
fn a_node_that_is_killed_in_the_middle_of_a_commit_loses_and_doubles_nothing() {
    alone(survives(async |node, workload| {
        let proxy = &node.proxy;
        // The commit is still on its way, and arrives when the successor has written.
        proxy.set(Kind::EndTxn, Rule::Hold);
        proxy.meets(Kind::EndTxn, 1).await;
        node.kill();
        proxy.pass(Kind::EndTxn);
        node.start_again().await;
        workload.acknowledges(COMMANDS).await;
        proxy.deliver();
        workload.acknowledges(COMMANDS).await;
        // It arrived, and nobody was told.
        let met = proxy.met(Kind::EndTxn);
        proxy.set(Kind::EndTxn, Rule::LoseAnswers);
        proxy.meets(Kind::EndTxn, met + 1).await;
        node.kill();
        proxy.pass(Kind::EndTxn);
        node.start_again().await;
    }));
}

/// An order on one of this node's shards.
async fn order_at(node: &Client) -> Shown {
    node.does(&Intent::create(&unique("sku-"))).await
}

/// The update of a new order; it can be sent to both nodes, and only one may do it.
fn update_of(order: &Shown) -> Intent {
    Intent::update(
        order.order,
        &unique("sku-"),
        IfMatch::Version(order.version),
    )
}

#[test]
fn a_node_that_stands_still_in_the_middle_of_a_commit_is_fenced_by_its_successor() {
    alone(async {
        let user = registered_user().await;
        let customers = customers(CLIENTS).await;
        let node = ProxiedNode::start().await;
        stack(&["start", "command-api-2"]).await;
        let nodes = vec![node.url(), node_url(2)];
        let workload = Workload::of(customers, nodes.clone()).await;
        let client = Client::of(&user, &nodes, workload.history());
        let (first, second) = (client.at(&nodes[0]), client.at(&nodes[1]));
        workload.acknowledges(COMMANDS).await;
        let order = order_at(&first).await;
        // Both nodes get the same change; the first one's is on its way to Kafka.
        node.proxy.set(Kind::EndTxn, Rule::Hold);
        let given = update_of(&order);
        let held = tokio::spawn(async move { first.send(&given).await });
        let met = node.proxy.met(Kind::EndTxn);
        node.proxy.meets(Kind::EndTxn, met.max(1)).await;
        node.pause().await;
        second.settle(&update_of(&order)).await;
        for _ in 0..10 {
            second
                .does(&Intent::create(&unique("sku-")).key(&unique("key-")))
                .await;
        }
        node.proxy.deliver();
        node.proxy.mend();
        node.resume().await;
        held.await.expect("a client");
        workload.acknowledges(COMMANDS).await;
        workload.end().await.log_holds_what_was_told().await;
    });
}

#[test]
fn what_is_decided_in_a_batch_is_told_only_when_the_batch_is_committed() {
    alone(async {
        let (user, history) = (registered_user().await, History::default());
        let node = ProxiedNode::start().await;
        let client = Client::of(&user, &[node.url()], &history);
        let order = client.does(&Intent::create(&unique("sku-"))).await;
        let on = |version| {
            let base = IfMatch::Version(version);
            Intent::update(order.order, &unique("sku-"), base)
        };
        // Version 2 is on its way. Whatever comes now looks the order up first, and waits for that. Changes, and refusals of
        // others on their account, meet in two batches, the one that is on its way next and the one that waits for it.
        let others = (0..TOGETHER).flat_map(|_| [on(2), on(3)]).collect();
        meet_without_a_commit(&node, &client, on(1), others).await;
        client.does(&Intent::cancel(order.order)).await;
        nothing_is_wrong(&weigh(&history.calls()).await);
    });
}

#[test]
fn a_repetition_is_answered_only_when_the_first_is_committed() {
    alone(async {
        let (user, history) = (registered_user().await, History::default());
        let node = ProxiedNode::start().await;
        let client = Client::of(&user, &[node.url()], &history);
        let order = client.does(&Intent::create(&unique("sku-"))).await;
        let first = Intent::create(&unique("sku-")).key(&key_beside(&user, &order).await);
        let create = Intent::create(&unique("sku-")).key(&key_beside(&user, &order).await);
        // The shard is busy with one order, and another waits, many times: all that is one batch.
        let others = vec![create.clone(); TOGETHER];
        meet_without_a_commit(&node, &client, first.clone(), others).await;
        client.settle(&first).await;
        client.settle(&create).await;
        nothing_is_wrong(&weigh(&history.calls()).await);
    });
}

/// Holds the commit of `first`, sends `others` when that is on its way, and goes on, with another process, when all have been
/// answered: what they meet in never comes to be, however often the node tries.
async fn meet_without_a_commit(
    node: &ProxiedNode,
    client: &Client,
    first: Intent,
    others: Vec<Intent>,
) {
    let sends = |intent: Intent| {
        let client = client.clone();
        tokio::spawn(async move { client.send(&intent).await })
    };
    let (proxy, wanted) = (&node.proxy, others.len());
    let met = proxy.met(Kind::EndTxn);
    proxy.set(Kind::EndTxn, Rule::Hold);
    let mut calls = vec![sends(first)];
    proxy.meets(Kind::EndTxn, met + 1).await;
    calls.extend(others.into_iter().map(sends));
    waiting(&node.url(), wanted).await;
    proxy.deliver();
    for call in calls {
        call.await.expect("a client");
    }
    node.kill();
    proxy.mend();
    node.start_again().await;
    ready(&node.url()).await;
}

/// A key under which the user's new orders lie on the shard of an order.
async fn key_beside(user: &User, order: &Shown) -> String {
    let partitions = partition_count(&kafka()).await.unwrap();
    let shard = partition_of(order.order.to_string().as_bytes(), partitions);
    std::iter::repeat_with(|| unique("key-"))
        .find(|key| partition_of(format!("{} {key}", user.id).as_bytes(), partitions) == shard)
        .unwrap()
}

/// Waits until so many commands and questions wait for a node's shards.
async fn waiting(node: &str, wanted: usize) {
    eventually("commands to wait", BACK_WITHIN, async || {
        let waiting = counter(node, "command_api_shard_queue_commands").await;
        if waiting >= wanted as f64 {
            Ok(())
        } else {
            Err(format!("{waiting} wait"))
        }
    })
    .await;
}

/// A node that the group no longer hears of, and that is told that all is well: it believes that it owns a shard which
/// its successor writes. `asks` is given a client of it, an order there that the successor has changed since, and another
/// that the successor has made there under a key.
async fn replaced(asks: impl AsyncFnOnce(&Client, &Workload, &Shown, &Intent)) {
    let user = registered_user().await;
    let customers = customers(CLIENTS).await;
    // What was forwarded to it would be done there, and would show the group that it lives.
    let node = ProxiedNode::start_out_of_reach().await;
    stack(&["start", "command-api-2"]).await;
    let nodes = vec![node.url(), node_url(2)];
    // They turn to the successor alone: what nobody asks the first one, it is not fenced at.
    let workload = Workload::of(customers, vec![nodes[1].clone()]).await;
    let client = Client::of(&user, &nodes, workload.history());
    let (first, second) = (client.at(&nodes[0]), client.at(&nodes[1]));
    let order = order_at(&first).await;
    node.proxy.set(Kind::Heartbeat, Rule::Pretend);
    shared_out(&nodes[1..]).await;
    second.does(&update_of(&order)).await;
    let create = Intent::create(&unique("sku-")).key(&key_beside(&user, &order).await);
    second.does(&create).await;
    workload.acknowledges(COMMANDS).await;
    asks(&first, &workload, &order, &create).await;
    node.proxy.mend();
    ready(&nodes[0]).await;
    client.does(&Intent::cancel(order.order)).await;
    workload.end().await.log_holds_what_was_told().await;
}

#[test]
fn a_node_that_does_not_know_of_its_successor_answers_nothing_from_before() {
    alone(replaced(async |first, _, order, _| {
        // It would be so already, if nothing had happened since.
        let as_it_was = IfMatch::Version(order.version);
        first
            .send(&Intent::update(order.order, &order.sku, as_it_was))
            .await;
    }));
}

#[test]
fn a_node_that_does_not_know_of_its_successor_writes_nothing_and_fences_nobody() {
    alone(replaced(async |first, workload, _, create| {
        let step_downs = async || counter(&node_url(2), "command_api_step_downs_total").await;
        let before = step_downs().await;
        for _ in 0..TIMES {
            // Unlike a change, it is decided without a look at what is there.
            first.send(create).await;
            workload.acknowledges(COMMANDS / 2).await;
        }
        let after = step_downs().await;
        assert!(
            after <= before,
            "the successor was fenced by its predecessor"
        );
    }));
}

#[test]
fn a_stranger_s_open_transaction_hides_nothing_from_a_new_owner() {
    alone(async {
        let (user, history) = (registered_user().await, History::default());
        let client = Client::of(&user, &[command_url()], &history);
        let order = client.does(&Intent::create(&unique("sku-"))).await;
        let id = order.order.to_string();
        let partitions = partition_count(&kafka()).await.unwrap();
        let shard = partition_of(id.as_bytes(), partitions);
        let stranger = Stranger::begin(Topic::Orders, shard).await;
        // Committed, but behind what is still open.
        client.does(&update_of(&order)).await;
        stack(&["kill", "command-api-1"]).await;
        let again = update_of(&order);
        let asks = async {
            // Everything else is served; this shard must wait, or it would do once more what was done.
            client.does(&Intent::create(&unique("sku-"))).await;
            let gives_up = async {
                tokio::time::sleep(WATCHED).await; // The fault itself, not the waiting for something.
                stranger.gives_up().await;
            };
            tokio::join!(client.send(&again), gives_up);
        };
        tokio::join!(stack(&["start", "command-api-1"]), asks);
        client.settle(&update_of(&order)).await;
        nothing_is_wrong(&weigh(&history.calls()).await);
    });
}
