//! Who is asked about the calls that a seccomp filter does not decide: `linux.seccomp.listenerPath`.

use kelp_runtime::launch::Agent;
use kelp_runtime::seccomp::{Loaded, check_asked};
use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use serde_json::json;

use crate::error::Error;
use crate::record::State;

/// The agent, and what it is told of a process (runtime-spec, config-linux.md, "The Container Process State");
/// nothing where none is named.
pub(crate) fn agent(spec: &Spec, pid: i32, state: impl FnOnce() -> State) -> Option<Agent> {
    let seccomp = profile(spec)?;
    let path = seccomp.listener_path().clone()?;
    let mut told = json!({
        "ociVersion": kelp_runtime::OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": pid,
        "state": state(),
    });
    if let Some(metadata) = seccomp.listener_metadata() {
        told["metadata"] = metadata.as_str().into();
    }
    Some(Agent {
        path,
        state: told.to_string().into_bytes(),
    })
}

/// Whether somebody may have to be asked.
pub(crate) fn is_asked(spec: &Spec) -> bool {
    profile(spec).is_some_and(|seccomp| seccomp.listener_path().is_some())
}

/// The seccomp profile of a container.
pub(crate) fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.seccomp().as_ref())
}

/// Refuses what a profile has to have, or may not have (runtime-spec, config-linux.md, "Seccomp").
pub(crate) fn check(spec: &Spec) -> Result<(), Error> {
    let Some(seccomp) = profile(spec) else {
        return Ok(());
    };
    let invalid = |why: &str| Err(Error::Invalid(format!("linux.seccomp: {why}")));
    if seccomp.listener_path().is_none() && seccomp.listener_metadata().is_some() {
        return invalid("listenerMetadata needs a listenerPath");
    }
    let hooks = spec.hooks().as_ref();
    let hooks = hooks.and_then(|hooks| hooks.start_container().as_ref());
    let loaded = match spec.process().as_ref().map(loaded) {
        Some(Loaded::Early) if hooks.is_some_and(|hooks| !hooks.is_empty()) => Loaded::BeforeHooks,
        loaded => loaded.unwrap_or(Loaded::Last),
    };
    check_asked(seccomp, loaded)?;
    let mut rules = seccomp.syscalls().iter().flatten();
    if rules.any(|rule| rule.names().is_empty()) {
        return invalid("a rule of syscalls has no names");
    }
    Ok(())
}

/// When a process that runs no hooks loads its filter.
pub(crate) fn loaded(process: &Process) -> Loaded {
    if process.no_new_privileges().unwrap_or(false) {
        Loaded::Last
    } else {
        Loaded::Early
    }
}
