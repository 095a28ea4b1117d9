//! Mounts as the specification names them, turned into what the kernel takes.
//!
//! Pure: option strings become attribute bits, propagation and the file system's own parameters
//! (runtime-spec, config.md, "Mounts"; mount(8); mount_setattr(2)).

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use kelp_sys::mount_attr::{self as attr, MountAttr};
use kelp_userns::{IdMap, IdMapping};
use oci_spec::runtime::{LinuxIdMapping, Mount};

use crate::error::Error;
use crate::idmap::Idmap;

/// The option of a mount that is in the mounts of a process, or of a container before that is looked up.
pub const OF: &str = "X-kelp.of=";

/// The option of a mount that has this name in its target, where that is a directory.
pub const WITHIN: &str = "X-kelp.within=";

/// One mount, ready to be made.
#[derive(Debug)]
pub struct MountPlan {
    /// Where, inside the container; absolute.
    pub target: PathBuf,
    /// What it is called in the target, where that is a directory by the time it is made (`X-kelp.within`).
    pub within: Option<PathBuf>,
    /// What.
    pub source: Source,
    /// For this mount alone.
    pub attr: MountAttr,
    /// For it and everything mounted below it.
    pub recursive_attr: MountAttr,
    /// Whether what the image has at the target is copied into the new, empty file system.
    pub copy_up: bool,
    /// Whether the owners of its files are mapped.
    pub(crate) idmap: Option<Idmap>,
    /// The mount itself, where it had to be made in advance.
    pub(crate) opened: Option<OwnedFd>,
    /// Whether the source is given to the container's user (`U`), recursively.
    pub chown: bool,
    /// The volume that the source is, or is in (`X-kelp.volume`).
    pub volume: Option<Volume>,
}

/// The name of a file in a volume's directory that is there once a container has had the volume.
pub const MARK: &str = "filling";

/// A volume, which several containers may start with at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its directory, which has its files in `_data`.
    pub directory: PathBuf,
    /// Whether what it gets from the image must outlast the machine's power (`X-kelp.synced`).
    pub synced: bool,
}

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A part of the host's tree.
    Bind {
        /// Where it is on the host.
        path: CString,
        /// With what is mounted below it.
        recursive: bool,
        /// A place beneath it, instead of the whole (`X-mount.subdir` of mount(8)).
        beneath: Option<PathBuf>,
        /// A process in whose mounts it is, instead of the host's (`X-kelp.of`).
        of: Option<u32>,
    },
    /// An overlay of directories of the host.
    Overlay {
        /// The layers, topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go, and overlayfs's own directory; without them nothing can be changed.
        upper: Option<(PathBuf, PathBuf)>,
        /// Whether the upper directory is new at each start, and so may be lost with the machine's power;
        /// it becomes what the topmost layer is.
        volatile: bool,
        /// A place beneath it, instead of the whole.
        beneath: Option<PathBuf>,
    },
    /// A new file system.
    FileSystem {
        /// Its type.
        kind: CString,
        /// The device or name.
        source: CString,
        /// Its parameters, each with or without a value.
        parameters: Vec<(CString, Option<CString>)>,
    },
    /// The container's own cgroup, or the host's, which can't be changed, where it is not in a cgroup
    /// namespace of its own.
    Cgroup {
        /// Whether it is.
        own: bool,
    },
    /// What is mounted there already, with other attributes and parameters.
    Remount {
        /// Parameters of its file system that are to change.
        parameters: Vec<(CString, Option<CString>)>,
    },
}

/// Parameters of a file system, each with or without a value.
pub type Parameters = [(CString, Option<CString>)];

enum Effect {
    Set(u64),
    Clear(u64),
    /// A mode that several bits encode: cleared as a whole, then set.
    Atime(u64),
}

