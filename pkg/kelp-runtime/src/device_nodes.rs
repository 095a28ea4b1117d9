//! A container's /dev (runtime-spec, config-linux.md, "Devices" and "Default Devices").
//!
//! The machine's root makes devices. Nobody can in a user namespace: there the host's are bound, each checked
//! to be the device that is meant.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chownat, fstat, major, makedev, minor, mknodat, openat,
    statat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Gid, Uid, umask};

use crate::error::{Error, Failure, Step};
use crate::mounts::{attach, target};
use crate::rootfd::Root;

/// A device that a container has beside the usual ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Where, inside the container and on the host.
    pub(crate) path: PathBuf,
    /// What it is; otherwise what the host has there.
    pub(crate) node: Option<Node>,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    kind: FileType,
    number: (u32, u32),
    mode: u32,
    owner: (Option<u32>, Option<u32>),
}

impl Device {
    /// From the specification's device. One of kelp's own has a path alone.
    pub(crate) fn new(device: &LinuxDevice) -> Result<Self, Error> {
        let path = device.path().clone();
        let invalid = |why: &str| Error::Spec(format!("linux.devices: {}: {why}", path.display()));
        if !path.is_absolute() {
            return Err(invalid("its path is not absolute"));
        }
        let kind = match device.typ() {
            LinuxDeviceType::A => return Ok(Self { path, node: None }),
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
        };
        let number = |number: i64| {
            u32::try_from(number).map_err(|_| invalid("major and minor are numbers from 0 on"))
        };
        let number = match kind {
            FileType::Fifo => (0, 0),
            _ => (number(device.major())?, number(device.minor())?),
        };
        let node = Node {
            kind,
            number,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            owner: (device.uid(), device.gid()),
        };
        Ok(Self {
            path,
            node: Some(node),
        })
    }
}

const DEVICES: &[(&str, (u32, u32))] = &[
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// Fills a /dev that is nothing of the host's: the devices that every container has, and the links.
pub(crate) fn fill(root: &Root, makes_devices: bool) -> Result<(), Failure> {
    let dev = root
        .open(
            Path::new("/dev"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        )
        .step(|| "open /dev".to_owned())?;
    for &(name, number) in DEVICES {
        if makes_devices {
            let node = Node {
                kind: FileType::CharacterDevice,
                number,
                mode: 0o666,
                owner: (None, None),
            };
            let what = || format!("make /dev/{name}");
            make_node(dev.as_fd(), name.as_ref(), &node, &what)?;
            continue;
        }
        let source = device(name, number)?;
        let place = openat(
            &dev,
            name,
            OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::RDONLY,
            Mode::from_raw_mode(0o644),
        )
        .step(|| format!("create /dev/{name}"))?;
        attach(source.as_fd(), place.as_fd()).step(|| format!("mount /dev/{name}"))?;
    }
    for &(to, name) in LINKS {
        match symlinkat(to, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).step(|| format!("link /dev/{name}")),
        }
    }
    Ok(())
}

/// Adds those that were named, and those of `others` that are still there.
pub(crate) fn add(
    root: &Root,
    named: &[Device],
    others: &[PathBuf],
    makes_devices: bool,
) -> Result<(), Failure> {
    for device in named {
        match &device.node {
            None => bind_at(root, &device.path, &open_device(&device.path)?)?,
            Some(node) => make(root, &device.path, node, makes_devices)?,
        }
    }
    for path in others {
        match open_tree(CWD, path, CLONE) {
            Err(Errno::NOENT | Errno::NXIO | Errno::ACCESS) => {}
            source => {
                let source = source.step(|| format!("bind device {}", path.display()))?;
                bind_at(root, path, &source)?;
            }
        }
    }
    Ok(())
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

fn open_device(path: &Path) -> Result<OwnedFd, Failure> {
    open_tree(CWD, path, CLONE).step(|| format!("bind device {}", path.display()))
}

fn bind_at(root: &Root, path: &Path, source: &OwnedFd) -> Result<(), Failure> {
    let (place, _) = target(root, path, false)?;
    attach(source.as_fd(), place.as_fd()).step(|| format!("mount device {}", path.display()))
}

fn make(root: &Root, path: &Path, node: &Node, makes_devices: bool) -> Result<(), Failure> {
    let what = || format!("make device {}", path.display());
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = root.mkdir_all(parent, 0o755).step(what)?;
    let name = path.file_name().unwrap_or_default();
    match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        // Where devices are bound, a file is what they were bound to before.
        Ok(there)
            if FileType::from_raw_mode(there.st_mode) == FileType::RegularFile
                && !makes_devices
                && there.st_size == 0 => {}
        Ok(there) if node.is(there.st_mode, there.st_rdev) => return Ok(()),
        Ok(_) => {
            let why = "something else is there";
            return Err(Failure::setup(format!("{}: {why}", what())));
        }
        Err(error) => return Err(error).step(what),
    }
    if node.kind != FileType::Fifo && !makes_devices {
        return bind_at(root, path, &find(path, node)?);
    }
    make_node(parent.as_fd(), name, node, &what)?;
    let (uid, gid) = node.owner;
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).step(what)
}

