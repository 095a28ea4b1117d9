//! The hidden roles `kelp internal unpack` and `kelp internal remove`, and talking to the former.
//! (That of `kelp internal verify` is in [`crate::verify`].)
//!
//! Both run inside a user namespace with every capability there, as fresh processes. The unpacker
//! reads a layer from its standard input, says on standard output in one line of JSON what it was, and
//! then waits on descriptor 3 for the line `commit`, since only its parent can know whether the
//! compressed stream was the one it asked for. Without that line it leaves nothing behind; killed, it
//! leaves garbage that its lock no longer holds. A parent that ends closes both pipes, and that ends
//! the unpacker: a parent-death signal would come when the thread that started it ends, not the
//! process (prctl(2)).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kelp_sys::clone::Child;
use kelp_sys::process::wait_pidfd;
use kelp_userns::IdMap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::layer::LayerStore;
use crate::remove::remove_trees;
use crate::store::Lease;
use crate::unpack::{Ownership, Summary};
use crate::unpacker::{UnpackJob, Unpacker};

/// The descriptor on which the unpacker is told to publish.
pub const CONTROL: RawFd = 3;

/// Tells the unpacker that the layer is there already, and damaged.
const REPLACE: &str = "replace";

/// The most bytes of the unpacker's answer.
const REPLY_LIMIT: u64 = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Unpacked(Summary),
    Error {
        text: String,
        /// Of a system call that failed: a full disk is told from a damaged archive by it.
        errno: Option<i32>,
    },
}

impl Reply {
    fn from_error(error: &Error) -> Self {
        if let Error::Io { what, source } = error
            && let Some(errno) = source.raw_os_error()
        {
            return Self::Error {
                text: what.clone(),
                errno: Some(errno),
            };
        }
        let text = one_line(error);
        Self::Error { text, errno: None }
    }

    fn summary(self) -> Result<Summary, Error> {
        match self {
            Self::Unpacked(summary) => Ok(summary),
            Self::Error {
                text: what,
                errno: Some(errno),
            } => Err(Error::Io {
                what,
                source: io::Error::from_raw_os_error(errno),
            }),
            Self::Error { text, errno: None } => Err(Error::Archive(text)),
        }
    }
}

/// An error with its causes.
pub(crate) fn one_line(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn ownership_word(ownership: Ownership) -> &'static str {
    match ownership {
        Ownership::Mapped => "mapped",
        Ownership::Single => "single",
    }
}

pub(crate) fn parse_ownership(word: &str) -> Result<Ownership, Error> {
    match word {
        "mapped" => Ok(Ownership::Mapped),
        "single" => Ok(Ownership::Single),
        other => Err(Error::Invalid(format!("{other:?} is no ownership"))),
    }
}

pub(crate) fn parse_ids(word: &str) -> Result<Option<IdMap>, Error> {
    if word == "-" {
        return Ok(None);
    }
    let map = IdMap::from_word(word);
    map.map(Some)
        .ok_or_else(|| Error::Invalid(format!("{word:?} is no id map")))
}

/// The unpacker's arguments, after `kelp internal unpack`.
pub fn unpack_arguments(
    data: &Path,
    map_key: &str,
    ownership: Ownership,
    ids: Option<&IdMap>,
    diff_id: Option<&Digest>,
) -> Vec<String> {
    let mut arguments = vec![
        data.to_string_lossy().into_owned(),
        map_key.to_owned(),
        ownership_word(ownership).to_owned(),
        ids.map_or_else(|| "-".to_owned(), IdMap::to_word),
    ];
    arguments.extend(diff_id.map(ToString::to_string));
    arguments
}

/// Runs `kelp internal unpack DATA MAP-KEY mapped|single MAP|- [DIFF-ID [replace]]`; returns the exit
/// code. With `replace` the layer takes the place of one that is there, and is on the disk before the
/// answer is given, so that publishing it takes no time.
pub fn unpack_main(arguments: &[String]) -> i32 {
    let error = match try_unpack(arguments) {
        Ok(()) => return 0,
        Err(error) => error,
    };
    let _ = say(&Reply::from_error(&error));
    1
}

