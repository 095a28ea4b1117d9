//! `--pull`: when an image is pulled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Whether it is present or not.
    Always,
    /// If it is not present.
    #[default]
    Missing,
    /// Not at all.
    Never,
    /// If the registry's is another; one that is present does if the registry can't be asked.
    Newer,
}

impl FromStr for PullPolicy {
    type Err = Error;

    /// Also in the words of Kubernetes, in whatever case.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "always" => Ok(Self::Always),
            "missing" | "ifmissing" | "ifnotpresent" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            "newer" | "ifnewer" => Ok(Self::Newer),
            _ => Err(Error::invalid(
                "pull policy",
                text,
                "use always, missing, never or newer",
            )),
        }
    }
}

impl fmt::Display for PullPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Always => "always",
            Self::Missing => "missing",
            Self::Never => "never",
            Self::Newer => "newer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_names() {
        for (text, policy) in [
            ("always", PullPolicy::Always),
            ("missing", PullPolicy::Missing),
            ("IfNotPresent", PullPolicy::Missing),
            ("Never", PullPolicy::Never),
            ("newer", PullPolicy::Newer),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
        }
        for text in ["", "often", "always "] {
            assert_eq!(
                text.parse::<PullPolicy>().unwrap_err().to_string(),
                format!("invalid pull policy {text:?}: use always, missing, never or newer")
            );
        }
        assert_eq!(PullPolicy::default().to_string(), "missing");
    }
}