/// Options that are attributes of a mount; with an `r` before them they go down the tree.
const ATTRIBUTES: &[(&str, Effect)] = &[
    ("ro", Effect::Set(attr::RDONLY)),
    ("rw", Effect::Clear(attr::RDONLY)),
    ("nosuid", Effect::Set(attr::NOSUID)),
    ("suid", Effect::Clear(attr::NOSUID)),
    ("nodev", Effect::Set(attr::NODEV)),
    ("dev", Effect::Clear(attr::NODEV)),
    ("noexec", Effect::Set(attr::NOEXEC)),
    ("exec", Effect::Clear(attr::NOEXEC)),
    ("nodiratime", Effect::Set(attr::NODIRATIME)),
    ("diratime", Effect::Clear(attr::NODIRATIME)),
    ("nosymfollow", Effect::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Effect::Clear(attr::NOSYMFOLLOW)),
    ("noatime", Effect::Atime(attr::NOATIME)),
    ("strictatime", Effect::Atime(attr::STRICTATIME)),
    ("relatime", Effect::Atime(0)),
    ("atime", Effect::Atime(0)),
];

const PROPAGATION: &[(&str, u64)] = &[
    ("private", attr::MS_PRIVATE),
    ("slave", attr::MS_SLAVE),
    ("shared", attr::MS_SHARED),
    ("unbindable", attr::MS_UNBINDABLE),
];

/// Options that say something to other tools only.
const IGNORED: &[&str] = &[
    "defaults",
    "async",
    "auto",
    "noauto",
    "user",
    "nouser",
    "_netdev",
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "norelatime",
    "nostrictatime",
];

/// Options of a file system, which a bind mount is not: it has those that its file system was mounted with.
const NOT_OF_A_BIND: &[&str] = &[
    "sync",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
];

impl MountPlan {
    /// From the specification's mount.
    pub fn new(mount: &Mount) -> Result<Self, Error> {
        // A relative one is "interpreted as relative to `/`" (runtime-spec, config.md, "Mounts").
        let target = Path::new("/").join(mount.destination());
        let mut options = Options::default();
        for option in mount.options().iter().flatten() {
            options.add(option, &target)?;
        }
        let kind = mount.typ().as_deref().unwrap_or_default();
        let is_bind = options.bind || kind == "bind" || kind == "rbind";
        if is_bind {
            let is_other = |name: &CString| {
                NOT_OF_A_BIND
                    .iter()
                    .any(|it| name.to_bytes() == it.as_bytes())
            };
            options.parameters.retain(|(name, _)| !is_other(name));
        }
        let idmap = options.idmap(mount)?;
        let source = if options.remount {
            Source::Remount {
                parameters: if is_bind {
                    Vec::new()
                } else {
                    options.parameters
                },
            }
        } else if is_bind {
            let path = mount.source().as_deref().ok_or_else(|| {
                Error::Spec(format!("mount {}: a bind has no source", target.display()))
            })?;
            if !options.parameters.is_empty() {
                let (name, _) = &options.parameters[0];
                return Err(Error::Spec(format!(
                    "mount {}: unknown option \"{}\"",
                    target.display(),
                    name.to_string_lossy()
                )));
            }
            Source::Bind {
                path: cstring(path)?,
                recursive: options.recursive || kind == "rbind",
                beneath: options.beneath,
                of: options.of,
            }
        } else if kind == "overlay" {
            overlay(&options.parameters, options.beneath, &target)?
        } else if kind == "cgroup" || kind == "cgroup2" {
            Source::Cgroup { own: true }
        } else if kind.is_empty() {
            return Err(Error::Spec(format!(
                "mount {}: the type is missing",
                target.display()
            )));
        } else {
            Source::FileSystem {
                kind: cstring(Path::new(kind))?,
                source: cstring(mount.source().as_deref().unwrap_or(Path::new(kind)))?,
                parameters: options.parameters,
            }
        };
        Ok(Self {
            target,
            within: options.within,
            source,
            attr: options.attr,
            recursive_attr: options.recursive_attr,
            copy_up: options.copy_up,
            idmap,
            opened: None,
            chown: options.chown,
            volume: options.volume.map(|directory| Volume {
                directory,
                synced: options.synced,
            }),
        })
    }

    /// Of an overlay whose changes are thrown away before each run, shows what a run will start with:
    /// what is written now would be lost, and can't be.
    pub(crate) fn forget_changes(&mut self) -> Result<(), Error> {
        let Source::Overlay {
            lower,
            upper,
            volatile,
            beneath,
        } = &mut self.source
        else {
            return Ok(());
        };
        if !*volatile {
            return Ok(());
        }
        (*upper, *volatile) = (None, false);
        // Overlayfs takes no single layer.
        if let [only] = lower.as_slice() {
            self.source = Source::Bind {
                path: cstring(only)?,
                recursive: false,
                beneath: beneath.take(),
                of: None,
            };
        }
        self.attr.set |= attr::RDONLY;
        self.attr.clear &= !attr::RDONLY;
        Ok(())
    }

