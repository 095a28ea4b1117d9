//! Units that a person has installed: files in the directory of the user's own, and what belongs together.
//!
//! Beside the files stand lists, a name a line: `.NAME.app` of what was installed from one directory or one
//! `.quadlets` file, and `.UNIT.asset` of what came with one unit. What is in a list is removed as one.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use crate::find::unit_name;
use crate::set::Kind;

/// A file to be installed: its path beneath the directory of the units, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its path.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Files that belong together, and how they are called; nothing of one unit alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The name of the list, without the dot before it: `shop.app`, `web.container.asset`.
    pub list: Option<String>,
    /// The files.
    pub files: Vec<Input>,
}

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

fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |error| Error::Io(what, error)
}

fn refused<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(what.into()))
}

/// All files of a directory, as an application of its name.
pub fn bundle_of_directory(directory: &Path) -> Result<Bundle, Error> {
    let real = fs::canonicalize(directory).map_err(io("open", directory))?;
    let name = real.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return refused(format!(
            "{} has no name for an application",
            directory.display()
        ));
    };
    let mut files = Vec::new();
    collect(&real, "", &mut files)?;
    if !files.iter().any(|file| Kind::of(&file.name).is_some()) {
        return refused(format!("there is no unit in {}", directory.display()));
    }
    Ok(Bundle {
        list: Some(format!("{name}.app")),
        files,
    })
}

fn collect(directory: &Path, below: &str, files: &mut Vec<Input>) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(io("open", directory))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(io("read", directory))?;
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return refused(format!("{}: its name is not UTF-8", path.display()));
        };
        let name = format!("{below}{name}");
        let metadata = fs::symlink_metadata(&path).map_err(io("read", &path))?;
        if metadata.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else {
            let bytes = fs::read(&path).map_err(io("read", &path))?;
            files.push(Input { name, bytes });
        }
    }
    Ok(())
}

/// The units of a `.quadlets` file, which lines of `---` part; each says `# FileName=NAME`, and its section
/// which kind it is.
pub fn bundle_of_many(name: &str, text: &str) -> Result<Bundle, Error> {
    let mut files = Vec::new();
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match (line.trim_end(), parts.last_mut()) {
            ("---", _) => parts.push(String::new()),
            (line, Some(part)) => {
                part.push_str(line);
                part.push('\n');
            }
            (_, None) => {}
        }
    }
    for part in parts.iter().filter(|part| !part.trim().is_empty()) {
        let number = files.len() + 1;
        let said = part.lines().find_map(|line| {
            line.trim()
                .strip_prefix('#')?
                .trim()
                .strip_prefix("FileName=")
        });
        let Some(said) = said.map(str::trim).filter(|said| !said.is_empty()) else {
            return refused(format!(
                "{name}: the unit {number} says no \"# FileName=NAME\""
            ));
        };
        let mut kinds = Kind::ALL.into_iter();
        let kind = kinds.find(|kind| {
            let section = format!("[{}]", kind.section());
            part.lines().any(|line| line.trim() == section)
        });
        let Some(kind) = kind else {
            return refused(format!(
                "{name}: the unit {said} has no section that says what it is"
            ));
        };
        if said.contains('/') {
            return refused(format!("{name}: {said:?} is no name of a file"));
        }
        files.push(Input {
            name: format!("{said}.{}", kind.extension()),
            bytes: part.trim_start_matches('\n').as_bytes().to_vec(),
        });
    }
    if files.is_empty() {
        return refused(format!("there is no unit in {name}"));
    }
    let stem = name.strip_suffix(".quadlets").unwrap_or(name);
    Ok(Bundle {
        list: Some(format!("{stem}.app")),
        files,
    })
}

/// Puts bundles into a directory, all or, if one is there already and `replace` does not say that it may be,
/// none. The paths of the files.
pub fn install(directory: &Path, bundles: &[Bundle], replace: bool) -> Result<Vec<PathBuf>, Error> {
    let files = || bundles.iter().flat_map(|bundle| &bundle.files);
    let mut seen = BTreeSet::new();
    for file in files() {
        let plain = |part| matches!(part, Component::Normal(_));
        if !Path::new(&file.name).components().all(plain) || file.name.contains('\n') {
            return refused(format!("{:?} is no name of a file", file.name));
        }
        let is_there = directory.join(&file.name).symlink_metadata().is_ok();
        if !seen.insert(&file.name) || is_there && !replace {
            return refused(format!("{} is there already: use --replace", file.name));
        }
    }
    let mut written = Vec::new();
    for bundle in bundles {
        // The list first: what is half installed can be removed by it.
        if let Some(list) = &bundle.list {
            let lines = bundle.files.iter().map(|file| format!("{}\n", file.name));
            write(
                &directory.join(format!(".{list}")),
                lines.collect::<String>().as_bytes(),
            )?;
        }
        for file in &bundle.files {
            let path = directory.join(&file.name);
            write(&path, &file.bytes)?;
            written.push(path);
        }
    }
    Ok(written)
}

/// Writes a file in one piece.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(io("make", parent))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = parent.join(format!(".{name}.{}", std::process::id()));
    let mut file = fs::File::create(&new).map_err(io("make", &new))?;
    let result = file.write_all(bytes).and_then(|()| fs::rename(&new, path));
    result.map_err(|error| {
        let _ = fs::remove_file(&new);
        io("write", path)(error)
    })
}

/// The application that a unit's file belongs to, and the others of it. The name is without `.app`.
pub fn application(path: &Path) -> Option<(String, Vec<PathBuf>)> {
    // The file may be further down than the list.
    for directory in path.ancestors().skip(1).take(8) {
        for (list, files) in lists(directory) {
            if files.iter().any(|file| directory.join(file) == path)
                && let Some(name) = list.strip_suffix(".app")
            {
                let files = files.iter().map(|file| directory.join(file));
                return Some((name.to_owned(), files.collect()));
            }
        }
    }
    None
}

