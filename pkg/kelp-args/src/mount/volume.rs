//! `--volume [SOURCE:]TARGET[:OPTIONS]`.

use super::option::is_plain;
use super::{Mount, Options, Source, absolute, place};

/// Parses `--volume [SOURCE:]TARGET[:OPTIONS]`. A relative source that begins with `.` is one
/// relative to `directory`.
pub fn volume(text: &str, directory: &str) -> Result<Mount, String> {
    let bad = || format!("invalid volume {text:?}: a volume is [SOURCE:]TARGET[:OPTIONS]");
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, words) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(bad()),
    };
    let source = match source {
        "" if parts.len() > 1 => return Err(bad()),
        "" => Source::Volume(None),
        _ => place(source, directory)?,
    };
    let mut mount = Mount::new(source, absolute(target, text)?);
    let mut options = Options::new(text);
    let (mut upper, mut work) = (None, None);
    for word in words.split(',').filter(|word| !word.is_empty()) {
        options.note(word)?;
        match word {
            // Labels mean nothing to a kernel without SELinux.
            "z" | "Z" => {}
            "U" => mount.chown = true,
            "O" => mount.overlay = true,
            "copy" | "nocopy" if matches!(mount.source, Source::Bind(_)) => {
                return Err(format!(
                    "invalid mount {text:?}: {word} is for volumes, and this is a directory"
                ));
            }
            "copy" => mount.copy = Some(true),
            "nocopy" => mount.copy = Some(false),
            _ if is_plain(word) => mount.options.push(word.to_owned()),
            _ => {
                let (key, value) = word.split_once('=').unwrap_or((word, ""));
                match key {
                    "upperdir" if value.starts_with('/') => upper = Some(value.to_owned()),
                    "workdir" if value.starts_with('/') => work = Some(value.to_owned()),
                    "idmap" => return Err(options.unsupported(key)),
                    _ => return Err(options.unknown(word)),
                }
            }
        }
    }
    mount.layer = match (upper, work) {
        (None, None) => None,
        (Some(upper), Some(work)) if mount.overlay => Some((upper, work)),
        _ => {
            return Err(format!(
                "invalid mount {text:?}: upperdir and workdir go together, and with O"
            ));
        }
    };
    if mount.overlay && !(mount.options.is_empty() && mount.copy.is_none()) {
        return Err(format!(
            "invalid mount {text:?}: can't use O with other options than U, upperdir and workdir"
        ));
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_paths_names_or_nothing() {
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
        for bad in ["", "a", "a:b", "/a:/b:ro:x", "a/b:/c", ":/b", "é:/b"] {
            assert!(volume(bad, "/").is_err(), "{bad}");
        }
    }

    #[test]
    fn options_become_what_the_specification_has() {
        let mount = volume("/a:/b:ro,U,z,noexec,rslave", "/").unwrap();
        assert!(mount.chown && !mount.overlay);
        assert_eq!(mount.options, ["ro", "noexec", "rslave"]);
        let overlay = volume("/a:/b:O,U", "/").unwrap();
        assert!(overlay.overlay && overlay.chown);
        let own = volume("/a:/b:O,upperdir=/u,workdir=/w", "/").unwrap();
        assert_eq!(own.layer, Some(("/u".to_owned(), "/w".to_owned())));
        assert_eq!(volume("v:/b:nocopy", "/").unwrap().copy, Some(false));
    }

    #[test]
    fn errors_name_the_option() {
        for (text, said) in [
            (
                "/a:/b:ro,rw",
                "invalid mount \"/a:/b:ro,rw\": ro and rw exclude each other",
            ),
            (
                "/a:/b:ro,ro",
                "invalid mount \"/a:/b:ro,ro\": ro is given twice",
            ),
            (
                "/a:/b:z,Z",
                "invalid mount \"/a:/b:z,Z\": z and Z exclude each other",
            ),
            (
                "/a:/b:shared,rslave",
                "invalid mount \"/a:/b:shared,rslave\": shared and rslave exclude each other",
            ),
            (
                "v:/b:copy,nocopy",
                "invalid mount \"v:/b:copy,nocopy\": copy and nocopy exclude each other",
            ),
            (
                "/a:/b:nocopy",
                "invalid mount \"/a:/b:nocopy\": nocopy is for volumes, and this is a directory",
            ),
            (
                "/a:/b:nope",
                "invalid mount \"/a:/b:nope\": invalid option \"nope\"",
            ),
            (
                "/a:/b:O,upperdir=/u",
                "invalid mount \"/a:/b:O,upperdir=/u\": upperdir and workdir go together, and with O",
            ),
            (
                "/a:/b:O,ro",
                "invalid mount \"/a:/b:O,ro\": can't use O with other options than U, upperdir \
                 and workdir",
            ),
            (
                "/a:/b:O,idmap",
                "mount \"/a:/b:O,idmap\": the option idmap is not supported by kelp yet",
            ),
        ] {
            assert_eq!(volume(text, "/").unwrap_err(), said);
        }
    }
}