    /// Of a cgroup tree, shows the host's, and lets nothing in it be changed: a container that could would be
    /// in no cgroup (CVE-2023-25809).
    pub(crate) fn without_cgroup_namespace(&mut self) {
        if let Source::Cgroup { own } = &mut self.source {
            *own = false;
            self.attr.set |= attr::RDONLY;
            self.attr.clear &= !attr::RDONLY;
        }
    }

    /// Whether what is mounted in it is to be seen on both sides.
    pub(crate) fn is_shared(&self) -> bool {
        [self.attr, self.recursive_attr]
            .iter()
            .any(|attr| attr.propagation == attr::MS_SHARED)
    }

    /// Whether nothing that is mounted in it is to be seen elsewhere, nor the other way round.
    pub(crate) fn is_private(&self) -> bool {
        [self.attr, self.recursive_attr]
            .iter()
            .all(|attr| matches!(attr.propagation, 0 | attr::MS_PRIVATE))
    }

    /// Whether it is a /dev to be filled.
    pub(crate) fn is_dev(&self) -> bool {
        self.target == Path::new("/dev") && self.is_tmpfs()
    }

    /// Whether it is a new tmpfs.
    pub fn is_tmpfs(&self) -> bool {
        matches!(&self.source, Source::FileSystem { kind, .. } if kind.as_c_str() == c"tmpfs")
    }
}

#[derive(Default)]
struct Options {
    attr: MountAttr,
    recursive_attr: MountAttr,
    parameters: Vec<(CString, Option<CString>)>,
    bind: bool,
    recursive: bool,
    copy_up: bool,
    chown: bool,
    beneath: Option<PathBuf>,
    within: Option<PathBuf>,
    volume: Option<PathBuf>,
    of: Option<u32>,
    synced: bool,
    remount: bool,
    idmap: Option<Idmap>,
}

impl Options {
    fn add(&mut self, option: &str, target: &Path) -> Result<(), Error> {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "U" => self.chown = true,
            "X-kelp.synced" => self.synced = true,
            "remount" => self.remount = true,
            "idmap" | "ridmap" => {
                self.idmap = Some(Idmap {
                    map: None,
                    recursive: option == "ridmap",
                });
            }
            _ if IGNORED.contains(&option) => {}
            _ if option.starts_with(WITHIN) => self.within = Some(name_of(option, target)?),
            _ if option.starts_with(OF) => self.of = Some(process_of(option, target)?),
            _ if apply(&mut self.attr, option) => {}
            _ if option
                .strip_prefix('r')
                .is_some_and(|rest| apply(&mut self.recursive_attr, rest)) => {}
            _ => {
                let (name, value) = match option.split_once('=') {
                    Some(("X-mount.subdir", place)) => {
                        self.beneath = Some(PathBuf::from(place));
                        return Ok(());
                    }
                    Some(("X-kelp.volume", directory)) => {
                        self.volume = Some(PathBuf::from(directory));
                        return Ok(());
                    }
                    Some((name, value)) => (name, Some(cstring(Path::new(value))?)),
                    None => (option, None),
                };
                self.parameters.push((cstring(Path::new(name))?, value));
            }
        }
        Ok(())
    }

    /// The mapping of a mount: as its options and its own maps say.
    fn idmap(&mut self, mount: &Mount) -> Result<Option<Idmap>, Error> {
        let uids = mappings(mount.uid_mappings().as_ref());
        let gids = mappings(mount.gid_mappings().as_ref());
        if uids.is_empty() != gids.is_empty() {
            return Err(Error::Spec(format!(
                "mount {}: uidMappings and gidMappings are given together",
                mount.destination().display()
            )));
        }
        let mut idmap = self.idmap.take();
        if !uids.is_empty() {
            idmap.get_or_insert_default().map = Some(IdMap { uids, gids });
        }
        Ok(idmap)
    }
}

