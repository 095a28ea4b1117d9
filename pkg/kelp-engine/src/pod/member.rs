//! A container that is made in a pod: what it has of that, and what it can't say by itself.

use kelp_args::{RestartPolicy, VolumesFrom};
use kelp_monitor::pod::Entered;
use kelp_network::Mode;
use kelp_state::file::Durability;
use kelp_state::{ContainerId, Record, pod};

use crate::container::config::{CgroupMode, Cgroups, Config, CreateOptions, Namespace, UserMode};
use crate::pod::{Membership, PodConfig, Role, Said, Shared};
use crate::{Engine, Error};

const OF_THE_POD: &str = "network cannot be configured when it is shared with a pod";

impl Engine {
    /// Completes a request for a member by what the pod has, and keeps the pod until the member's record is written.
    pub(crate) fn settle_pod(
        &self,
        options: &mut CreateOptions,
    ) -> Result<Option<Entered<'_>>, Error> {
        let Some(membership) = options.pod.clone() else {
            return Ok(None);
        };
        if membership.is_infra() {
            return Ok(None);
        }
        let id = self.find_pod(&membership.pod)?;
        let lock = pod::enter(&self.paths, &id)?;
        let pod = self.pod(&id)?;
        let entered = Entered::beside(&self.paths, pod.place(), lock);
        check(&membership, &pod)?;
        let mut keeps_ids = false;
        if let Some(infra) = &pod.infra {
            let infra = self.config(infra)?;
            share(options, &membership, &pod, &infra);
            keeps_ids = matches!(infra.options.namespaces.user, UserMode::KeepId { .. });
        }
        if let Some(restart) = pod.restart
            && !membership.said.contains(&Said::Restart)
            && !options.remove
            && membership.role == Role::Member
        {
            options.restart = restart;
        }
        if matches!(membership.role, Role::Init(_)) && options.restart != RestartPolicy::No {
            return Err(Error::invalid(
                "--init-ctr and --restart exclude each other: an init container has to end",
            ));
        }
        options.pod = Some(Membership {
            pod: id.to_string(),
            shares: shared_by(&membership, &pod).collect(),
            infra: pod.infra,
            exit_policy: pod.exit_policy,
            keeps_ids,
            ..membership
        });
        Ok(Some(entered))
    }

    /// Notes in its pod's record that a container is about to be made.
    pub(crate) fn note_member(
        &self,
        options: &CreateOptions,
        id: &ContainerId,
    ) -> Result<(), Error> {
        let Some(membership) = &options.pod else {
            return Ok(());
        };
        let pod: ContainerId = membership
            .pod
            .parse()
            .map_err(|_| kelp_state::Error::NoSuchPod(membership.pod.clone()))?;
        let durability = if options.remove {
            Durability::None
        } else {
            Durability::Synced
        };
        Ok(pod::add(&self.paths, &pod, id, durability)?)
    }

    /// The host's name in a pod whose containers share it, as its infra container has it.
    pub(crate) fn hostname_of_pod(&self, options: &CreateOptions) -> Option<String> {
        let infra = options.pod.as_ref()?.infra_with(Shared::Uts)?;
        let record = Record::new(&self.paths, infra.clone());
        let name = std::fs::read_to_string(record.data.join("hostname")).ok()?;
        Some(name.trim_end().to_owned())
    }
}

/// Refuses what is the pod's to say.
fn check(membership: &Membership, pod: &PodConfig) -> Result<(), Error> {
    if pod.infra.is_none() {
        return Ok(());
    }
    let says = |what: Said| membership.said.contains(&what);
    let shares = |what: Shared| pod.shared.contains(&what) && !says(Said::Namespace(what));
    let of_network = [
        (
            Said::Ports,
            "published or exposed ports must be defined when the pod is created",
        ),
        (
            Said::Hosts,
            "extra host entries must be specified on the pod",
        ),
        (Said::Dns, "name servers must be specified on the pod"),
    ];
    for (what, text) in of_network {
        if shares(Shared::Net) && says(what) {
            return Err(Error::invalid(format!("{text}: {OF_THE_POD}")));
        }
    }
    if says(Said::User) {
        return Err(Error::invalid(
            "--userns and --pod cannot be set together: the ids are the pod's (kelp pod create --userns)",
        ));
    }
    if shares(Shared::Uts) && says(Said::Hostname) {
        return Err(Error::invalid(
            "cannot set hostname when joining the pod UTS namespace: the pod has it (kelp pod create \
             --hostname)",
        ));
    }
    if shares(Shared::Ipc) && says(Said::SharedMemory) {
        return Err(Error::invalid(
            "cannot set the size of /dev/shm when joining the pod IPC namespace: the pod has it (kelp pod \
             create --shm-size)",
        ));
    }
    Ok(())
}

