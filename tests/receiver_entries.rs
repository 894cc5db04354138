//! The receiver's entries: what is decoded is what was encoded, whatever the bytes, and never more is believed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs
)]

use proptest::prelude::*;
use seawall::Lsn;
use seawall::receiver::{
    BlockBuilder, DecodeErrorKind, Entry, Handover, LogId, Message, OffsetTable, Origin, OriginCause, Partition, Range,
    TopicId,
};

type Bytes = Option<Vec<u8>>;

/// A record of any shape, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    partition: usize,
    skip: i64,
    timestamp: i64,
    timestamp_type: u8,
    key: Bytes,
    value: Bytes,
    headers: Vec<(Vec<u8>, Bytes)>,
}

fn partition(topic: &str, number: i32) -> Partition {
    Partition { topic: topic.into(), number }
}

fn partitions() -> [(Partition, TopicId); 3] {
    [
        (partition("orders", 0), TopicId([1; 16])),
        (partition("orders", 1), TopicId([1; 16])),
        (partition("zahlungen-\u{fc}", 7), TopicId([0xFE; 16])),
    ]
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    let header = (prop::collection::vec(any::<u8>(), 0..4), bytes());
    let sample = (0..3_usize, 0..3_i64, any::<i64>(), 0..3_u8, bytes(), bytes(), prop::collection::vec(header, 0..4))
        .prop_map(|(partition, skip, timestamp, timestamp_type, key, value, headers)| Sample {
            partition,
            skip,
            timestamp,
            timestamp_type,
            key,
            value,
            headers,
        });
    prop::collection::vec(sample, 0..30)
}

/// The block of `samples`, whose partitions stand at 1000 at first, and the offset of each.
fn block_of(samples: &[Sample]) -> (Vec<u8>, Vec<i64>, usize) {
    let partitions = partitions();
    let (mut builder, mut open, mut next) = (BlockBuilder::new(), [None; 3], [1000; 3]);
    let mut offsets = Vec::new();
    for sample in samples {
        let (partition, id) = &partitions[sample.partition];
        let range = *open[sample.partition].get_or_insert_with(|| builder.range(partition, *id, 1000));
        let offset = next[sample.partition] + sample.skip;
        next[sample.partition] = offset + 1;
        offsets.push(offset);
        let headers: Vec<_> = sample.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        builder.push(
            range,
            &Message {
                partition,
                offset,
                timestamp: sample.timestamp,
                timestamp_type: sample.timestamp_type,
                key: sample.key.as_deref(),
                value: sample.value.as_deref(),
                headers: &headers,
            },
        );
    }
    let expected = builder.bytes();
    (builder.seal().parts().concat(), offsets, expected)
}

/// Walks over everything there is; what must never panic, hang or take much memory.
fn exhaust(bytes: &[u8]) -> Result<usize, DecodeErrorKind> {
    match Entry::decode(bytes).map_err(|error| error.kind)? {
        Entry::Block(block) => {
            let mut count = 0;
            for record in block.records() {
                record.map_err(|error| error.kind)?;
                count += 1;
            }
            assert_eq!(count, block.len());
            Ok(count)
        }
        _ => Ok(0),
    }
}

