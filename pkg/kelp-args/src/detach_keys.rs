//! `--detach-keys`: what a terminal has to send to detach.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The bytes that detach, one after the other; none if nothing does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DetachKeys(pub Vec<u8>);

impl Default for DetachKeys {
    /// Ctrl-P, then Ctrl-Q.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Keys with commas between them, each a character of ASCII or `ctrl-` and one of `a-z`, `@`,
    /// `[`, `\`, `]`, `^` and `_`. An empty text is no key at all.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let keys: Option<Vec<_>> = text.split(',').map(key).collect();
        let keys = keys.ok_or_else(|| {
            Error::invalid(
                "detach keys",
                text,
                "use characters and ctrl-KEY with commas between them, KEY one of a-z @ [ \\ ] ^ _",
            )
        })?;
        Ok(Self(keys))
    }
}

/// As it is parsed.
impl fmt::Display for DetachKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match byte {
                1..=26 => write!(formatter, "{comma}ctrl-{}", char::from(byte | 0x60))?,
                0..=31 => write!(formatter, "{comma}ctrl-{}", char::from(byte | 0x40))?,
                _ => write!(formatter, "{comma}{}", char::from(*byte))?,
            }
        }
        Ok(())
    }
}

fn key(text: &str) -> Option<u8> {
    match (text.strip_prefix("ctrl-"), text.as_bytes()) {
        // What a terminal sends while Ctrl is held: the low five bits.
        (Some(rest), _) => match rest.as_bytes() {
            [byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Some(byte & 0x1f),
            _ => None,
        },
        (None, [byte @ 0x20..=0x7e]) => Some(*byte),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_bytes() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        for text in [
            "",
            "a",
            "ctrl-a,x",
            "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
        ] {
            assert_eq!(text.parse::<DetachKeys>().unwrap().to_string(), text);
        }
        for (text, bytes) in [
            ("", &[][..]),
            ("a", b"a"),
            ("ctrl-a,X", &[1, b'X']),
            (
                "ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_",
                &[0, 27, 28, 29, 30, 31],
            ),
        ] {
            assert_eq!(text.parse(), Ok(DetachKeys(bytes.to_vec())), "{text}");
        }
        for text in [
            "ctrl-", "ctrl-A", "ctrl-pp", "ab", "a,,b", ",", "ä", "ctrl-1",
        ] {
            assert_eq!(
                text.parse::<DetachKeys>().unwrap_err().to_string(),
                format!(
                    "invalid detach keys {text:?}: use characters and ctrl-KEY with commas between \
                     them, KEY one of a-z @ [ \\ ] ^ _"
                )
            );
        }
    }
}
