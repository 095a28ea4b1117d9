//! Whether an overlay can be mounted where the layers are: asked by mounting one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kelp_image::merged::OPAQUE;
use kelp_sys::process::Exit;
use kelp_userns::UserNamespace;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use rustix::io::Errno;

use crate::doctor::{Check, Level};
use crate::{Engine, Error, Kind, internal};

const NAME: &str = "overlay";

/// What the kernel says where an overlay can't be had: it has none, not for this user, or not on this
/// file system, which may lack devices or attributes as well; or it can't make what it needs in
/// `work`, and then can only be read.
const REFUSALS: [Errno; 7] = [
    Errno::NODEV,
    Errno::NOSYS,
    Errno::PERM,
    Errno::ACCESS,
    Errno::INVAL,
    Errno::OPNOTSUPP,
    Errno::ROFS,
];

/// How a probe came out.
pub(crate) enum Verdict {
    /// An overlay can be had.
    Works,
    /// It can't, and why.
    Refused(String),
}

/// Whether there will be an overlay.
pub(crate) fn check(engine: &Engine, userns: &UserNamespace) -> Check {
    let data = engine.paths.data.display();
    match probe(engine, userns) {
        Ok(Verdict::Works) => Check::ok(NAME, format!("can be mounted on {data}")),
        Ok(Verdict::Refused(why)) => {
            let fix = format!(
                "containers get a copy of their image, which takes time and space; put {data} on a \
                 local file system such as ext4, xfs or btrfs (not NFS, nor another overlay), with \
                 a kernel of 5.11 or later; XDG_DATA_HOME moves it"
            );
            Check::bad(Level::Warn, NAME, why, fix)
        }
        Err(error) => {
            let fix = "containers are not made as long as nobody knows; --storage-driver=vfs makes \
                       them with a copy of their image";
            Check::bad(Level::Fail, NAME, error.line(), fix)
        }
    }
}

/// Mounts an overlay on the data directory, in a namespace where it shows to nobody.
///
/// # Errors
/// What kept it from finding out, such as a full disk, on which a copy would not fit either.
pub(crate) fn probe(engine: &Engine, userns: &UserNamespace) -> Result<Verdict, Error> {
    let (path, lock) = engine.store()?.scratch("overlay")?;
    let place = Place { path, _lock: lock };
    let data = engine.paths.data.display();
    let what = || format!("try an overlay on {data}");
    for name in ["lower", "upper", "work", "stage"] {
        fs::create_dir(place.path.join(name)).map_err(Error::io(what()))?;
    }
    let path = place.path.to_string_lossy();
    let code = match internal::run_role(&["probe-overlay", &path], userns)? {
        Exit::Code(0) => return Ok(Verdict::Works),
        Exit::Code(code) => code,
        Exit::Signal(signal) => {
            let text = format!("{}: the probe was ended by signal {signal}", what());
            return Err(Error::new(Kind::Failed, text));
        }
    };
    let why = io::Error::from_raw_os_error(code);
    if REFUSALS.iter().any(|errno| errno.raw_os_error() == code) {
        return Ok(Verdict::Refused(format!(
            "can't be mounted on {data}: {why}"
        )));
    }
    Err(Error::io(what())(why))
}

/// What the probe leaves behind goes with this; if it is killed, with the next prune.
struct Place {
    path: PathBuf,
    _lock: File,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
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
    let [lower, upper, work, stage] =
        ["lower", "upper", "work", "stage"].map(|name| path.join(name));
    // Without these an overlay can be mounted, but a layer can't say what it hides: a tmpfs before
    // Linux 6.6 has no such attributes.
    rustix::fs::setxattr(&lower, OPAQUE, b"y", XattrFlags::empty())?;
    mknodat(
        CWD,
        lower.join("none"),
        FileType::CharacterDevice,
        Mode::empty(),
        0,
    )?;
    kelp_sys::namespace::unshare_mounts()?;
    let probed = kelp_runtime::overlay::probe(&lower, &upper, &work, &stage);
    if probed
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
    {
        // Unless nobody can make anything there: the disk is full.
        fs::create_dir(work.join("more"))?;
    }
    probed
}
