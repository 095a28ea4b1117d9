//! Units that a person has installed: files in the directory of the user's own, and what belongs together.
//!
//! Beside the files stand lists, a name a line: `.NAME.app` of what was installed from one directory or one
//! `.quadlets` file, and `.UNIT.asset` of what came with one unit. What is in a list is removed as one. No file of
//! such a name is installed, and none elsewhere is removed, whatever a list says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::bundle::Bundle;
use crate::find::unit_name;
use crate::list::{List, is_beneath, lists};
use crate::set::Kind;

/// Why something could not be installed or removed.
#[derive(Debug)]
pub enum Error {
    /// A file can't be read or written: what was done, and why.
    Io(String, io::Error),
    /// Something else, in a line.
    Refused(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(what, _) | Self::Refused(what) => formatter.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            Self::Refused(_) => None,
        }
    }
}

pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |error| Error::Io(what, error)
}

pub(crate) fn refused<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(what.into()))
}

/// What an installation has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The files that were written.
    pub written: Vec<PathBuf>,
    /// Files of what was replaced that are no part of it any more, and are deleted.
    pub deleted: Vec<PathBuf>,
}

/// Puts bundles into a directory, all or, if one is there already and `replace` does not say that it may be,
/// none.
pub fn install(directory: &Path, bundles: &[Bundle], replace: bool) -> Result<Installed, Error> {
    let mut new = BTreeSet::new();
    for file in bundles.iter().flat_map(|bundle| &bundle.files) {
        if !is_beneath(&file.name) {
            let why =
                "a path beneath the directory of units, and no list as .NAME.app or .NAME.asset";
            return refused(format!(
                "{:?} can't be installed: it has to be {why}",
                file.name
            ));
        }
        let is_there = directory.join(&file.name).symlink_metadata().is_ok();
        if !new.insert(file.name.as_str()) || is_there && !replace {
            return refused(format!("{} is there already: use --replace", file.name));
        }
    }
    let mut names = BTreeSet::new();
    for list in bundles.iter().filter_map(|bundle| bundle.list.as_ref()) {
        if !names.insert(list) {
            return refused(format!(
                "there are two of the name {list}: install one of them"
            ));
        }
    }
    let old = lists(directory);
    let is_new = |list: &List| names.contains(&list.name);
    if let Some(list) = old.iter().find(|list| !replace && is_new(list)) {
        let what = list.application().unwrap_or(&list.name);
        return refused(format!("{what} is installed already: use --replace"));
    }
    let others: BTreeSet<_> = old.iter().filter(|list| !is_new(list)).collect();
    let is_others = |file: &String| others.iter().any(|list| list.files.contains(file));
    let mut installed = Installed::default();
    for bundle in bundles {
        let list = bundle.list.as_ref();
        let before = list.and_then(|name| old.iter().find(|list| list.name == *name));
        let mut gone: Vec<_> = before.map_or_else(Vec::new, |list| list.files.clone());
        gone.retain(|file| !new.contains(file.as_str()) && !is_others(file));
        let files = bundle.files.iter().map(|file| &file.name);
        // The list first, with what it had: what is half installed can be removed by it.
        write_list(directory, list, files.clone().chain(&gone))?;
        for file in &bundle.files {
            let path = directory.join(&file.name);
            write(&path, &file.bytes)?;
            installed.written.push(path);
        }
        if !gone.is_empty() {
            for file in &gone {
                let path = directory.join(file);
                if delete(directory, &path)? {
                    installed.deleted.push(path);
                }
            }
            write_list(directory, list, files)?;
        }
    }
    Ok(installed)
}

fn write_list<'a>(
    directory: &Path,
    list: Option<&String>,
    files: impl Iterator<Item = &'a String>,
) -> Result<(), Error> {
    let Some(list) = list else { return Ok(()) };
    let lines: String = files.flat_map(|file| [file.as_str(), "\n"]).collect();
    write(&directory.join(format!(".{list}")), lines.as_bytes())
}

