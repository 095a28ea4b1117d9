//! Which OCI runtime makes a container: podman's global flags, which docker has after the command.

use kelp_config::Conf;
use kelp_engine::runtime::{Foreign, find, flag};

const ENGINE: &str = "engine";

/// The flags.
#[derive(clap::Args, Debug, Default)]
pub struct RuntimeFlags {
    /// The OCI runtime that makes containers: kelp, a name such as crun, or a path
    #[arg(long, value_name = "NAME|PATH")]
    runtime: Option<String>,
    /// A flag for that runtime, without dashes: log=FILE
    #[arg(long, value_name = "FLAG")]
    runtime_flag: Vec<String>,
}

impl RuntimeFlags {
    /// These, and what they leave open as it stood before the command.
    pub fn over(&self, before: &Self) -> Self {
        let flags = before.runtime_flag.iter().chain(&self.runtime_flag);
        Self {
            runtime: self.runtime.as_ref().or(before.runtime.as_ref()).cloned(),
            runtime_flag: flags.cloned().collect(),
        }
    }

    /// The runtime that they or the configuration name; `None` for kelp's own.
    pub fn choose(&self, conf: &Conf) -> anyhow::Result<Option<Foreign>> {
        let usual = conf.text(ENGINE, "runtime");
        let name = match (&self.runtime, &usual) {
            (Some(name), _) => name,
            (None, Some(usual)) => &usual.value,
            (None, None) if self.runtime_flag.is_empty() => return Ok(None),
            (None, None) => kelp_engine::runtime::OWN,
        };
        let configured = conf.entry(ENGINE, "runtimes", name);
        let more = conf.entry(ENGINE, "runtimes_flags", name);
        let flags = more.iter().flat_map(|more| &more.value);
        let flags = flags.chain(&self.runtime_flag).map(|text| flag(text));
        let flags: Vec<_> = flags.collect();
        let places = configured.as_ref().map(|places| places.value.as_slice());
        let found = || find(name, flags, places).map_err(|error| error.line());
        match (&self.runtime, &usual) {
            (None, Some(usual)) => Ok(usual.read(|_| found())?),
            _ => found().map_err(anyhow::Error::msg),
        }
    }
}
