//! The receiver against a real Kafka broker: run by `tests/kafka/run`, which brings Java and the broker.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::panic, clippy::print_stdout)]

mod admin;
mod broker;
#[path = "../common/mod.rs"]
mod common;
mod kill;
mod receive;
mod slow;
mod source;

use std::time::Instant;

use admin::Admin;
use broker::Broker;

/// What a scenario works with.
pub struct World {
    pub broker: Broker,
    pub admin: Admin,
}

type Scenario = (&'static str, fn(&mut World));

const SCENARIOS: [Scenario; 12] = [
    ("source-records", source::records_and_their_gaps),
    ("source-commits", source::commits_and_their_answers),
    ("source-recreated", source::a_topic_made_anew_has_another_id),
    ("source-broker", source::the_broker_is_killed_and_comes_back),
    ("transactions", receive::markers_and_aborted_records_are_declared_holes),
    ("members", receive::two_members_share_a_group),
    ("grown", receive::a_new_partition_is_read_from_its_beginning),
    ("recreated", receive::a_topic_made_anew_is_an_error_of_its_own),
    ("missing", receive::records_deleted_before_they_were_read_are_an_error),
    ("slow", slow::a_sync_of_15_seconds_does_not_cost_the_membership),
    ("slow-assignment", slow::a_rebalance_does_not_wait_for_a_slow_disk_that_an_assignment_waits_for),
    ("kill", kill::receiver_and_broker),
];

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()));
    let begun = Instant::now();
    let broker = Broker::start();
    println!("Apache Kafka {} serves on {} after {:.1?}", broker.version(), broker.address(), begun.elapsed());
    let admin = Admin::new(&broker.address());
    let mut world = World { broker, admin };
    let mut ran = 0;
    for (name, scenario) in SCENARIOS.into_iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        println!("{name}");
        scenario(&mut world);
        println!("{name}: done in {:.1?}\n", begun.elapsed());
        ran += 1;
    }
    assert!(ran > 0, "no scenario is named like {chosen:?}");
    println!("{ran} scenarios passed in {:.1?}", begun.elapsed());
}
