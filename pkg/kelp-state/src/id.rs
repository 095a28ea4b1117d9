//! Container ids: 64 hexadecimal digits, 12 of them shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A container's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new, random id.
    pub fn random() -> Self {
        let mut bytes = [0_u8; 32];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )
            .unwrap_or(0);
        }
        Self(hex(&bytes))
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

impl FromStr for ContainerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(digits) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("\"{text}\" is not an id of 64 hexadecimal digits"))
    }
}

impl TryFrom<String> for ContainerId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_well_formed_and_differ() {
        let (first, second) = (ContainerId::random(), ContainerId::random());
        assert_ne!(first, second);
        assert_eq!(first.as_str().parse(), Ok(first.clone()));
        assert_eq!(first.short().len(), 12);
    }

    #[test]
    fn only_64_lower_case_digits_are_an_id() {
        for text in ["", "abc", &"A".repeat(64), &"../".repeat(22)] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }
}
