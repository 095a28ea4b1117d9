//! `--restart`: what happens when a container has ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// What happens when a container has ended and nobody stopped it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It starts again if it failed.
    OnFailure {
        /// At most so often; without end where there is no number.
        retries: Option<u32>,
    },
    /// It starts again.
    Always,
    /// It starts again, and not at boot if it was stopped before.
    UnlessStopped,
}

impl FromStr for RestartPolicy {
    type Err = Error;

    /// `no`, `on-failure[:RETRIES]`, `always` or `unless-stopped`; empty text is `no`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let policy = match text {
            "" | "no" => Some(Self::No),
            "always" => Some(Self::Always),
            "unless-stopped" => Some(Self::UnlessStopped),
            "on-failure" => Some(Self::OnFailure { retries: None }),
            _ => text
                .strip_prefix("on-failure:")
                .and_then(scalar::number)
                .map(|retries| Self::OnFailure {
                    retries: Some(retries),
                }),
        };
        policy.ok_or_else(|| {
            Error::invalid(
                "restart policy",
                text,
                "use no, on-failure[:RETRIES], always or unless-stopped",
            )
        })
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => formatter.write_str("no"),
            Self::OnFailure { retries: None } => formatter.write_str("on-failure"),
            Self::OnFailure {
                retries: Some(retries),
            } => write!(formatter, "on-failure:{retries}"),
            Self::Always => formatter.write_str("always"),
            Self::UnlessStopped => formatter.write_str("unless-stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_shown() {
        for text in [
            "no",
            "on-failure",
            "on-failure:3",
            "always",
            "unless-stopped",
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("".parse(), Ok(RestartPolicy::No));
        for text in ["yes", "on-failure:", "on-failure:-1", "always:3"] {
            assert_eq!(
                text.parse::<RestartPolicy>().unwrap_err().to_string(),
                format!(
                    "invalid restart policy {text:?}: use no, on-failure[:RETRIES], always or \
                     unless-stopped"
                )
            );
        }
    }
}
