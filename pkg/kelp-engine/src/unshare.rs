//! `unshare`: a command of the host's, run with the ids that containers have.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use kelp_sys::spawn::keep_capabilities;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::container::config::UserMode;
use crate::{Engine, Error, host, internal};

impl Engine {
    /// Becomes `command` in the user namespace of containers and a mount namespace of its own;
    /// returns only if that fails. The calling process must have one thread.
    pub fn unshare(&self, command: &[String]) -> Result<Infallible, Error> {
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        move_into_link_name_space(userns.as_fd(), Some(LinkNameSpaceType::User))
            .map_err(Error::io("enter the user namespace"))?;
        keep_capabilities().map_err(Error::io("keep capabilities in the user namespace"))?;
        crate::umask::restore();
        // A fresh exec comes first, so that nothing of the outer namespace's memory is in this one.
        let error = Command::new(internal::own_path()?)
            .args(["internal", "unshare", "--"])
            .args(command)
            .exec();
        Err(Error::io("start `kelp internal unshare`")(error))
    }
}

/// The role: makes the mount namespace and becomes the command; an exit code if that fails.
pub(crate) fn role(command: &[String]) -> i32 {
    let Some((program, arguments)) = command.split_first() else {
        return 125;
    };
    if let Err(error) = kelp_sys::namespace::unshare_mounts() {
        eprintln!("Error: make a mount namespace: {error}");
        return 125;
    }
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    eprintln!(
        "Error: {}",
        Error::io(format!("execute {program}"))(error).line()
    );
    code
}
