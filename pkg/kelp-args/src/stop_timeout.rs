//! `--stop-timeout` and `--time`: how long a container has to stop.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// How long a container has, from the signal that asks it to stop to the one that kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopTimeout {
    /// So long.
    After(Duration),
    /// As long as it takes.
    Never,
}

impl Default for StopTimeout {
    /// Ten seconds.
    fn default() -> Self {
        Self::After(Duration::from_secs(10))
    }
}

impl FromStr for StopTimeout {
    type Err = Error;

    /// Whole seconds; -1 for as long as it takes.
    fn from_str(text: &str) -> Result<Self, Error> {
        match scalar::number::<u32>(text) {
            Some(seconds) => Ok(Self::After(Duration::from_secs(seconds.into()))),
            None if text == "-1" => Ok(Self::Never),
            None => Err(Error::invalid(
                "timeout",
                text,
                "use whole seconds, or -1 for no end",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_in_seconds() {
        assert_eq!("10".parse(), Ok(StopTimeout::default()));
        assert_eq!("0".parse(), Ok(StopTimeout::After(Duration::ZERO)));
        assert_eq!("-1".parse(), Ok(StopTimeout::Never));
        for text in ["", "-2", "1.5", "10s", "4294967296"] {
            assert_eq!(
                text.parse::<StopTimeout>().unwrap_err().to_string(),
                format!("invalid timeout {text:?}: use whole seconds, or -1 for no end")
            );
        }
    }
}
