//! Flags about limits.

use anyhow::{Context, bail};
use kelp_config::Conf;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::CgroupMode;

use super::limits::LimitFlags;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct ResourceFlags {
    #[command(flatten)]
    limits: LimitFlags,
    /// Write a file of the container's cgroup: FILE=VALUE
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// The cgroup or slice that the container's cgroup is made in
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// How soon the kernel kills it for memory, from -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
}

impl ResourceFlags {
    /// Limits of processes, for which no cgroup is needed.
    pub(super) fn apply_to_processes(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.ulimits = self.limits.of_processes()?;
        options.oom_score_adj = self.oom_score_adj;
        Ok(())
    }

    /// Limits of the cgroup; whether there is one is settled.
    pub(super) fn apply(&self, options: &mut CreateOptions, conf: &Conf) -> anyhow::Result<()> {
        self.parent(options)?;
        let has_cgroup = options.cgroups.mode != CgroupMode::Disabled;
        let pids = conf
            .number("containers", "pids_limit")
            .filter(|_| has_cgroup);
        let pids = pids.map(|limit| limit.value);
        let mut limits = self.limits.of_cgroup()?;
        limits.pids = limits.pids.or(pids);
        if let (true, Some(list)) = (has_cgroup, conf.list("containers", "cgroup_conf")) {
            for text in list.each() {
                let (file, value) = text.read(|text| {
                    let pair = text.split_once('=');
                    let pair = pair.map(|(file, value)| (file.to_owned(), value.to_owned()));
                    pair.with_context(|| format!("invalid cgroup_conf {text:?}: it is FILE=VALUE"))
                })?;
                limits.unified.insert(file, value);
            }
        }
        for text in &self.cgroup_conf {
            let (file, value) = text
                .split_once('=')
                .with_context(|| format!("invalid --cgroup-conf {text:?}: it is FILE=VALUE"))?;
            limits.unified.insert(file.to_owned(), value.to_owned());
        }
        options.resources = limits.to_oci()?;
        if !has_cgroup && options.resources.is_some() {
            bail!(
                "--cgroups=disabled leaves no place for limits of memory, processors and the like"
            );
        }
        Ok(())
    }

    fn parent(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        let Some(parent) = &self.cgroup_parent else {
            return Ok(());
        };
        if matches!(
            options.cgroups.mode,
            CgroupMode::Disabled | CgroupMode::Split
        ) {
            bail!("--cgroup-parent cannot be used together with --cgroups=disabled or split");
        }
        if parent.split('/').any(|part| part == "..") {
            bail!("invalid --cgroup-parent {parent:?}: it leads upwards");
        }
        options.cgroups.parent.clone_from(parent);
        Ok(())
    }
}
