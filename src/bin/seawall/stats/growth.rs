//! How fast a log grows, from two looks at it.

use std::time::Duration;

use seawall::check::Overview;

/// What came in each second.
#[derive(Debug, PartialEq, Eq)]
pub struct Growth {
    pub records: u64,
    pub bytes: u64,
}

impl Growth {
    /// What was cleaned meanwhile takes nothing away.
    pub fn between(before: &Overview, now: &Overview, time: Duration) -> Growth {
        let records = now.appended.saturating_sub(before.appended);
        let bytes = now.durable.0.saturating_sub(before.durable.0);
        Growth { records: each_second(records, time), bytes: each_second(bytes, time) }
    }
}

fn each_second(count: u64, time: Duration) -> u64 {
    let each = (u128::from(count) * 1_000_000_000).checked_div(time.as_nanos());
    each.map_or(0, |each| u64::try_from(each).unwrap_or(u64::MAX))
}
