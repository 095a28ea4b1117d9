//! `--uidmap` and `--gidmap`: ids of the container and what they are outside.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// `size` ids from `container` on are those from `source` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    pub container: u32,
    /// The first id outside.
    pub source: u32,
    /// Whether `source` is an id of the host (`@1000`), and not a place in the user's own ids: 0
    /// for the user, from 1 on the subordinate ones.
    pub source_is_host: bool,
    /// How many, at least one.
    pub size: u32,
}

impl FromStr for IdMapping {
    type Err = Error;

    /// `CONTAINER:[@]SOURCE[:SIZE]`; without a size it is one id.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("id mapping", text, hint);
        let forms = || invalid("use CONTAINER_ID:SOURCE_ID[:SIZE]");
        let fields: Vec<_> = text.split(':').collect();
        let (container, source, size) = match fields.as_slice() {
            [container, source] => (*container, *source, "1"),
            [container, source, size] => (*container, *source, *size),
            _ => return Err(forms()),
        };
        if container.starts_with(['+', 'u', 'g']) {
            return Err(invalid(
                "the flags +, u and g are not supported by kelp yet",
            ));
        }
        let source_is_host = source.starts_with('@');
        let number = |text: &str| scalar::number(text).ok_or_else(forms);
        let mapping = Self {
            container: number(container)?,
            source: number(source.strip_prefix('@').unwrap_or(source))?,
            source_is_host,
            size: number(size)?,
        };
        if mapping.size == 0 {
            return Err(invalid("the size must be at least 1"));
        }
        // The last number, (uid_t)-1, is no id.
        let fits = |first: u32| first.checked_add(mapping.size).is_some();
        if !fits(mapping.container) || !fits(mapping.source) {
            return Err(invalid("ids end at 4294967294"));
        }
        Ok(mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_has_two_ids_and_a_size() {
        let mapping = |container, source, source_is_host, size| IdMapping {
            container,
            source,
            source_is_host,
            size,
        };
        for (text, expected) in [
            ("0:1:1000", mapping(0, 1, false, 1000)),
            ("1000:0", mapping(1000, 0, false, 1)),
            ("0:@1000:1", mapping(0, 1000, true, 1)),
            ("0:0:4294967295", mapping(0, 0, false, u32::MAX)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, hint) in [
            ("", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            ("1", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            ("a:b:c", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            ("0:-1:1", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            ("0:@@1:1", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            ("0:1:2:3", "use CONTAINER_ID:SOURCE_ID[:SIZE]"),
            (
                "+5:@1004:1",
                "the flags +, u and g are not supported by kelp yet",
            ),
            (
                "u0:@1004",
                "the flags +, u and g are not supported by kelp yet",
            ),
            ("0:1:0", "the size must be at least 1"),
            ("1:0:4294967295", "ids end at 4294967294"),
        ] {
            assert_eq!(
                text.parse::<IdMapping>().unwrap_err().to_string(),
                format!("invalid id mapping {text:?}: {hint}")
            );
        }
    }
}
