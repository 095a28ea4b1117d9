//! The keys of containers.conf(5), and what kelp makes of them.

/// What the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Truth,
    Number,
    Text,
    List,
    /// A table of lists.
    Lists,
    /// Of no meaning to kelp: what it has instead is always as it is.
    Ignored,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Truth => "true or false",
            Self::Number => "a whole number",
            Self::Text => "a text",
            Self::List => "a list of texts",
            Self::Lists => "lists of texts by name",
            Self::Ignored => "anything",
        }
    }
}

type Entry = (&'static str, Kind);

const CONTAINERS: &[Entry] = &[
    ("annotations", Kind::List),
    ("apparmor_profile", Kind::Ignored),
    ("base_hosts_file", Kind::Text),
    ("cgroup_conf", Kind::List),
    ("cgroupns", Kind::Text),
    ("cgroups", Kind::Text),
    ("container_name_as_hostname", Kind::Truth),
    ("default_capabilities", Kind::List),
    ("default_sysctls", Kind::List),
    ("default_ulimits", Kind::List),
    ("devices", Kind::List),
    ("dns_options", Kind::List),
    ("dns_searches", Kind::List),
    ("dns_servers", Kind::List),
    ("enable_keyring", Kind::Ignored),
    ("enable_labeling", Kind::Ignored),
    ("env", Kind::List),
    ("env_host", Kind::Truth),
    ("host_containers_internal_ip", Kind::Text),
    ("http_proxy", Kind::Truth),
    ("init", Kind::Truth),
    ("init_path", Kind::Ignored),
    ("interface_name", Kind::Ignored),
    ("ipcns", Kind::Text),
    ("keyring", Kind::Ignored),
    ("label", Kind::Ignored),
    ("label_users", Kind::Ignored),
    ("log_driver", Kind::Text),
    ("log_path", Kind::Text),
    ("log_size_max", Kind::Number),
    ("log_tag", Kind::Text),
    ("mounts", Kind::List),
    ("netns", Kind::Text),
    ("no_hosts", Kind::Truth),
    ("oom_score_adj", Kind::Number),
    ("pidns", Kind::Text),
    ("pids_limit", Kind::Number),
    ("prepare_volume_on_create", Kind::Ignored),
    ("privileged", Kind::Truth),
    ("read_only", Kind::Truth),
    ("rootless_networking", Kind::Ignored),
    ("seccomp_profile", Kind::Text),
    ("shm_size", Kind::Text),
    ("tz", Kind::Text),
    ("umask", Kind::Text),
    ("userns", Kind::Text),
    ("userns_size", Kind::Ignored),
    ("utsns", Kind::Text),
    ("volumes", Kind::List),
];

const ENGINE: &[Entry] = &[
    ("active_service", Kind::Ignored),
    ("add_compression", Kind::Ignored),
    ("cdi_spec_dirs", Kind::Ignored),
    ("cgroup_manager", Kind::Ignored),
    ("chown_copied_files", Kind::Ignored),
    ("compat_api_enforce_docker_hub", Kind::Ignored),
    ("compose_providers", Kind::Ignored),
    ("compose_warning_logs", Kind::Ignored),
    ("compression_format", Kind::Ignored),
    ("compression_level", Kind::Ignored),
    ("conmon_env_vars", Kind::Ignored),
    ("conmon_path", Kind::Ignored),
    ("conmonrs_path", Kind::Ignored),
    ("database_backend", Kind::Ignored),
    ("detach_keys", Kind::Text),
    ("enable_port_reservation", Kind::Ignored),
    ("env", Kind::Ignored),
    ("events_container_create_inspect_data", Kind::Ignored),
    ("events_logfile_max_size", Kind::Ignored),
    ("events_logfile_path", Kind::Ignored),
    ("events_logger", Kind::Ignored),
    ("exit_command_delay", Kind::Ignored),
    ("healthcheck_events", Kind::Ignored),
    ("helper_binaries_dir", Kind::Ignored),
    ("hooks_dir", Kind::Ignored),
    ("image_build_format", Kind::Ignored),
    ("image_copy_tmp_dir", Kind::Ignored),
    ("image_default_format", Kind::Ignored),
    ("image_default_transport", Kind::Text),
    ("image_parallel_copies", Kind::Ignored),
    ("image_volume_mode", Kind::Text),
    ("infra_command", Kind::Text),
    ("infra_image", Kind::Text),
    // podman has no such key: it belongs into kelp.conf.
    ("keep_storage", Kind::Text),
    ("kernel_memory", Kind::Ignored),
    ("kube_generate_type", Kind::Ignored),
    ("lock_type", Kind::Ignored),
    ("machine_enabled", Kind::Ignored),
    ("multi_image_archive", Kind::Ignored),
    ("namespace", Kind::Ignored),
    ("network_cmd_options", Kind::Ignored),
    ("network_cmd_path", Kind::Ignored),
    ("no_pivot_root", Kind::Ignored),
    ("num_locks", Kind::Ignored),
    ("platform_to_oci_runtime", Kind::Ignored),
    ("pod_exit_policy", Kind::Text),
    ("pull_policy", Kind::Text),
    ("remote", Kind::Ignored),
    ("retry", Kind::Number),
    ("retry_delay", Kind::Text),
    ("runtime", Kind::Text),
    ("runtime_supports_json", Kind::Ignored),
    ("runtime_supports_kvm", Kind::Ignored),
    ("runtime_supports_nocgroups", Kind::Ignored),
    ("runtimes", Kind::Lists),
    ("runtimes_flags", Kind::Lists),
    ("service_destinations", Kind::Ignored),
    ("service_timeout", Kind::Ignored),
    ("set_options", Kind::Ignored),
    ("ssh_config", Kind::Ignored),
    ("static_dir", Kind::Ignored),
    ("stop_timeout", Kind::Number),
    ("tmp_dir", Kind::Ignored),
    ("volume_path", Kind::Ignored),
    ("volume_plugin_timeout", Kind::Ignored),
    ("volume_plugins", Kind::Ignored),
];

const NETWORK: &[Entry] = &[
    ("cni_plugin_dirs", Kind::Ignored),
    ("default_network", Kind::Ignored),
    ("default_rootless_network_cmd", Kind::Ignored),
    ("default_subnet", Kind::Ignored),
    ("default_subnet_pools", Kind::Ignored),
    ("dns_bind_port", Kind::Ignored),
    ("firewall_driver", Kind::Ignored),
    ("netavark_plugin_dirs", Kind::Ignored),
    ("network_backend", Kind::Ignored),
    ("network_config_dir", Kind::Ignored),
    ("pasta_options", Kind::List),
];

/// podman has no such table: it belongs into kelp.conf.
const STORAGE: &[Entry] = &[("additional_image_stores", Kind::List)];

const TABLES: &[(&str, &[Entry])] = &[
    ("containers", CONTAINERS),
    ("engine", ENGINE),
    ("network", NETWORK),
    ("storage", STORAGE),
];

/// Tables that are about other programs than one that runs containers.
const OTHERS: &[&str] = &["configmaps", "farms", "machine", "podmansh", "secrets"];

/// Whether the keys of a table are known.
pub(crate) fn is_table(table: &str) -> bool {
    TABLES.iter().any(|(name, _)| *name == table)
}

/// Whether a table is of no meaning to kelp.
pub(crate) fn is_others(table: &str) -> bool {
    OTHERS.contains(&table)
}

/// A key and its kind.
pub(crate) fn find(table: &str, key: &str) -> Option<(&'static str, &'static str, Kind)> {
    let (table, keys) = TABLES.iter().find(|(name, _)| *name == table)?;
    let (key, kind) = keys.iter().find(|(name, _)| *name == key)?;
    Some((table, key, *kind))
}
