//! Names in archives, made into paths beneath a root.

/// The most bytes of a cleaned name. No system call takes more than a quarter of that (path_resolution(7));
/// with more, one name alone could have directories by the hundred thousand.
pub(crate) const PATH_LIMIT: usize = 16 << 10;

/// Cleans a name by its text alone: no leading or double slash, no `.`; `..` takes away what is
/// before it. The root itself becomes the empty path. `None` if it would lead out of the root.
///
/// What `..` means behind a symbolic link can't be told from the text. It is taken as written, as
/// other engines do; the extractor then resolves what is left beneath the root.
pub(crate) fn clean(name: &[u8], into: &mut Vec<u8>) -> Option<()> {
    into.clear();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                if into.is_empty() {
                    return None;
                }
                let end = into.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                into.truncate(end);
            }
            _ => {
                if !into.is_empty() {
                    into.push(b'/');
                }
                into.extend_from_slice(component);
            }
        }
    }
    Some(())
}

/// A clean path's parent and its last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A name for a message: at most 300 characters, without control characters.
pub(crate) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut shown: String = text
        .chars()
        .take(300)
        .flat_map(|c| {
            let control = c.is_control();
            let escaped = control.then(|| c.escape_default());
            let plain = (!control).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if shown.is_empty() {
        shown.push('/');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        for (name, expected) in [
            ("a", Some("a")),
            ("./a/b/", Some("a/b")),
            ("/etc//passwd", Some("etc/passwd")),
            ("///", Some("")),
            ("./", Some("")),
            ("", Some("")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            ("a/..", Some("")),
            ("..a/...", Some("..a/...")),
            ("..", None),
            ("/..", None),
            ("../a", None),
            ("a/../../b", None),
            ("a/b/../../../c", None),
        ] {
            let mut path = b"old".to_vec();
            let result = clean(name.as_bytes(), &mut path).map(|()| path);
            assert_eq!(result.as_deref(), expected.map(str::as_bytes), "{name}");
        }
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    }

    #[test]
    fn messages_hold_no_control_characters() {
        assert_eq!(show(b"a\x1b[31m\xff"), "a\\u{1b}[31m\u{fffd}");
        assert_eq!(show(b""), "/");
    }
}
