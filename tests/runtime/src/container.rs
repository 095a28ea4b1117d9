//! A container that was created, from outside.

use std::cell::RefCell;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde_json::Value;

use crate::command::{self, LIMIT, readable};
use crate::left;
use crate::outcome::{Outcome, fails, same};
use crate::stage::Stage;

/// A container, and the outer end of its standard output.
pub(crate) struct Container<'a> {
    stage: &'a Stage<'a>,
    id: String,
    pid: Pid,
    pidfd: OwnedFd,
    out: RefCell<std::io::PipeReader>,
}

impl<'a> Container<'a> {
    /// Runs a command that makes a container and leaves it: `words`, flags for this, and the id.
    pub(crate) fn create(stage: &'a Stage<'a>, id: &str, words: &[&str]) -> Outcome<Self> {
        stage.remember(id);
        let pid_file = stage.path(&format!("{id}.pid"));
        let mut command = stage.command(words);
        command.arg("--pid-file").arg(&pid_file).arg(id);
        let (out, write) = std::io::pipe()?;
        let err = stage.path(&format!("{id}.err"));
        command.stdout(write).stderr(fs::File::create(&err)?);
        let status = command::ended(command::spawn(command.stdin(Stdio::null()))?)?;
        // The command has an end of the pipe.
        drop(command);
        if !status.success() {
            let said = fs::read_to_string(&err)?;
            return fails(format!("{}: {}", words.join(" "), said.trim_end()));
        }
        let text = fs::read_to_string(&pid_file)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return fails(format!("the pid file says {text:?}"));
        };
        Ok(Self {
            stage,
            id: id.to_owned(),
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            out: RefCell::new(out),
        })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its first process, as the suite's pid namespace numbers it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// `start`.
    pub(crate) fn start(&self) -> Outcome {
        self.calls(&["start", &self.id])
    }

    /// `kill`.
    pub(crate) fn kill(&self, signal: &str) -> Outcome {
        self.calls(&["kill", &self.id, signal])
    }

    /// `delete`.
    pub(crate) fn delete(&self) -> Outcome {
        self.calls(&["delete", &self.id])
    }

    /// Kills it, waits for its end, and deletes it.
    pub(crate) fn end(&self) -> Outcome {
        self.kill("KILL")?;
        self.wait()?;
        self.delete()
    }

    fn calls(&self, words: &[&str]) -> Outcome {
        match self.stage.call(words)?.succeeds() {
            Ok(_) => Ok(()),
            Err(crate::outcome::Stop::Fails(why)) => fails(format!("{}: {why}", words[0])),
            Err(other) => Err(other),
        }
    }

    /// `state`.
    pub(crate) fn state(&self) -> Outcome<Value> {
        let text = self.stage.call(&["state", &self.id])?.succeeds()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Asserts its status.
    pub(crate) fn is(&self, status: &str) -> Outcome {
        same("status", self.state()?["status"].as_str(), Some(status))
    }

    /// What `exec` of a shell command prints.
    pub(crate) fn exec(&self, flags: &[&str], script: &str) -> Outcome<String> {
        let words = [&["exec"], flags, &[&self.id, "/bin/sh", "-c", script]].concat();
        self.stage.call(&words)?.succeeds()
    }

    /// Waits for the end of its first process, which has become a child of the suite's; its code.
    pub(crate) fn wait(&self) -> Outcome<i32> {
        left::reap_others(self.pid);
        if !readable(self.pidfd.as_fd(), LIMIT)? {
            return fails(format!("{} does not end", self.id));
        }
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                Ok(status.exit_status().or(signal).unwrap_or(-1))
            }
            Ok(None) => fails("the process did not end"),
            Err(error) => fails(format!(
                "the container's process is no child of the runtime's parent: {error}"
            )),
        }
    }

    /// Asserts what it prints next.
    pub(crate) fn reads(&self, expected: &str) -> Outcome {
        let found = self.read(expected.len())?;
        same("the container's output", found.as_str(), expected)
    }

    /// What it prints up to its end.
    pub(crate) fn rest(&self) -> Outcome<String> {
        self.read(usize::MAX)
    }

    fn read(&self, length: usize) -> Outcome<String> {
        let mut found = Vec::new();
        let mut out = self.out.borrow_mut();
        while found.len() < length {
            if !readable(out.as_fd(), LIMIT)? {
                let found = String::from_utf8_lossy(&found);
                return fails(format!("the container printed no more than {found:?}"));
            }
            let mut buffer = [0; 4096];
            let wanted = buffer.len().min(length - found.len());
            match out.read(&mut buffer[..wanted])? {
                0 => break,
                read => found.extend_from_slice(&buffer[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&found).into_owned())
    }
}