proptest! {
    #[test]
    fn a_block_gives_back_every_record_as_it_was_received(samples in samples()) {
        let (bytes, offsets, expected) = block_of(&samples);
        prop_assert_eq!(bytes.len(), expected);
        let Entry::Block(block) = Entry::decode(&bytes).unwrap() else { panic!("no block") };
        let records: Vec<_> = block.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len(), samples.len());
        for ((record, sample), offset) in records.iter().zip(&samples).zip(offsets) {
            let (partition, id) = &partitions()[sample.partition];
            let range = &block.ranges()[record.range];
            prop_assert_eq!((&range.partition, range.topic_id), (partition, *id));
            prop_assert_eq!((record.offset, record.timestamp), (offset, sample.timestamp));
            prop_assert_eq!(record.timestamp_type, sample.timestamp_type);
            prop_assert_eq!(record.key, sample.key.as_deref());
            prop_assert_eq!(record.value, sample.value.as_deref());
            let headers: Vec<_> = sample.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            prop_assert_eq!(&record.headers, &headers);
        }
        let counted: u32 = block.ranges().iter().map(|range| range.count).sum();
        prop_assert_eq!(counted as usize, samples.len());
    }

    #[test]
    fn a_block_cut_short_is_an_error_at_every_byte(samples in samples(), part in 0.0..1.0_f64) {
        let (bytes, ..) = block_of(&samples);
        let cut = ((bytes.len() as f64) * part) as usize;
        prop_assert!(exhaust(&bytes[..cut]).is_err());
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(exhaust(&longer), Err(DecodeErrorKind::Trailing));
    }

    #[test]
    fn bytes_changed_anywhere_never_panic(samples in samples(), at in any::<prop::sample::Index>(), with in any::<[u8; 4]>()) {
        let (mut bytes, ..) = block_of(&samples);
        let at = at.index(bytes.len());
        for (byte, with) in bytes[at..].iter_mut().zip(with) {
            *byte = with;
        }
        let _ = exhaust(&bytes);
    }

    #[test]
    fn arbitrary_bytes_of_every_kind_never_panic(kind in 0..6_u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = exhaust(&bytes);
        let entry = [&[0xB5, 0x53, 0x57, 0x42, 1, kind, 0, 0], &bytes[..]].concat();
        let _ = exhaust(&entry);
    }
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    // A block, a header count, a key and a table that claim four billion of something.
    let head = |kind| vec![0xB5, 0x53, 0x57, 0x42, 1, kind, 0, 0];
    let lies =
        [[head(1), vec![0xFF; 8]].concat(), [head(1), vec![0xFE; 64]].concat(), [head(4), vec![0xFF; 4]].concat()];
    for lie in lies {
        assert!(exhaust(&lie).is_err());
    }
    let (mut bytes, ..) = block_of(&[Sample {
        partition: 0,
        skip: 0,
        timestamp: 0,
        timestamp_type: 0,
        key: Some(vec![1]),
        value: None,
        headers: vec![],
    }]);
    let record = bytes.len() - 33;
    bytes[record + 4..record + 8].fill(0xFF);
    assert_eq!(exhaust(&bytes), Err(DecodeErrorKind::Short));
    bytes[record + 24..record + 28].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF]);
    assert_eq!(exhaust(&bytes), Err(DecodeErrorKind::Short));
}

#[test]
fn null_and_empty_differ_and_headers_keep_order_and_repeats() {
    let place = partition("t", 0);
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"b", Some(b"")), (b"a", None), (b"b", Some(b"2")), (&[0, 0xFF], Some(b"bytes"))];
    let shapes = [(None, None), (Some(&b""[..]), None), (None, Some(&b""[..])), (Some(&b""[..]), Some(&b""[..]))];
    let mut builder = BlockBuilder::new();
    let range = builder.range(&place, TopicId([1; 16]), 0);
    for (offset, (key, value)) in (0..).zip(shapes) {
        let message =
            Message { partition: &place, offset, timestamp: -1, timestamp_type: 0, key, value, headers: &headers };
        builder.push(range, &message);
    }
    let bytes = builder.seal().parts().concat();
    let Entry::Block(block) = Entry::decode(&bytes).unwrap() else { panic!("no block") };
    for (record, (key, value)) in block.records().zip(shapes) {
        let record = record.unwrap();
        assert_eq!((record.key, record.value), (key, value));
        assert_eq!(record.headers, headers);
    }
}

#[test]
fn a_hole_is_declared_by_the_range_and_can_stand_alone() {
    let place = partition("t", 0);
    let mut builder = BlockBuilder::new();
    let range = builder.range(&place, TopicId([1; 16]), 10);
    builder.advance(range, 15);
    builder.advance(range, 12);
    assert!(!builder.is_empty());
    let block = builder.seal();
    assert!(block.is_empty());
    let bytes = block.parts().concat();
    let Entry::Block(block) = Entry::decode(&bytes).unwrap() else { panic!("no block") };
    let Range { from, next, count, .. } = block.ranges()[0].clone();
    assert_eq!((from, next, count, block.records().count()), (10, 15, 0, 0));
}

#[test]
fn a_message_never_costs_more_than_was_said() {
    let place = partition("topic", 0);
    let mut builder = BlockBuilder::new();
    for offset in 0..3 {
        let message = Message {
            partition: &place,
            offset,
            timestamp: 0,
            timestamp_type: 0,
            key: Some(b"key"),
            value: None,
            headers: &[(b"name", Some(b"value")), (b"null", None)],
        };
        let before = builder.bytes();
        let range = if offset == 0 { builder.range(&place, TopicId([0; 16]), 0) } else { 0 };
        builder.push(range, &message);
        assert!(builder.bytes() <= before + BlockBuilder::cost(&message));
    }
}

