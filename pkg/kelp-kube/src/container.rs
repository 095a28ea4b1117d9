//! Containers of a pod.

use crate::environment::{Surroundings, Variable};
use crate::expand::expand;
use crate::field::{Fields, Value};
use crate::metadata::check_name;
use crate::probe::Probe;
use crate::security::Security;
use crate::volume::{Volume, relative};
use crate::{Error, environment, probe, quantity, security};

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// The image.
    pub image: String,
    /// When the image's registry is asked.
    pub pull: PullPolicy,
    /// The program and its arguments, instead of the image's entrypoint; and then the image's arguments count for
    /// nothing.
    pub command: Option<Vec<String>>,
    /// Arguments, instead of the image's.
    pub args: Option<Vec<String>>,
    /// Variables.
    pub env: Vec<Variable>,
    /// The working directory.
    pub workdir: Option<String>,
    /// Ports that it serves.
    pub ports: Vec<Port>,
    /// Volumes that it has.
    pub mounts: Vec<Mount>,
    /// What it asks for, and may have.
    pub resources: Resources,
    /// What it may do.
    pub security: Security,
    /// Whether it lives.
    pub liveness: Option<Probe>,
    /// Whether it has started.
    pub startup: Option<Probe>,
    /// Whether standard input stays open.
    pub stdin: bool,
    /// Whether there is a terminal.
    pub tty: bool,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
}

/// When the registry of an image is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always.
    Always,
    /// If it has another one than is here.
    Newer,
    /// If there is none here.
    Missing,
    /// Never.
    Never,
}

impl PullPolicy {
    pub(crate) fn read(value: &Value<'_>) -> Result<Self, Error> {
        match value.text()?.as_str() {
            "Always" => Ok(Self::Always),
            "IfNotPresent" => Ok(Self::Missing),
            "Never" => Ok(Self::Never),
            other => Err(value.error(format!(
                "invalid policy {other:?}: use Always, IfNotPresent or Never"
            ))),
        }
    }

    /// Where nothing is said, an image that is the latest one is looked for anew, unless it was made here.
    pub(crate) fn usual(image: &str) -> Self {
        let name = image.rsplit('/').next().unwrap_or(image);
        let tag = name.rsplit_once(':').map(|(_, tag)| tag);
        let is_latest = !image.contains('@') && tag.is_none_or(|tag| tag == "latest");
        if is_latest && !image.starts_with("localhost/") {
            Self::Newer
        } else {
            Self::Missing
        }
    }
}

/// A port that a container serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// What probes call it.
    pub name: Option<String>,
    /// Inside.
    pub container: u16,
    /// On the host, if it is published.
    pub host: Option<u16>,
    /// The host's address.
    pub address: Option<String>,
    /// How it is spoken to.
    pub protocol: Protocol,
}

/// A protocol of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As `--publish` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name in the pod.
    pub volume: String,
    /// Where; absolute.
    pub target: String,
    /// Options behind the place, as podman takes them: `Z`, `U`.
    pub options: Vec<String>,
    /// A place in the volume, instead of the whole.
    pub subpath: Option<String>,
    /// Whether it can't be written.
    pub read_only: bool,
    /// Whether mounts that come later are seen on the other side.
    pub propagation: Propagation,
}

/// Which side sees mounts of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither.
    #[default]
    None,
    /// The container.
    HostToContainer,
    /// Both.
    Bidirectional,
}

/// What a container asks for, and may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a processor at most.
    pub cpu_limit: Option<u64>,
    /// Thousandths of a processor that it is to get where there are too few.
    pub cpu_request: Option<u64>,
    /// Bytes at most.
    pub memory_limit: Option<u64>,
    /// Bytes that are kept from others.
    pub memory_request: Option<u64>,
}