/// Writes a file in one piece.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(io("make", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = parent.join(format!(".{name}.{}", std::process::id()));
    // What is left of a killed one may be there; a link is not followed.
    let _ = fs::remove_file(&new);
    let mut file = fs::File::create_new(&new).map_err(io("make", &new))?;
    let result = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    result.map_err(|error| {
        let _ = fs::remove_file(&new);
        io("write", path)(error)
    })
}

/// Deletes a file, and the directories beneath `directory` that are empty then. Whether it was there.
fn delete(directory: &Path, path: &Path) -> Result<bool, Error> {
    let parent = path.parent().unwrap_or(directory);
    // A directory on the way may be a link.
    match (fs::canonicalize(directory), fs::canonicalize(parent)) {
        (Ok(directory), Ok(parent)) if !parent.starts_with(&directory) => {
            return refused(format!(
                "{} is not in {}: a link leads there, delete it by hand",
                path.display(),
                directory.display()
            ));
        }
        _ => {}
    }
    let was_there = match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io("delete", path)(error)),
    };
    let is_inner = |inner: &&Path| *inner != directory && inner.starts_with(directory);
    for inner in path.ancestors().skip(1).take_while(is_inner) {
        if fs::remove_dir(inner).is_err() {
            break;
        }
    }
    Ok(was_there)
}

/// An application: what was installed as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// The directory in which its list is.
    pub directory: PathBuf,
}

/// The application that a unit's file belongs to. Its list is in one of the directories in which units are looked
/// for, beside the file or above it.
pub fn application(path: &Path, directories: &[PathBuf]) -> Option<Application> {
    let above = path.ancestors().skip(1);
    let mut above = above.filter(|above| directories.iter().any(|directory| directory == above));
    above.find_map(|directory| {
        let below = path.strip_prefix(directory).ok()?;
        let mut lists = lists(directory).into_iter();
        let list = lists.find(|list| {
            list.application().is_some() && list.files.iter().any(|file| Path::new(file) == below)
        })?;
        Some(Application {
            name: list.application()?.to_owned(),
            directory: directory.to_owned(),
        })
    })
}

/// What is removed under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The units' files.
    pub units: Vec<PathBuf>,
    /// Other files, and the lists.
    others: Vec<PathBuf>,
}

/// What belongs to a name: a unit with its application or its files, or an application. Nothing if there is
/// no such; an error if it is no name but a path.
pub fn removal(directory: &Path, name: &str) -> Result<Option<Removal>, Error> {
    let mut parts = Path::new(name).components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
    {
        return refused(format!(
            "{name:?} is a path: give the name of a unit or an application, as kelp quadlet list shows it"
        ));
    }
    let lists = lists(directory);
    let app = lists.iter().find(|list| {
        list.application().is_some_and(|app| {
            app == name || list.name == name || list.files.iter().any(|file| file == name)
        })
    });
    let mut removal = Removal::default();
    if let Some(app) = app {
        for file in &app.files {
            removal.add(directory, file, &lists);
        }
        removal.others.push(app.path(directory));
        return Ok(Some(removal));
    }
    if Kind::of(name).is_none() || directory.join(name).symlink_metadata().is_err() {
        return Ok(None);
    }
    removal.add(directory, name, &lists);
    Ok(Some(removal))
}

impl Removal {
    /// Adds a file, and what came with it.
    fn add(&mut self, directory: &Path, file: &str, lists: &[List]) {
        let path = directory.join(file);
        if unit_name(&path).is_none() {
            self.others.push(path);
            return;
        }
        self.units.push(path);
        let mut lists = lists.iter();
        let assets = lists.find(|list| list.name.strip_suffix(".asset") == Some(file));
        if let Some(assets) = assets {
            let others = assets.files.iter().filter(|other| *other != file);
            self.others.extend(others.map(|file| directory.join(file)));
            self.others.push(assets.path(directory));
        }
    }

