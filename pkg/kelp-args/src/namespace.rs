//! Namespaces: `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`, `--network`.

use crate::IdMapping;

/// One namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Its own.
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
    /// That of a file.
    Path(String),
}

/// Parses the namespace that `option` chooses.
pub fn parse(option: &str, text: &str) -> Result<Namespace, String> {
    Ok(match text {
        "" | "private" | "shareable" => Namespace::Private,
        "host" => Namespace::Host,
        _ => match text.split_once(':') {
            Some(("container", id)) if !id.is_empty() => Namespace::Container(id.to_owned()),
            Some(("ns", path)) if path.starts_with('/') => Namespace::Path(path.to_owned()),
            _ => {
                return Err(format!(
                    "invalid --{option} {text:?}: use private, host, container:ID or ns:PATH"
                ));
            }
        },
    })
}

/// A user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// The usual map.
    Host,
    /// The user keeps an id.
    KeepId(Option<u32>, Option<u32>),
    /// The user is not mapped.
    NoMap,
    /// Ids of the user's range that no other such container has.
    Auto(Auto),
    /// That of another container.
    Container(String),
    /// That of a file.
    Path(String),
}

/// What is said of the ids that a container gets by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auto {
    /// How many, instead of as many as its image names.
    pub size: Option<u32>,
    /// Lines of the user id map that are given.
    pub uids: Vec<IdMapping>,
    /// Lines of the group id map that are given.
    pub gids: Vec<IdMapping>,
}

/// Parses `--userns`.
pub fn user(text: &str) -> Result<User, String> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    match mode {
        // Root inside is the user outside, and no id of the host shows: it is as private as can be.
        "" | "host" | "private" if options.is_empty() => Ok(User::Host),
        "nomap" if options.is_empty() => Ok(User::NoMap),
        "keep-id" => keep_id(options),
        "auto" => auto(options),
        "container" if !options.is_empty() => Ok(User::Container(options.to_owned())),
        "ns" if options.starts_with('/') => Ok(User::Path(options.to_owned())),
        _ => Err(format!(
            "invalid --userns {text:?}: use host, keep-id[:uid=N,gid=N], auto[:size=N], nomap, \
             container:ID or ns:PATH"
        )),
    }
}

fn keep_id(options: &str) -> Result<User, String> {
    let (mut uid, mut gid) = (None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("uid", value)) => uid = Some(number(value)?),
            Some(("gid", value)) => gid = Some(number(value)?),
            _ => {
                return Err(format!(
                    "unknown option specified for --userns=keep-id: {option:?}"
                ));
            }
        }
    }
    Ok(User::KeepId(uid, gid))
}

fn auto(options: &str) -> Result<User, String> {
    let mut auto = Auto::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let mapping = |text: &str| text.parse::<IdMapping>().map_err(|e| e.to_string());
        match option.split_once('=') {
            Some(("size", value)) => auto.size = Some(number(value)?).filter(|&size| size > 0),
            Some(("uidmapping", value)) => auto.uids.push(mapping(value)?),
            Some(("gidmapping", value)) => auto.gids.push(mapping(value)?),
            _ => {
                return Err(format!(
                    "unknown option specified for --userns=auto: {option:?}"
                ));
            }
        }
    }
    Ok(User::Auto(auto))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("invalid --userns {text:?}: an id is a number"))
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own, with nothing in it.
    None,
    /// A pasta of its own, with more of pasta's options.
    Pasta(Vec<String>),
    /// One of the others.
    Namespace(Namespace),
}

/// Parses `--network`.
pub fn network(text: &str) -> Result<Network, String> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    match mode {
        "none" => Ok(Network::None),
        "pasta" | "private" => Ok(Network::Pasta(
            options
                .split(',')
                .filter(|option| !option.is_empty())
                .map(str::to_owned)
                .collect(),
        )),
        "host" | "container" | "ns" => parse("network", text).map(Network::Namespace),
        "slirp4netns" => Err("--network slirp4netns is not supported: use pasta".to_owned()),
        _ => Err(format!(
            "--network {text}: networks of that kind are not supported by kelp yet; use pasta, \
             host, none, container:ID or ns:PATH"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_strict() {
        assert_eq!(parse("pid", "host"), Ok(Namespace::Host));
        assert_eq!(
            parse("pid", "container:x"),
            Ok(Namespace::Container("x".to_owned()))
        );
        assert!(parse("pid", "hots").unwrap_err().contains("--pid"));
        assert_eq!(
            user("keep-id:uid=5,gid=6"),
            Ok(User::KeepId(Some(5), Some(6)))
        );
        assert_eq!(user("keep-id"), Ok(User::KeepId(None, None)));
        assert!(user("keep-id:uid=x").is_err());
        assert!(user("keep-id:x=1").is_err());
        assert_eq!(user("auto"), Ok(User::Auto(Auto::default())));
        let auto = user("auto:size=3000,uidmapping=7:0:1,gidmapping=8:0").unwrap();
        let User::Auto(auto) = auto else {
            panic!("{auto:?}");
        };
        assert_eq!(auto.size, Some(3000));
        assert_eq!((auto.uids[0].container, auto.uids[0].source), (7, 0));
        assert_eq!(auto.gids[0].container, 8);
        assert!(user("auto:size=x").is_err());
        assert!(user("auto:colour=red").unwrap_err().contains("colour"));
        assert_eq!(user("private"), Ok(User::Host));
        assert_eq!(user("container:x"), Ok(User::Container("x".to_owned())));
        assert_eq!(
            user("ns:/proc/1/ns/user"),
            Ok(User::Path("/proc/1/ns/user".to_owned()))
        );
        for wrong in [
            "container:",
            "ns:relative",
            "ns:",
            "host:x",
            "nomap:x",
            "keepid",
        ] {
            assert!(user(wrong).unwrap_err().contains("keep-id"), "{wrong}");
        }
        assert_eq!(
            network("pasta:-T,none"),
            Ok(Network::Pasta(vec!["-T".into(), "none".into()]))
        );
        assert!(network("bridge").is_err());
    }
}