impl Resources {
    fn read(value: &Value<'_>) -> Result<Self, Error> {
        let mut fields = value.fields()?;
        fields.refuse(&[("claims", "")])?;
        let mut resources = Self::default();
        for (name, cpu, memory) in [
            (
                "limits",
                &mut resources.cpu_limit,
                &mut resources.memory_limit,
            ),
            (
                "requests",
                &mut resources.cpu_request,
                &mut resources.memory_request,
            ),
        ] {
            let Some(list) = fields.take(name) else {
                continue;
            };
            let mut inner = list.fields()?;
            *cpu = inner.get("cpu", |value| {
                let amount =
                    quantity::thousandths(value.literal()?).map_err(|why| value.error(why))?;
                u64::try_from(amount)
                    .ok()
                    .filter(|amount| *amount < 1_000_000_000)
                    .ok_or_else(|| value.error("it is out of range"))
            })?;
            *memory = inner.get("memory", |value| {
                quantity::units(value.literal()?).map_err(|why| value.error(why))
            })?;
            if let Some((_, other)) = inner.rest().first() {
                return Err(other.error("it is not supported by kelp: there are cpu and memory"));
            }
        }
        fields.end()?;
        Ok(resources)
    }

    /// Those of each container in a list, by name, as far as they can be read.
    pub(crate) fn of_all(containers: Option<&Value<'_>>) -> Vec<(String, Self)> {
        let items = containers.and_then(|list| list.items().ok());
        let mut all = Vec::new();
        for item in items.into_iter().flatten() {
            let Ok(mut fields) = item.fields() else {
                continue;
            };
            let name = fields.text("name").ok().flatten();
            let resources = fields.get("resources", Self::read).ok().flatten();
            all.extend(name.map(|name| (name, resources.unwrap_or_default())));
        }
        all
    }
}

/// What a cluster does with a container, and one machine does not.
const PASSED_OVER: &[&str] = &[
    // There is no service that would wait for it.
    "readinessProbe",
    "resizePolicy",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

const REFUSED: &[(&str, &str)] = &[
    ("envFromFile", ""),
    ("restartPolicy", "a sidecar is a container like others here"),
    ("restartPolicyRules", ""),
    ("stdinOnce", ""),
    ("volumeDevices", "use a hostPath volume of type BlockDevice"),
];

/// Reads a container of a pod that has these volumes.
pub(crate) fn read(
    value: &Value<'_>,
    volumes: &[Volume],
    pod: &Security,
    around: &Surroundings<'_>,
    is_init: bool,
) -> Result<Container, Error> {
    let mut fields = value.fields()?;
    fields.pass_over(PASSED_OVER);
    fields.refuse(REFUSED)?;
    if is_init {
        fields.refuse(&[
            ("livenessProbe", "an init container has to end"),
            ("startupProbe", "an init container has to end"),
        ])?;
    }
    let named = fields.need("name")?;
    let name = named.text()?;
    check_name(&named, &name)?;
    let image = fields.need("image")?.text()?;
    let pull = fields.get("imagePullPolicy", PullPolicy::read)?;
    let around = Surroundings {
        container: &name,
        ..*around
    };
    let env = environment::read(&mut fields, &around)?;
    let variable = |name: &str| environment::of(&env, name);
    let mut words = |name: &str| -> Result<Option<Vec<String>>, Error> {
        let words = fields
            .get(name, Value::texts)?
            .filter(|words| !words.is_empty());
        Ok(words.map(|words| words.iter().map(|word| expand(word, variable)).collect()))
    };
    let command = words("command")?;
    let args = words("args")?;
    let ports = fields.each("ports", port)?;
    let probe =
        |name: &str, fields: &mut Fields<'_>| fields.get(name, |value| probe::read(value, &ports));
    let liveness = probe("livenessProbe", &mut fields)?;
    let startup = match fields.take("startupProbe") {
        Some(value) if liveness.is_none() => {
            return Err(value.error("it is not supported by kelp without a livenessProbe"));
        }
        Some(value) => Some(probe::read(&value, &ports)?),
        None => None,
    };
    let stop_signal = match fields.take("lifecycle") {
        Some(value) => {
            let mut inner = value.fields()?;
            inner.refuse(&[
                ("postStart", "let the command do it"),
                ("preStop", "let the command do it when it is asked to stop"),
            ])?;
            let signal = inner.text("stopSignal")?;
            inner.end()?;
            signal
        }
        None => None,
    };
    let container = Container {
        pull: pull.unwrap_or_else(|| PullPolicy::usual(&image)),
        command,
        args,
        workdir: fields.text("workingDir")?,
        mounts: fields.each("volumeMounts", |item| mount(item, volumes))?,
        resources: fields
            .get("resources", Resources::read)?
            .unwrap_or_default(),
        security: security::of_container(fields.take("securityContext"), pod)?,
        stdin: fields.truth("stdin")?,
        tty: fields.truth("tty")?,
        name,
        image,
        env,
        ports,
        liveness,
        startup,
        stop_signal,
    };
    fields.end()?;
    Ok(container)
}

fn port(value: &Value<'_>) -> Result<Port, Error> {
    let mut fields = value.fields()?;
    let number = |value: &Value<'_>| match value.fitting::<u16>()? {
        0 => Err(value.error("0 is no port")),
        port => Ok(port),
    };
    let container = fields.need("containerPort")?;
    let protocol = match fields.take("protocol") {
        Some(value) => match value.text()?.as_str() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            other => return Err(value.error(format!("invalid protocol {other:?}: use TCP or UDP"))),
        },
        None => Protocol::Tcp,
    };
    let host = match fields.take("hostPort") {
        // As what generators write for none.
        Some(value) if value.number()? == 0 => None,
        Some(value) => Some(number(&value)?),
        None => None,
    };
    let port = Port {
        name: fields.text("name")?,
        container: number(&container)?,
        host,
        address: fields.text("hostIP")?.filter(|address| !address.is_empty()),
        protocol,
    };
    fields.end()?;
    Ok(port)
}

