//! `rename`: another name for a container, also while it runs.

use kelp_monitor::Launch;
use kelp_state::file::{self, Durability};
use kelp_state::{ContainerId, Record, name};

use crate::{Engine, Error};

impl Engine {
    /// Gives a container another name.
    pub fn rename_container(&self, id: &ContainerId, new: &str) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        let _changing = self.changing(&record)?;
        let mut config = self.config(id)?;
        if config.name == new {
            return Err(kelp_state::Error::NameInUse {
                name: new.to_owned(),
                id: id.to_string(),
            }
            .into());
        }
        name::reserve(&self.paths, new, id)?;
        let old = std::mem::replace(&mut config.name, new.to_owned());
        let written = (|| {
            // The monitor's copy goes first: config.json is what says the name.
            let path = record.data.join("launch.json");
            if let Some(mut launch) = file::read_json::<Launch>(&path)? {
                new.clone_into(&mut launch.name);
                file::write_json(&path, &launch, Durability::None)?;
            }
            file::write_json(
                &record.data.join("config.json"),
                &config,
                Durability::Synced,
            )
        })();
        if let Err(error) = written {
            name::release(&self.paths, new, id);
            return Err(error.into());
        }
        name::release(&self.paths, &old, id);
        self.note("rename", &config);
        Ok(())
    }
}
