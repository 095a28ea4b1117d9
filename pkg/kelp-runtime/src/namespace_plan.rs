//! Namespaces as the specification names them (runtime-spec, config-linux.md, "Namespaces"): those that are
//! made, those that are joined, and the clocks of a new one.

use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::clone::CloneFlags;
use kelp_sys::namespace;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType as Type};
use rustix::fs::{Mode, OFlags, open};
use rustix::thread::LinkNameSpaceType as Link;

use crate::error::{Error, plain};

/// The namespaces of a container, but for the user namespace, in which it is made.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Those that come with the process.
    pub(crate) create: CloneFlags,
    /// Those that are there already.
    pub(crate) join: Vec<(Link, OwnedFd)>,
    /// A new time namespace, and what is written to its `timens_offsets`: it has to be there before the
    /// process is.
    pub(crate) time: Option<String>,
}

impl Namespaces {
    /// Checks and opens them.
    pub(crate) fn new(linux: &Linux) -> Result<Self, Error> {
        let mut all = Self::default();
        let mut seen = Vec::new();
        for namespace in linux.namespaces().iter().flatten() {
            let typ = namespace.typ();
            if seen.contains(&typ) {
                return Err(Error::Spec(format!("namespace {typ} is given twice")));
            }
            seen.push(typ);
            all.add(namespace)?;
        }
        if !seen.contains(&Type::Mount) {
            // As with one that is joined: what is not listed is the caller's.
            let path = "/proc/self/ns/mnt";
            let own = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let own = own
                .map_err(io::Error::from)
                .map_err(Error::io(format!("open {path}")))?;
            all.join.push((Link::Mount, own));
        }
        // There the root is made, also where that one is not the container's.
        all.create = all.create.with(CloneFlags::NEWNS);
        if let Some(offsets) = linux.time_offsets().as_ref().filter(|it| !it.is_empty()) {
            let Some(text) = &mut all.time else {
                return Err(Error::Spec(
                    "linux.timeOffsets need a new time namespace in linux.namespaces".to_owned(),
                ));
            };
            for (clock, offset) in offsets {
                if !matches!(clock.as_str(), "monotonic" | "boottime") {
                    return Err(Error::Spec(format!(
                        "linux.timeOffsets: {clock:?} is neither monotonic nor boottime"
                    )));
                }
                let (seconds, rest) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
                let _ = writeln!(text, "{clock} {seconds} {rest}");
            }
        }
        Ok(all)
    }

    fn add(&mut self, namespace: &LinuxNamespace) -> Result<(), Error> {
        let (flag, link) = match namespace.typ() {
            // The caller has entered the user namespace, or has it entered.
            Type::User => return Ok(()),
            Type::Time => (None, Link::Time),
            Type::Mount => (Some(CloneFlags::NEWNS), Link::Mount),
            Type::Cgroup => (Some(CloneFlags::NEWCGROUP), Link::ControlGroup),
            Type::Uts => (Some(CloneFlags::NEWUTS), Link::HostNameAndNISDomainName),
            Type::Ipc => (Some(CloneFlags::NEWIPC), Link::InterProcessCommunication),
            Type::Pid => (Some(CloneFlags::NEWPID), Link::ProcessID),
            Type::Network => (Some(CloneFlags::NEWNET), Link::Network),
        };
        match (namespace.path(), flag) {
            (None, Some(flag)) => self.create = self.create.with(flag),
            (None, None) => self.time = Some(String::new()),
            (Some(path), _) => {
                let typ = namespace.typ();
                // What is a fifo is not waited for.
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = open(path, flags, Mode::empty())
                    .map_err(io::Error::from)
                    .map_err(Error::io(format!("open namespace {}", path.display())))?;
                match namespace::kind(file.as_fd()) {
                    Ok(kind) if kind == link as u32 => self.join.push((link, file)),
                    Ok(_) => {
                        return Err(Error::Spec(format!(
                            "{} is a namespace, and no {typ} namespace",
                            path.display()
                        )));
                    }
                    Err(error) => {
                        return Err(Error::Spec(format!(
                            "{} is no namespace: {}",
                            path.display(),
                            plain(&error)
                        )));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the container is in one of its own, or in that of another.
    pub(crate) fn has(&self, flag: CloneFlags, kind: Link) -> bool {
        self.create.contains(flag) || self.joined(kind).is_some()
    }

    /// The one of this kind that is joined.
    pub(crate) fn joined(&self, kind: Link) -> Option<BorrowedFd<'_>> {
        let mut joined = self.join.iter();
        let found = joined.find(|(joined, _)| *joined as u32 == kind as u32);
        found.map(|(_, fd)| fd.as_fd())
    }
}
