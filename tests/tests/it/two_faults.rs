//! Two faults at once, from a seed. `ORDERLOG_FAULT_SEED` replays one; without it each run draws its own and says which.

use end_to_end::{
    alone,
    environment::node_url,
    fault::Plan,
    proxied::ProxiedNode,
    workload::{Workload, customers},
};

const CLIENTS: usize = 12;
const COMMANDS: usize = 100;
/// How many seeds a run without one tries.
const ROUNDS: u64 = 2;

#[test]
fn two_faults_at_once_lose_and_double_nothing() {
    let seeds = match std::env::var("ORDERLOG_FAULT_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("ORDERLOG_FAULT_SEED is a number");
            seed..=seed
        }
        Err(_) => {
            let drawn = u64::from(uuid::Uuid::new_v4().as_fields().0);
            drawn..=drawn + ROUNDS - 1
        }
    };
    alone(async {
        let customers = customers(CLIENTS).await;
        let node = ProxiedNode::start().await;
        for seed in seeds {
            let plan = Plan::of(seed);
            println!("faults: {plan}");
            let nodes = vec![node.url(), node_url(2)];
            let workload = Workload::of(customers.clone(), nodes).await;
            workload.acknowledges(COMMANDS).await;
            plan.strikes(&node).await;
            workload.acknowledges(COMMANDS).await;
            workload.end().await.log_holds_what_was_told().await;
        }
    });
}
