//! Of storage.conf(5), which is about other engines' stores, the one thing that can be of use here.

use std::fs;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use crate::Sources;

/// `additionalimagestores` below `[storage.options]`. The file that counts is the first one that is there,
/// and one that can't be read says nothing: it is not ours.
pub fn additional_image_stores(sources: &Sources) -> Vec<PathBuf> {
    let directories = sources
        .user
        .iter()
        .chain([&sources.machine, &sources.vendor]);
    let mut files = directories.map(|directory| directory.join("storage.conf"));
    let text = files.find_map(|file| fs::read_to_string(file).ok());
    text.and_then(|text| stores(&text)).unwrap_or_default()
}

fn stores(text: &str) -> Option<Vec<PathBuf>> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    for name in ["storage", "options"] {
        table = table.get(name)?.get_ref().as_table()?;
    }
    let list = table.get("additionalimagestores")?.get_ref().as_array()?;
    let paths = list.iter().filter_map(|entry| match entry.get_ref() {
        DeValue::String(path) => Some(PathBuf::from(path.as_ref())),
        _ => None,
    });
    Some(paths.filter(|path| path.is_absolute()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_absolute_paths_of_the_file_that_counts() {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            machine: directory.path().join("machine"),
            user: Some(directory.path().join("user")),
            ..Sources::default()
        };
        assert!(additional_image_stores(&sources).is_empty());
        let write = |name: &str, text: &str| {
            fs::create_dir_all(directory.path().join(name)).unwrap();
            fs::write(directory.path().join(name).join("storage.conf"), text).unwrap();
        };
        write(
            "machine",
            "[storage]\ndriver = \"overlay\"\n[storage.options]\n\
             additionalimagestores = [\"/a\", \"b\", 3, \"/c\",]\n",
        );
        let found = additional_image_stores(&sources);
        assert_eq!(found, [PathBuf::from("/a"), PathBuf::from("/c")]);
        write("user", "[storage]\ndriver = \"vfs\"\n");
        assert!(additional_image_stores(&sources).is_empty());
        write("user", "[storage");
        assert!(additional_image_stores(&sources).is_empty());
    }
}
