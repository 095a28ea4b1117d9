//! Another process in a container that another runtime has made.

use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use kelp_sys::fd::has_input;
use oci_spec::runtime::Process;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{getpid, set_child_subreaper};

use super::config::{become_user, leave_out};
use super::verb::{Around, Call, Made};
use super::{Foreign, Stage};
use crate::error::{Error, Failure, Step};
use crate::plan::Extras;
use crate::process::Identity;
use crate::rootfd::Root;

/// The process that is wanted.
#[derive(Debug)]
pub struct Request<'a> {
    /// The container, as the runtime knows it.
    pub id: &'a str,
    /// Its first process.
    pub init: BorrowedFd<'a>,
    /// The same, by number.
    pub pid: u32,
    /// The process, but for what the container's passwd says of its user.
    pub process: Process,
    /// Who that is.
    pub extras: Extras,
}

/// Has the runtime start a process; when this returns it runs, and is the caller's child. For that the
/// caller is a sub-reaper meanwhile.
///
/// The caller must have one thread.
pub fn exec(
    stage: &Stage,
    runtime: &Foreign,
    request: Request<'_>,
    around: Around<'_>,
) -> Result<Made, Error> {
    set_child_subreaper(Some(getpid()))
        .map_err(|error| Error::io("become a sub-reaper")(error.into()))?;
    let args = request.process.args().clone().unwrap_or_default();
    let program = args.first().cloned().unwrap_or_default();
    let id = request.id;
    let caller = stage.caller(runtime, id, &program, around);
    let made = caller.made(|| call(request));
    set_child_subreaper(None)
        .map_err(|error| Error::io("be a sub-reaper no longer")(error.into()))?;
    made
}

/// What is asked for, from inside the stage.
fn call(request: Request<'_>) -> Result<Call, Failure> {
    let Request {
        init,
        pid,
        mut process,
        extras,
        ..
    } = request;
    if let Some(user) = &extras.user {
        let what = || "open the container's root".to_owned();
        let root = Root::open_host(&PathBuf::from(format!("/proc/{pid}/root"))).step(what)?;
        // The number may be another process's by now.
        if has_input(init) {
            return Err(Failure::setup("the container has ended"));
        }
        let identity = Identity::look_up(&root, user, &extras.groups)?;
        become_user(&mut process, &extras, &identity);
    }
    leave_out(&mut process);
    let what = || "write the process for the runtime".to_owned();
    let text = serde_json::to_vec(&process).map_err(|error| Failure::setup(error.to_string()))?;
    let file = memfd_create("kelp-process", MemfdFlags::CLOEXEC).step(what)?;
    let mut file = File::from(file);
    file.write_all(&text).step(what)?;
    Ok(Call {
        words: ["exec", "--detach", "--process", "/proc/self/fd/3"]
            .map(str::to_owned)
            .to_vec(),
        makes: true,
        file: Some(file.into()),
    })
}
