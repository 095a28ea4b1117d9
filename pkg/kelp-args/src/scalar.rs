//! Numbers and truth values within arguments.

use std::str::FromStr;

/// A decimal number of digits alone: neither a sign nor white space.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A file mode in octal, with or without leading zeros: up to 7777.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = digits
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()?;
    (mode <= 0o7777).then_some(mode)
}

/// A truth value in the spellings of Go's `ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("255", Some(255)),
            ("256", None),
            ("+1", None),
            ("-1", None),
            (" 1", None),
            ("", None),
        ] {
            assert_eq!(number::<u8>(text), expected, "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        for (text, expected) in [
            ("700", Some(0o700)),
            ("01777", Some(0o1777)),
            ("0", Some(0)),
            ("8", None),
            ("10000", None),
            ("", None),
            ("+7", None),
        ] {
            assert_eq!(mode(text), expected, "{text}");
        }
    }

    #[test]
    fn truth_has_gos_spellings() {
        assert_eq!(boolean("True"), Some(true));
        assert_eq!(boolean("0"), Some(false));
        assert_eq!(boolean("yes"), None);
        assert_eq!(boolean(""), None);
    }
}
