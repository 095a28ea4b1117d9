//! config.json: the container's specification without what only kelp understands.

use std::path::Path;

use kelp_sys::mount_attr::{NODEV, NOEXEC, NOSUID, RDONLY};
use oci_spec::runtime::{
    LinuxNamespaceType, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall, Mount, Spec,
};

use super::{Foreign, MOUNTS, ROOTFS};
use crate::error::Error;
use crate::mount_plan::propagation;
use crate::plan::{Extras, Plan};
use crate::process::Identity;
use crate::seccomp;

/// The version of the specification that every runtime knows: nothing of a later one is used.
const VERSION: &str = "1.0.2";

/// Groups of the caller's are kept by this annotation, which is crun's.
const KEEP_GROUPS: &str = "run.oci.keep_original_groups";

/// Calls that are answered with success where only one id is mapped.
const ID_CALLS: &[&str] = &[
    "chown",
    "chown32",
    "fchown",
    "fchown32",
    "fchownat",
    "lchown",
    "lchown32",
    "setgroups",
    "setgroups32",
];

/// What can be said of it before anything is mounted. `cgroup` is that which the runtime is to
/// make; `place` where the stage is.
///
/// # Errors
/// [`Error::Spec`] for what the runtime can't be told.
pub(super) fn begin(
    runtime: &Foreign,
    spec: &Spec,
    extras: &Extras,
    cgroup: Option<&str>,
    place: &Path,
) -> Result<Spec, Error> {
    check(runtime, spec, extras, false)?;
    let mut spec = spec.clone();
    spec.set_version(VERSION.to_owned());
    if let Some(root) = spec.root_mut() {
        root.set_path(place.join(ROOTFS));
    }
    let bounding = spec.process().as_ref().map(|process| {
        crate::capabilities::CapSets::from_oci(process.capabilities().as_ref()).bounding
    });
    let mut domain = None;
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        // It is called in the one that it is to have.
        namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::User);
        let mut sysctl = linux.sysctl().clone().unwrap_or_default();
        // The file is the host's root's alone, see `Plan::new`.
        domain = sysctl.remove("kernel.domainname");
        let mut profile = linux.seccomp().clone();
        if profile.is_none() && extras.default_seccomp {
            profile = bounding.map(|caps| for_libseccomp(seccomp::default_profile(caps)));
        }
        if extras.single_id {
            profile = Some(pretend(profile)?);
        }
        linux
            .set_namespaces(Some(namespaces))
            .set_uid_mappings(None)
            .set_gid_mappings(None)
            .set_sysctl(Some(sysctl))
            .set_resources(None)
            .set_cgroups_path(cgroup.map(Into::into))
            .set_devices(None)
            .set_seccomp(profile);
    }
    if domain.is_some() {
        spec.set_domainname(domain);
    }
    if extras.keep_groups {
        let annotations = spec.annotations_mut().get_or_insert_default();
        annotations.insert(KEEP_GROUPS.to_owned(), "1".to_owned());
    }
    Ok(spec)
}

/// Refuses what would be lost on the way to the runtime; `no_cgroup` is whether the container is to have
/// none of its own.
///
/// # Errors
/// [`Error::Spec`] names it, and the runtime.
pub fn check(
    runtime: &Foreign,
    spec: &Spec,
    extras: &Extras,
    no_cgroup: bool,
) -> Result<(), Error> {
    let (name, program) = (&runtime.name, runtime.program());
    let cant = |what: &str, way_out: &str| {
        Err(Error::Spec(format!(
            "{what} can't be had with the runtime {name}: {way_out}"
        )))
    };
    if extras.init {
        return cant(
            "--init",
            "process 1 would be kelp's own reaper, which only kelp's own runtime has; leave --init out, \
             or use an image with an init",
        );
    }
    if extras.system || extras.console {
        return cant(
            "--systemd",
            "only kelp's own runtime sets it up; use --systemd=false",
        );
    }
    if no_cgroup && !runtime.inherits_cgroup() {
        return cant(
            "--cgroups=disabled",
            "only crun, runsc and kelp make no cgroup",
        );
    }
    if extras.keep_groups && program != "crun" {
        return cant("--group-add keep-groups", "only crun and kelp know it");
    }
    let linux = spec.linux().as_ref();
    let personality = linux.is_some_and(|linux| linux.personality().is_some());
    if personality && !matches!(program, "crun" | "kelp-runtime") {
        return cant("--personality", "only crun and kelp know it");
    }
    let domain = spec.domainname().is_some()
        || linux
            .and_then(|linux| linux.sysctl().as_ref())
            .is_some_and(|sysctl| sysctl.contains_key("kernel.domainname"));
    if domain && !matches!(program, "crun" | "kelp-runtime") {
        return cant("--sysctl kernel.domainname", "only crun and kelp know it");
    }
    Ok(())
}

