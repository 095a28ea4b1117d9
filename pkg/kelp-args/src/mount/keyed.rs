//! `--mount type=bind|volume|tmpfs|image|artifact|devpts,KEY=VALUE,…`.

use super::option::{is_plain, is_propagation};
use super::tmpfs::value_of;
use super::{ArtifactMount, ImageMount, Mount, Options, Source, absolute, place, relative};
use crate::scalar::{boolean, number};

/// Parses `--mount type=TYPE,KEY=VALUE,…`; a volume where no type is given. A relative source of a
/// bind mount is one relative to `directory`.
pub fn mount(text: &str, directory: &str) -> Result<Mount, String> {
    let parts = fields(text)?;
    let pairs: Vec<(&str, Option<&str>)> = parts
        .iter()
        .map(|part| match part.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (part.as_str(), None),
        })
        .collect();
    let find = |names: &[&str]| {
        let mut found = pairs.iter().filter(|(name, _)| names.contains(name));
        let first = found.next().map(|(_, value)| value.unwrap_or_default());
        match found.next() {
            Some((name, _)) => Err(format!("invalid mount {text:?}: {name} is given twice")),
            None => Ok(first),
        }
    };
    let kind = find(&["type"])?.unwrap_or("volume");
    let source = find(&["source", "src"])?.filter(|source| !source.is_empty());
    let source = source_of(kind, source, text, directory)?;
    let target = find(&["target", "dst", "dest", "destination"])?
        .ok_or_else(|| format!("invalid mount {text:?}: the target is missing"))?;
    let mut mount = Mount::new(source, absolute(target, text)?);
    mount.copy = (mount.source == Source::Tmpfs).then_some(true);
    let mut options = Options::new(text);
    for (name, value) in pairs {
        match name {
            "type" | "source" | "src" | "target" | "dst" | "dest" | "destination" => {}
            _ => option(&mut mount, &mut options, name, value)?,
        }
    }
    Ok(mount)
}

/// The fields of a line of CSV, as Go's encoding/csv reads one: one in quotes may hold commas, and two
/// quotes for a quote.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let invalid = |why| format!("invalid mount {text:?}: {why}");
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut inner) = rest.strip_prefix('"') {
            loop {
                let (before, after) = inner
                    .split_once('"')
                    .ok_or_else(|| invalid("a quote is not closed"))?;
                field.push_str(before);
                let Some(quoted) = after.strip_prefix('"') else {
                    rest = after;
                    break;
                };
                field.push('"');
                inner = quoted;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return Err(invalid("a field with a quote in it begins with one"));
            }
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(fields),
            None => return Err(invalid("a comma comes after a closing quote")),
        }
    }
}

fn source_of(
    kind: &str,
    source: Option<&str>,
    text: &str,
    directory: &str,
) -> Result<Source, String> {
    let missing = |what: &str| format!("invalid mount {text:?}: {what} needs a source");
    match kind {
        "bind" => match source {
            Some(path) if path.starts_with('/') => Ok(Source::Bind(path.to_owned())),
            Some(path) => relative(path, directory),
            None => Err(missing("a bind mount")),
        },
        "volume" => match source {
            None => Ok(Source::Volume(None)),
            Some(name) => match place(name, directory)? {
                volume @ Source::Volume(_) => Ok(volume),
                _ => Err(format!(
                    "invalid mount {text:?}: a volume has a name, not a path"
                )),
            },
        },
        "image" => Ok(Source::Image(ImageMount {
            source: source.ok_or_else(|| missing("an image mount"))?.to_owned(),
            read_write: false,
            subpath: None,
        })),
        "artifact" => Ok(Source::Artifact(ArtifactMount {
            source: source
                .ok_or_else(|| missing("an artifact mount"))?
                .to_owned(),
            title: None,
            digest: None,
            name: None,
        })),
        "tmpfs" | "devpts" if source.is_some() => {
            Err(format!("invalid mount {text:?}: a {kind} has no source"))
        }
        "tmpfs" => Ok(Source::Tmpfs),
        "devpts" => Ok(Source::Devpts),
        "glob" | "ramfs" => Err(format!("--mount type={kind} is not supported by kelp yet")),
        _ => Err(format!(
            "invalid filesystem type {kind:?}: use bind, volume, tmpfs, image, artifact or devpts"
        )),
    }
}

