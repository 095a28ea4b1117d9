//! Namespaces: `--pid`, `--ipc`, `--uts`, `--cgroupns`, `--userns`, `--network`.

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
}

/// Parses `--userns`.
pub fn user(text: &str) -> Result<User, String> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    match mode {
        "" | "host" if options.is_empty() => Ok(User::Host),
        "nomap" if options.is_empty() => Ok(User::NoMap),
        "keep-id" => {
            let (mut uid, mut gid) = (None, None);
            for option in options.split(',').filter(|option| !option.is_empty()) {
                let number = |text: &str| {
                    text.parse::<u32>()
                        .map(Some)
                        .map_err(|_| format!("invalid --userns {text:?}: an id is a number"))
                };
                match option.split_once('=') {
                    Some(("uid", value)) => uid = number(value)?,
                    Some(("gid", value)) => gid = number(value)?,
                    _ => {
                        return Err(format!(
                            "unknown option specified for --userns=keep-id: {option:?}"
                        ));
                    }
                }
            }
            Ok(User::KeepId(uid, gid))
        }
        "auto" | "container" | "ns" | "private" => {
            Err(format!("--userns={mode} is not supported by kelp yet"))
        }
        _ => Err(format!(
            "invalid --userns {text:?}: use host, keep-id[:uid=N,gid=N] or nomap"
        )),
    }
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
        assert!(user("auto").unwrap_err().contains("not supported"));
        assert_eq!(
            network("pasta:-T,none"),
            Ok(Network::Pasta(vec!["-T".into(), "none".into()]))
        );
        assert!(network("bridge").is_err());
    }
}