/// One side of a map, as the specification has it.
pub fn mappings(lines: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMapping> {
    let lines = lines.into_iter().flatten().map(|line| IdMapping {
        container: line.container_id(),
        host: line.host_id(),
        size: line.size(),
    });
    lines.collect()
}

fn name_of(option: &str, target: &Path) -> Result<PathBuf, Error> {
    let name = Path::new(&option[WITHIN.len()..]);
    let mut components = name.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name.as_os_str() => Ok(name.to_owned()),
        _ => {
            let target = target.display();
            Err(Error::Spec(format!(
                "mount {target}: {option}: not the name of a file"
            )))
        }
    }
}

fn process_of(option: &str, target: &Path) -> Result<u32, Error> {
    option[OF.len()..].parse().map_err(|_| {
        let target = target.display();
        Error::Spec(format!("mount {target}: {option}: not a process id"))
    })
}

/// The options of an overlay that a user namespace may mount (overlayfs, mount(8)).
fn overlay(
    parameters: &[(CString, Option<CString>)],
    beneath: Option<PathBuf>,
    target: &Path,
) -> Result<Source, Error> {
    let (mut lower, mut upper, mut work, mut volatile) = (Vec::new(), None, None, false);
    for (name, value) in parameters {
        let path = value
            .as_ref()
            .map(|value| PathBuf::from(OsStr::from_bytes(value.to_bytes())));
        match (name.to_bytes(), path) {
            (b"lowerdir", Some(paths)) => lower = layers(paths.as_os_str().as_bytes()),
            (b"upperdir", Some(path)) => upper = Some(path),
            (b"workdir", Some(path)) => work = Some(path),
            (b"volatile", None) => volatile = true,
            // It is how they are always mounted.
            (b"userxattr", None) => {}
            _ => {
                return Err(Error::Spec(format!(
                    "mount {}: unknown option \"{}\"",
                    target.display(),
                    name.to_string_lossy()
                )));
            }
        }
    }
    if lower.is_empty() || upper.is_some() != work.is_some() {
        return Err(Error::Spec(format!(
            "mount {}: an overlay has a lowerdir, and an upperdir if it has a workdir",
            target.display()
        )));
    }
    Ok(Source::Overlay {
        lower,
        upper: upper.zip(work),
        volatile,
        beneath,
    })
}

/// Paths with colons between them; a backslash takes the meaning from what follows.
fn layers(text: &[u8]) -> Vec<PathBuf> {
    let mut layers = vec![Vec::new()];
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b':' => layers.push(Vec::new()),
            b'\\' => layers
                .last_mut()
                .into_iter()
                .for_each(|layer| layer.extend(bytes.next())),
            _ => layers
                .last_mut()
                .into_iter()
                .for_each(|layer| layer.push(byte)),
        }
    }
    layers
        .into_iter()
        .map(|layer| PathBuf::from(OsString::from_vec(layer)))
        .collect()
}

fn apply(attr: &mut MountAttr, option: &str) -> bool {
    if let Some((_, effect)) = ATTRIBUTES.iter().find(|(name, _)| *name == option) {
        match *effect {
            Effect::Set(bits) => {
                attr.set |= bits;
                attr.clear &= !bits;
            }
            Effect::Clear(bits) => {
                attr.clear |= bits;
                attr.set &= !bits;
            }
            Effect::Atime(bits) => {
                attr.set = attr.set & !attr::ATIME | bits;
                attr.clear |= attr::ATIME;
            }
        }
        return true;
    }
    if let Some(&(_, bits)) = PROPAGATION.iter().find(|(name, _)| *name == option) {
        attr.propagation = bits;
        return true;
    }
    false
}

/// The names of the options that are this runtime's own matter: attributes and propagation, each also down the
/// tree, and what says how to bind and copy.
pub fn option_names() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().map(|(name, _)| *name);
    let both = attributes.chain(PROPAGATION.iter().map(|(name, _)| *name));
    let both = both.flat_map(|name| [name.to_owned(), format!("r{name}")]);
    let others = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"].map(str::to_owned);
    let mut names: Vec<_> = both.chain(others).collect();
    let more = IGNORED.iter().chain(NOT_OF_A_BIND);
    names.extend(more.map(|name| (*name).to_owned()));
    names.sort_unstable();
    names.dedup();
    names
}

