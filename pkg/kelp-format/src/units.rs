//! Sizes and times as podman and docker print them.

use std::time::{Duration, SystemTime};

use jiff::{Timestamp, tz::TimeZone};

/// A size with three or four digits and a decimal unit: `4.26 MB`, `961 MB`.
pub fn size(bytes: u64) -> String {
    let (number, unit) = scaled(
        bytes as f64,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
    );
    format!("{number} {unit}")
}

/// A size with a binary unit: `64MiB`.
pub fn binary_size(bytes: u64) -> String {
    let (number, unit) = scaled(
        bytes as f64,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    );
    format!("{number}{unit}")
}

fn scaled(number: f64, base: f64, units: &[&'static str]) -> (String, &'static str) {
    let (number, unit) = scaled_to(number, base, units);
    (significant(number, 3), unit)
}

fn scaled_to(mut number: f64, base: f64, units: &[&'static str]) -> (f64, &'static str) {
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    (number, units[unit])
}

/// A size as docker prints it, with four digits: `4.261MB`.
pub fn docker_size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (number, unit) = scaled_to(bytes as f64, 1000.0, &units);
    format!("{}{unit}", significant(number, 4))
}

/// A size as podman prints it in a list of containers: `4.26MB`.
pub fn compact_size(bytes: u64) -> String {
    size(bytes).replace(' ', "")
}

/// The first digits of a number, without zeros that say nothing (`%.3g`).
fn significant(number: f64, digits: usize) -> String {
    let before = [10.0, 100.0, 1000.0]
        .iter()
        .filter(|power| number >= **power)
        .count();
    let digits = digits.saturating_sub(1 + before);
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// A span in the words of podman: `2 minutes`, `About an hour`.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded to the nearest one.
    let hours = (time.as_secs_f64() / 3600.0).round() as u64;
    match seconds {
        0 => return "Less than a second".to_owned(),
        1 => return "1 second".to_owned(),
        2..60 => return format!("{seconds} seconds"),
        _ => {}
    }
    match minutes {
        1 => return "About a minute".to_owned(),
        2..60 => return format!("{minutes} minutes"),
        _ => {}
    }
    match hours {
        0 | 1 => "About an hour".to_owned(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago: `2 minutes ago`.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    format!("{} ago", span(now.duration_since(time).unwrap_or_default()))
}

/// RFC 3339 with as many digits of the second as it takes, in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    timestamp(time).map_or_else(String::new, |time| time.to_string())
}

/// RFC 3339 with as many digits of the second as it takes, in the local zone; `Z` in UTC.
pub fn rfc3339_local(time: SystemTime) -> String {
    let Some(time) = timestamp(time) else {
        return String::new();
    };
    let offset = TimeZone::system().to_offset(time);
    if offset.is_zero() {
        return time.to_string();
    }
    time.display_with_offset(offset).to_string()
}

/// Go's way to print a time: `2026-01-02 15:04:05.123456789 +0000 UTC`, in the local zone.
pub fn go_time(time: SystemTime) -> String {
    go_time_in(time, TimeZone::system())
}

fn go_time_in(time: SystemTime, zone: TimeZone) -> String {
    let Some(time) = timestamp(time) else {
        return String::new();
    };
    let zoned = time.to_zoned_datetime(zone);
    let fraction = zoned.strftime("%.9f").to_string();
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!(
        "{}{fraction} {}",
        zoned.strftime("%Y-%m-%d %H:%M:%S"),
        zoned.strftime("%z %Z")
    )
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

/// Parses what --since and --until take: RFC 3339, a civil date or time, seconds since 1970, or a
/// span of Go's that counts back from `now`.
pub fn parse_time(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return system(time, text);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = time.to_zoned_datetime(TimeZone::system())
    {
        return system(zoned.timestamp(), text);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .ok()
            .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
            .ok_or_else(|| format!("\"{text}\" is no time"));
    }
    match parse_span(text) {
        Some(span) => Ok(now.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH)),
        None => Err(format!(
            "\"{text}\" is no time: use 2026-01-02T15:04:05, seconds since 1970, or a span such as \
             10m"
        )),
    }
}

fn system(time: Timestamp, text: &str) -> Result<SystemTime, String> {
    SystemTime::try_from(time).map_err(|_| format!("\"{text}\" is out of range"))
}

/// A span of Go's: `1h30m`, `1.5s`, `300ms`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok()
}

/// A span as Go prints it: `1h0m30s`, `1.5s`, `300ms`.
pub fn go_span(span: Duration) -> String {
    let nanoseconds = u128::from(span.subsec_nanos());
    let seconds = span.as_secs();
    let (whole, fraction, scale, unit) = match (seconds, nanoseconds) {
        (0, 0) => return "0s".to_owned(),
        (0, 1..1_000) => (nanoseconds, 0, 0, "ns"),
        (0, 1_000..1_000_000) => (nanoseconds / 1_000, nanoseconds % 1_000, 3, "µs"),
        (0, _) => (nanoseconds / 1_000_000, nanoseconds % 1_000_000, 6, "ms"),
        _ => (u128::from(seconds % 60), nanoseconds, 9, "s"),
    };
    let before = match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    if fraction == 0 {
        return format!("{before}{whole}{unit}");
    }
    let digits = format!("{fraction:0scale$}");
    format!("{before}{whole}.{}{unit}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (4_260_000, "4.26 MB"),
            (4_200_000, "4.2 MB"),
            (42_600_000, "42.6 MB"),
            (961_000_000, "961 MB"),
            (1_500_000_000, "1.5 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(binary_size(64 << 20), "64MiB");
        assert_eq!(docker_size(4_261_499), "4.261MB");
        assert_eq!(docker_size(12), "12B");
        assert_eq!(compact_size(4_261_499), "4.26MB");
    }

    #[test]
    fn spans_are_podmans_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (46 * 60, "46 minutes"),
            (3599, "59 minutes"),
            (3600 + 29 * 60, "About an hour"),
            (3600 + 31 * 60, "2 hours"),
            (2 * 3600, "2 hours"),
            (47 * 3600, "47 hours"),
            (49 * 3600, "2 days"),
            (15 * 86400, "2 weeks"),
            (90 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn times_have_the_digits_they_need() {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 120_000_000);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.12Z");
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(rfc3339(whole), "2023-11-14T22:13:20Z");
        let local = rfc3339_local(time);
        assert_eq!(parse_time(&local, time), Ok(time), "{local}");
        let utc = |time| go_time_in(time, TimeZone::UTC);
        assert_eq!(utc(time), "2023-11-14 22:13:20.12 +0000 UTC");
        assert_eq!(utc(whole), "2023-11-14 22:13:20 +0000 UTC");
    }

    #[test]
    fn times_are_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = |text: &str| {
            parse_time(text, now).map(|time| {
                time.duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs()
            })
        };
        assert_eq!(seconds("1970-01-02T00:00:00Z"), Ok(86400));
        assert_eq!(seconds("86400.5"), Ok(86400));
        assert_eq!(seconds("10m"), Ok(1_000_000 - 600));
        assert_eq!(seconds("1h30m"), Ok(1_000_000 - 5400));
        assert!(seconds("yesterday").is_err());
        assert!(seconds("10").is_ok());
        assert!(seconds("").is_err());
    }

    #[test]
    fn spans_print_as_in_go() {
        for (text, shown) in [
            ("0s", "0s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1h1s", "1h0m1s"),
            ("1.5s", "1.5s"),
            ("300ms", "300ms"),
            ("1.25ms", "1.25ms"),
            ("1500us", "1.5ms"),
            ("7us", "7µs"),
            ("10ns", "10ns"),
            ("100h", "100h0m0s"),
            ("61.001s", "1m1.001s"),
        ] {
            assert_eq!(parse_span(text).map(go_span).as_deref(), Some(shown));
        }
    }
}