fn option(
    mount: &mut Mount,
    options: &mut Options,
    name: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let whole = match value {
        Some(value) => format!("{name}={value}"),
        None => name.to_owned(),
    };
    let unknown = || options.unknown(&whole);
    let truth = || match value {
        None => Ok(true),
        Some(value) => boolean(value).ok_or_else(unknown),
    };
    let (on, off, yes) = match name {
        "ro" | "readonly" => ("ro", "rw", truth()?),
        "rw" | "readwrite" => ("rw", "ro", truth()?),
        "bind-nonrecursive" => ("bind", "rbind", truth()?),
        "U" | "chown" => ("U", "", truth()?),
        "bind-propagation" => (
            value.filter(|v| is_propagation(v)).ok_or_else(unknown)?,
            "",
            true,
        ),
        "relabel" if value == Some("shared") => ("z", "", true),
        "relabel" if value == Some("private") => ("Z", "", true),
        "nocopy" | "volume-nocopy" => ("nocopy", "copy", truth()?),
        "idmap" | "volume-opt" | "volume-label" | "no-dereference" => {
            return Err(options.unsupported(name));
        }
        // Docker's hint for a virtual machine's files.
        "consistency" => return Ok(()),
        _ if value.is_some() => return valued(mount, options, name, value.unwrap_or_default()),
        _ => (name, "", true),
    };
    let word = if yes { on } else { off };
    if !word.is_empty() {
        options.note(word)?;
    }
    word_of(mount, options, word)
}

/// A word as `--volume` has it, if this kind of mount takes it.
fn word_of(mount: &mut Mount, options: &Options, word: &str) -> Result<(), String> {
    let is_files = matches!(mount.source, Source::Bind(_) | Source::Volume(_));
    let is_volume = matches!(mount.source, Source::Volume(_));
    let is_tmpfs = mount.source == Source::Tmpfs;
    match (word, &mut mount.source) {
        // Labels mean nothing to a kernel without SELinux.
        ("", _) | ("z" | "Z", Source::Bind(_) | Source::Volume(_) | Source::Image(_)) => {}
        ("rw" | "ro", Source::Image(image)) => image.read_write = word == "rw",
        (_, Source::Devpts) => return Err(options.unknown(word)),
        ("U", _) if is_files || is_tmpfs => mount.chown = true,
        ("copy" | "nocopy", _) if is_volume => mount.copy = Some(word == "copy"),
        ("tmpcopyup" | "notmpcopyup", _) if is_tmpfs => mount.copy = Some(word == "tmpcopyup"),
        ("noswap", _) if is_tmpfs => mount.options.push(word.to_owned()),
        _ if is_plain(word) && (is_files || is_tmpfs && !is_propagation(word)) => {
            mount.options.push(word.to_owned());
        }
        _ => return Err(options.unknown(word)),
    }
    Ok(())
}

