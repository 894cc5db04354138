//! Bytes as the payload of an entry that a receiver wrote, through the decoders and back.
//!
//! The first byte of the input says what follows: the payload itself; what comes behind an entry's first bytes, of a
//! kind; or how an entry is made, and then where it is harmed.

use seawall::Lsn;
use seawall::receiver::{
    Block, BlockBuilder, BlockRecord, CommitMark, Entry, Handover, LogId, Message, OffsetTable, Origin, OriginCause,
    Partition, TopicId,
};

use super::input::{Input, bounded_by};

/// How many times the bytes of a payload what it decodes to may take: a header of 8 bytes becomes two slices.
const MULTIPLE: usize = 24;

/// Decodes the payload that the input describes.
pub fn run(input: &[u8]) {
    run_with(input, |_| ());
}

/// The same with a hand in what was encoded again.
pub fn run_with(input: &[u8], hand: impl Fn(&mut Vec<u8>)) {
    let (payload, whole) = payload(input);
    if let Ok(text) = std::str::from_utf8(&payload)
        && let Some(mark) = CommitMark::parse(text)
    {
        assert_eq!(CommitMark::parse(&mark.encode()), Some(mark));
    }
    let encoded = bounded_by(MULTIPLE * payload.len() + (8 << 10), || encoded(&payload));
    let Some(mut encoded) = encoded else {
        assert!(!whole, "what was made cannot be read");
        return;
    };
    hand(&mut encoded);
    if whole {
        assert_eq!(encoded, payload, "another entry than was made");
        return;
    }
    if let Ok(Entry::OffsetTable(table)) = Entry::decode(&payload) {
        // Its lines are in an order of its own, and each partition has one.
        let Ok(Entry::OffsetTable(again)) = Entry::decode(&encoded) else { panic!("no table any more") };
        assert!(again.iter().eq(table.iter()), "another table");
        assert_eq!(encoded.len(), payload.len());
        return;
    }
    assert_eq!(encoded.len(), payload.len(), "{encoded:?} from {payload:?}");
    let differ = |(ours, theirs): (&u8, &u8)| ours != theirs && *ours != 0;
    assert!(!encoded.iter().zip(&payload).any(differ), "more than what is reserved: {encoded:?} from {payload:?}");
    assert!(Entry::decode(&encoded).is_ok());
}

/// An entry, decoded and encoded again.
fn encoded(payload: &[u8]) -> Option<Vec<u8>> {
    let mut table = OffsetTable::new();
    let partition = Partition { topic: "t".into(), number: 0 };
    _ = table.apply_origin(&Origin::new(partition, TopicId([7; 16]), None, 5, OriginCause::Group), Lsn(1));
    let encoded = match Entry::decode(payload) {
        Ok(Entry::Block(block)) => {
            _ = table.apply_ranges(block.ranges(), Lsn(2));
            block_of(&block)
        }
        Ok(Entry::Origin(origin)) => {
            _ = table.apply_origin(&origin, Lsn(2));
            Some(origin.encode())
        }
        Ok(Entry::Handover(handover)) => {
            _ = table.apply_handover(&handover, Lsn(2));
            Some(handover.encode())
        }
        Ok(Entry::OffsetTable(table)) => Some(table.encode()),
        Ok(_) => None,
        Err(e) => {
            assert!(e.at <= payload.len(), "{e:?}");
            None
        }
    };
    let Ok(Entry::OffsetTable(again)) = Entry::decode(&table.encode()).map_err(|e| panic!("{e}")) else {
        panic!("no table")
    };
    assert!(again.iter().eq(table.iter()));
    encoded
}

/// A block of the same ranges and records, if all of them can be read.
fn block_of(block: &Block<'_>) -> Option<Vec<u8>> {
    let mut builder = BlockBuilder::new();
    for range in block.ranges() {
        builder.range(&range.partition, range.topic_id, range.from);
    }
    let mut count = 0;
    for record in block.records() {
        let record: BlockRecord<'_> = record.ok()?;
        let range = &block.ranges()[record.range];
        let message = Message {
            partition: &range.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: record.timestamp_type,
            key: record.key,
            value: record.value,
            headers: &record.headers,
        };
        builder.push(record.range, &message);
        count += 1;
    }
    assert_eq!(count, block.len());
    for (number, range) in block.ranges().iter().enumerate() {
        builder.advance(number, range.next);
    }
    Some(builder.seal().parts().concat())
}

/// The payload, and whether it is one that was made and not harmed.
fn payload(input: &[u8]) -> (Vec<u8>, bool) {
    let mut input = Input(input);
    match input.byte() % 7 {
        0 => (input.0.to_vec(), false),
        1 => ([&[0xB5, b'S', b'W', b'B', 1, input.byte() % 5, 0, 0], input.0].concat(), false),
        kind => {
            let harms: Vec<_> = (0..input.byte() % 8).map(|_| (input.short(), input.byte())).collect();
            let mut payload = made(kind, &mut input);
            let whole = harms.is_empty();
            for (at, bits) in harms {
                if let Some(byte) = payload.get_mut(at) {
                    *byte ^= bits;
                }
            }
            (payload, whole)
        }
    }
}

