//! Paths within arguments.

use std::path::PathBuf;

/// An absolute path, cleaned by its letters alone: no `.`, no `..`, no doubled or final slash.
///
/// The path is one of a container, whose root `..` does not leave.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    if !text.starts_with('/') {
        return Err("the path in the container must be absolute");
    }
    if text.contains('\0') {
        return Err("a path holds no NUL");
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Ok(PathBuf::from(format!("/{}", parts.join("/"))))
}

/// An absolute path that something can be mounted on: not the root.
pub(crate) fn mount_point(text: &str) -> Result<PathBuf, &'static str> {
    let path = absolute(text)?;
    if path.as_os_str() == "/" {
        return Err("nothing can be mounted on the container's root");
    }
    Ok(path)
}

/// A relative path that stays beneath where it starts.
pub(crate) fn beneath(text: &str) -> Result<PathBuf, &'static str> {
    let path = text.trim_start_matches('/');
    if path.is_empty() || path.contains('\0') {
        return Err("a path is missing");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("the path leads out of its volume");
    }
    Ok(PathBuf::from(path))
}

/// Whether the text is a volume's or a container's name.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (text, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("//a///b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../etc", "/etc"),
        ] {
            assert_eq!(absolute(text), Ok(PathBuf::from(expected)), "{text}");
        }
        for text in ["", "a", "./a", "/a\0b"] {
            assert!(absolute(text).is_err(), "{text:?}");
        }
        assert!(mount_point("/a/..").is_err());
        assert!(beneath("a/../../b").is_err());
        assert!(beneath("/").is_err());
        assert_eq!(beneath("/a/b"), Ok(PathBuf::from("a/b")));
    }

    #[test]
    fn names_start_with_a_letter_or_digit() {
        for (text, expected) in [
            ("data", true),
            ("9a_b.c-d", true),
            ("", false),
            (".data", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
