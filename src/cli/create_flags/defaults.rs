//! What containers.conf and kelp.conf say where the command line says nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context;
use kelp_args::mount::{self, Mount};
use kelp_args::{DetachKeys, Device, Sysctl, size, sysctl, ulimit};
use kelp_config::{Conf, Setting, Sources};
use kelp_engine::Error;
use kelp_engine::auto_update::UNIT;
use kelp_engine::container::config::{LogDriver, Namespace};
use kelp_engine::container::{CreateOptions, has_journal};
use kelp_engine::network::hosts::Base;
use kelp_engine::network::{Mode, PastaOptions};
use kelp_engine::pod::{Membership, Said, Shared};

use super::{CreateFlags, isolation, process, storage};
use crate::cli::output;

const CONTAINERS: &str = "containers";
const ENGINE: &str = "engine";

/// Reads the files, once; keys that nobody knows are told of.
pub fn load() -> anyhow::Result<&'static Conf> {
    static CONF: OnceLock<Conf> = OnceLock::new();
    if let Some(conf) = CONF.get() {
        return Ok(conf);
    }
    let conf = Conf::load(&Sources::from_env(kelp_engine::host::user_id()))?;
    for warning in &conf.warnings {
        output::note(format_args!("Warning: {warning}"));
    }
    Ok(CONF.get_or_init(|| conf))
}

/// Read-only stores of images, looked for once: those of kelp.conf, and of storage.conf(5) those that are kelp's.
pub fn additional_stores() -> Result<&'static [PathBuf], Error> {
    static STORES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if let Some(stores) = STORES.get() {
        return Ok(stores);
    }
    let conf = load().map_err(|error| Error::invalid(format!("{error:#}")))?;
    let listed = conf.list("storage", "additional_image_stores");
    let mut stores = Vec::new();
    for store in listed.into_iter().flat_map(Setting::each) {
        let path = store.read(|store| {
            let path = PathBuf::from(store);
            let is_absolute = path.is_absolute();
            is_absolute
                .then_some(path)
                .ok_or("a store is an absolute path")
        });
        stores.push(path.map_err(|error| Error::invalid(error.to_string()))?);
    }
    let sources = Sources::from_env(kelp_engine::host::user_id());
    let others = kelp_config::storage::additional_image_stores(&sources).into_iter();
    // Other engines have records of images in another place.
    stores.extend(others.filter(|store| store.join("blobs/sha256").is_dir()));
    Ok(STORES.get_or_init(|| stores))
}

/// Fills in what was left open.
pub(super) fn fill(
    flags: &CreateFlags,
    conf: &Conf,
    options: &mut CreateOptions,
) -> anyhow::Result<()> {
    let text = |key| conf.text(CONTAINERS, key);
    let truth = |flag: Option<bool>, key| flag.or_else(|| conf.truth(CONTAINERS, key));
    options.init = truth(flags.process.init, "init").unwrap_or_default();
    options.read_only = truth(flags.storage.read_only, "read_only").unwrap_or_default();
    options.privileged = truth(flags.isolation.privileged, "privileged").unwrap_or_default();
    namespaces(flags, conf, options)?;
    network(flags, conf, options)?;
    program(flags, conf, options)?;
    if let (None, Some(value)) = (&options.shm_size, text("shm_size")) {
        options.shm_size = Some(value.read(|text| size::bytes(text))?);
    }
    if flags.storage.device.is_empty() {
        for device in list(conf, "devices") {
            device.read(|text| storage::add_device(options, &text.parse::<Device>()?))?;
        }
    }
    mounts(conf, options)?;
    if let (None, Some(mode)) = (
        flags.storage.image_volume,
        conf.text(ENGINE, "image_volume_mode"),
    ) {
        options.image_volumes = mode.read(|text| storage::image_volumes(text))?;
    }
    privileges(conf, options)
}

/// Each text of a list, with the list's place.
fn list(conf: &Conf, key: &str) -> Vec<Setting<String>> {
    conf.list(CONTAINERS, key)
        .map(Setting::each)
        .unwrap_or_default()
}