fn partition(input: &mut Input<'_>) -> (Partition, TopicId) {
    let names = ["", "t", "orders", "zahlungen-\u{fc}"];
    let topic = names[usize::from(input.byte()) % names.len()];
    (Partition { topic: topic.into(), number: i32::from(input.byte()) }, TopicId([input.byte(); 16]))
}

fn bytes(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let length = input.byte();
    (length != 255).then(|| input.bytes(usize::from(length) % 64))
}

/// An entry, by the encoders.
fn made(kind: u8, input: &mut Input<'_>) -> Vec<u8> {
    match kind {
        2 => {
            let (partition, id) = partition(input);
            let previous = (input.byte() % 2 == 1).then_some(input.short() as i64);
            let causes = [OriginCause::Earliest, OriginCause::Latest, OriginCause::Group, OriginCause::NewPartition];
            let cause = causes[usize::from(input.byte()) % causes.len()];
            Origin::new(partition, id, previous, input.short() as i64, cause).encode()
        }
        3 => {
            let (partition, id) = partition(input);
            let (from, log) = (input.short() as i64, (input.byte() % 2 == 1).then_some(LogId([input.byte(); 16])));
            Handover::new(partition, id, from, from + input.short() as i64, log).encode()
        }
        4 => {
            let mut table = OffsetTable::new();
            for lsn in 0..u64::from(input.byte() % 16) {
                let (partition, id) = partition(input);
                let origin = Origin::new(partition, id, None, input.short() as i64, OriginCause::Earliest);
                _ = table.apply_origin(&origin, Lsn(lsn));
            }
            table.encode()
        }
        _ => {
            let mut builder = BlockBuilder::new();
            let mut ranges = Vec::new();
            for _ in 0..1 + input.byte() % 4 {
                let (partition, id) = partition(input);
                let from = input.short() as i64;
                builder.range(&partition, id, from);
                ranges.push((partition, from));
            }
            for _ in 0..input.byte() % 16 {
                let range = usize::from(input.byte()) % ranges.len();
                let (partition, next) = &mut ranges[range];
                let offset = *next + i64::from(input.byte() % 4);
                *next = offset + 1;
                let (key, value) = (bytes(input), bytes(input));
                let headers: Vec<_> =
                    (0..input.byte() % 4).map(|_| (bytes(input).unwrap_or_default(), bytes(input))).collect();
                let headers: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
                let message = Message {
                    partition,
                    offset,
                    timestamp: input.short() as i64 - 1,
                    timestamp_type: input.byte(),
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers: &headers,
                };
                builder.push(range, &message);
            }
            builder.seal().parts().concat()
        }
    }
}

/// The seeds, by name.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let record = |range: u8, skip: u8| {
        let fixed = [range, skip, 3, b'k', b'e', b'y', 5, b'v', b'a', b'l', b'u', b'e'];
        [&fixed[..], &[1, 1, b'h', 255], &[0, 4, 1]].concat()
    };
    let block = |harms: &[u8]| {
        let ranges = [1, 2, 0, 1, 5, 0, 3, 7, 2, 0, 1];
        let records = [vec![4], record(0, 0), record(1, 3), record(0, 1), record(1, 0)].concat();
        [&[5, (harms.len() / 3) as u8][..], harms, &ranges, &records].concat()
    };
    let raw = |kind: u8, made: &[u8]| [&[0][..], &self::made(kind, &mut Input(made))].concat();
    let mark = CommitMark::new(LogId([1; 16]), TopicId([2; 16]), Lsn(3), 4).encode();
    vec![
        ("empty", vec![]),
        ("block", block(&[])),
        ("block-raw", raw(5, &block(&[])[2..])),
        ("block-without-records", vec![5, 0, 0, 1, 0, 1, 5]),
        ("block-count", block(&[12, 0, 1])),
        ("block-huge-count", block(&[14, 0, 0xff, 15, 0, 0x7f])),
        ("block-ranges", block(&[8, 0, 0x40, 10, 0, 4])),
        ("block-reserved", block(&[6, 0, 1])),
        ("block-below-zero", block(&[23, 0, 0x80])),
        ("origin", vec![2, 0, 2, 3, 9, 1, 4, 0, 2, 8, 0]),
        ("origin-cause", vec![2, 1, 8, 0, 0x80, 2, 3, 9, 1, 4, 0, 2, 8, 0]),
        ("origin-raw", raw(2, &[1, 3, 9, 0, 0, 0, 1, 8, 0])),
        ("handover", vec![3, 0, 1, 2, 9, 5, 0, 1, 77, 3, 0]),
        ("handover-flag", vec![3, 1, 8, 0, 2, 1, 2, 9, 5, 0, 1, 77, 3, 0]),
        ("handover-raw", raw(3, &[3, 2, 9, 5, 0, 0, 77, 3, 0])),
        ("table", vec![4, 0, 3, 1, 0, 1, 5, 0, 2, 1, 1, 6, 0, 3, 0, 2, 7, 1]),
        ("table-count", vec![4, 1, 8, 0, 0xf0, 3, 1, 0, 1, 5, 0, 2, 1, 1, 6, 0, 3, 0, 2, 7, 1]),
        ("table-raw", raw(4, &[2, 1, 0, 1, 5, 0, 2, 1, 1, 6, 0])),
        ("headed", [&[1, 1][..], &[0xff; 40]].concat()),
        ("commit-mark", [&[0][..], mark.as_bytes()].concat()),
    ]
}