/// The namespaces that a member has of its pod.
fn shared_by(membership: &Membership, pod: &PodConfig) -> impl Iterator<Item = Shared> {
    let is_own = |what: Shared| membership.said.contains(&Said::Namespace(what));
    pod.shared
        .iter()
        .copied()
        .filter(move |what| !is_own(*what))
}

/// Gives a request what the infra container has.
fn share(options: &mut CreateOptions, membership: &Membership, pod: &PodConfig, infra: &Config) {
    let id = infra.id.to_string();
    let given = &infra.options;
    let names = &mut options.namespaces;
    for what in shared_by(membership, pod) {
        match what {
            Shared::Net => options.no_hosts |= given.no_hosts,
            Shared::Uts => options.no_hostname |= given.no_hostname,
            Shared::Cgroup | Shared::Ipc | Shared::Pid => {}
        }
        let (namespace, given) = match what {
            Shared::Pid => (&mut names.pid, &given.namespaces.pid),
            Shared::Ipc => (&mut names.ipc, &given.namespaces.ipc),
            Shared::Uts => (&mut names.uts, &given.namespaces.uts),
            Shared::Cgroup => (&mut names.cgroup, &given.namespaces.cgroup),
            Shared::Net => {
                names.network = Some(match &given.namespaces.network {
                    Some(mode @ (Mode::Host | Mode::Path(_))) => mode.clone(),
                    _ => Mode::Container(id.clone()),
                });
                continue;
            }
        };
        // What is the host's can't be joined by way of a container.
        *namespace = match given {
            Namespace::Host | Namespace::Path(_) => given.clone(),
            Namespace::Private | Namespace::Container(_) => Namespace::Container(id.clone()),
        };
    }
    names.user = match given.namespaces.user {
        UserMode::Host => UserMode::Host,
        _ => UserMode::Container(id.clone()),
    };
    options.volumes_from.push(VolumesFrom {
        container: id,
        read_only: None,
    });
    for device in &given.devices {
        if !options.devices.contains(device) {
            options.devices.push(device.clone());
        }
    }
    options.no_new_privileges |= given.no_new_privileges;
    if options.seccomp.is_none() && !options.seccomp_unconfined {
        options.seccomp.clone_from(&given.seccomp);
        options.seccomp_path.clone_from(&given.seccomp_path);
        options.seccomp_unconfined = given.seccomp_unconfined;
    }
    if options.apparmor.is_none() {
        options.apparmor.clone_from(&given.apparmor);
    }
    options.mask.extend(given.mask.iter().cloned());
    options.unmask.extend(given.unmask.iter().cloned());
    if pod.share_parent
        && options.cgroups == Cgroups::default()
        && given.cgroups.mode == CgroupMode::Enabled
    {
        options.cgroups.clone_from(&given.cgroups);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::pod::ExitPolicy;

    fn pod(infra: &Config) -> PodConfig {
        PodConfig {
            id: ContainerId::random(),
            name: "crew".to_owned(),
            created: SystemTime::UNIX_EPOCH,
            labels: BTreeMap::new(),
            infra: Some(infra.id.clone()),
            shared: Shared::USUAL.to_vec(),
            share_parent: true,
            exit_policy: ExitPolicy::Continue,
            restart: None,
            create_command: Vec::new(),
            service: None,
        }
    }

    fn infra(options: CreateOptions) -> Config {
        Config {
            id: ContainerId::random(),
            name: "crew-infra".to_owned(),
            created: SystemTime::UNIX_EPOCH,
            image_name: String::new(),
            image_id: String::new(),
            command: Vec::new(),
            entrypoint: Vec::new(),
            labels: BTreeMap::new(),
            exposed: Vec::new(),
            stop_signal: 15,
            stop_timeout: 10,
            health: None,
            options,
        }
    }

    fn member(said: &[Said]) -> Membership {
        Membership {
            said: said.to_vec(),
            ..Membership::of("crew")
        }
    }

    #[test]
    fn what_is_shared_is_joined_unless_the_request_says_otherwise() {
        let infra = infra(CreateOptions::default());
        let pod = pod(&infra);
        let joined = Namespace::Container(infra.id.to_string());
        let mut options = CreateOptions::default();
        share(&mut options, &member(&[]), &pod, &infra);
        let names = &options.namespaces;
        assert_eq!([&names.ipc, &names.uts], [&joined, &joined]);
        assert_eq!([&names.pid, &names.cgroup], [&Namespace::Private; 2]);
        assert_eq!(names.network, Some(Mode::Container(infra.id.to_string())));
        assert_eq!(names.user, UserMode::Host);
        // What is the host's is so directly.
        let mut host = infra.clone();
        host.options.namespaces.network = Some(Mode::Host);
        host.options.namespaces.uts = Namespace::Host;
        let mut options = CreateOptions::default();
        share(&mut options, &member(&[]), &pod, &host);
        assert_eq!(options.namespaces.network, Some(Mode::Host));
        assert_eq!(options.namespaces.uts, Namespace::Host);
        let mut options = CreateOptions::default();
        options.namespaces.network = Some(Mode::None);
        let own = [Shared::Net, Shared::Ipc].map(Said::Namespace);
        let mut bare = infra.clone();
        bare.options.no_hosts = true;
        bare.options.no_hostname = true;
        for (said, expected) in [(&[][..], [true, true]), (&own, [false, true])] {
            let mut options = CreateOptions::default();
            share(&mut options, &member(said), &pod, &bare);
            assert_eq!([options.no_hosts, options.no_hostname], expected);
        }
        share(&mut options, &member(&own), &pod, &infra);
        let names = &options.namespaces;
        assert_eq!([&names.ipc, &names.uts], [&Namespace::Private, &joined]);
        assert_eq!(names.network, Some(Mode::None));
    }

    #[test]
    fn ids_devices_and_restrictions_are_the_pods() {
        let mut given = CreateOptions {
            devices: vec!["/dev/fuse".into()],
            no_new_privileges: true,
            seccomp_unconfined: true,
            unmask: vec!["ALL".to_owned()],
            ..CreateOptions::default()
        };
        given.namespaces.user = UserMode::NoMap;
        given.cgroups.parent = "a".to_owned();
        let infra = infra(given);
        let mut options = CreateOptions::default();
        share(&mut options, &member(&[]), &pod(&infra), &infra);
        assert_eq!(
            options.namespaces.user,
            UserMode::Container(infra.id.to_string())
        );
        assert_eq!(options.devices, infra.options.devices);
        assert!(options.no_new_privileges && options.seccomp_unconfined);
        assert_eq!(options.cgroups.parent, "a");
        // A cgroup of its own is one.
        let mut options = CreateOptions::default();
        options.cgroups.mode = CgroupMode::Split;
        share(&mut options, &member(&[]), &pod(&infra), &infra);
        assert_eq!(options.cgroups.parent, "");
    }

    #[test]
    fn what_is_the_pods_is_refused_where_it_is_shared() {
        let infra = infra(CreateOptions::default());
        let mut pod = pod(&infra);
        let all = [
            Said::Ports,
            Said::Hosts,
            Said::Dns,
            Said::User,
            Said::Hostname,
            Said::SharedMemory,
        ];
        for said in all {
            assert!(check(&member(&[said]), &pod).is_err(), "{said:?}");
        }
        for (said, of) in [
            (Said::Ports, Shared::Net),
            (Said::Hostname, Shared::Uts),
            (Said::SharedMemory, Shared::Ipc),
        ] {
            let own = member(&[said, Said::Namespace(of)]);
            assert!(check(&own, &pod).is_ok(), "{said:?}");
        }
        assert!(check(&member(&[Said::Restart]), &pod).is_ok());
        pod.infra = None;
        assert!(check(&member(&all), &pod).is_ok());
    }
}
