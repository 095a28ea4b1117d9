//! Hooks: programs that are told of a container's steps (runtime-spec, config.md, "POSIX-platform Hooks").
//!
//! Some run beside the runtime; createContainer hooks are run in the container's namespaces by a child of the
//! runtime's, and startContainer hooks by the init. What a hook reads and writes are files in memory, so that one that
//! does not read the state, or writes much, holds up nobody.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use oci_spec::runtime::{Hook, Hooks, Spec};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{Error, plain};

/// How much of what a failed hook has written is told.
const TOLD: usize = 4096;

/// The hooks that run in the container's namespaces, and what others mean for the init.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HookPlan {
    /// Whether anybody is to be told before the root is entered.
    pub(crate) pauses: bool,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
}

impl HookPlan {
    /// Checks the hooks of a specification.
    pub(crate) fn new(spec: &Spec) -> Result<Self, Error> {
        let Some(hooks) = spec.hooks() else {
            return Ok(Self::default());
        };
        let mut plan = Self::default();
        for (name, list) in all(hooks) {
            for hook in list {
                check(name, hook)?;
            }
            plan.pauses |= before_pivot(name) && !list.is_empty();
        }
        plan.create_container = hooks.create_container().clone().unwrap_or_default();
        plan.start_container = hooks.start_container().clone().unwrap_or_default();
        Ok(plan)
    }
}

/// Every kind of hook by name, in the order of a container's life.
pub fn all(hooks: &Hooks) -> [(&'static str, &[Hook]); 6] {
    [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ]
    .map(|(name, list)| (name, list.as_deref().unwrap_or_default()))
}

/// Their names, in that order.
pub fn names() -> [&'static str; 6] {
    all(&Hooks::default()).map(|(name, _)| name)
}

fn before_pivot(name: &str) -> bool {
    matches!(name, "prestart" | "createRuntime" | "createContainer")
}

fn check(name: &str, hook: &Hook) -> Result<(), Error> {
    let path = hook.path().display();
    if !hook.path().is_absolute() {
        let why = "its path has to be absolute";
        return Err(Error::Spec(format!("the {name} hook {path}: {why}")));
    }
    if let Some(timeout) = hook.timeout().filter(|&timeout| timeout <= 0) {
        let why = format!("its timeout of {timeout} s has to be above 0");
        return Err(Error::Spec(format!("the {name} hook {path}: {why}")));
    }
    Ok(())
}

/// Runs each, with the state on its standard input; the first that fails ends it.
pub fn run(name: &str, hooks: &[Hook], state: &[u8]) -> Result<(), Error> {
    for hook in hooks {
        one(hook, state).map_err(|why| {
            Error::Hook(format!("the {name} hook {}: {why}", hook.path().display()))
        })?;
    }
    Ok(())
}

fn one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let failed = |error: io::Error| plain(&error);
    let stdin = memory(state).map_err(failed)?;
    let stderr = memory(&[]).map_err(failed)?;
    let mut command = Command::new(hook.path());
    if let [name, arguments @ ..] = hook.args().as_deref().unwrap_or_default() {
        command.arg0(name).args(arguments);
    }
    command.env_clear();
    let env = hook.env().iter().flatten();
    command.envs(env.filter_map(|entry| entry.split_once('=')));
    command
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(seconds) = hook.timeout()
        && !ends_within(&child, Duration::from_secs(seconds.unsigned_abs())).unwrap_or(false)
    {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("it ran for longer than its timeout of {seconds} s"));
    }
    let status = child.wait().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let mut said = vec![0; TOLD];
    let length = stderr.read_at(&mut said, 0).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..length]);
    Err(match said.trim() {
        "" => status.to_string(),
        said => format!("{status}: {said}"),
    })
}

/// A file in memory that has this to be read.
pub(crate) fn memory(content: &[u8]) -> io::Result<File> {
    let mut file: File = memfd_create(c"hook", MemfdFlags::CLOEXEC)?.into();
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(rustix::io::Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    kelp_sys::fd::wait_input(pidfd.as_fd(), limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: &serde_json::Value) -> Hook {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn shell(script: &str) -> Hook {
        hook(&serde_json::json!({
            "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b", "PATH=/usr/bin:/bin"],
        }))
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_its_environment_alone() {
        let script = r#"[ "$(cat)" = state ] && [ "$A" = b ] && [ -z "$HOME" ]"#;
        run("poststart", &[shell(script)], b"state").unwrap();
    }

    #[test]
    fn a_hook_that_fails_ends_the_others_and_is_told() {
        let hooks = [shell("echo no >&2; exit 3"), shell("exit 4")];
        let said = run("prestart", &hooks, b"").unwrap_err().to_string();
        assert_eq!(said, "the prestart hook /bin/sh: exit status: 3: no");
        let missing = hook(&serde_json::json!({"path": "/nosuch"}));
        let said = run("prestart", &[missing], b"").unwrap_err().to_string();
        assert_eq!(said, "the prestart hook /nosuch: no such file or directory");
    }

    #[test]
    fn a_large_state_that_is_not_read_and_much_output_hold_up_nobody() {
        let state = vec![b' '; 1 << 20];
        let script = "head -c 1000000 /dev/zero >&2";
        run("poststart", &[shell(script)], &state).unwrap();
    }

    #[test]
    fn hooks_that_can_not_be_are_refused() {
        for (json, said) in [
            (r#"{"path": "sh"}"#, "its path has to be absolute"),
            (
                r#"{"path": "/sh", "timeout": 0}"#,
                "its timeout of 0 s has to be above 0",
            ),
        ] {
            let mut spec = Spec::default();
            let text = format!(r#"{{"createRuntime": [{json}]}}"#);
            spec.set_hooks(serde_json::from_str(&text).unwrap());
            let error = HookPlan::new(&spec).unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        }
    }
}
