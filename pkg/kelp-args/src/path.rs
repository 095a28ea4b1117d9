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
    }
}