    /// Deletes the files, and the directories beneath `directory` that are empty then.
    pub fn run(&self, directory: &Path) -> Result<(), Error> {
        // The list last: what is half removed can be removed by it.
        for path in self.units.iter().chain(&self.others) {
            delete(directory, path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::bundle::{Input, bundle_of_directory};

    fn bundle(list: Option<&str>, files: &[(&str, &str)]) -> Bundle {
        let files = files.iter().map(|(name, text)| Input {
            name: (*name).into(),
            bytes: (*text).into(),
        });
        Bundle {
            list: list.map(str::to_owned),
            files: files.collect(),
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let mut left = vec![directory.to_owned()];
        while let Some(next) = left.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    left.push(path);
                } else {
                    let path = path.strip_prefix(directory).unwrap();
                    names.push(path.to_str().unwrap().to_owned());
                }
            }
        }
        names.sort();
        names
    }

    fn remove(directory: &Path, name: &str) {
        let removal = removal(directory, name).unwrap().unwrap();
        removal.run(directory).unwrap();
    }

    #[test]
    fn what_came_together_goes_together() {
        let home = TempDir::new().unwrap();
        let from = home.path().join("shop");
        fs::create_dir_all(from.join("conf")).unwrap();
        fs::write(from.join("web.container"), "w").unwrap();
        fs::write(from.join("db.container"), "d").unwrap();
        fs::write(from.join("conf/web.conf"), "c").unwrap();
        let to = home.path().join("units");
        let alone = bundle(
            Some("one.volume.asset"),
            &[("one.volume", "v"), ("seed.sql", "s")],
        );
        let bundles = [bundle_of_directory(&from).unwrap(), alone];
        let installed = install(&to, &bundles, false).unwrap();
        assert_eq!(installed.written.len(), 5);
        let error = install(&to, &bundles, false).unwrap_err().to_string();
        assert_eq!(error, "conf/web.conf is there already: use --replace");
        let installed = install(&to, &bundles, true).unwrap();
        assert_eq!((installed.written.len(), installed.deleted.len()), (5, 0));
        assert_eq!(removal(&to, "other.volume").unwrap(), None);
        remove(&to, "db.container");
        assert_eq!(names(&to), [".one.volume.asset", "one.volume", "seed.sql"]);
        remove(&to, "one.volume");
        assert_eq!(names(&to), [""; 0]);
        assert!(!to.join("conf").exists());
    }

    #[test]
    fn an_application_is_found_where_units_are_looked_for() {
        let home = TempDir::new().unwrap();
        let path = |name: &str| home.path().join(name);
        let files = [("web.container", ""), ("sub/db.container", "")];
        install(&path("units"), &[bundle(Some("shop.app"), &files)], false).unwrap();
        // Above all of them.
        let all = "units/web.container\nunits/sub/db.container\nunits/free.container\n";
        fs::write(path(".all.app"), all).unwrap();
        let directories = [path("units"), path("units/sub")];
        let shop = Application {
            name: "shop".into(),
            directory: path("units"),
        };
        for (name, expected) in [
            ("units/web.container", Some(&shop)),
            ("units/sub/db.container", Some(&shop)),
            ("units/free.container", None),
        ] {
            let found = application(&path(name), &directories);
            assert_eq!(found.as_ref(), expected, "{name}");
        }
    }

    #[test]
    fn nothing_is_written_elsewhere_and_no_list_is_installed() {
        let home = TempDir::new().unwrap();
        for name in [
            "../x.container",
            "/x.container",
            "a/../../x.volume",
            "",
            "a\nb",
            ".x.app",
            "sub/.web.container.asset",
            ".x.app/y",
        ] {
            let bundle = bundle(None, &[("web.container", ""), (name, "")]);
            let error = install(home.path(), &[bundle], true).unwrap_err();
            let said = format!("{name:?} can't be installed: ");
            assert!(error.to_string().starts_with(&said), "{error}");
            assert_eq!(names(home.path()), [""; 0]);
        }
    }

    #[test]
    fn nothing_elsewhere_is_removed() {
        let home = TempDir::new().unwrap();
        let path = |name: &str| home.path().join(name);
        fs::create_dir_all(path("units/sub")).unwrap();
        fs::create_dir(path("own")).unwrap();
        for name in ["own/key", "own/web.container", "units/web.container"] {
            fs::write(path(name), "x").unwrap();
        }
        let planted = format!("web.container\n../own/key\n{}\n", path("own/key").display());
        fs::write(path("units/.shop.app"), &planted).unwrap();
        fs::write(path("units/.web.container.asset"), &planted).unwrap();
        let units = path("units");
        for name in [
            path("own/web.container").to_str().unwrap(),
            "../own/web.container",
            "sub/../web.container",
            "./web.container",
            "web.container/",
            "..",
            "",
        ] {
            let error = removal(&units, name).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{name:?} is a path: ")),
                "{error}"
            );
        }
        remove(&units, "web.container");
        assert_eq!(names(home.path()), ["own/key", "own/web.container"]);
        // Nor by a link that leads out.
        symlink("../own", path("units/out")).unwrap();
        fs::write(path("units/.shop.app"), "out/key\n").unwrap();
        let removal = removal(&units, "shop").unwrap().unwrap();
        let error = removal.run(&units).unwrap_err().to_string();
        assert!(error.contains("a link leads there"), "{error}");
        assert!(path("own/key").exists());
    }