/// Makes a device of exactly this mode. What is there already is left as it is, if it is that device, and is
/// never followed: the host is still around it, and it is for the image to say where a link leads.
fn make_node(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    node: &Node,
    what: &impl Fn() -> String,
) -> Result<(), Failure> {
    let (major, minor) = node.number;
    let mode = Mode::from_raw_mode(node.mode);
    let usual = umask(Mode::empty());
    let made = mknodat(parent, name, node.kind, mode, makedev(major, minor));
    umask(usual);
    if made != Err(Errno::EXIST) {
        return made.step(what);
    }
    let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).step(what)?;
    if node.is(there.st_mode, there.st_rdev) {
        return Ok(());
    }
    let why = "something else is there";
    Err(Failure::setup(format!("{}: {why}", what())))
}

impl Node {
    fn is(&self, mode: u32, device: u64) -> bool {
        let number = (major(device), minor(device));
        FileType::from_raw_mode(mode) == self.kind
            && (self.kind == FileType::Fifo || number == self.number)
    }
}

/// A detached bind of the host's device of this kind and number: at the same path, or where the kernel says
/// that it is.
fn find(path: &Path, node: &Node) -> Result<OwnedFd, Failure> {
    let (major, minor) = node.number;
    let kind = match node.kind {
        FileType::BlockDevice => "block",
        _ => "char",
    };
    let by_number = || {
        let file = format!("/sys/dev/{kind}/{major}:{minor}/uevent");
        let text = fs::read_to_string(file).ok()?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(Path::new("/dev").join(name))
    };
    for path in std::iter::once(path.to_owned()).chain(std::iter::once_with(by_number).flatten()) {
        let Ok(tree) = open_tree(CWD, &path, CLONE) else {
            continue;
        };
        let stat = fstat(&tree).step(|| format!("look at {}", path.display()))?;
        if node.is(stat.st_mode, stat.st_rdev) {
            return Ok(tree);
        }
    }
    Err(Failure::setup(format!(
        "device {}: the host has no {kind} device {major}:{minor}, and without root none can be made",
        path.display()
    )))
}

/// A detached bind of the host's device, checked to be that device.
pub(crate) fn device(name: &str, number: (u32, u32)) -> Result<OwnedFd, Failure> {
    let what = || format!("bind /dev/{name}");
    let tree = open_tree(CWD, format!("/dev/{name}"), CLONE).step(what)?;
    let stat = fstat(&tree).step(what)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || (major(stat.st_rdev), minor(stat.st_rdev)) != number {
        return Err(Failure::setup(format!(
            "/dev/{name} of the host is not the device {}:{}",
            number.0, number.1
        )));
    }
    Ok(tree)
}
