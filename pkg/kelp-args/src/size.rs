//! Sizes in bytes: `64m`, `1.5g`, `512`, `10kb`, `1KiB`; powers of 1024, or of 1000 for logs.

/// Parses a size whose units are powers of 1024, however they are written.
pub fn bytes(text: &str) -> Result<u64, String> {
    scaled(text, 1024.0)
}

/// Parses a size whose units are powers of 1000, as those of a log's size are.
pub fn decimal(text: &str) -> Result<u64, String> {
    scaled(text, 1000.0)
}

fn scaled(text: &str, base: f64) -> Result<u64, String> {
    let bad = || format!("invalid size {text:?}: a size is a number with b, k, m, g or t");
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(end);
    let number: f64 = digits.parse().map_err(|_| bad())?;
    let power = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(bad()),
    };
    let value = number * base.powi(power);
    if value.is_finite() && value < 9.0e18 {
        return Ok(value as u64);
    }
    Err(bad())
}

/// A limit: a size, or -1 for none.
pub fn limit(text: &str) -> Result<i64, String> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    bytes(text).map(|value| value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, value) in [
            ("512", 512),
            ("1k", 1024),
            ("10kb", 10240),
            ("1.5g", 1_610_612_736),
            ("64M", 67_108_864),
            ("1KiB", 1024),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3k", "1e3", "99999999p"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(limit("-1"), Ok(-1));
        assert_eq!(decimal("10mb"), Ok(10_000_000));
    }
}
