//! Pods, and the workloads that have a template of one.

use crate::container::{Container, Resources};
use crate::data::Sources;
use crate::environment::Surroundings;
use crate::field::{Fields, Value};
use crate::metadata::{Metadata, check_name};
use crate::security::PodSecurity;
use crate::volume::Volume;
use crate::{Error, container, security, volume};

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What it is called, and what is noted of it. The name is that of the workload and `-pod` behind it, if it is of
    /// one.
    pub metadata: Metadata,
    /// Containers that have to end, and well, before the others start.
    pub init: Vec<Container>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// What happens when a container has ended.
    pub restart: Restart,
    /// Whether the network is the host's.
    pub host_network: bool,
    /// Whether processes are the host's.
    pub host_pid: bool,
    /// Whether queues and shared memory are the host's.
    pub host_ipc: bool,
    /// Whether there is a user namespace of its own, if that is said.
    pub host_users: Option<bool>,
    /// Whether containers see each other's processes.
    pub share_processes: bool,
    /// The host's name inside.
    pub hostname: Option<String>,
    /// Lines of /etc/hosts.
    pub aliases: Vec<HostAlias>,
    /// The resolver.
    pub dns: Dns,
    /// Kernel parameters.
    pub sysctls: Vec<(String, String)>,
    /// Further groups of its containers.
    pub groups: Vec<u32>,
    /// Seconds until what was asked to stop is killed.
    pub grace: Option<u64>,
}

/// What asked for a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Itself.
    Pod,
    /// A Deployment.
    Deployment,
    /// A DaemonSet.
    DaemonSet,
    /// A Job.
    Job,
}

/// What happens when a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is started again.
    Always,
    /// It is started again if it failed; at most so often, where that is said.
    OnFailure(Option<u32>),
    /// Nothing.
    Never,
}

/// A line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub address: String,
    /// Names.
    pub names: Vec<String>,
}

/// The resolver of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Domains to search.
    pub searches: Vec<String>,
    /// Options: `NAME` or `NAME:VALUE`.
    pub options: Vec<String>,
}

/// What says on which of many machines a pod runs, and who it is to a cluster.
const PASSED_OVER: &[&str] = &[
    "affinity",
    "automountServiceAccountToken",
    "dnsPolicy",
    "enableServiceLinks",
    // Credentials are those of `login` and --authfile.
    "imagePullSecrets",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "readinessGates",
    "schedulerName",
    "schedulingGates",
    "serviceAccount",
    "serviceAccountName",
    "tolerations",
    "topologySpreadConstraints",
];

const REFUSED: &[(&str, &str)] = &[
    ("activeDeadlineSeconds", ""),
    ("ephemeralContainers", ""),
    ("resourceClaims", ""),
    ("resources", "say it of the containers"),
    ("runtimeClassName", "use kelp --runtime"),
    ("setHostnameAsFQDN", ""),
    ("subdomain", ""),
];

/// Reads `spec` of a pod.
pub(crate) fn read(
    metadata: Metadata,
    kind: Kind,
    spec: &Value<'_>,
    sources: &Sources,
) -> Result<Pod, Error> {
    let mut fields = spec.fields()?;
    fields.pass_over(PASSED_OVER);
    fields.refuse(REFUSED)?;
    if let Some(value) = fields.take("os") {
        let mut inner = value.fields()?;
        let name = inner.need("name")?;
        if name.text()? != "linux" {
            return Err(name.error("it is not supported by kelp: use linux"));
        }
        inner.end()?;
    }
    let PodSecurity {
        common,
        groups,
        sysctls,
    } = security::of_pod(fields.take("securityContext"))?;
    let volumes = fields.each("volumes", |value| volume::read(value, sources))?;
    twice(spec, "volume", volumes.iter().map(|volume| &*volume.name))?;
    let (init, usual) = (fields.take("initContainers"), fields.need("containers")?);
    let mut resources = Resources::of_all(Some(&usual));
    resources.extend(Resources::of_all(init.as_ref()));
    let around = Surroundings {
        sources,
        pod: &metadata,
        resources: &resources,
        container: "",
    };
    let each = |list: &Value<'_>, is_init| -> Result<Vec<Container>, Error> {
        let items = list.items()?;
        items
            .iter()
            .map(|item| container::read(item, &volumes, &common, &around, is_init))
            .collect()
    };
    let containers = each(&usual, false)?;
    if containers.is_empty() {
        return Err(usual.error("it is empty"));
    }
    let init = init
        .map(|list| each(&list, true))
        .transpose()?
        .unwrap_or_default();
    let names = containers.iter().chain(&init);
    twice(spec, "container", names.map(|container| &*container.name))?;
    let hostname = match fields.take("hostname") {
        Some(value) => {
            let name = value.text()?;
            check_name(&value, &name)?;
            Some(name)
        }
        None => None,
    };
    let pod = Pod {
        init,
        containers,
        restart: restart(&mut fields, kind)?,
        host_network: fields.truth("hostNetwork")?,
        host_pid: fields.truth("hostPID")?,
        host_ipc: fields.truth("hostIPC")?,
        host_users: fields.get("hostUsers", Value::truth)?,
        share_processes: fields.truth("shareProcessNamespace")?,
        hostname,
        aliases: fields.each("hostAliases", alias)?,
        dns: fields.get("dnsConfig", dns)?.unwrap_or_default(),
        sysctls,
        groups,
        grace: fields.get("terminationGracePeriodSeconds", Value::fitting)?,
        volumes,
        metadata,
    };
    fields.end()?;
    Ok(pod)
}

/// Refuses a name that is there twice.
pub(crate) fn twice<'a>(
    place: &Value<'_>,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Error> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(place.error(format!("there are two {what}s of the name {name}")));
        }
    }
    Ok(())
}

fn restart(fields: &mut Fields<'_>, kind: Kind) -> Result<Restart, Error> {
    let Some(value) = fields.take("restartPolicy") else {
        return Ok(match kind {
            Kind::Job => Restart::OnFailure(None),
            _ => Restart::Always,
        });
    };
    match value.text()?.as_str() {
        "Always" if kind == Kind::Job => Err(value.error("a Job ends: use OnFailure or Never")),
        "Always" => Ok(Restart::Always),
        "OnFailure" => Ok(Restart::OnFailure(None)),
        "Never" => Ok(Restart::Never),
        other => Err(value.error(format!(
            "invalid policy {other:?}: use Always, OnFailure or Never"
        ))),
    }
}

fn alias(value: &Value<'_>) -> Result<HostAlias, Error> {
    let mut fields = value.fields()?;
    let address = fields.need("ip")?;
    let text = address.text()?;
    if text.parse::<std::net::IpAddr>().is_err() {
        return Err(address.error(format!("invalid address {text:?}")));
    }
    let names = fields.each("hostnames", |value| {
        let name = value.text()?;
        check_name(value, &name)?;
        Ok(name)
    })?;
    fields.end()?;
    Ok(HostAlias {
        address: text,
        names,
    })
}

fn dns(value: &Value<'_>) -> Result<Dns, Error> {
    let mut fields = value.fields()?;
    let dns = Dns {
        servers: fields.each("nameservers", Value::text)?,
        searches: fields.each("searches", Value::text)?,
        options: fields.each("options", |item| {
            let mut fields = item.fields()?;
            let name = fields.need("name")?.text()?;
            let value = fields.get("value", |value| value.literal().map(str::to_owned))?;
            fields.end()?;
            Ok(match value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            })
        })?,
    };
    fields.end()?;
    Ok(dns)
}
