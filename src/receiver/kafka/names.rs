//! The partitions seen so far, so that a record can point at its own without making one.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::receiver::source::Partition;

/// Partitions in the order of topic and number. An index stays good until the next one is asked for.
#[derive(Default)]
pub(super) struct Names {
    known: Vec<Partition>,
    last: usize,
}

impl Names {
    /// Where the partition is, which is added if it is new. Records come in runs, so the last one comes first.
    pub(super) fn index(&mut self, topic: &[u8], number: i32) -> usize {
        let order = |known: &Partition| known.topic.as_bytes().cmp(topic).then(known.number.cmp(&number));
        if self.known.get(self.last).is_none_or(|last| order(last) != Ordering::Equal) {
            self.last = self.known.binary_search_by(order).unwrap_or_else(|place| {
                // Kafka allows ASCII in names only.
                let topic = String::from_utf8_lossy(topic);
                let same = |known: &&Partition| *known.topic == *topic;
                let topic = self.known.iter().find(same).map_or_else(|| Arc::from(&*topic), |p| p.topic.clone());
                self.known.insert(place, Partition { topic, number });
                place
            });
        }
        self.last
    }

    /// The partition at an index.
    #[expect(clippy::indexing_slicing, reason = "an index comes from `index`, and nothing is ever removed")]
    pub(super) fn at(&self, index: usize) -> &Partition {
        &self.known[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_one_name_whatever_the_order() {
        let mut names = Names::default();
        for (topic, number) in [("b", 1), ("a", 2), ("b", 1), ("b", 0), ("a", 2), ("aa", 0)] {
            let at = names.index(topic.as_bytes(), number);
            assert_eq!((&*names.at(at).topic, names.at(at).number), (topic, number));
        }
        assert_eq!(names.known.len(), 4);
        assert!(Arc::ptr_eq(&names.known[2].topic, &names.known[3].topic), "one allocation for each topic");
    }
}