fn namespaces(flags: &CreateFlags, conf: &Conf, options: &mut CreateOptions) -> anyhow::Result<()> {
    let asked = &flags.isolation;
    let names = &mut options.namespaces;
    for (flag, key, option, namespace) in [
        (&asked.pid, "pidns", "pid", &mut names.pid),
        (&asked.uts, "utsns", "uts", &mut names.uts),
        (&asked.cgroupns, "cgroupns", "cgroupns", &mut names.cgroup),
    ] {
        if let (None, Some(text)) = (flag, conf.text(CONTAINERS, key)) {
            *namespace = text.read(|text| isolation::one(option, Some(text)))?;
        }
    }
    if let (None, Some(text)) = (&asked.ipc, conf.text(CONTAINERS, "ipcns")) {
        (names.ipc, options.no_shm) = text.read(|text| isolation::ipc(text))?;
    }
    let mapped = !asked.uidmap.is_empty() || !asked.gidmap.is_empty();
    if asked.userns.is_none()
        && !mapped
        && let Some(text) = conf.text(CONTAINERS, "userns")
    {
        names.user = text.read(|text| isolation::user_mode(text))?;
    }
    // What podman calls private is what a container gets anyway.
    if names.network.is_none()
        && let Some(text) = conf
            .text(CONTAINERS, "netns")
            .filter(|text| text.value != "private")
    {
        names.network = Some(text.read(|text| isolation::network(text))?);
    }
    let extra = conf.list("network", "pasta_options");
    if let (None, Some(extra)) = (
        &names.network,
        extra.filter(|extra| !extra.value.is_empty()),
    ) {
        names.network = Some(Mode::Pasta(PastaOptions {
            extra: extra.value,
            ..PastaOptions::default()
        }));
    }
    if let (None, Some(how)) = (&asked.cgroups, conf.text(CONTAINERS, "cgroups")) {
        options.cgroups.mode = how.read(|how| isolation::cgroup_mode(how))?;
    }
    Ok(())
}

fn network(flags: &CreateFlags, conf: &Conf, options: &mut CreateOptions) -> anyhow::Result<()> {
    for (asked, key) in [
        (&mut options.dns, "dns_servers"),
        (&mut options.dns_search, "dns_searches"),
        (&mut options.dns_options, "dns_options"),
    ] {
        if let (true, Some(list)) = (asked.is_empty(), conf.list(CONTAINERS, key)) {
            *asked = list.value;
        }
    }
    let asked = &flags.isolation;
    let no_hosts = asked
        .no_hosts
        .or_else(|| conf.truth(CONTAINERS, "no_hosts"));
    options.no_hosts = no_hosts.unwrap_or_default() && asked.add_host.is_empty();
    if let (None, Some(base)) = (&asked.hosts_file, conf.text(CONTAINERS, "base_hosts_file")) {
        options.hosts_base = base.read(|base| Base::parse(base))?;
    }
    if let Some(address) = conf.text(CONTAINERS, "host_containers_internal_ip") {
        let parse = |text: &String| {
            let invalid = || format!("invalid address {text:?}: it is an IP address");
            text.parse::<IpAddr>().ok().with_context(invalid)
        };
        options.host_address = Some(address.read(parse)?);
    }
    let private = options.namespaces.uts == Namespace::Private;
    if private
        && options.hostname.is_none()
        && conf.truth(CONTAINERS, "container_name_as_hostname") == Some(true)
    {
        options.hostname.clone_from(&options.name);
    }
    Ok(())
}