/// The default profile in a form that libseccomp takes. On x86 it loses the conditions on the first
/// argument of socket(2) (socketcall(2)), and refuses what then is another result for the same call:
/// unless the refusal comes last and has a condition more, if only one that always holds.
fn for_libseccomp(mut profile: LinuxSeccomp) -> LinuxSeccomp {
    let mut calls = profile.syscalls().clone().unwrap_or_default();
    calls.sort_by_key(|call| call.action() != LinuxSeccompAction::ScmpActAllow);
    for call in &mut calls {
        let is_socket = call.names().iter().any(|name| name == "socket");
        let mut args = call.args().clone().unwrap_or_default();
        if is_socket && call.action() != LinuxSeccompAction::ScmpActAllow && args.len() == 1 {
            let always = LinuxSeccompArgBuilder::default()
                .index(1_usize)
                .value(0_u64)
                .op(LinuxSeccompOperator::ScmpCmpGe);
            args.extend(always.build());
            call.set_args(Some(args));
        }
    }
    profile.set_syscalls(Some(calls));
    profile
}

/// A profile by which what gives files and groups away succeeds and does nothing. kelp's own filter makes
/// the calls that change nothing (`crate::seccomp::single_id`); this one answers them all, for a profile
/// can't say that two comparisons of one argument both hold.
fn pretend(profile: Option<LinuxSeccomp>) -> Result<LinuxSeccomp, Error> {
    let mut profile = match profile {
        Some(profile) => profile,
        None => serde_json::from_str(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#)
            .map_err(|error| Error::Spec(error.to_string()))?,
    };
    let is_id_call = |name: &String| ID_CALLS.contains(&name.as_str());
    let mut calls = Vec::new();
    for mut call in profile.syscalls().iter().flatten().cloned() {
        let mut names = call.names().clone();
        names.retain(|name| !is_id_call(name));
        if !names.is_empty() {
            call.set_names(names);
            calls.push(call);
        }
    }
    let mut answer = LinuxSyscall::default();
    answer
        .set_names(ID_CALLS.iter().map(|name| (*name).to_owned()).collect())
        .set_action(LinuxSeccompAction::ScmpActErrno)
        .set_errno_ret(Some(0));
    calls.push(answer);
    profile.set_syscalls(Some(calls));
    Ok(profile)
}

/// A mount of the stage in the place of one that kelp has made. It has its attributes already, which are
/// said all the same: a runtime that mounts it again clears what is not.
pub(super) fn staged(place: &Path, number: usize, mount: &Mount, attributes: u64) -> Mount {
    const ATTRIBUTES: &[(u64, &str)] = &[
        (RDONLY, "ro"),
        (NOSUID, "nosuid"),
        (NODEV, "nodev"),
        (NOEXEC, "noexec"),
    ];
    let mut options = vec!["rbind".to_owned()];
    let set = ATTRIBUTES.iter().filter(|(bit, _)| attributes & bit != 0);
    options.extend(set.map(|(_, name)| (*name).to_owned()));
    let asked = mount.options().iter().flatten();
    options.extend(asked.filter(|option| propagation(option).is_ok()).cloned());
    bind(
        &place.join(MOUNTS).join(number.to_string()),
        mount.destination(),
        options,
    )
}

/// A device of the host's, which a user namespace can only bind.
pub(super) fn device(path: &Path) -> Mount {
    let options = ["bind", "rw", "nosuid", "noexec"].map(str::to_owned);
    bind(path, path, options.to_vec())
}

fn bind(source: &Path, target: &Path, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(target.to_owned())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options));
    mount
}

/// Says what was found out in the root: who the program runs as, and the mounts.
pub(super) fn finish(spec: &mut Spec, plan: &Plan, identity: &Identity, mounts: Vec<Mount>) {
    spec.set_mounts(Some(mounts));
    let Some(process) = spec.process_mut() else {
        return;
    };
    become_user(process, &plan.process.extras, identity);
    leave_out(process);
}

/// Leaves out what says nothing: youki takes a `noNewPrivileges` of false for one of true when it chooses
/// whether to load the filter before it gives up the right to.
pub(super) fn leave_out(process: &mut oci_spec::runtime::Process) {
    if process.no_new_privileges() == Some(false) {
        process.set_no_new_privileges(None);
    }
}

/// Puts numbers and HOME in the place of the user's name.
pub(super) fn become_user(
    process: &mut oci_spec::runtime::Process,
    extras: &Extras,
    identity: &Identity,
) {
    // Where only one id is mapped, setgroups(2) is given up for good (user_namespaces(7)).
    let groups = (!extras.single_id && !extras.keep_groups).then(|| identity.groups.clone());
    process
        .user_mut()
        .set_uid(identity.uid)
        .set_gid(identity.gid)
        .set_additional_gids(groups);
    let env = process.env_mut().get_or_insert_default();
    if extras.set_home && !env.iter().any(|entry| entry.starts_with("HOME=")) {
        let home = identity.home.as_deref().filter(|home| !home.is_empty());
        let home = String::from_utf8_lossy(home.unwrap_or(b"/")).into_owned();
        env.push(format!("HOME={home}"));
    }
}
