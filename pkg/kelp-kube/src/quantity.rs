//! Kubernetes' quantities: `100m`, `64Mi`, `1e3`, `1.5G`.

/// A quantity in thousandths, rounded up, as Kubernetes rounds what is smaller. It is `NUMBER[SUFFIX]`, where the
/// suffix is n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei, or e and a decimal exponent.
pub(crate) fn thousandths(text: &str) -> Result<i128, String> {
    let bad = || format!("invalid quantity {text:?}: it is a number such as 2, 500m, 64Mi or 1e3");
    let (minus, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = rest
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(rest.len());
    let (digits, suffix) = rest.split_at(end);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') || part.len() + whole.len() > 18
    {
        return Err(bad());
    }
    let (base, exponent) = scale(suffix).ok_or_else(bad)?;
    let digits: i128 = format!("{whole}{part}").parse().map_err(|_| bad())?;
    // digits / 10^places * base^exponent * 1000
    let mut upper = digits.checked_mul(1000).ok_or_else(bad)?;
    let mut lower = 10_i128.pow(part.len() as u32);
    let power = base.checked_pow(exponent.unsigned_abs()).ok_or_else(bad)?;
    let side = if exponent < 0 { &mut lower } else { &mut upper };
    *side = side.checked_mul(power).ok_or_else(bad)?;
    let rounded = (upper + lower - 1) / lower;
    Ok(if minus { -rounded } else { rounded })
}

/// A quantity in whole units, rounded up: bytes.
pub(crate) fn units(text: &str) -> Result<u64, String> {
    let thousandths = thousandths(text)?;
    let too = |how: &str| format!("invalid quantity {text:?}: it is {how}");
    if thousandths < 0 {
        return Err(too("negative"));
    }
    u64::try_from((thousandths + 999) / 1000)
        .ok()
        .filter(|units| i64::try_from(*units).is_ok())
        .ok_or_else(|| too("too large"))
}

/// Base and exponent of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (2, 10),
        "Mi" => (2, 20),
        "Gi" => (2, 30),
        "Ti" => (2, 40),
        "Pi" => (2, 50),
        "Ei" => (2, 60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            ((-18..=18).contains(&exponent)).then_some((10, exponent))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_decimal_binary_or_exponents() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("0.1", Some(100)),
            (".5", Some(500)),
            ("1.", Some(1000)),
            ("2.5k", Some(2_500_000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("1e-3", Some(1)),
            ("64Mi", Some(67_108_864_000)),
            ("1u", Some(1)),
            ("-1", Some(-1000)),
            ("+2", Some(2000)),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1 ", None),
            ("1KB", None),
            ("1mi", None),
            ("e3", None),
            ("0x10", None),
            ("1e100", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(thousandths(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn bytes_are_whole_and_fit() {
        assert_eq!(units("1.5Ki"), Ok(1536));
        assert_eq!(units("1m"), Ok(1));
        assert_eq!(units("128974848"), Ok(128_974_848));
        assert!(units("-1").is_err());
        assert!(units("16Ei").is_err());
    }
}
