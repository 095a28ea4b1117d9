//! Where units are looked for, and how a file and its drop-ins become one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::finding::{Finding, Severity};
use crate::set::{Kind, Set, Source};
use crate::unit::Unit;

/// The largest file that is read; bytes. A unit has some hundred.
const LARGEST: u64 = 16 << 20;

/// What of the environment says where units are.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Whether the units are a user's, and not the system's.
    pub user: bool,
    /// The user's id.
    pub uid: u32,
    /// `QUADLET_UNIT_DIRS`: these directories and no others, with colons between them.
    pub unit_dirs: Option<OsString>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub config: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// What /run, /etc and /usr are in: `/`.
    pub root: PathBuf,
}

impl Environment {
    /// This process's.
    pub fn of_process(user: bool) -> Self {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            user,
            uid: rustix::process::getuid().as_raw(),
            unit_dirs: std::env::var_os("QUADLET_UNIT_DIRS").filter(|value| !value.is_empty()),
            runtime: path("XDG_RUNTIME_DIR"),
            config: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
            root: PathBuf::from("/"),
        }
    }

    /// Where a user's own units are put; nothing if no variable tells.
    pub fn install_dir(&self) -> Option<PathBuf> {
        if !self.user {
            return Some(self.root.join("etc/containers/systemd"));
        }
        let config = self.config.clone().filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(self.home.as_ref()?.join(".config")))?;
        Some(config.join("containers/systemd"))
    }

    /// The directories in which units are looked for, without those in them; the first that has a file of a
    /// name wins.
    fn bases(&self, notes: &mut Vec<String>) -> Vec<PathBuf> {
        let mut bases = Vec::new();
        let mut add = |path: PathBuf, from: &str| {
            if path.is_absolute() {
                bases.push(path);
            } else {
                notes.push(format!(
                    "{from}: {} is not an absolute path",
                    path.display()
                ));
            }
        };
        if let Some(dirs) = &self.unit_dirs {
            let dirs = dirs.clone().into_vec();
            for dir in dirs
                .split(|byte| *byte == b':')
                .filter(|dir| !dir.is_empty())
            {
                add(OsString::from_vec(dir.to_vec()).into(), "QUADLET_UNIT_DIRS");
            }
            return bases;
        }
        let below = "containers/systemd";
        if !self.user {
            return ["run", "etc", "usr/share"]
                .map(|dir| self.root.join(dir).join(below))
                .to_vec();
        }
        if let Some(runtime) = &self.runtime {
            add(runtime.join(below), "XDG_RUNTIME_DIR");
        }
        match (&self.config, &self.home) {
            (Some(config), _) => add(config.join(below), "XDG_CONFIG_HOME"),
            (None, Some(home)) => add(home.join(".config").join(below), "HOME"),
            (None, None) => {}
        }
        for dir in ["etc", "usr/share"] {
            let users = self.root.join(dir).join(below).join("users");
            bases.extend([users.join(self.uid.to_string()), users]);
        }
        bases
    }

    /// All directories that are looked into, and what is wrong with them.
    pub fn directories(&self) -> (Vec<PathBuf>, Vec<String>) {
        let mut notes = Vec::new();
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let is_users = |path: &Path| path.ends_with("containers/systemd/users");
        for base in self.bases(&mut notes) {
            // What is for one user, or for users, is for nobody else.
            let skip = |path: &Path| {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                let numeric = name.iter().all(u8::is_ascii_digit);
                match self.unit_dirs {
                    Some(_) => false,
                    None if self.user => is_users(&base) && path.parent() == Some(&base) && numeric,
                    None => is_users(path) && path.parent() == Some(&base),
                }
            };
            descend(&base, &skip, &mut seen, &mut found);
        }
        (found, notes)
    }
}

/// A directory and those in it, in the order of their names; none twice, however it is linked.
fn descend(
    directory: &Path,
    skip: &dyn Fn(&Path) -> bool,
    seen: &mut BTreeSet<PathBuf>,
    found: &mut Vec<PathBuf>,
) {
    let Ok(real) = fs::canonicalize(directory) else {
        return;
    };
    if !seen.insert(real) {
        return;
    }
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    found.push(directory.to_owned());
    let is_directory = |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
    // Drop-ins are no units.
    let is_drop_in = |path: &PathBuf| path.as_os_str().as_encoded_bytes().ends_with(b".d");
    let entries = entries.flatten().map(|entry| entry.path());
    let mut inner: Vec<_> = entries
        .filter(|path| is_directory(path) && !is_drop_in(path) && !skip(path))
        .collect();
    inner.sort();
    for path in inner {
        descend(&path, skip, seen, found);
    }
}