#[test]
fn records_that_do_not_fit_their_ranges_are_refused() {
    let sample = |partition| Sample {
        partition,
        skip: 0,
        timestamp: 0,
        timestamp_type: 0,
        key: None,
        value: None,
        headers: vec![],
    };
    let (bytes, ..) = block_of(&[sample(0), sample(0)]);
    let (first, second) = (bytes.len() - 64, bytes.len() - 32);
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        exhaust(&bytes)
    };
    assert_eq!(exhaust(&bytes), Ok(2));
    assert_eq!(changed(first, 1), Err(DecodeErrorKind::Offset), "no such range");
    assert_eq!(changed(second + 8, bytes[first + 8]), Err(DecodeErrorKind::Offset), "twice");
    assert_eq!(changed(first + 8, bytes[second + 8]), Err(DecodeErrorKind::Offset), "out of order");
    assert_eq!(changed(first + 9, 0), Err(DecodeErrorKind::Offset), "below its range");
    assert_eq!(changed(second + 15, 0x7F), Err(DecodeErrorKind::Offset), "above its range");
    assert_eq!(changed(12, 3), Err(DecodeErrorKind::Count), "more records than the ranges say");
    assert_eq!(changed(32, 1), Err(DecodeErrorKind::Count), "fewer records in the range");
    assert_eq!(changed(16, 0xFF), Err(DecodeErrorKind::Range), "ends before it begins");
    assert_eq!(changed(23, 0xFF), Err(DecodeErrorKind::Range), "below zero");
}

#[test]
fn what_another_program_or_a_newer_version_wrote_is_told_apart() {
    let (bytes, ..) = block_of(&[]);
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        exhaust(&bytes)
    };
    assert_eq!(exhaust(b"order 17"), Err(DecodeErrorKind::NotAnEntry));
    assert_eq!(exhaust(b""), Err(DecodeErrorKind::NotAnEntry));
    assert_eq!(changed(0, b'x'), Err(DecodeErrorKind::NotAnEntry));
    assert_eq!(changed(4, 2), Err(DecodeErrorKind::TooNew(2)));
    assert_eq!(changed(5, 9), Err(DecodeErrorKind::UnknownKind(9)));
}

#[test]
fn origins_and_handovers_come_back_and_refuse_what_cannot_be() {
    let (place, id) = (partition("orders", 3), TopicId([9; 16]));
    for cause in [OriginCause::Earliest, OriginCause::Latest, OriginCause::Group, OriginCause::NewPartition] {
        for previous in [None, Some(0), Some(70)] {
            let origin = Origin::new(place.clone(), id, previous, 50, cause);
            let bytes = origin.encode();
            assert!(matches!(Entry::decode(&bytes), Ok(Entry::Origin(back)) if back == origin));
            (0..bytes.len()).for_each(|cut| assert!(exhaust(&bytes[..cut]).is_err(), "cut at {cut}"));
        }
    }
    for log in [None, Some(LogId([5; 16]))] {
        let handover = Handover::new(place.clone(), id, 40, 50, log);
        let bytes = handover.encode();
        assert!(matches!(Entry::decode(&bytes), Ok(Entry::Handover(back)) if back == handover));
        (0..bytes.len()).for_each(|cut| assert!(exhaust(&bytes[..cut]).is_err(), "cut at {cut}"));
        let backwards = Handover::new(place.clone(), id, 50, 40, log).encode();
        assert_eq!(exhaust(&backwards), Err(DecodeErrorKind::Range));
    }
    let mut unknown = Origin::new(place, id, None, 50, OriginCause::Group).encode();
    unknown[8] = 9;
    assert_eq!(exhaust(&unknown), Err(DecodeErrorKind::Value(9)));
}

/// A table of an origin and a block's range.
fn table() -> OffsetTable {
    let mut table = OffsetTable::new();
    for (lsn, (place, id)) in (100..).zip(partitions()) {
        table.apply_origin(&Origin::new(place, id, None, 1000, OriginCause::Earliest), Lsn(lsn)).unwrap();
    }
    table
}

fn range(from: i64, next: i64) -> Range {
    let (place, id) = partitions()[1].clone();
    Range::new(place, id, from, next, 0)
}

#[test]
fn an_offset_table_comes_back_and_refuses_what_cannot_be() {
    let table = table();
    let bytes = table.encode();
    assert!(matches!(Entry::decode(&bytes), Ok(Entry::OffsetTable(back)) if back == table));
    (0..bytes.len()).for_each(|cut| assert!(exhaust(&bytes[..cut]).is_err(), "cut at {cut}"));
    let one = [&bytes[..8], &[2, 0, 0, 0], &bytes[12..12 + 56], &bytes[12..12 + 56]].concat();
    assert_eq!(exhaust(&one), Err(DecodeErrorKind::Range), "a partition twice");
    let crossed = [&bytes[..16], &1001_i64.to_le_bytes(), &bytes[24..]].concat();
    assert_eq!(exhaust(&crossed), Err(DecodeErrorKind::Range), "a chain that begins beyond its end");
}

