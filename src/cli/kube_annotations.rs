//! Annotations of a pod that ask for something, as podman has them: `KEY=VALUE` for all of its containers, or
//! `KEY/CONTAINER=VALUE`.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use kelp_args::mount;
use kelp_engine::pod::InitKind;
use kelp_kube::Pod;

const OWN: &str = "io.podman.annotations.";
const AUTO_UPDATE: &str = "io.containers.autoupdate";
const BIND_OPTIONS: &str = "bind-mount-options";

/// Those of `create`'s flags that a container is given by an annotation.
const FLAGS: &[(&str, &str)] = &[
    ("apparmor", "--security-opt=apparmor="),
    ("cpuset", "--cpuset-cpus="),
    ("init", "--init="),
    ("memory-nodes", "--cpuset-mems="),
    ("pids-limit", "--pids-limit="),
    ("privileged", "--privileged="),
    ("seccomp", "--security-opt=seccomp="),
    ("volumes-from", "--volumes-from="),
];

/// What annotations ask for.
#[derive(Debug, Default)]
pub struct Annotations {
    /// The user namespace.
    pub userns: Option<String>,
    /// Whether ports without one of the host are published too.
    pub publish_all: bool,
    /// What the infra container is called.
    pub infra_name: Option<String>,
    /// Annotations that ask for nothing.
    pub others: BTreeMap<String, String>,
    /// The rest by key, container and value; without a container it is for all.
    given: Vec<(String, Option<String>, String)>,
}

impl Annotations {
    /// Reads those of a pod and of the command line, which win.
    pub fn read(pod: &Pod, more: &[(String, String)]) -> anyhow::Result<Self> {
        let mut all = pod.metadata.annotations.clone();
        all.extend(more.iter().cloned());
        let mut read = Self::default();
        for (key, value) in all {
            read.add(pod, &key, value)
                .with_context(|| format!("annotation {key}"))?;
        }
        Ok(read)
    }

    fn add(&mut self, pod: &Pod, key: &str, value: String) -> anyhow::Result<()> {
        if let Some(rest) = key.strip_prefix(BIND_OPTIONS) {
            // The path of a mount, or all.
            let place = rest.strip_prefix(':').filter(|place| !place.is_empty());
            let options = match value.split_once(':') {
                Some((_, options)) if place.is_none() && value.starts_with('/') => options,
                _ => &value,
            };
            let path =
                place.or_else(|| Some(value.split_once(':')?.0).filter(|it| it.starts_with('/')));
            mount::volume(&format!("/a:/b:{options}"), "/").map_err(anyhow::Error::msg)?;
            self.given.push((
                BIND_OPTIONS.to_owned(),
                path.map(str::to_owned),
                options.to_owned(),
            ));
            return Ok(());
        }
        let (name, container) = key
            .rsplit_once('/')
            .map_or((key, None), |(name, of)| (name, Some(of)));
        let is_known = name.starts_with(OWN) || name == AUTO_UPDATE;
        if !is_known {
            self.others.insert(key.to_owned(), value);
            return Ok(());
        }
        if let Some(of) = container {
            let mut all = pod.init.iter().chain(&pod.containers);
            if !all.any(|it| it.name == of) {
                bail!("the pod has no container {of}");
            }
        }
        let short = name.strip_prefix(OWN).unwrap_or(name);
        match (short, container) {
            ("userns", None) => self.userns = Some(value),
            ("infra.name", None) => self.infra_name = Some(value),
            ("publish-all", _) => self.publish_all = truth(&value)?,
            // What podman writes of containers of its own.
            ("autoremove", _) if value.eq_ignore_ascii_case("false") => {}
            // There is no confinement by SELinux to take off.
            ("label", _) if value == "disable" => {}
            ("ulimit" | "init.container.type" | AUTO_UPDATE, container) => {
                self.given
                    .push((short.to_owned(), container.map(str::to_owned), value));
            }
            (short, container) if FLAGS.iter().any(|(known, _)| *known == short) => {
                self.given
                    .push((short.to_owned(), container.map(str::to_owned), value));
            }
            _ => bail!("it is not supported by kelp"),
        }
        Ok(())
    }

    fn of<'a>(&'a self, container: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let fits = move |of: &Option<String>| of.as_deref().is_none_or(|of| of == container);
        self.given
            .iter()
            .filter(move |(key, of, _)| key != BIND_OPTIONS && fits(of))
            .map(|(key, _, value)| (key.as_str(), value.as_str()))
    }

    /// Flags of `create` for a container.
    pub fn flags(&self, container: &str) -> anyhow::Result<Vec<String>> {
        let mut words = Vec::new();
        for (key, value) in self.of(container) {
            if key == "ulimit" {
                words.extend(value.split(',').map(|limit| format!("--ulimit={limit}")));
            }
            if let Some((_, flag)) = FLAGS.iter().find(|(known, _)| *known == key) {
                let value = match key {
                    "init" | "privileged" => truth(value)?.to_string(),
                    _ => value.to_owned(),
                };
                words.push(format!("{flag}{value}"));
            }
        }
        Ok(words)
    }

    /// Labels for a container.
    pub fn labels(&self, container: &str) -> Vec<(String, String)> {
        let labels = self.of(container).filter(|(key, _)| *key == AUTO_UPDATE);
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// What becomes of an init container that has ended.
    pub fn init_kind(&self, container: &str) -> anyhow::Result<Option<InitKind>> {
        let mut kinds = self
            .of(container)
            .filter(|(key, _)| *key == "init.container.type");
        let kind = kinds
            .next()
            .map(|(_, kind)| kind.parse().map_err(anyhow::Error::msg));
        kind.transpose()
    }

    /// Options of a bind mount of a place on the host.
    pub fn bind_options(&self, path: &str) -> Vec<String> {
        let fits = |of: &Option<String>| of.as_deref().is_none_or(|of| of == path);
        let found = self
            .given
            .iter()
            .filter(|(key, of, _)| key == BIND_OPTIONS && fits(of));
        found
            .flat_map(|(_, _, options)| options.split(','))
            .map(str::to_owned)
            .collect()
    }
}

fn truth(text: &str) -> anyhow::Result<bool> {
    let invalid = || format!("invalid boolean {text:?}: use true or false");
    kelp_args::boolean(text).with_context(invalid)
}