    #[test]
    fn a_replaced_application_leaves_nothing_behind() {
        let home = TempDir::new().unwrap();
        let units = home.path();
        let old = [
            ("web.container", "1"),
            ("db.container", "1"),
            ("c/old", "1"),
            ("both", "1"),
        ];
        install(units, &[bundle(Some("shop.app"), &old)], false).unwrap();
        install(
            units,
            &[bundle(Some("x.volume.asset"), &[("x.volume", "")])],
            false,
        )
        .unwrap();
        // What another list has as well is that one's.
        fs::write(units.join(".x.volume.asset"), "x.volume\nboth\n").unwrap();
        let new = [bundle(Some("shop.app"), &[("cache.container", "2")])];
        let error = install(units, &new, false).unwrap_err().to_string();
        assert_eq!(error, "shop is installed already: use --replace");
        let error = install(units, &[&new[..], &new[..]].concat(), true).unwrap_err();
        let said = "cache.container is there already: use --replace";
        assert_eq!(error.to_string(), said);
        let other = bundle(Some("shop.app"), &[("other", "")]);
        let error = install(units, &[new[0].clone(), other], true).unwrap_err();
        let said = "there are two of the name shop.app: install one of them";
        assert_eq!(error.to_string(), said);
        let moved = bundle(None, &[("db.container", "2")]);
        let installed = install(units, &[new[0].clone(), moved], true).unwrap();
        let paths = |names: &[&str]| {
            names
                .iter()
                .map(|name| units.join(name))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            installed.written,
            paths(&["cache.container", "db.container"])
        );
        assert_eq!(installed.deleted, paths(&["web.container", "c/old"]));
        let left = [
            ".shop.app",
            ".x.volume.asset",
            "both",
            "cache.container",
            "db.container",
            "x.volume",
        ];
        assert_eq!(names(units), left);
        let list = fs::read_to_string(units.join(".shop.app")).unwrap();
        assert_eq!(list, "cache.container\n");
    }

    #[test]
    fn what_came_with_a_unit_goes_with_its_application() {
        let home = TempDir::new().unwrap();
        let units = home.path();
        let alone = [("web.container", "1"), ("seed.sql", "1")];
        install(units, &[bundle(Some("web.container.asset"), &alone)], false).unwrap();
        let app = bundle(Some("shop.app"), &[("web.container", "2")]);
        install(units, &[app], true).unwrap();
        remove(units, "shop.app");
        assert_eq!(names(units), [""; 0]);
    }
}
