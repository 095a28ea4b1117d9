//! `rm`: a container that does not run, or with force one that does, is taken away.

use kelp_state::{ContainerId, Record, liveness, name, trash};

use crate::container::config::Config;
use crate::{Engine, Error, Kind, host, internal};

impl Engine {
    /// Removes a container; with `force` a running one is killed first.
    pub fn remove_container(&self, id: &ContainerId, force: bool) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        let status = self.status(id)?;
        if !status.can_remove() {
            if !force {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "cannot remove container {id} as it is {status} - running or paused \
                         containers cannot be removed without force: container state improper"
                    ),
                ));
            }
            let _ = self.kill_container(id, 9);
            liveness::wait_until_gone(&record.runtime)?;
        }
        if !record.data.exists() {
            // A --rm container's monitor was quicker.
            return Ok(());
        }
        // Force is for broken records as well.
        let config = match Config::read(&self.paths, id) {
            Err(_) if force => None,
            result => result?,
        };
        self.discard(&record, config.as_ref())?;
        if let Some(config) = config {
            name::release(&self.paths, &config.name, id);
            self.note("remove", &config);
            if let Some(file) = &config.options.cid_file {
                let _ = std::fs::remove_file(file);
            }
        }
        Ok(())
    }

    /// Removes the record; what its users own is removed from inside its user namespace.
    fn discard(&self, record: &Record, config: Option<&Config>) -> Result<(), Error> {
        if trash::discard(&self.paths, record).is_ok() {
            return Ok(());
        }
        let mode = config
            .map(|config| config.options.namespaces.user.clone())
            .unwrap_or_default();
        let userns = self.user_namespace(host::id_map(&mode)?)?;
        let place = self.paths.data.join("trash").join(record.id.as_str());
        let place = place.to_string_lossy();
        let child = internal::spawn(&["discard", &place], &userns, Vec::new())?;
        let exit = kelp_sys::process::wait_pidfd(std::os::fd::AsFd::as_fd(&child.pidfd))
            .map_err(Error::io("wait for `kelp internal discard`"))?;
        if exit.code() == 0 {
            return Ok(());
        }
        Err(Error::new(
            Kind::Failed,
            format!("remove {place}: some of it could not be removed"),
        ))
    }
}
