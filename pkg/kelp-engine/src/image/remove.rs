//! `rmi`, `tag` and `untag`.

use kelp_image::Digest;
use kelp_image::reference::{ImageName, Reference};
pub use kelp_image::store::Removal;
use kelp_image::store::{Image, Retag};
use kelp_state::Record;

use crate::container::config::Config;
use crate::container::remove::RemoveOptions;
use crate::{Engine, Error, Kind};

impl Engine {
    /// Removes an image or one of its names: by its id with `all_names` whatever names it has, and with
    /// `containers` also those that use it.
    pub fn remove_image(
        &self,
        name: &str,
        all_names: bool,
        containers: bool,
    ) -> Result<Removal, Error> {
        if let Some(removal) = self.remove_list(name, all_names)? {
            return Ok(removal);
        }
        let store = self.store()?;
        if containers {
            let record = store.find(name)?;
            let by_id = store.meant_name(name)?.is_none();
            let goes = by_id && all_names || store.names(&record.id)?.len() <= 1;
            // What is in a read-only store can't go, and so nobody has to make way.
            let goes = goes && store.read_only(&record.id).is_none();
            for config in self.users_of(record.id.hex())?.iter().filter(|_| goes) {
                self.remove_container(&config.id, &RemoveOptions::FORCE)?;
            }
            if goes {
                self.forget_image_mount(record.id.hex())?;
            }
        }
        let record = store.find(name)?;
        let removal = store.remove(name, all_names, &|id| self.user_names(id))?;
        self.note_removal(record.id.hex(), &removal);
        self.remove_image_trees(&removal.trash)?;
        Ok(removal)
    }

    /// Removes images and lists that have no name, with `all` images that no container is made from as well,
    /// and what interrupted commands have left; the ids of the images and lists. What is not `meant` stays.
    pub fn prune_images(
        &self,
        all: bool,
        meant: &dyn Fn(&Image) -> bool,
    ) -> Result<Vec<String>, Error> {
        let store = self.store()?;
        let mut removed = Vec::new();
        let mut images = self.images()?;
        // What a list names is needed until that is gone.
        images.sort_by_key(|image| !image.record.is_list());
        for image in images {
            let id = &image.record.id;
            if !all && !image.names.is_empty() || !meant(&image) {
                continue;
            }
            if let Some(removal) = store.prune(id, all, &|id| self.user_names(id))? {
                self.note_removal(id.hex(), &removal);
                self.remove_trees(&removal.trash)?;
                removed.push(id.hex().to_owned());
            }
        }
        self.collect_garbage()?;
        Ok(removed)
    }

    /// Notes that an image is gone, and each name that was taken away.
    pub(crate) fn note_removal(&self, id: &str, removal: &Removal) {
        if removal.deleted.is_some() {
            let name = removal.untagged.first();
            self.note_image("remove", id, name.map_or("", String::as_str));
        }
        for name in &removal.untagged {
            self.note_image("untag", id, name);
        }
    }

    /// What to call the containers that are made from an image, and who has it mounted.
    pub(crate) fn user_names(&self, id: &Digest) -> Result<Vec<String>, kelp_image::Error> {
        let mut names = container_names(self.users_of(id.hex()))?;
        names.extend(self.image_mounts(id.hex()));
        Ok(names)
    }

    /// The containers that are made from an image, or have it mounted.
    pub(crate) fn users_of(&self, image: &str) -> Result<Vec<Config>, Error> {
        self.containers_that(&|config| {
            config.image_id == image || config.options.mounted_images.iter().any(|id| id == image)
        })
    }

    /// The containers that use something.
    pub(crate) fn containers_that(
        &self,
        use_it: &dyn Fn(&Config) -> bool,
    ) -> Result<Vec<Config>, Error> {
        let mut users = Vec::new();
        for record in Record::all(&self.paths) {
            let config = Config::read(&self.paths, &record.id)?;
            users.extend(config.filter(use_it));
        }
        Ok(users)
    }

    /// Gives an image another name.
    pub fn tag_image(&self, name: &str, new: &str) -> Result<(), Error> {
        let store = self.store()?;
        if let Some((list, _)) = store.find_list(name)? {
            store.name_list(&list.id, &reference(new)?)?;
            self.note_image("tag", list.id.hex(), new);
            return Ok(());
        }
        let record = store.find(name)?;
        store.tag(&record.id, &reference(new)?, Retag::Move)?;
        self.note_image("tag", record.id.hex(), new);
        Ok(())
    }

    /// Takes names away from an image; all of them where none is given.
    pub fn untag_image(&self, name: &str, names: &[String]) -> Result<(), Error> {
        let store = self.store()?;
        let id = match store.find_list(name)? {
            Some((list, _)) => list.id,
            None => store.find(name)?.id,
        };
        let known = store.names(&id)?;
        let texts = if names.is_empty() { &known } else { names };
        let mut meant = Vec::new();
        for text in texts {
            let full = reference(text)?;
            if !known.contains(&full.clone().or_latest().to_string()) {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("{text} is no name of image {}", id.short()),
                ));
            }
            meant.push(full);
        }
        for full in meant {
            store.untag(&full)?;
            self.note_image("untag", id.hex(), &full.or_latest().to_string());
        }
        Ok(())
    }
}

/// What to call the containers that use something, for the store, which keeps it then.
pub(crate) fn container_names(
    users: Result<Vec<Config>, Error>,
) -> Result<Vec<String>, kelp_image::Error> {
    let users = users.map_err(|error| kelp_image::Error::Conflict(error.line()))?;
    let names = users.iter();
    Ok(names
        .map(|config| format!("container {}", config.id.short()))
        .collect())
}

/// The full name of what a user calls an image of theirs: a short name is one of `localhost`.
pub(crate) fn reference(name: &str) -> Result<Reference, Error> {
    Ok(
        match ImageName::parse(name).map_err(kelp_image::Error::from)? {
            ImageName::Full(reference) => reference,
            ImageName::Short(short) => short.in_registry("localhost"),
        },
    )
}
