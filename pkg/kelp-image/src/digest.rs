//! Digests of content, and hashing as the bytes go by.
//!
//! A digest that came from a registry, an archive or a user becomes part of a path or a URL only
//! through [`Digest`], whose text is an algorithm known here, a colon, and exactly the right number
//! of lower-case hex digits (OCI image specification, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::Error;

/// A hash algorithm that content may be named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, what practically every image uses.
    Sha256,
    /// SHA-512, which the specification allows.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits follow the colon.
    pub fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The name of some content: an algorithm and the hash in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The SHA-256 digest with these hex digits; `None` if they are not 64 lower-case ones.
    pub fn from_sha256_hex(hex: &str) -> Option<Self> {
        Self::new(Algorithm::Sha256, hex)
    }

    /// The digest with these hex digits, of the algorithm that has so many.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut algorithms = [Algorithm::Sha256, Algorithm::Sha512].into_iter();
        algorithms.find_map(|algorithm| Self::new(algorithm, hex))
    }

    fn new(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == algorithm.hex_length() && hex.bytes().all(digits)).then(|| Self {
            algorithm,
            hex: hex.into(),
        })
    }

    /// Whether some content is what it names; `what` is for the error.
    pub fn check(&self, what: &str, content: &[u8]) -> Result<(), Error> {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(content);
        self.is(what, hasher.finish())
    }

    /// Whether it is the digest that something has; `what` is for the error.
    pub fn is(&self, what: &str, actual: Self) -> Result<(), Error> {
        if *self == actual {
            return Ok(());
        }
        Err(Error::DigestMismatch {
            what: what.to_owned(),
            expected: self.clone(),
            actual,
        })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits alone: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 hex digits, as lists show them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.split_once(':')
            .and_then(|(name, hex)| {
                let algorithm = match name {
                    "sha256" => Algorithm::Sha256,
                    "sha512" => Algorithm::Sha512,
                    _ => return None,
                };
                Self::new(algorithm, hex)
            })
            .ok_or_else(|| Error::InvalidDigest(text.chars().take(160).collect()))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = Error;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self, Error> {
        digest.as_ref().parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes bytes as they go by.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        })
    }

    /// What it hashes with.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => Digest {
                algorithm: Algorithm::Sha256,
                hex: to_hex(&state.finalize()).into(),
            },
            State::Sha512(state) => Digest {
                algorithm: Algorithm::Sha512,
                hex: to_hex(&state.finalize()).into(),
            },
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn content_is_named() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"abc");
        assert!(hasher.finish().to_string().starts_with(
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        ));
    }

    #[test]
    fn only_exact_digests_parse() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        let hex = &EMPTY[7..];
        for bad in [
            "",
            "sha256",
            "sha256:",
            hex,
            &format!("sha256:{}", &hex[1..]),
            &format!("sha256:{hex}0"),
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("SHA256:{hex}"),
            &format!("sha512:{hex}"),
            &format!("md5:{}", &hex[..32]),
            &format!("sha256:../{}", &hex[3..]),
            &format!("sha256:{}\n", &hex[1..]),
            &format!("sha256:sha256:{hex}"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn json_is_the_text() {
        let digest: Digest = serde_json::from_str(&format!("\"{EMPTY}\"")).unwrap();
        assert_eq!(
            serde_json::to_string(&digest).unwrap(),
            format!("\"{EMPTY}\"")
        );
        assert!(serde_json::from_str::<Digest>("\"sha256:../../x\"").is_err());
    }
}
