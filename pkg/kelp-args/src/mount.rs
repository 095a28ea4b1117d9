//! Mounts: `--volume`, `--mount` and `--tmpfs`.

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path of the host.
    Bind(String),
    /// A named volume; without a name, one made for this container.
    Volume(Option<String>),
    /// A new tmpfs.
    Tmpfs,
}

/// A mount that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where; absolute.
    pub target: String,
    /// Options of the mount, as runtime-spec has them.
    pub options: Vec<String>,
    /// Whether the source is given to the container's user.
    pub chown: bool,
    /// Whether an empty volume is filled from the image; `None` for the usual.
    pub copy: Option<bool>,
}

const PLAIN: &[&str] = &[
    "ro",
    "rw",
    "exec",
    "noexec",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "noatime",
    "relatime",
    "strictatime",
    "nodiratime",
];

/// Parses `--volume [SOURCE:]TARGET[:OPTIONS]`. A relative source that begins with `.` is one
/// relative to `directory`.
pub fn volume(text: &str, directory: &str) -> Result<Mount, String> {
    let bad = || format!("invalid volume {text:?}: a volume is [SOURCE:]TARGET[:OPTIONS]");
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(bad()),
    };
    let mut mount = Mount {
        source: match source {
            "" if parts.len() > 1 => return Err(bad()),
            "" => Source::Volume(None),
            _ => place(source, directory)?,
        },
        target: absolute(target, text)?,
        options: Vec::new(),
        chown: false,
        copy: None,
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            // Labels mean nothing to a kernel without SELinux.
            "z" | "Z" => {}
            "U" => mount.chown = true,
            "copy" => mount.copy = Some(true),
            "nocopy" => mount.copy = Some(false),
            "O" => {
                return Err(format!(
                    "volume {text:?}: the option O is not supported by kelp yet"
                ));
            }
            _ if PLAIN.contains(&option) => mount.options.push(option.to_owned()),
            _ => return Err(format!("volume {text:?}: invalid mount option {option:?}")),
        }
    }
    Ok(mount)
}

fn place(source: &str, directory: &str) -> Result<Source, String> {
    if source.starts_with('/') {
        return Ok(Source::Bind(source.to_owned()));
    }
    if source == "." || source.starts_with("./") || source.starts_with("..") {
        return Ok(Source::Bind(format!("{directory}/{source}")));
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if source.as_bytes()[0].is_ascii_alphanumeric() && source.bytes().all(letters) {
        return Ok(Source::Volume(Some(source.to_owned())));
    }
    Err(format!(
        "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid volume name {source:?}; a directory \
         begins with / or ./"
    ))
}

fn absolute(target: &str, text: &str) -> Result<String, String> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    Err(format!(
        "invalid mount {text:?}: the place in the container is not an absolute path"
    ))
}

/// Parses `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<Mount, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount {
        source: Source::Tmpfs,
        target: absolute(target, text)?,
        options: vec!["nosuid".to_owned(), "nodev".to_owned()],
        chown: false,
        copy: Some(true),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        tmpfs_option(&mut mount, option)?;
    }
    Ok(mount)
}

fn tmpfs_option(mount: &mut Mount, option: &str) -> Result<(), String> {
    match option.split_once('=') {
        Some(("size" | "mode" | "nr_inodes" | "uid" | "gid", _)) => {
            mount.options.push(option.to_owned());
        }
        None if option == "tmpcopyup" => mount.copy = Some(true),
        None if option == "notmpcopyup" => mount.copy = Some(false),
        None if option == "noswap" || PLAIN.contains(&option) => {
            mount.options.push(option.to_owned());
        }
        _ => {
            return Err(format!(
                "tmpfs {}: invalid mount option {option:?}",
                mount.target
            ));
        }
    }
    Ok(())
}

