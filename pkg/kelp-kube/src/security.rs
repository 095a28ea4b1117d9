//! `securityContext` of pods and containers.

use crate::Error;
use crate::field::{Fields, Value};

/// What a container may do; where it says nothing, its pod does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The user's id.
    pub user: Option<u32>,
    /// The group's id.
    pub group: Option<u32>,
    /// Whether that must not be root.
    pub not_root: bool,
    /// Every capability, and no mask.
    pub privileged: bool,
    /// Whether the root can't be written.
    pub read_only: bool,
    /// Whether a program gets no more rights than it has.
    pub no_new_privileges: bool,
    /// Capabilities to add.
    pub add: Vec<String>,
    /// Capabilities to take away.
    pub drop: Vec<String>,
    /// Whether nothing in /proc is covered.
    pub unmask: bool,
    /// The filter of system calls.
    pub seccomp: Option<Profile>,
    /// The AppArmor profile.
    pub apparmor: Option<Profile>,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The usual one.
    Usual,
    /// None.
    Unconfined,
    /// A file or a name on this machine.
    Local(String),
}

/// What a pod says for all of its containers, and of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodSecurity {
    pub common: Security,
    pub groups: Vec<u32>,
    pub sysctls: Vec<(String, String)>,
}

/// Reads what a pod says.
pub(crate) fn of_pod(value: Option<Value<'_>>) -> Result<PodSecurity, Error> {
    let Some(value) = value else {
        return Ok(PodSecurity::default());
    };
    let mut fields = value.fields()?;
    let common = shared(&mut fields, &Security::default())?;
    let groups = fields.each("supplementalGroups", Value::fitting::<u32>)?;
    let sysctls = fields.each("sysctls", |item| {
        let mut fields = item.fields()?;
        let sysctl = (fields.need("name")?.text()?, fields.need("value")?.text()?);
        fields.end()?;
        Ok(sysctl)
    })?;
    // It is about fsGroup, which is refused.
    fields.pass_over(&["fsGroupChangePolicy"]);
    fields.refuse(&[
        (
            "fsGroup",
            "give the volume to the group with chown, or run as its owner",
        ),
        ("supplementalGroupsPolicy", ""),
        ("windowsOptions", ""),
        ("seLinuxChangePolicy", ""),
    ])?;
    fields.end()?;
    Ok(PodSecurity {
        common,
        groups,
        sysctls,
    })
}

/// Reads what a container says; the rest is its pod's.
pub(crate) fn of_container(value: Option<Value<'_>>, pod: &Security) -> Result<Security, Error> {
    let Some(value) = value else {
        return Ok(pod.clone());
    };
    let mut fields = value.fields()?;
    let mut security = shared(&mut fields, pod)?;
    security.privileged = fields.truth("privileged")?;
    security.read_only = fields.truth("readOnlyRootFilesystem")?;
    security.no_new_privileges =
        fields.get("allowPrivilegeEscalation", Value::truth)? == Some(false);
    if let Some(list) = fields.take("capabilities") {
        let mut fields = list.fields()?;
        security.add = fields.each("add", Value::text)?;
        security.drop = fields.each("drop", Value::text)?;
        fields.end()?;
    }
    if let Some(mount) = fields.take("procMount") {
        security.unmask = match mount.text()?.as_str() {
            "Default" => false,
            "Unmasked" => true,
            other => return Err(mount.error(format!("invalid {other:?}: use Default or Unmasked"))),
        };
    }
    fields.refuse(&[("windowsOptions", "")])?;
    fields.end()?;
    Ok(security)
}

/// What both can say.
fn shared(fields: &mut Fields<'_>, before: &Security) -> Result<Security, Error> {
    let mut security = before.clone();
    if let Some(user) = fields.get("runAsUser", Value::fitting)? {
        security.user = Some(user);
    }
    if let Some(group) = fields.get("runAsGroup", Value::fitting)? {
        security.group = Some(group);
    }
    if let Some(not_root) = fields.take("runAsNonRoot") {
        security.not_root = not_root.truth()?;
        match security.user {
            Some(0) if security.not_root => {
                return Err(not_root.error("runAsUser is 0"));
            }
            None if security.not_root => {
                return Err(not_root.error(
                    "it is not supported by kelp without runAsUser, which says as whom it is to run",
                ));
            }
            _ => {}
        }
    }
    if let Some(profile) = profile(fields, "seccompProfile")? {
        security.seccomp = Some(profile);
    }
    if let Some(profile) = profile(fields, "appArmorProfile")? {
        security.apparmor = Some(profile);
    }
    if let Some(options) = fields.take("seLinuxOptions") {
        let mut inner = options.fields()?;
        // There is no confinement by SELinux, so none to take off.
        if inner.get("type", Value::text)?.as_deref() != Some("spc_t") {
            return Err(
                options.error("it is not supported by kelp, which sets no labels of SELinux")
            );
        }
        inner.end()?;
    }
    Ok(security)
}

fn profile(fields: &mut Fields<'_>, name: &str) -> Result<Option<Profile>, Error> {
    let Some(value) = fields.take(name) else {
        return Ok(None);
    };
    let mut fields = value.fields()?;
    let kind = fields.need("type")?;
    let local = fields.text("localhostProfile")?;
    fields.end()?;
    match (kind.text()?.as_str(), local) {
        ("RuntimeDefault", None) => Ok(Some(Profile::Usual)),
        ("Unconfined", None) => Ok(Some(Profile::Unconfined)),
        ("Localhost", Some(profile)) => Ok(Some(Profile::Local(profile))),
        ("Localhost", None) => Err(value.error("localhostProfile is missing")),
        ("RuntimeDefault" | "Unconfined", Some(_)) => {
            Err(value.error("localhostProfile goes with type: Localhost"))
        }
        (other, _) => Err(kind.error(format!(
            "invalid {other:?}: use RuntimeDefault, Unconfined or Localhost"
        ))),
    }
}