fn program(flags: &CreateFlags, conf: &Conf, options: &mut CreateOptions) -> anyhow::Result<()> {
    let text = |key| conf.text(CONTAINERS, key);
    flags.process.pass_host_variables(
        options,
        conf.truth(CONTAINERS, "env_host"),
        conf.truth(CONTAINERS, "http_proxy"),
    );
    for (place, variable) in list(conf, "env").into_iter().enumerate() {
        let parse = |text: &String| match text.split_once('=') {
            Some((name, _)) if !name.is_empty() => Ok(text.clone()),
            _ => Err(format!("invalid variable {text:?}: it is NAME=VALUE")),
        };
        options.host_env.insert(place, variable.read(parse)?);
    }
    for annotation in list(conf, "annotations") {
        let (key, value) = annotation
            .value
            .split_once('=')
            .unwrap_or((&annotation.value, ""));
        let entry = options.annotations.entry(key.to_owned());
        entry.or_insert_with(|| value.to_owned());
    }
    if options.timezone.is_none() {
        options.timezone = text("tz").map(|zone| zone.value);
    }
    if let (None, Some(mask)) = (options.umask, text("umask")) {
        options.umask = Some(mask.read(|mask| process::umask(mask))?);
    }
    if let (None, Some(seconds)) = (options.stop_timeout, conf.number(ENGINE, "stop_timeout")) {
        options.stop_timeout = Some(seconds.read(|seconds| u64::try_from(*seconds))?);
    }
    if options.detach_keys.is_none() {
        options.detach_keys = detach_keys(conf)?.map(|keys| keys.to_string());
    }
    if let (None, Some(score)) = (
        options.oom_score_adj,
        conf.number(CONTAINERS, "oom_score_adj"),
    ) {
        options.oom_score_adj = Some(score.read(|score| i32::try_from(*score))?);
    }
    if let (None, Some(driver)) = (&flags.process.log_driver, text("log_driver")) {
        options.log_driver = driver.read(|driver| process::log_driver(driver))?;
    }
    let is_left_open = !flags.process.says_how_to_log()
        && text("log_driver").is_none()
        && conf.number(CONTAINERS, "log_size_max").is_none();
    // Where people look for what a service says. Elsewhere it is a file: journald takes so much and no more.
    if is_left_open && options.labels.contains_key(UNIT) && has_journal() {
        options.log_driver = Some(LogDriver::Journald);
    }
    if options.log_driver == Some(LogDriver::Journald)
        && let (None, Some(tag)) = (&options.log_tag, text("log_tag"))
        && !tag.value.is_empty()
    {
        options.log_tag = Some(tag.read(|tag| tag.parse())?);
    }
    flags.process.check_log(options)?;
    if let (None, Some(path)) = (&options.log_path, text("log_path")) {
        // A directory there, and a file for each container in it.
        path.read(|_| Err::<(), _>("log_path is not supported by kelp yet: use --log-opt path"))?;
    }
    if let (0, Some(size)) = (
        options.log_max_size,
        conf.number(CONTAINERS, "log_size_max"),
    ) {
        options.log_max_size = u64::try_from(size.value).unwrap_or(0);
    }
    for limit in list(conf, "default_ulimits") {
        let (name, soft, hard) = limit.read(|text| ulimit::parse(text))?;
        if !options.ulimits.iter().any(|(known, ..)| *known == name) {
            options.ulimits.push((name, soft, hard));
        }
    }
    Ok(())
}

/// The keys that detach.
pub fn detach_keys(conf: &Conf) -> anyhow::Result<Option<DetachKeys>> {
    let keys = conf.text(ENGINE, "detach_keys");
    Ok(keys
        .map(|keys| keys.read(|keys| keys.parse()))
        .transpose()?)
}

type Parse = fn(&str, &str) -> Result<Mount, String>;

/// A default for a place where something else was asked for gives way.
fn mounts(conf: &Conf, options: &mut CreateOptions) -> anyhow::Result<()> {
    let directory = storage::working_directory();
    for (key, parse) in [
        ("volumes", mount::volume as Parse),
        ("mounts", mount::mount),
    ] {
        for text in list(conf, key) {
            let default = text.read(|text| parse(text, &directory))?;
            let mut asked = options.volumes.iter();
            if !asked.any(|asked| asked.target == default.target) {
                options.volumes.push(default);
            }
        }
    }
    Ok(())
}

fn privileges(conf: &Conf, options: &mut CreateOptions) -> anyhow::Result<()> {
    let capabilities = conf.list(CONTAINERS, "default_capabilities");
    options.default_capabilities = capabilities.map(|list| list.value);
    for text in list(conf, "default_sysctls") {
        let default = text.read(|text| text.parse::<Sysctl>())?;
        let names = &options.namespaces;
        let (is_private, shared) = match default.namespace() {
            Some(sysctl::Namespace::Network) => (names.network != Some(Mode::Host), Shared::Net),
            Some(sysctl::Namespace::Ipc) => (names.ipc == Namespace::Private, Shared::Ipc),
            Some(sysctl::Namespace::Uts) => (names.uts == Namespace::Private, Shared::Uts),
            None => continue,
        };
        // Or it is the pod's, to which the same was said.
        let is_own = |pod: &Membership| pod.said.contains(&Said::Namespace(shared));
        let has_own = is_private && options.pod.as_ref().is_none_or(is_own);
        if has_own {
            let entry = options.sysctl.entry(default.name);
            entry.or_insert(default.value);
        }
    }
    let own = options.seccomp.is_some() || options.seccomp_unconfined || options.privileged;
    // The profile that containers-common ships is the one that kelp has without it.
    let profile = conf.text(CONTAINERS, "seccomp_profile");
    let shipped = |profile: &Setting<String>| profile.value == "/usr/share/containers/seccomp.json";
    if let Some(profile) = profile.filter(|profile| !own && !shipped(profile)) {
        if profile.value == "unconfined" {
            options.seccomp_unconfined = true;
        } else {
            options.seccomp = Some(profile.read(|path| isolation::seccomp_profile(path.as_ref()))?);
            options.seccomp_path = Some(profile.value.into());
        }
    }
    Ok(())
}