fn mount(value: &Value<'_>, volumes: &[Volume]) -> Result<Mount, Error> {
    let mut fields = value.fields()?;
    let named = fields.need("name")?;
    let volume = named.text()?;
    if !volumes.iter().any(|known| known.name == volume) {
        return Err(named.error(format!("the pod has no volume {volume}")));
    }
    let place = fields.need("mountPath")?;
    let text = place.text()?;
    let (target, options) = text.split_once(':').unwrap_or((&text, ""));
    if !target.starts_with('/') {
        return Err(place.error(format!("invalid path {target:?}: it is absolute")));
    }
    let propagation = match fields.take("mountPropagation") {
        Some(value) => match value.text()?.as_str() {
            "None" => Propagation::None,
            "HostToContainer" => Propagation::HostToContainer,
            "Bidirectional" => Propagation::Bidirectional,
            other => {
                return Err(value.error(format!(
                    "invalid propagation {other:?}: use None, HostToContainer or Bidirectional"
                )));
            }
        },
        None => Propagation::None,
    };
    if let Some(value) = fields.take("recursiveReadOnly")
        && value.text()? != "Disabled"
    {
        return Err(value.error("it is not supported by kelp: use Disabled, or leave it out"));
    }
    fields.refuse(&[("subPathExpr", "use subPath")])?;
    let subpath = match fields.take("subPath") {
        Some(value) if value.literal()?.is_empty() => None,
        Some(value) => Some(relative(&value)?),
        None => None,
    };
    let mount = Mount {
        volume,
        target: target.to_owned(),
        options: options
            .split(',')
            .filter(|option| !option.is_empty())
            .map(str::to_owned)
            .collect(),
        subpath,
        read_only: fields.truth("readOnly")?,
        propagation,
    };
    fields.end()?;
    Ok(mount)
}