fn try_unpack(arguments: &[String]) -> Result<(), Error> {
    let [data, map_key, ownership, ids, rest @ ..] = arguments else {
        return Err(Error::Invalid("unpack: arguments are missing".to_owned()));
    };
    let ownership = parse_ownership(ownership)?;
    let ids = parse_ids(ids)?;
    let expected: Option<Digest> = rest.first().map(|text| text.parse()).transpose()?;
    let control = kelp_sys::fd::inherited(CONTROL).map_err(Error::io("take descriptor 3"))?;
    rustix::process::umask(Mode::empty());
    let store = LayerStore::open(Path::new(data), map_key)?;
    become_root(ownership);
    let source = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 0)
        .map_err(Error::io("take standard input"))?;
    let mut layer = store.extract_as(File::from(source), ownership, ids.as_ref())?;
    if let Some(expected) = &expected {
        expected.is("uncompressed layer", layer.summary().diff_id.clone())?;
    }
    let replace = rest.get(1).is_some_and(|word| word == REPLACE);
    if replace {
        layer.settle()?;
    }
    say(&Reply::Unpacked(layer.summary().clone())).map_err(Error::io("answer"))?;
    let mut line = String::new();
    BufReader::new(File::from(control))
        .take(16)
        .read_line(&mut line)
        .map_err(Error::io("read the order to publish"))?;
    if line != "commit\n" {
        return Err(Error::Invalid("unpack: told to give up".to_owned()));
    }
    if replace {
        layer.replace()?;
    } else {
        layer.publish(expected.as_ref())?;
    }
    Ok(())
}

/// Takes the namespace's id 0, if it is not had: most files in images belong to it, and then need no
/// chown(2). Where it can't be taken, they get one.
pub(crate) fn become_root(ownership: Ownership) {
    if ownership == Ownership::Mapped && !rustix::process::geteuid().is_root() {
        let root = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
        if rustix::thread::set_thread_res_gid(root.0, root.0, root.0).is_ok() {
            let _ = rustix::thread::set_thread_res_uid(root.1, root.1, root.1);
        }
    }
}

fn say(reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    io::stdout().write_all(&line)?;
    io::stdout().flush()
}

/// Runs `kelp internal remove PATH...`; returns the exit code.
pub fn remove_main(arguments: &[String]) -> i32 {
    let paths: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    match remove_trees(&paths) {
        Ok(_) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "kelp: {}", one_line(&error));
            1
        }
    }
}

