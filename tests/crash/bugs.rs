//! Each safety taken out is missed: a planted bug, the states until the explorer caught it, and which check did.

use seawall::sim::Bug;

use crate::run::{Counts, Plan, run};

/// States until the first broken promise, and which.
fn caught(plan: Plan, most: u64) -> Option<(u64, String)> {
    let mut total = Counts::default();
    for seed in 0.. {
        let violation = match run(&plan, seed) {
            Ok(counts) => {
                total.add(&counts);
                if total.states() > most {
                    return None;
                }
                continue;
            }
            Err(violation) => violation,
        };
        return Some((total.states() + 1, format!("seed {seed}: {violation}")));
    }
    None
}

fn must_be_caught(bug: Bug, plan: Plan, most: u64, by: &str) {
    let plan = Plan { bug: Some(bug), ..plan };
    let (states, violation) = caught(plan, most).unwrap_or_else(|| panic!("{bug:?} was not caught in {most} states"));
    let caught_by = by.split(" | ").any(|check| violation.contains(check));
    assert!(caught_by, "{bug:?} was to be caught by {by:?}: {violation}");
    println!("{bug:?} caught after {states} states: {violation}");
}

macro_rules! planted {
    ($($name:ident: $bug:ident in $plan:ident within $most:literal by $by:literal;)*) => {
        $(#[test]
        fn $name() {
            must_be_caught(Bug::$bug, Plan::$plan(), $most, $by);
        })*
    };
}

planted! {
    no_directory_sync: NoDirectorySync in crashes within 50_000 by "was cleaned away | every segment is gone";
    header_not_synced: HeaderNotSynced in crashes within 50_000 by "damaged: the header";
    acknowledged_before_the_sync: AcknowledgeBeforeSync in crashes within 50_000 by "acknowledged ones are left";
    failed_sync_tried_again: RetryFailedSync in faults within 200_000 by "every segment is gone | was cleaned away | acknowledged ones are left | read: read sim";
    no_rewrite_above_the_proven_point: NoRewrite in faults within 200_000 by "read: read sim | acknowledged ones are left | not a torn tail";
    claim_ahead_of_its_sync: ClaimAheadOfSync in crashes within 50_000 by "read: read sim | the link is damaged";
    mark_ahead_of_its_sync: MarkAheadOfSync in crashes within 50_000 by "not a torn tail | read: read sim";
    newest_valid_link_is_the_tip: NewestLinkIsTip in crashes within 200_000 by "is gone, no clean was to take it";
    frames_beyond_are_damage: FramesBeyondAreDamage in crashes within 50_000 by "not a torn tail | the link is damaged";
    a_link_is_proof: LinkIsProof in crashes within 200_000 by "read: read sim | its files hold other bytes";
    an_lsn_handed_out_twice: LsnHandedOutTwice in crashes within 50_000 by "was handed out although | damaged: cut to";
    trimmed_before_the_link: TrimBeforeLink in crashes within 50_000 by "damaged: cut to";
    tidied_before_the_link: TidyBeforeLink in crashes within 200_000 by "was handed out although | damaged: cut to";
    front_not_synced: FrontNotSynced in crashes within 400_000 by "damaged: the file is missing";
    a_new_file_used_again: NewFileReused in faults within 400_000 by "damaged: cut to";
    only_the_newest_segment_synced: OnlyNewestSynced in crashes within 200_000 by "acknowledged ones are left | read: read sim | not a torn tail | the link is damaged";
    recycled_while_mapped: RecycleWhileMapped in crashes within 50_000 by "under a live map";
    cleaned_past_the_checkpoint: CleanPastCheckpoint in crashes within 50_000 by "was cleaned away";
    cleaned_past_a_cursor: CleanPastCursor in crashes within 50_000 by "is gone, no clean was to take it";
    notes_of_cursors_not_read: NotesNotRead in crashes within 50_000 by "cursor";
    batch_cut_inside: BatchCutInside in crashes within 50_000 by "ends within a batch";
    payload_unchecked: PayloadUnchecked in crashes within 50_000 by "read: read sim";
    rewrite_not_synced: RewriteNotSynced in faults within 200_000 by "not a torn tail | acknowledged ones are left | read: read sim";
    rewritten_unverified: RewriteUnverified in faults within 400_000 by "read: read sim | not a torn tail";
    trimmed_before_mark: TrimBeforeMark in crashes within 200_000 by "damaged: cut to";
    closed_without_a_sync: CloseUnsynced in crashes within 50_000 by "acknowledged ones are left";
    cursor_not_synced: CursorNotSynced in crashes within 50_000 by "acknowledged ones are left | cursor";
    a_full_disk_taken_as_written: FullTakenAsWritten in full within 50_000 by "acknowledged ones are left | was cleaned away";
    stale_frames: StaleFrames in crashes within 400_000 by "is gone, no clean was to take it";
}
