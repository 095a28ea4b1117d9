//! `--log-opt`: how a log is kept.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, LogTag, scalar, size};

/// One option of a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogOption {
    /// The file it is in.
    Path(PathBuf),
    /// Bytes after which it is rotated; `None` for never.
    MaxSize(Option<u64>),
    /// How many files are kept, at least one.
    MaxFile(u32),
    /// A template for the tag of each line.
    Tag(LogTag),
    /// A field for each line in the journal.
    Label {
        /// Its name, in capital letters.
        key: String,
        /// Its value, which may be empty.
        value: String,
    },
}

impl FromStr for LogOption {
    type Err = Error;

    /// `NAME=VALUE`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("log option", text, hint);
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if value.is_empty() {
            return Err(invalid(
                "use path=, max-size=, max-file=, tag= or label=KEY=VALUE",
            ));
        }
        Ok(match name {
            "path" => Self::Path(PathBuf::from(value)),
            "max-size" if matches!(value, "0" | "-1") => Self::MaxSize(None),
            "max-size" => {
                Self::MaxSize(Some(size::decimal(value).map_err(|error| invalid(&error))?))
            }
            "max-file" => match scalar::number(value) {
                Some(count) if count > 0 => Self::MaxFile(count),
                _ => return Err(invalid("max-file is a number from 1 on")),
            },
            "tag" => Self::Tag(value.parse()?),
            "label" => {
                let (key, value) = value.split_once('=').unwrap_or((value, ""));
                if !is_field(key) {
                    return Err(invalid(
                        "a label is KEY=VALUE, KEY of A-Z, 0-9 and _, beginning with a letter",
                    ));
                }
                if is_taken(key) {
                    return Err(invalid("the journal has that field already"));
                }
                Self::Label {
                    key: key.to_owned(),
                    value: value.to_owned(),
                }
            }
            _ => {
                return Err(invalid(
                    "use path=, max-size=, max-file=, tag= or label=KEY=VALUE",
                ));
            }
        })
    }
}

/// Whether the journal takes a field of this name from a program (systemd.journal-fields(7)).
fn is_field(key: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let first = key.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_uppercase()) && key.len() <= 64 && key.bytes().all(known)
}

/// Whether lines have the field anyway, or what reads them goes by it.
fn is_taken(key: &str) -> bool {
    let own = ["MESSAGE", "PRIORITY", "IMAGE_NAME"];
    let families = ["CONTAINER_", "SYSLOG_", "KELP_"];
    own.contains(&key) || families.iter().any(|family| key.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_options() {
        for (text, option) in [
            ("path=/tmp/a=b", LogOption::Path("/tmp/a=b".into())),
            ("max-size=10mb", LogOption::MaxSize(Some(10_000_000))),
            ("max-size=-1", LogOption::MaxSize(None)),
            ("max-file=3", LogOption::MaxFile(3)),
            (
                "tag={{.Name}}",
                LogOption::Tag("{{.Name}}".parse().unwrap()),
            ),
            (
                "label=A_1=b=c",
                LogOption::Label {
                    key: "A_1".to_owned(),
                    value: "b=c".to_owned(),
                },
            ),
        ] {
            assert_eq!(text.parse(), Ok(option), "{text}");
        }
        for (text, said) in [
            (
                "size=1",
                "invalid log option \"size=1\": use path=, max-size=, max-file=, tag= or \
                 label=KEY=VALUE",
            ),
            (
                "path",
                "invalid log option \"path\": use path=, max-size=, max-file=, tag= or \
                 label=KEY=VALUE",
            ),
            (
                "max-file=0",
                "invalid log option \"max-file=0\": max-file is a number from 1 on",
            ),
            (
                "max-size=big",
                "invalid log option \"max-size=big\": invalid size \"big\": a size is a number with b, \
                 k, m, g or t",
            ),
            (
                "label==x",
                "invalid log option \"label==x\": a label is KEY=VALUE, KEY of A-Z, 0-9 and _, beginning \
                 with a letter",
            ),
            (
                "label=tier=x",
                "invalid log option \"label=tier=x\": a label is KEY=VALUE, KEY of A-Z, 0-9 and _, \
                 beginning with a letter",
            ),
            (
                "label=CONTAINER_ID=x",
                "invalid log option \"label=CONTAINER_ID=x\": the journal has that field already",
            ),
        ] {
            assert_eq!(text.parse::<LogOption>().unwrap_err().to_string(), said);
        }
    }
}