#[test]
fn ranges_chain_on_the_table_or_change_nothing() {
    let mut table = table();
    let (place, id) = partitions()[1].clone();
    table.apply_ranges(&[range(1000, 1010)], Lsn(200)).unwrap();
    assert_eq!(table.get(&place, id).map(|mark| (mark.from, mark.next, mark.lsn)), Some((1000, 1010, Lsn(200))));
    for broken in [range(1009, 1020), range(1011, 1020), range(0, 1)] {
        let before = table.clone();
        let (first, first_id) = partitions()[0].clone();
        let good = Range::new(first, first_id, 1000, 1001, 0);
        let error = table.apply_ranges(&[good, broken.clone()], Lsn(300)).unwrap_err();
        assert_eq!((error.from, error.table), (Some(broken.from), Some(1010)));
        assert_eq!(table, before);
    }
    // Of one partition twice in a block the second goes on from the first.
    let before = table.clone();
    let error = table.apply_ranges(&[range(1010, 1015), range(1010, 1013)], Lsn(300)).unwrap_err();
    assert_eq!((error.from, error.table, &table), (Some(1010), Some(1015), &before));
    table.apply_ranges(&[range(1010, 1015), range(1015, 1016)], Lsn(300)).unwrap();
}

#[test]
fn a_range_of_a_partition_without_an_origin_does_not_chain() {
    let error = OffsetTable::new().apply_ranges(&[range(1000, 1010)], Lsn(1)).unwrap_err();
    assert_eq!((error.from, error.table), (Some(1000), None));
}

#[test]
fn a_partition_has_been_read_of_below_another_of_its_topic() {
    let (mut table, id) = (table(), TopicId([1; 16]));
    let below = |table: &OffsetTable, number| table.has_read_below(&partition("orders", number), id);
    assert!(!below(&table, 2), "both have only begun");
    table.apply_ranges(&[range(1000, 1010)], Lsn(200)).unwrap();
    assert_eq!([0, 1, 2].map(|number| below(&table, number)), [false, false, true]);
    assert!(!table.has_read_below(&partition("orders", 2), TopicId([2; 16])));
    assert!(!table.has_read_below(&partition("refunds", 2), id));
}

#[test]
fn a_table_keeps_that_a_partition_was_read_before_its_chain_began() {
    let (mut table, id) = (table(), TopicId([1; 16]));
    let (place, _) = partitions()[1].clone();
    let below = |table: &OffsetTable| table.has_read_below(&partition("orders", place.number + 1), id);
    table.apply_handover(&Handover::new(place.clone(), id, 1000, 1010, None), Lsn(200)).unwrap();
    assert!(below(&table));
    let bytes = table.encode();
    let Ok(Entry::OffsetTable(mut back)) = Entry::decode(&bytes) else { panic!("{bytes:?}") };
    assert!(back == table && below(&back));
    // At least once moves it back, and nothing is read yet.
    let back_again = Origin::new(place.clone(), id, Some(1010), 1005, OriginCause::Group);
    back.apply_origin(&back_again, Lsn(300)).unwrap();
    assert!(below(&back));
    let at = bytes.windows(8).position(|bytes| bytes == 1010_i64.to_le_bytes()).unwrap() - 4;
    assert_eq!(bytes[at..at + 4], [1, 0, 0, 0]);
    let mut wrong = bytes.clone();
    wrong[at] = 2;
    assert_eq!(exhaust(&wrong), Err(DecodeErrorKind::Value(2)));
    wrong[at] = 0;
    let Ok(Entry::OffsetTable(forgets)) = Entry::decode(&wrong) else { panic!("{wrong:?}") };
    assert!(!below(&forgets));
}

#[test]
fn an_origin_moves_a_mark_only_from_where_it_says() {
    let mut table = table();
    let (place, id) = partitions()[0].clone();
    let origin = |previous, next| Origin::new(place.clone(), id, previous, next, OriginCause::Group);
    assert!(table.apply_origin(&origin(None, 5), Lsn(1)).is_err());
    assert!(table.apply_origin(&origin(Some(999), 5), Lsn(1)).is_err());
    table.apply_origin(&origin(Some(1000), 5), Lsn(1)).unwrap();
    let handover = |from, next| Handover::new(place.clone(), id, from, next, None);
    assert!(table.apply_handover(&handover(6, 9), Lsn(2)).is_err());
    table.apply_handover(&handover(5, 9), Lsn(2)).unwrap();
    assert_eq!(table.get(&place, id).map(|mark| mark.next), Some(9));
}

#[test]
fn a_topic_is_known_by_its_identity() {
    let table = table();
    let (orders, anew) = (TopicId([1; 16]), TopicId([2; 16]));
    assert_eq!(table.other_topic("orders", orders), None);
    assert_eq!(table.other_topic("orders", anew), Some(orders));
    assert_eq!(table.other_topic("unknown", anew), None);
    assert_eq!(table.get(&partition("orders", 0), anew), None);
}