/// Reads all units of these directories. What can't be read is told in a source's findings, or here if there
/// is no source for it.
pub fn load(directories: &[PathBuf]) -> (Set, Vec<Finding>) {
    let (mut set, mut findings) = (Set::default(), Vec::new());
    let drop_ins = DropIns::of(directories);
    let mut seen = BTreeSet::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let Some((name, kind)) = unit_name(&path) else {
                continue;
            };
            if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir())
                || !seen.insert(name.clone())
            {
                continue;
            }
            // A link to /dev/null masks what is of that name further on (systemd.unit(5)).
            if fs::canonicalize(&path).is_ok_and(|real| real == Path::new("/dev/null")) {
                continue;
            }
            match read_source(&path, name, kind, &drop_ins) {
                Ok(source) => set.add(source),
                Err(finding) => findings.push(finding),
            }
        }
    }
    (set, findings)
}

/// Reads one unit's file, with its drop-ins.
pub fn load_file(path: &Path, drop_ins: &DropIns) -> Result<Source, Finding> {
    let Some((name, kind)) = unit_name(path) else {
        let kinds = Kind::ALL
            .map(|kind| format!(".{}", kind.extension()))
            .join(", ");
        let text = format!("this is no unit file: the name of one ends in one of {kinds}");
        return Err(Finding::error(path, None, text));
    };
    read_source(path, name, kind, drop_ins)
}

/// The name and the kind of a unit's file.
pub fn unit_name(path: &Path) -> Option<(String, Kind)> {
    let name = path.file_name()?.to_str()?;
    Some((name.to_owned(), Kind::of(name)?))
}

fn read_source(
    path: &Path,
    name: String,
    kind: Kind,
    drop_ins: &DropIns,
) -> Result<Source, Finding> {
    let bytes = read(path).map_err(|why| Finding::error(path, None, why))?;
    let (unit, faults) = Unit::parse(path, &bytes);
    let error = |fault: crate::unit::Fault| Finding::error(path, Some(fault.line), fault.text);
    let mut source = Source {
        name,
        path: path.to_owned(),
        kind,
        unit,
        findings: faults.into_iter().map(error).collect(),
    };
    for path in drop_ins.of_unit(&source) {
        match read(&path) {
            Err(why) => source.findings.push(warning(&path, None, why)),
            Ok(bytes) => {
                let (unit, faults) = Unit::parse(&path, &bytes);
                if faults.is_empty() {
                    source.unit.merge(unit);
                }
                let told = faults.into_iter().map(|fault| {
                    let text = format!("{}; this drop-in is left out", fault.text);
                    warning(&path, Some(fault.line), text)
                });
                source.findings.extend(told);
            }
        }
    }
    Ok(source)
}

fn warning(path: &Path, line: Option<usize>, text: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        ..Finding::error(path, line, text)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_regular(path, LARGEST).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => "not a regular file".into(),
        ErrorKind::FileTooLarge => format!("larger than {LARGEST} bytes"),
        _ => reason(&error),
    })
}

/// Reads a regular file of up to `largest` bytes. A pipe or a device would be waited for: that is `InvalidInput`,
/// and a larger file `FileTooLarge`.
pub(crate) fn read_regular(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: to open a device can do something already.
    if !fs::metadata(path)?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    // And it is not waited for if it has become a pipe meanwhile.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// An error of the system's as one says it.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

/// The directories of drop-ins that there are: `web.container.d` and the like.
#[derive(Clone, Debug, Default)]
pub struct DropIns {
    /// By name, in the order of the search.
    directories: BTreeMap<String, Vec<PathBuf>>,
}

impl DropIns {
    /// Those in these directories.
    pub fn of(directories: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for directory in directories {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name.as_bytes().ends_with(b".d") {
                    found
                        .directories
                        .entry(name)
                        .or_default()
                        .push(entry.path());
                }
            }
        }
        found
    }

    /// The files for a unit, in the order in which they are read.
    fn of_unit(&self, source: &Source) -> Vec<PathBuf> {
        if self.directories.is_empty() {
            return Vec::new();
        }
        let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
        for name in drop_in_names(source) {
            for directory in self.directories.get(&name).into_iter().flatten() {
                for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                    let path = entry.path();
                    let is_conf = path
                        .extension()
                        .is_some_and(|extension| extension == "conf");
                    if is_conf && !fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                        files.entry(entry.file_name()).or_insert(path);
                    }
                }
            }
        }
        let is_masked = |path: &PathBuf| {
            fs::canonicalize(path).is_ok_and(|real| real == Path::new("/dev/null"))
        };
        files
            .into_values()
            .filter(|path| !is_masked(path))
            .collect()
    }
}

/// What the directories of a unit's drop-ins are called, that which is for it alone first.
fn drop_in_names(source: &Source) -> Vec<String> {
    let extension = source.kind.extension();
    let (prefix, instance) = source.template();
    let mut names = vec![format!("{}.d", source.name)];
    if instance.is_some_and(|instance| !instance.is_empty()) {
        names.push(format!("{prefix}@.{extension}.d"));
    }
    let dashes: Vec<_> = prefix.match_indices('-').map(|(index, _)| index).collect();
    for index in dashes.into_iter().rev() {
        let name = format!("{}-.{extension}.d", &prefix[..index]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.push(format!("{extension}.d"));
    names
}
