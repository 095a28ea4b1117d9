//! `--volumes-from`: the mounts of another container.

use std::str::FromStr;

use crate::Error;

/// A container whose volumes are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// Its name or id.
    pub container: String,
    /// Whether they can't be written; as there where nothing is said.
    pub read_only: Option<bool>,
}

impl FromStr for VolumesFrom {
    type Err = Error;

    /// `CONTAINER[:ro|rw|z,…]`; labels have no meaning without SELinux.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint| Error::invalid("value of --volumes-from", text, hint);
        let (container, options) = text.split_once(':').unwrap_or((text, ""));
        if container.is_empty() {
            return Err(invalid("a container's name or id comes first"));
        }
        let mut read_only = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "rw" if read_only.is_some() => {
                    return Err(invalid("ro and rw may be said once"));
                }
                "ro" => read_only = Some(true),
                "rw" => read_only = Some(false),
                "z" => {}
                _ => return Err(invalid("the options are ro, rw and z")),
            }
        }
        Ok(Self {
            container: container.to_owned(),
            read_only,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_and_its_options() {
        for (text, container, read_only) in [
            ("web", "web", None),
            ("web:z", "web", None),
            ("web:ro,z", "web", Some(true)),
            ("web:rw", "web", Some(false)),
        ] {
            let container = container.to_owned();
            let expected = VolumesFrom {
                container,
                read_only,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", ":ro", "web:ro,rw", "web:Z", "web:/data"] {
            assert!(text.parse::<VolumesFrom>().is_err(), "{text}");
        }
    }
}
