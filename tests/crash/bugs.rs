//! Each safety taken out is missed: a planted bug, and the states until the explorer caught it.

use seawall::sim::Bug;

use crate::run::{Counts, Plan, run};

/// States until the first broken promise, and which.
fn caught(plan: Plan, most: u64) -> Option<(u64, String)> {
    let mut total = Counts::default();
    for seed in 0.. {
        // A planted bug may also break what the code takes for granted of itself.
        let result = std::panic::catch_unwind(|| run(&plan, seed));
        let violation = match result {
            Ok(Ok(counts)) => {
                total.add(&counts);
                if total.states() > most {
                    return None;
                }
                continue;
            }
            Ok(Err(violation)) => violation,
            Err(panic) => format!("panic: {:?}", panic.downcast_ref::<String>()),
        };
        return Some((total.states() + 1, format!("seed {seed}: {violation}")));
    }
    None
}

fn must_be_caught(bug: Bug, plan: Plan, most: u64) {
    let plan = Plan { bug: Some(bug), ..plan };
    let (states, violation) = caught(plan, most).unwrap_or_else(|| panic!("{bug:?} was not caught in {most} states"));
    println!("{bug:?} caught after {states} states: {violation}");
}

macro_rules! planted {
    ($($name:ident: $bug:ident by $plan:ident within $most:literal;)*) => {
        $(#[test]
        fn $name() {
            must_be_caught(Bug::$bug, Plan::$plan(), $most);
        })*
    };
}

planted! {
    no_directory_sync: NoDirectorySync by crashes within 50_000;
    header_not_synced: HeaderNotSynced by crashes within 50_000;
    acknowledged_before_the_sync: AcknowledgeBeforeSync by crashes within 50_000;
    failed_sync_tried_again: RetryFailedSync by faults within 200_000;
    no_rewrite_above_the_proven_point: NoRewrite by faults within 200_000;
    claim_ahead_of_its_sync: ClaimAheadOfSync by crashes within 50_000;
    mark_ahead_of_its_sync: MarkAheadOfSync by crashes within 50_000;
    newest_valid_link_is_the_tip: NewestLinkIsTip by crashes within 200_000;
    frames_beyond_are_damage: FramesBeyondAreDamage by crashes within 50_000;
    a_link_is_proof: LinkIsProof by crashes within 200_000;
    an_lsn_handed_out_twice: LsnHandedOutTwice by crashes within 50_000;
    trimmed_before_the_link: TrimBeforeLink by crashes within 50_000;
    tidied_before_the_link: TidyBeforeLink by crashes within 200_000;
    front_not_synced: FrontNotSynced by crashes within 400_000;
    a_new_file_used_again: NewFileReused by faults within 400_000;
    only_the_newest_segment_synced: OnlyNewestSynced by crashes within 200_000;
    recycled_while_mapped: RecycleWhileMapped by crashes within 50_000;
    cleaned_past_the_checkpoint: CleanPastCheckpoint by crashes within 50_000;
    batch_cut_inside: BatchCutInside by crashes within 50_000;
    stale_frames: StaleFrames by crashes within 400_000;
}
