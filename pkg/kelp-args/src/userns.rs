//! `--userns`: whose ids a container has.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, IdMapping, scalar};

/// The user namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Userns {
    /// What is usual, or what --uidmap and --gidmap say: empty text, or `private`.
    #[default]
    Private,
    /// The caller's: root inside is the user outside.
    Host,
    /// The user has these ids inside, its own where none is given.
    KeepId {
        /// User id.
        uid: Option<u32>,
        /// Group id.
        gid: Option<u32>,
        /// How many ids there are.
        size: Option<u32>,
    },
    /// Ids that no other container has.
    Auto {
        /// How many; as many as the image needs where none is given.
        size: Option<u32>,
        /// User ids that are mapped in any case.
        uid_mappings: Vec<IdMapping>,
        /// Group ids that are mapped in any case.
        gid_mappings: Vec<IdMapping>,
    },
    /// The user has no id inside.
    NoMap,
    /// That of another container.
    Container(String),
    /// That of a file.
    Path(PathBuf),
}

impl FromStr for Userns {
    type Err = Error;

    /// `host`, `private`, `keep-id[:OPTIONS]`, `auto[:OPTIONS]`, `nomap`, `container:NAME` or
    /// `ns:PATH`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let forms = || {
            Error::invalid(
                "user namespace",
                text,
                "use host, private, keep-id[:uid=N,gid=N,size=N], \
                 auto[:size=N,uidmapping=MAP,gidmapping=MAP], nomap, container:NAME or ns:PATH",
            )
        };
        let (mode, rest) = match text.split_once(':') {
            Some((mode, rest)) => (mode, Some(rest)),
            None => (text, None),
        };
        match (mode, rest) {
            ("" | "private", None) => Ok(Self::Private),
            ("host", None) => Ok(Self::Host),
            ("nomap", None) => Ok(Self::NoMap),
            ("keep-id", rest) => keep_id(rest).ok_or_else(forms),
            ("auto", rest) => auto(rest)?.ok_or_else(forms),
            ("container", Some(name)) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
            ("ns", Some(path)) if path.starts_with('/') => Ok(Self::Path(PathBuf::from(path))),
            _ => Err(forms()),
        }
    }
}

/// `KEY=VALUE` with commas between them.
fn options(rest: Option<&str>) -> impl Iterator<Item = Option<(&str, &str)>> {
    rest.into_iter()
        .flat_map(|rest| rest.split(','))
        .map(|option| option.split_once('='))
}

fn keep_id(rest: Option<&str>) -> Option<Userns> {
    let (mut uid, mut gid, mut size) = (None, None, None);
    for option in options(rest) {
        let (key, value) = option?;
        let place = match key {
            "uid" => &mut uid,
            "gid" => &mut gid,
            "size" => &mut size,
            _ => return None,
        };
        *place = Some(id(value)?);
    }
    Some(Userns::KeepId { uid, gid, size })
}

fn auto(rest: Option<&str>) -> Result<Option<Userns>, Error> {
    let mut size = None;
    let (mut uid_mappings, mut gid_mappings) = (Vec::new(), Vec::new());
    for option in options(rest) {
        match option {
            Some(("size", value)) => match id(value) {
                Some(value) => size = Some(value),
                None => return Ok(None),
            },
            Some(("uidmapping", value)) => uid_mappings.push(value.parse()?),
            Some(("gidmapping", value)) => gid_mappings.push(value.parse()?),
            _ => return Ok(None),
        }
    }
    Ok(Some(Userns::Auto {
        size,
        uid_mappings,
        gid_mappings,
    }))
}

/// The last number, (uid_t)-1, is no id.
fn id(text: &str) -> Option<u32> {
    scalar::number(text).filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_options() {
        let keep = |uid, gid, size| Userns::KeepId { uid, gid, size };
        for (text, mode) in [
            ("", Userns::Private),
            ("private", Userns::Private),
            ("host", Userns::Host),
            ("nomap", Userns::NoMap),
            ("keep-id", keep(None, None, None)),
            ("keep-id:uid=1,gid=2", keep(Some(1), Some(2), None)),
            ("keep-id:size=9", keep(None, None, Some(9))),
            (
                "auto:size=100,uidmapping=0:1:2",
                Userns::Auto {
                    size: Some(100),
                    uid_mappings: vec!["0:1:2".parse().unwrap()],
                    gid_mappings: Vec::new(),
                },
            ),
            ("container:web", Userns::Container("web".to_owned())),
            ("ns:/proc/1/ns/user", Userns::Path("/proc/1/ns/user".into())),
        ] {
            assert_eq!(text.parse(), Ok(mode), "{text}");
        }
        for text in [
            "Host",
            "host:",
            "keep-id:",
            "keep-id:uid",
            "keep-id:uid=x",
            "keep-id:user=1",
            "keep-id:uid=4294967295",
            "auto:sizes=1",
            "container",
            "container:",
            "ns:x",
            ":",
        ] {
            assert_eq!(
                text.parse::<Userns>().unwrap_err().to_string(),
                format!(
                    "invalid user namespace {text:?}: use host, private, \
                     keep-id[:uid=N,gid=N,size=N], auto[:size=N,uidmapping=MAP,gidmapping=MAP], \
                     nomap, container:NAME or ns:PATH"
                )
            );
        }
        assert_eq!(
            "auto:uidmapping=0"
                .parse::<Userns>()
                .unwrap_err()
                .to_string(),
            "invalid id mapping \"0\": use CONTAINER_ID:SOURCE_ID[:SIZE]"
        );
    }
}
