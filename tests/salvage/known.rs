//! Where nothing is missing nothing is said to be: files that tell nothing beside whole segments, links alone, and logs
//! that were cleaned.

use std::fs;
use std::path::Path;

use seawall::Options;
use seawall::check::Repair;

use crate::made::{Log, lone, salvaged, segments, whole};

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Only a link is ever there, and it was counted as a record.
#[test]
fn a_newest_segment_that_holds_only_its_link_loses_nothing_with_it() {
    for closed in [false, true] {
        let log = Log::new(61, 300);
        flip(&segments(log.dir())[2], 9000);
        Repair::new().run(log.dir()).unwrap();
        if closed {
            // MARK says now that the link was durable.
            Options::new().segment_size(16 << 10).open(log.dir()).unwrap().close().unwrap();
        }
        let left = whole(&salvaged(&[log.dir()]));
        assert_eq!(left.len() + 1, log.made.len());
        let newest = segments(log.dir()).pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        for hurt in [4096 + 1, 4096 + 4, 4096 + 7, 4096 + 21, 4096 + 30] {
            flip(&newest, hurt);
            let found = salvaged(&[log.dir()]);
            assert!(found.is_whole() && whole(&found) == left, "{closed} {hurt}: {}", lone(&found));
            fs::write(&newest, &bytes).unwrap();
        }
        for from in [0, 4096] {
            let mut bytes = bytes.clone();
            bytes[from..from + 4096].fill(0);
            fs::write(&newest, bytes).unwrap();
            let found = salvaged(&[log.dir()]);
            assert!(found.is_whole() && whole(&found) == left, "{closed} {from}: {}", lone(&found));
        }
    }
}
