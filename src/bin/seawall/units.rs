//! Sizes, durations and ranges as people write them.

use std::time::Duration;

use anyhow::ensure;

use crate::failure::Listing;

const SIZES: &str = "a size is a whole number and a unit (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB), such as 64MiB";

/// `64MiB`, `20 GB`, `1000`: bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| SIZES.to_owned())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(SIZES.to_owned()),
    };
    number.checked_mul(unit).ok_or_else(|| "larger than a number can be".to_owned())
}

/// A number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        number => number.map_err(|_| "a whole number, at least 1".to_owned()),
    }
}

/// `200ms`, `5s`, `12h`, `7d`, `1h 30m`: a duration that is not 0; a day has 24 hours.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |_| "a duration is a number and a unit up to weeks, such as 200ms, 12h or 7d".to_owned();
    let span: jiff::Span = text.parse().map_err(wrong)?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(wrong)?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("it must be longer than 0".to_owned()),
    }
}

/// `1763647380000`, `2025-11-20T14:03:00Z`: a batch time, a number or the milliseconds since 1970 of a moment.
pub fn batch_time(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let moment: jiff::Timestamp =
        text.parse().map_err(|e| format!("a batch time is a number, or a time such as 2025-11-20T14:03:00Z ({e})"))?;
    u64::try_from(moment.as_millisecond()).map_err(|_| "before 1970".to_owned())
}

/// Refuses a range that ends before it begins, each end with the name of its option.
pub fn in_order(from: (&str, Option<u64>), to: (&str, Option<u64>)) -> anyhow::Result<()> {
    if let (Some(first), Some(last)) = (from.1, to.1) {
        let (from, to) = (from.0, to.0);
        let what = format!("{from} {first} lies above {to} {last}, so that nothing lies between; exchange the two");
        ensure!(first <= last, Listing::new(what, None));
    }
    Ok(())
}

/// Bytes for people: `31.2 MB`.
pub fn bytes(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// A figure without its decimals.
#[expect(clippy::cast_possible_truncation, reason = "what no number is becomes the nearest one")]
pub fn whole(figure: f64) -> u64 {
    figure as u64
}

/// A time for people: `850 ns`, `104 µs`, `1.9 ms`, `2.0 s`; of ten and more of a unit no decimals.
pub fn time(time: Duration) -> String {
    let nanos = time.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    match units.into_iter().find(|(unit, _)| nanos >= *unit) {
        Some((unit, name)) if nanos < 10 * unit => format!("{}.{} {name}", nanos / unit, nanos * 10 / unit % 10),
        Some((unit, name)) => format!("{} {name}", nanos / unit),
        None => format!("{nanos} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        for (text, bytes) in [("0", 0), ("64MiB", 64 << 20), ("20 GiB", 20 << 30), ("1kB", 1000), ("2k", 2048)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5GiB", "5 parsecs", "99999999999TiB", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(size("1.5MiB").unwrap_err().contains("whole number"));
    }

    #[test]
    fn batch_times_are_numbers_or_moments() {
        for (text, time) in
            [("7", 7), ("1970-01-01T00:00:01.5Z", 1500), ("2025-11-20T15:03:00+01:00", 1_763_647_380_000)]
        {
            assert_eq!(batch_time(text), Ok(time), "{text}");
        }
        for text in ["", "-1", "1969-12-31T23:59:59Z", "2025-11-20T14:03:00", "soon"] {
            assert!(batch_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_from_milliseconds_to_weeks() {
        let day = 24 * 3600;
        for (text, millis) in [("200ms", 200), ("5s", 5000), ("1h 30m", 5_400_000), ("7d", 7 * day * 1000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "200", "soon", "-5s", "0s", "1mo"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_written_with_one_decimal() {
        for (number, text) in [(999, "999 B"), (1000, "1.0 kB"), (31_249_999, "31.2 MB"), (2_000_000_000, "2.0 GB")] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_are_written_with_two_digits_or_more() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1999, "1.9 µs"),
            (104_900, "104 µs"),
            (10_000_000, "10 ms"),
            (2_050_000_000, "2.0 s"),
        ] {
            assert_eq!(time(Duration::from_nanos(nanos)), text);
        }
    }
}
