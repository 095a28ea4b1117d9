//! Flags about the pod that a container is made in.

use std::path::PathBuf;

use anyhow::bail;
use kelp_engine::container::CreateOptions;
use kelp_engine::pod::remove::RemovePod;
use kelp_engine::pod::{ExitPolicy, Membership, PodOptions, Said, Shared};
use kelp_engine::{ContainerId, Engine};

use super::CreateFlags;
use crate::cli::pod_create::infra_options;
use crate::cli::pod_selection::read_id;
use crate::cli::runtime_flags::RuntimeFlags;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct PodFlags {
    /// Make the container in this pod; new:NAME makes the pod first
    #[arg(long, value_name = "POD", conflicts_with = "pod_id_file")]
    pod: Option<String>,
    /// Make the container in the pod whose ID is in this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
}

/// What stands before the name of a pod that is to be made.
const NEW: &str = "new:";

impl PodFlags {
    /// The part in a pod that is asked for.
    pub(super) fn membership(&self, flags: &CreateFlags) -> anyhow::Result<Option<Membership>> {
        let pod = match (&self.pod, &self.pod_id_file) {
            (None, None) => return Ok(None),
            (Some(pod), _) => pod.clone(),
            (None, Some(path)) => read_id(path)?,
        };
        if pod.is_empty() {
            bail!(
                "a pod has to be named: --pod NAME, or --pod new:NAME for one that is made first"
            );
        }
        let mut said = flags.isolation.said();
        if flags.storage.shm_size.is_some() {
            said.push(Said::SharedMemory);
        }
        if flags.process.restart.is_some() {
            said.push(Said::Restart);
        }
        Ok(Some(Membership {
            said,
            ..Membership::of(pod)
        }))
    }
}

/// A pod that was made for a container: it goes again as long as that one is not there.
#[must_use]
pub struct NewPod<'a> {
    engine: &'a Engine,
    /// `None` where the container is in none, or in one that was there.
    id: Option<ContainerId>,
}

impl NewPod<'_> {
    /// The container is made.
    pub fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for NewPod<'_> {
    fn drop(&mut self) {
        let Some(id) = &self.id else { return };
        // One that could not be started stays, and with it the pod.
        let infra = self.engine.pod(id).ok().and_then(|pod| pod.infra);
        if infra.is_some_and(|infra| self.engine.pod_at_its_end(&infra).is_some()) {
            let _ = self.engine.remove_pod(id, &RemovePod::FORCE);
        }
    }
}

/// Makes the pod of a container that asks for a new one. What it says of the network, the host's name and its ids is
/// the pod's then.
pub fn make_new<'a>(
    engine: &'a Engine,
    runtime: &RuntimeFlags,
    options: &mut CreateOptions,
) -> anyhow::Result<NewPod<'a>> {
    let mut new = NewPod { engine, id: None };
    let Some(membership) = &mut options.pod else {
        return Ok(new);
    };
    let Some(name) = membership.pod.strip_prefix(NEW) else {
        return Ok(new);
    };
    if options.publish_all {
        bail!(
            "--publish-all and --pod new:NAME exclude each other: ports are the pod's, which does not know the \
             image; name them with --publish"
        );
    }
    let (mut infra, pull) = infra_options(&[], None, runtime)?;
    if !infra.image.is_empty() {
        engine.ensure_image(&infra.image, &pull)?;
    }
    let says = |what: Said| membership.said.contains(&what);
    if says(Said::Namespace(Shared::Net)) {
        infra.namespaces.network = options.namespaces.network.take();
    }
    if says(Said::User) {
        infra.namespaces.user = std::mem::take(&mut options.namespaces.user);
    }
    infra.publish = std::mem::take(&mut options.publish);
    options.expose.clear();
    infra.add_hosts = std::mem::take(&mut options.add_hosts);
    infra.hosts_base = std::mem::take(&mut options.hosts_base);
    infra.dns = std::mem::take(&mut options.dns);
    infra.dns_search = std::mem::take(&mut options.dns_search);
    infra.dns_options = std::mem::take(&mut options.dns_options);
    infra.hostname = options.hostname.take();
    infra.shm_size = options.shm_size.take();
    let moved = [
        Said::Namespace(Shared::Net),
        Said::User,
        Said::Ports,
        Said::Hosts,
        Said::Dns,
        Said::Hostname,
        Said::SharedMemory,
    ];
    membership.said.retain(|said| !moved.contains(said));
    let pod = engine.create_pod(PodOptions {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        shared: Shared::USUAL.to_vec(),
        share_parent: true,
        exit_policy: ExitPolicy::Continue,
        infra: Some(Box::new(infra)),
        create_command: options.create_command.clone(),
        ..PodOptions::default()
    })?;
    membership.pod = pod.to_string();
    new.id = Some(pod);
    Ok(new)
}
