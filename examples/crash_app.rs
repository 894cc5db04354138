//! Crashing your own code: `cargo run --features sim --example crash_app`.
//!
//! A bank whose accounts are what its log says: a transfer is a batch of two records, one takes and one gives. It runs
//! on a disk in memory; the power goes in each storage operation that it makes, and whatever that may leave is opened
//! again. Then no money may have come or gone, and each transfer that a customer was told of is there.
//!
//! Taken apart into two records that are appended one by one, the transfers are found to be broken, and the crash that
//! shows it is told.
#![allow(clippy::print_stdout)]

use std::error::Error;

use seawall::sim::{Disk, Explore};
use seawall::{Options, Wal};

const TRANSFERS: u8 = 12;

/// Account by account, what is in it: each record is a number, and whether it is the first account's.
fn balances(wal: &Wal) -> seawall::Result<[i64; 2]> {
    let mut balances = [100, 100];
    for record in wal.read(..)? {
        let amount = record?.payload.first().copied().map_or(0, i64::from);
        let [ours, theirs] = &mut balances;
        // Odd numbers are given to the second account, even ones taken from the first.
        if amount % 2 == 0 { *ours -= amount } else { *theirs += amount - 1 }
    }
    Ok(balances)
}

/// Moves 2, 4, 6, .. Tells how many customers were told so.
fn transfers(disk: &Disk, whole: bool) -> u64 {
    let transfer = |wal: &Wal, amount: u8| {
        let (taken, given) = ([amount], [amount + 1]);
        if whole {
            return wal.append_batch(&[taken, given])?.wait();
        }
        wal.append(&taken)?.wait()?;
        wal.append(&given)?.wait()
    };
    let Ok(wal) = Options::new().segment_size(16 << 10).open_on(disk.mount()) else { return 0 };
    (1..=TRANSFERS).take_while(|n| transfer(&wal, 2 * n).is_ok()).count() as u64
}

/// What must hold of whatever a crash leaves.
fn check(left: &Disk, told: &u64) -> Result<(), String> {
    let wal = Options::new().open_on(left.mount()).map_err(|e| e.to_string())?;
    let [ours, theirs] = balances(&wal).map_err(|e| e.to_string())?;
    if ours + theirs != 200 {
        return Err(format!("{} are left of 200", ours + theirs));
    }
    // The sum of what was moved tells how many transfers there were.
    let least = (told * (told + 1)) as i64;
    if 100 - ours < least { Err(format!("{} moved, {least} were told of", 100 - ours)) } else { Ok(()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let explore = Explore::new(1);
    let states = explore.run(&Disk::new(1), |disk| transfers(disk, true), check)?;
    println!("transfers as batches: {states} crash states, nothing lost");
    match explore.run(&Disk::new(1), |disk| transfers(disk, false), check) {
        Ok(states) => Err(format!("transfers in two: {states} crash states, and nothing was found").into()),
        Err(broken) => {
            println!("transfers in two: {broken}");
            Ok(())
        }
    }
}
