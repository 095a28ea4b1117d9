//! What a source file may look like.

use std::path::Path;

use crate::{read, sources};

/// In two parts, so that this file does not have it.
const WORD: &str = concat!("un", "safe");

#[test]
fn unsafe_code_is_in_one_crate() {
    for path in sources() {
        if path.starts_with("pkg/kelp-sys") {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // A block, a function, an implementation, a trait, an extern.
            let found = code.contains(&format!("{WORD} "))
                || code.ends_with(WORD)
                || code.contains(&format!("allow({WORD}_code"));
            assert!(!found, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| !read(path).starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "no header: {silent:?}");
}

#[test]
fn no_file_has_more_than_800_lines() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > 800)
        .collect();
    assert!(long.is_empty(), "split: {long:?}");
}

#[test]
fn main_only_picks_the_role() {
    let lines = read(Path::new("src/main.rs")).lines().count();
    assert!(lines <= 60, "src/main.rs has {lines} lines");
}

#[test]
fn modules_are_named_for_what_they_hold() {
    for path in sources() {
        for part in path.iter().filter_map(|part| part.to_str()) {
            let name = part.trim_end_matches(".rs");
            assert!(
                !["util", "utils", "common", "helper", "helpers", "misc"].contains(&name),
                "{}",
                path.display()
            );
        }
    }
}