/// The lists in a directory: their names without the dot, and what they say.
fn lists(directory: &Path) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let list = name.strip_prefix('.').filter(|name| {
            let extension = Path::new(name).extension();
            extension.is_some_and(|extension| extension == "app" || extension == "asset")
        });
        if let (Some(list), Ok(text)) = (list, fs::read_to_string(entry.path())) {
            let files = text.lines().map(str::to_owned).collect();
            found.push((list.to_owned(), files));
        }
    }
    found.sort();
    found
}

/// What is removed under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// The units' files.
    pub units: Vec<PathBuf>,
    /// Other files, and the list.
    others: Vec<PathBuf>,
}

/// What belongs to a name: a unit with its application or its files, or an application. Nothing if there is
/// no such.
pub fn removal(directory: &Path, name: &str) -> Option<Removal> {
    let lists = lists(directory);
    let unit = Path::new(name);
    let app = lists.iter().find(|(list, files)| {
        let named = list.strip_suffix(".app");
        named.is_some_and(|app| {
            app == name.trim_end_matches(".app") || files.iter().any(|file| Path::new(file) == unit)
        })
    });
    if let Some((list, files)) = app {
        let mut removal = Removal::default();
        for file in files {
            removal.add(directory.join(file));
        }
        removal.others.push(directory.join(format!(".{list}")));
        return Some(removal);
    }
    Kind::of(name)?;
    let path = directory.join(unit);
    path.symlink_metadata().ok()?;
    let mut removal = Removal::default();
    let asset = format!("{name}.asset");
    if let Some((list, files)) = lists.iter().find(|(list, _)| *list == asset) {
        for file in files.iter().filter(|file| *file != name) {
            removal.others.push(directory.join(file));
        }
        removal.others.push(directory.join(format!(".{list}")));
    }
    removal.add(path);
    Some(removal)
}

impl Removal {
    fn add(&mut self, path: PathBuf) {
        if unit_name(&path).is_some() {
            self.units.push(path);
        } else {
            self.others.push(path);
        }
    }

    /// Deletes the files, and the directories beneath `directory` that are empty then.
    pub fn run(&self, directory: &Path) -> Result<(), Error> {
        // The list last: what is half removed can be removed by it.
        for path in self.units.iter().chain(&self.others) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io("remove", path)(error));
                }
                _ => {}
            }
            let parents = path.ancestors().skip(1);
            for parent in
                parents.take_while(|parent| *parent != directory && parent.starts_with(directory))
            {
                if fs::remove_dir(parent).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, text: &str) -> Input {
        Input {
            name: name.into(),
            bytes: text.into(),
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut files = Vec::new();
        collect(directory, "", &mut files).unwrap();
        files.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn a_file_of_many_units_is_parted() {
        let text = "# FileName=web\n[Container]\nImage=x\n---\n\n#FileName=data\n[Volume]\n---\n";
        let bundle = bundle_of_many("shop.quadlets", text).unwrap();
        assert_eq!(bundle.list.as_deref(), Some("shop.app"));
        let expected = [
            input("web.container", "# FileName=web\n[Container]\nImage=x\n"),
            input("data.volume", "#FileName=data\n[Volume]\n"),
        ];
        assert_eq!(bundle.files, expected);
        for (text, said) in [
            ("[Volume]\n", "q: the unit 1 says no \"# FileName=NAME\""),
            (
                "# FileName=a\n[Unit]\n",
                "q: the unit a has no section that says what it is",
            ),
            (
                "# FileName=../a\n[Volume]\n",
                "q: \"../a\" is no name of a file",
            ),
            ("---\n", "there is no unit in q"),
        ] {
            assert_eq!(bundle_of_many("q", text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn what_came_together_goes_together() {
        let home = tempfile::TempDir::new().unwrap();
        let from = home.path().join("shop");
        fs::create_dir_all(from.join("conf")).unwrap();
        fs::write(from.join("web.container"), "w").unwrap();
        fs::write(from.join("db.container"), "d").unwrap();
        fs::write(from.join("conf/web.conf"), "c").unwrap();
        let to = home.path().join("units");
        let alone = Bundle {
            list: Some("one.volume.asset".into()),
            files: vec![input("one.volume", "v"), input("seed.sql", "s")],
        };
        let bundles = [bundle_of_directory(&from).unwrap(), alone];
        let paths = install(&to, &bundles, false).unwrap();
        assert_eq!(paths.len(), 5);
        let error = install(&to, &bundles, false).unwrap_err().to_string();
        assert_eq!(error, "conf/web.conf is there already: use --replace");
        install(&to, &bundles, true).unwrap();
        let (app, files) = application(&to.join("web.container")).unwrap();
        assert_eq!((app.as_str(), files.len()), ("shop", 3));
        assert_eq!(application(&to.join("one.volume")), None);
        assert_eq!(removal(&to, "other.volume"), None);
        removal(&to, "db.container").unwrap().run(&to).unwrap();
        assert_eq!(names(&to), [".one.volume.asset", "one.volume", "seed.sql"]);
        removal(&to, "one.volume").unwrap().run(&to).unwrap();
        assert_eq!(names(&to), [""; 0]);
        assert!(!to.join("conf").exists());
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let home = tempfile::TempDir::new().unwrap();
        for name in ["../x.container", "/x.container", "a/../../x.volume"] {
            let files = vec![input(name, "")];
            let error = install(home.path(), &[Bundle { list: None, files }], false).unwrap_err();
            assert_eq!(error.to_string(), format!("{name:?} is no name of a file"));
        }
    }
}