/// Starts a process in a hidden role: its arguments after `kelp internal`, and the descriptors it
/// gets. The process is in the user namespace of the layers' map, unless the unpacker translates.
pub type SpawnRole<'a> =
    dyn Fn(&[String], Vec<(BorrowedFd<'_>, RawFd)>) -> io::Result<Child> + Sync + 'a;

/// Extracts layers in processes of their own.
pub struct ProcessUnpacker<'a> {
    layers: LayerStore,
    data: PathBuf,
    map_key: String,
    ownership: Ownership,
    ids: Option<IdMap>,
    lease: Option<Arc<Lease>>,
    replace: bool,
    spawn: &'a SpawnRole<'a>,
}

impl<'a> ProcessUnpacker<'a> {
    /// Extracts for one map by processes that `spawn` starts.
    pub fn new(
        data: &Path,
        map_key: &str,
        ownership: Ownership,
        spawn: &'a SpawnRole<'a>,
    ) -> Result<Self, Error> {
        Ok(Self {
            layers: LayerStore::open(data, map_key)?,
            data: data.to_owned(),
            map_key: map_key.to_owned(),
            ownership,
            ids: None,
            lease: None,
            replace: false,
            spawn,
        })
    }

    /// Extracts in a namespace of another map than that of the layers: `ids` says which id there
    /// each of the archive's is.
    #[must_use]
    pub fn translated(mut self, ids: Option<IdMap>) -> Self {
        self.ids = ids;
        self
    }

    /// Puts what is extracted in the place of layers that are there.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Keeps every layer that is looked for or made by a lease.
    #[must_use]
    pub fn leased(mut self, lease: Arc<Lease>) -> Self {
        self.lease = Some(lease);
        self
    }
}

impl Unpacker for ProcessUnpacker<'_> {
    fn has_layer(&self, diff_id: &Digest) -> Result<bool, Error> {
        if let Some(lease) = &self.lease {
            lease.keep(diff_id)?;
        }
        Ok(self.layers.contains(diff_id))
    }

    fn start(&self, diff_id: &Digest, input: OwnedFd) -> Result<Box<dyn UnpackJob>, Error> {
        if let Some(lease) = &self.lease {
            lease.keep(diff_id)?;
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"));
        let (reply, reply_writer) = pipe()?;
        let (control_reader, control) = pipe()?;
        let mut arguments = vec!["unpack".to_owned()];
        arguments.extend(unpack_arguments(
            &self.data,
            &self.map_key,
            self.ownership,
            self.ids.as_ref(),
            Some(diff_id),
        ));
        arguments.extend(self.replace.then(|| REPLACE.to_owned()));
        let fds = vec![
            (input.as_fd(), 0),
            (reply_writer.as_fd(), 1),
            (control_reader.as_fd(), CONTROL),
        ];
        let child =
            (self.spawn)(&arguments, fds).map_err(Error::io("start `kelp internal unpack`"))?;
        Ok(Box::new(ProcessJob {
            child,
            reply: reply.into(),
            control: Some(control),
            ended: false,
        }))
    }
}

struct ProcessJob {
    child: Child,
    reply: File,
    control: Option<OwnedFd>,
    ended: bool,
}

impl UnpackJob for ProcessJob {
    fn finish(&mut self) -> Result<Summary, Error> {
        self.read_reply()?.summary()
    }

    fn publish(mut self: Box<Self>) -> Result<(), Error> {
        if let Some(control) = self.control.take() {
            // If it has died, its exit says more than EPIPE.
            let _ = File::from(control).write_all(b"commit\n");
        }
        let exit = wait_pidfd(self.child.pidfd.as_fd())
            .map_err(Error::io("wait for `kelp internal unpack`"))?;
        self.ended = true;
        if exit.code() == 0 {
            return Ok(());
        }
        match self.read_reply().map(Reply::summary) {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::Archive(format!(
                "`kelp internal unpack` ended with {exit:?}"
            ))),
        }
    }
}

impl ProcessJob {
    fn read_reply(&mut self) -> Result<Reply, Error> {
        let mut line = Vec::new();
        // One byte at a time is slow, but a line is short, and a later one must stay in the pipe.
        let mut byte = [0];
        while (line.len() as u64) < REPLY_LIMIT {
            match self.reply.read(&mut byte) {
                Ok(0) => break,
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) => line.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read the unpacker's answer")(error)),
            }
        }
        if line.is_empty() {
            return Err(Error::Archive(
                "`kelp internal unpack` ended without an answer: it was killed, or ran out of memory"
                    .to_owned(),
            ));
        }
        serde_json::from_slice(&line).map_err(Error::json("read the unpacker's answer"))
    }
}

impl Drop for ProcessJob {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Without the order to publish it gives up by itself, and takes what it made away; unless it
        // still waits for input.
        self.control = None;
        let limit = rustix::event::Timespec {
            tv_sec: 2,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&self.child.pidfd, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&limit)), Ok(1..)) {
            let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        }
        let _ = wait_pidfd(self.child.pidfd.as_fd());
    }
}