/// The kernel's bits for `linux.rootfsPropagation`.
pub(crate) fn propagation(name: &str) -> Result<(u64, bool), Error> {
    let (plain, recursive) = match name.strip_prefix('r') {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    PROPAGATION
        .iter()
        .find(|(known, _)| *known == plain)
        .map(|&(_, bits)| (bits, recursive))
        .ok_or_else(|| Error::Spec(format!("unknown rootfsPropagation \"{name}\"")))
}

pub(crate) fn cstring(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Spec(format!("{} has a null byte", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn plan(kind: &str, options: &[&str]) -> Result<MountPlan, Error> {
        let mount = MountBuilder::default()
            .destination("/x")
            .typ(kind)
            .source("/src")
            .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
            .build()
            .unwrap();
        MountPlan::new(&mount)
    }

    #[test]
    fn options_become_attributes_propagation_and_parameters() {
        let bind = plan(
            "bind",
            &["rbind", "ro", "rprivate", "nosuid", "suid", "rnoexec"],
        )
        .unwrap();
        assert_eq!(bind.attr.set, attr::RDONLY);
        assert_eq!(bind.attr.clear, attr::NOSUID);
        assert_eq!(bind.recursive_attr.set, attr::NOEXEC);
        assert_eq!(bind.recursive_attr.propagation, attr::MS_PRIVATE);
        assert!(matches!(
            bind.source,
            Source::Bind {
                recursive: true,
                ..
            }
        ));

        let tmpfs = plan("tmpfs", &["size=64m", "mode=1777", "noatime", "noswap"]).unwrap();
        assert_eq!(tmpfs.attr.set, attr::NOATIME);
        assert_eq!(tmpfs.attr.clear, attr::ATIME);
        let Source::FileSystem { parameters, .. } = tmpfs.source else {
            panic!("a tmpfs is a file system");
        };
        assert_eq!(parameters.len(), 3);
        assert_eq!(parameters[2], (c"noswap".to_owned(), None));
    }

    #[test]
    fn an_overlay_has_layers_and_perhaps_a_place_for_changes() {
        let options = [
            "lowerdir=/a\\:b:/c\\\\",
            "upperdir=/u",
            "workdir=/w",
            "volatile",
            "ro",
        ];
        let overlay = plan("overlay", &options).unwrap();
        let expected = Source::Overlay {
            lower: vec![PathBuf::from("/a:b"), PathBuf::from("/c\\")],
            upper: Some((PathBuf::from("/u"), PathBuf::from("/w"))),
            volatile: true,
            beneath: None,
        };
        assert_eq!(overlay.source, expected);
        assert_eq!(overlay.attr.set, attr::RDONLY);
        for bad in [
            &["upperdir=/u"][..],
            &["lowerdir=/a", "workdir=/w"],
            &["lowerdir=/a", "x=1"],
        ] {
            assert!(plan("overlay", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_within_the_target_is_a_files_alone() {
        let named = plan("bind", &["X-kelp.within=a b"]).unwrap();
        assert_eq!(named.within.as_deref(), Some(Path::new("a b")));
        for bad in ["", ".", "..", "/a", "a/b", "a/", "../a"] {
            let option = format!("X-kelp.within={bad}");
            assert!(plan("bind", &[&option]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_bind_can_not_take_is_refused() {
        let error = plan("bind", &["size=3"]).unwrap_err().to_string();
        assert_eq!(error, "mount /x: unknown option \"size\"");
        assert!(
            plan("", &[])
                .unwrap_err()
                .to_string()
                .contains("type is missing")
        );
    }

    #[test]
    fn a_bind_passes_over_what_is_its_file_systems() {
        let bind = plan("bind", &["sync", "lazytime", "loud", "iversion"]).unwrap();
        assert_eq!(bind.attr, MountAttr::default());
        let tmpfs = plan("tmpfs", &["sync", "silent"]).unwrap();
        let Source::FileSystem { parameters, .. } = tmpfs.source else {
            panic!("a tmpfs is a file system");
        };
        assert_eq!(parameters, [(c"sync".to_owned(), None)]);
    }
}