/// An option with a value of its own.
fn valued(mount: &mut Mount, options: &Options, name: &str, value: &str) -> Result<(), String> {
    let unknown = || options.unknown(&format!("{name}={value}"));
    match (name, &mut mount.source) {
        (_, Source::Artifact(artifact)) => {
            let field = match name {
                "title" => &mut artifact.title,
                "digest" => &mut artifact.digest,
                "name" => &mut artifact.name,
                _ => return Err(unknown()),
            };
            if value.is_empty() || field.is_some() {
                return Err(unknown());
            }
            *field = Some(value.to_owned());
            Ok(())
        }
        ("tmpfs-size" | "size", Source::Tmpfs) => value_of(mount, options, "size", value),
        ("tmpfs-mode" | "mode", Source::Tmpfs) | ("mode", Source::Devpts) => {
            value_of(mount, options, "mode", value)
        }
        ("uid" | "gid" | "max", Source::Devpts) if number::<u32>(value).is_some() => {
            mount.options.push(format!("{name}={value}"));
            Ok(())
        }
        ("subpath" | "volume-subpath", Source::Image(image)) if !value.is_empty() => {
            image.subpath = Some(value.to_owned());
            Ok(())
        }
        ("subpath" | "volume-subpath", Source::Volume(_)) if !value.is_empty() => {
            mount.subpath = Some(value.to_owned());
            Ok(())
        }
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_quotes_may_hold_commas() {
        for (text, source) in [
            ("type=bind,\"src=/a,b\",dst=/w", "/a,b"),
            ("\"type=bind\",\"src=/a\"\"b\",dst=/w", "/a\"b"),
            ("type=bind,dst=/w,\"src=/a\"", "/a"),
        ] {
            let asked = mount(text, "/").unwrap();
            assert_eq!(asked.source, Source::Bind(source.to_owned()), "{text}");
            assert_eq!(asked.target, "/w", "{text}");
        }
        for (text, said) in [
            ("type=bind,\"src=/a,dst=/w", "a quote is not closed"),
            ("type=bind,src=/a\"b,dst=/w", "begins with one"),
            ("type=bind,\"src=/a\"b,dst=/w", "after a closing quote"),
        ] {
            assert!(mount(text, "/").unwrap_err().contains(said), "{text}");
        }
    }

    #[test]
    fn each_kind_takes_its_options() {
        for (text, options) in [
            (
                "type=bind,src=/a,dst=/b,ro,bind-propagation=rslave",
                &["ro", "rslave"][..],
            ),
            ("type=bind,source=/a,target=/b,readonly=false", &["rw"]),
            ("type=bind,src=/a,dest=/b,rw=False,relabel=shared", &["ro"]),
            ("type=bind,src=/a,dst=/b,bind-nonrecursive", &["bind"]),
            (
                "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700",
                &["size=1048576", "mode=0700"],
            ),
            (
                "type=tmpfs,destination=/t,noexec,noatime",
                &["noexec", "noatime"],
            ),
            (
                "type=devpts,dst=/p,uid=1,gid=2,mode=600,max=9",
                &["uid=1", "gid=2", "mode=600", "max=9"],
            ),
            ("dst=/v,src=data,nosuid", &["nosuid"]),
        ] {
            assert_eq!(mount(text, "/").unwrap().options, options, "{text}");
        }
    }

    #[test]
    fn sources_are_of_the_kind() {
        let source = |text: &str| mount(text, "/home/kim").unwrap().source;
        assert_eq!(
            source("type=bind,src=a,dst=/b"),
            Source::Bind("/home/kim/a".to_owned())
        );
        assert_eq!(source("dst=/b"), Source::Volume(None));
        assert_eq!(
            source("type=image,src=alpine,dst=/b,rw=true,subpath=/etc"),
            Source::Image(ImageMount {
                source: "alpine".to_owned(),
                read_write: true,
                subpath: Some("/etc".to_owned()),
            })
        );
        assert_eq!(
            source("type=artifact,source=h/a:b,target=/b,title=c"),
            Source::Artifact(ArtifactMount {
                source: "h/a:b".to_owned(),
                title: Some("c".to_owned()),
                digest: None,
                name: None,
            })
        );
        let Source::Artifact(artifact) =
            source("type=artifact,src=a,dst=/b,digest=sha256:0,name=d")
        else {
            panic!("no artifact");
        };
        assert_eq!(artifact.digest.as_deref(), Some("sha256:0"));
        assert_eq!(artifact.name.as_deref(), Some("d"));
        let volume = mount("src=data,dst=/b,subpath=a/b,U=true,nocopy", "/").unwrap();
        assert_eq!(volume.subpath.as_deref(), Some("a/b"));
        assert!(volume.chown && volume.copy == Some(false));
        let tmpfs = mount("type=tmpfs,dst=/b,notmpcopyup", "/").unwrap();
        assert_eq!(tmpfs.copy, Some(false));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, said) in [
            ("type=bind,dst=/b", "a bind mount needs a source"),
            ("type=image,dst=/b", "an image mount needs a source"),
            ("type=tmpfs,src=/a,dst=/b", "a tmpfs has no source"),
            ("type=bind,src=/a", "the target is missing"),
            ("type=bind,src=/a,dst=/b,target=/c", "target is given twice"),
            (
                "type=bind,src=/a,dst=b",
                "the place in the container is not an absolute path",
            ),
            (
                "type=volume,src=/a,dst=/b",
                "a volume has a name, not a path",
            ),
            ("type=tmpfs,dst=/b,nope", "invalid option \"nope\""),
            (
                "type=bind,src=/a,dst=/b,size=3",
                "invalid option \"size=3\"",
            ),
            (
                "type=bind,src=/a,dst=/b,ro=maybe",
                "invalid option \"ro=maybe\"",
            ),
            (
                "type=bind,src=/a,dst=/b,ro,rw",
                "ro and rw exclude each other",
            ),
            (
                "type=bind,src=/a,dst=/b,ro,readonly=true",
                "ro is given twice",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=up",
                "invalid option \"bind-propagation=up\"",
            ),
            (
                "type=bind,src=/a,dst=/b,relabel=x",
                "invalid option \"relabel=x\"",
            ),
            ("type=devpts,dst=/b,ro", "invalid option \"ro\""),
            ("type=artifact,dst=/b", "an artifact mount needs a source"),
            ("type=artifact,src=a,dst=/b,rw", "invalid option \"rw\""),
            (
                "type=artifact,src=a,dst=/b,title=",
                "invalid option \"title=\"",
            ),
            (
                "type=artifact,src=a,dst=/b,name=c,name=d",
                "invalid option \"name=d\"",
            ),
            (
                "type=image,src=a,dst=/b,noexec",
                "invalid option \"noexec\"",
            ),
        ] {
            assert_eq!(
                mount(text, "/").unwrap_err(),
                format!("invalid mount {text:?}: {said}")
            );
        }
        for (text, said) in [
            (
                "type=x,dst=/b",
                "invalid filesystem type \"x\": use bind, volume, tmpfs, image, artifact or devpts",
            ),
            (
                "type=glob,src=/a*,dst=/b",
                "--mount type=glob is not supported by kelp yet",
            ),
            (
                "src=v,dst=/b,volume-opt=o=size=1g",
                "mount \"src=v,dst=/b,volume-opt=o=size=1g\": the option volume-opt is not \
                 supported by kelp yet",
            ),
        ] {
            assert_eq!(mount(text, "/").unwrap_err(), said);
        }
    }
}
