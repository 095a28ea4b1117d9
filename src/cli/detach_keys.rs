//! The keys that detach from a container, as people write them: `ctrl-p,ctrl-q`.

/// What detaches where nothing else is said.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Parses a comma-separated list of keys, each a character or `ctrl-` and one of `a-z`, `@`, `[`,
/// `\`, `]`, `^` and `_`; an empty text is no key at all.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| {
            let bytes = match key.strip_prefix("ctrl-") {
                Some(rest) => rest.as_bytes(),
                None => key.as_bytes(),
            };
            let is_control = key.starts_with("ctrl-");
            match bytes {
                // The low five bits: what a terminal sends for the key with Ctrl held.
                [byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')] if is_control => Ok(byte & 0x1f),
                [byte] if !is_control && byte.is_ascii() => Ok(*byte),
                _ => Err(format!("unknown detach key '{key}'")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_bytes() {
        for (text, bytes) in [
            (DEFAULT, &[16, 17][..]),
            ("", &[]),
            ("a", b"a"),
            ("ctrl-a,x", &[1, b'x']),
            (
                "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
                &[0, 27, 28, 29, 30, 31],
            ),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(bytes), "{text}");
        }
        for text in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-pp", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