/// Parses `--mount type=bind|volume|tmpfs,…`.
pub fn mount(text: &str, directory: &str) -> Result<Mount, String> {
    let pairs: Vec<(&str, &str)> = text
        .split(',')
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .collect();
    let find = |names: &[&str]| {
        pairs
            .iter()
            .find(|(name, _)| names.contains(name))
            .map(|(_, value)| *value)
    };
    let target = find(&["target", "dst", "destination"])
        .ok_or_else(|| format!("invalid mount {text:?}: the target is missing"))?;
    let source = find(&["source", "src"]);
    let source = match find(&["type"]).unwrap_or("volume") {
        "bind" => match source {
            Some(path) if path.starts_with('/') => Source::Bind(path.to_owned()),
            Some(path) => Source::Bind(format!("{directory}/{path}")),
            None => {
                return Err(format!(
                    "invalid mount {text:?}: a bind mount needs a source"
                ));
            }
        },
        "volume" => match source {
            None | Some("") => Source::Volume(None),
            Some(name) => match place(name, directory)? {
                volume @ Source::Volume(_) => volume,
                _ => {
                    return Err(format!(
                        "invalid mount {text:?}: a volume has a name, not a path"
                    ));
                }
            },
        },
        "tmpfs" => Source::Tmpfs,
        kind @ ("image" | "devpts" | "glob" | "ramfs" | "artifact") => {
            return Err(format!("--mount type={kind} is not supported by kelp yet"));
        }
        kind => {
            return Err(format!(
                "invalid filesystem type {kind:?}: use bind, volume or tmpfs"
            ));
        }
    };
    let mut mount = Mount {
        target: absolute(target, text)?,
        options: Vec::new(),
        chown: false,
        copy: (source == Source::Tmpfs).then_some(true),
        source,
    };
    for (name, value) in pairs {
        mount_option(&mut mount, name, value)?;
    }
    Ok(mount)
}

fn mount_option(mount: &mut Mount, name: &str, value: &str) -> Result<(), String> {
    let yes = !matches!(value, "false" | "0");
    let tmpfs = mount.source == Source::Tmpfs;
    match name {
        "type" | "target" | "dst" | "destination" | "source" | "src" | "z" | "Z" | "relabel"
        | "consistency" => {}
        "ro" | "readonly" => mount.options.push(if yes { "ro" } else { "rw" }.to_owned()),
        "rw" => mount.options.push(if yes { "rw" } else { "ro" }.to_owned()),
        "bind-propagation" if !tmpfs => mount.options.push(value.to_owned()),
        "bind-nonrecursive" if !tmpfs => {
            mount
                .options
                .push(if yes { "bind" } else { "rbind" }.to_owned());
        }
        "U" | "chown" if !tmpfs => mount.chown = yes,
        "tmpfs-size" | "size" if tmpfs => mount.options.push(format!("size={value}")),
        "tmpfs-mode" | "mode" if tmpfs => mount.options.push(format!("mode={value}")),
        "tmpcopyup" if tmpfs => mount.copy = Some(true),
        "notmpcopyup" if tmpfs => mount.copy = Some(false),
        "nocopy" | "volume-nocopy" if !tmpfs => mount.copy = Some(false),
        _ if value.is_empty() && PLAIN.contains(&name) => mount.options.push(name.to_owned()),
        _ => {
            return Err(format!(
                "mount {}: invalid mount option {name:?}",
                mount.target
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_names_or_nothing() {
        let source = |text: &str| volume(text, "/home/kim").map(|mount| mount.source);
        assert_eq!(source("/a:/b"), Ok(Source::Bind("/a".to_owned())));
        assert_eq!(
            source("./a:/b:ro"),
            Ok(Source::Bind("/home/kim/./a".to_owned()))
        );
        assert_eq!(
            source("data:/b"),
            Ok(Source::Volume(Some("data".to_owned())))
        );
        assert_eq!(source("/b"), Ok(Source::Volume(None)));
        for bad in [
            "",
            "a",
            "a:b",
            "/a:/b:nope",
            "/a:/b:ro:x",
            "a/b:/c",
            ":/b",
            "/a:/b:O",
        ] {
            assert!(volume(bad, "/").is_err(), "{bad}");
        }
        let mount = volume("/a:/b:ro,U,z", "/").unwrap();
        assert!(mount.chown);
        assert_eq!(mount.options, ["ro"]);
    }

    #[test]
    fn mounts_and_tmpfs_take_their_options() {
        let bind = mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave", "/").unwrap();
        assert_eq!(bind.source, Source::Bind("/a".to_owned()));
        assert_eq!(bind.options, ["ro", "rslave"]);
        let tmpfs_mount = mount("type=tmpfs,target=/t,tmpfs-size=1m", "/").unwrap();
        assert_eq!(tmpfs_mount.options, ["size=1m"]);
        assert_eq!(
            tmpfs("/t:size=1m,ro").unwrap().options,
            ["nosuid", "nodev", "size=1m", "ro"]
        );
        for bad in [
            "type=bind,dst=/b",
            "type=x,dst=/b",
            "type=bind,src=/a",
            "type=bind,src=/a,dst=b",
            "type=tmpfs,dst=/b,nope",
            "type=bind,src=/a,dst=/b,size=3",
            "type=image,src=x,dst=/b",
        ] {
            assert!(mount(bad, "/").is_err(), "{bad}");
        }
        assert!(tmpfs("/t:nope").is_err());
    }
}
