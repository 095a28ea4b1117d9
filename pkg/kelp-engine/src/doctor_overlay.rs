//! Whether an overlay can be mounted where the layers are: asked by mounting one.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kelp_userns::UserNamespace;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::doctor::{Check, Level};
use crate::{Engine, internal};

/// How an overlay knows a directory that hides what is below.
const OPAQUE: &str = "user.overlay.opaque";

const NAME: &str = "overlay";

/// Whether there will be an overlay.
pub(crate) fn check(engine: &Engine, userns: &UserNamespace) -> Check {
    let data = engine.paths.data.display();
    match probe(engine, userns) {
        Ok(()) => Check::ok(NAME, format!("can be mounted on {data}")),
        Err(why) => {
            let fix = format!(
                "containers get a copy of their image, which takes time and space; put {data} on a \
                 local file system such as ext4, xfs or btrfs (not NFS, nor another overlay), with \
                 a kernel of 5.11 or later; XDG_DATA_HOME moves it"
            );
            Check::bad(Level::Warn, NAME, why, fix)
        }
    }
}

/// Mounts an overlay on the data directory, in a namespace where it shows to nobody; else tells why
/// it can't be.
pub(crate) fn probe(engine: &Engine, userns: &UserNamespace) -> Result<(), String> {
    let place = Place(
        engine
            .paths
            .data
            .join(format!("doctor.{}", std::process::id())),
    );
    let data = engine.paths.data.display();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(place.0.join(name))
            .map_err(|error| format!("create a directory in {data}: {error}"))?;
    }
    let child = internal::spawn(
        &["probe-overlay", &place.0.to_string_lossy()],
        userns,
        Vec::new(),
    )
    .map_err(|error| error.line())?;
    match kelp_sys::process::wait_pidfd(child.pidfd.as_fd()).map(kelp_sys::process::Exit::code) {
        Ok(0) => Ok(()),
        Ok(code) => {
            let why = io::Error::from_raw_os_error(code);
            Err(format!("can't be mounted on {data}: {why}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// What the probe leaves behind goes with this.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The role: mounts an overlay beneath `path` and writes through it; 0 or an error number.
pub(crate) fn role(path: &str) -> i32 {
    let path = Path::new(path);
    let result = mount_and_write(path);
    // The kernel's own directory in `work` has mode 0: only here it can be opened.
    let _ = fs::remove_dir_all(path.join("work"));
    match result {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(5),
    }
}

fn mount_and_write(path: &Path) -> io::Result<()> {
    // Without these an overlay can be mounted, but a layer can't say what it hides: a tmpfs before
    // Linux 6.6 has no such attributes.
    let lower = path.join("lower");
    rustix::fs::setxattr(&lower, OPAQUE, b"y", XattrFlags::empty())?;
    mknodat(
        CWD,
        lower.join("none"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )?;
    kelp_sys::namespace::unshare_mounts()?;
    let merged = path.join("merged");
    let part = |name: &str| path.join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        part("lower"),
        part("upper"),
        part("work")
    );
    let options = std::ffi::CString::new(options)?;
    mount("overlay", &merged, "overlay", MountFlags::NODEV, &*options)?;
    let written = fs::write(merged.join("file"), "x");
    unmount(&merged, UnmountFlags::DETACH)?;
    written
}
