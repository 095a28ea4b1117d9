//! Finding an image by what a user calls it.

use super::{ImageRecord, Store};
use crate::Error;
use crate::digest::Digest;
use crate::reference::{DOCKER_HUB, ImageName, Reference};

/// What has a full name.
enum Named {
    /// An image, and its name if it has it as one.
    Image(Box<ImageRecord>, Option<String>),
    /// A manifest list.
    List,
    Nothing,
}

impl Store {
    /// Finds an image by what a user wrote: a name, short or full, or an id or the beginning of one.
    ///
    /// In this order: `sha256:` and an id; the full name; a short name as one made here, then one from
    /// the docker hub, then one of any registry that ends in it; an id. A name with a digest is found
    /// by the digest. A manifest list stands for its image of the host's platform, if that is here.
    pub fn find(&self, name: &str) -> Result<ImageRecord, Error> {
        if let Some((record, _)) = self.find_named(name)? {
            return Ok(record);
        }
        match self.find_by_id(name) {
            Err(Error::NotFound(_)) => self
                .image_of_list(name)?
                .ok_or_else(|| Error::NotFound(name.to_owned())),
            found => found,
        }
    }

    /// Which name of an image a text means; `None` if it means the image itself, or nothing.
    pub fn meant_name(&self, text: &str) -> Result<Option<String>, Error> {
        Ok(self.find_named(text)?.and_then(|(_, meant)| meant))
    }

    /// Finds an image by name alone, and says which of its names was meant.
    pub(crate) fn find_named(
        &self,
        name: &str,
    ) -> Result<Option<(ImageRecord, Option<String>)>, Error> {
        let Ok(name) = ImageName::parse(name) else {
            return Ok(None);
        };
        let candidates = match &name {
            ImageName::Full(reference) => vec![reference.clone()],
            ImageName::Short(short) => vec![
                short.in_registry("localhost"),
                short.in_registry(DOCKER_HUB),
            ],
        };
        for reference in candidates {
            match self.find_reference(&reference)? {
                Named::Image(record, name) => return Ok(Some((*record, name))),
                Named::List => return Ok(None),
                Named::Nothing => {}
            }
        }
        let ImageName::Short(short) = name else {
            return Ok(None);
        };
        let end = match (short.digest(), short.tag()) {
            // A digest is looked for beneath any repository with this end.
            (Some(digest), _) => format!("/{}@{digest}", short.path()),
            (None, tag) => format!("/{}:{}", short.path(), tag.unwrap_or("latest")),
        };
        for tag in self.all_tags()? {
            if tag.reference.ends_with(&end)
                && let Some(record) = self.record(&tag.image)?
            {
                return Ok(Some((record, Some(tag.reference))));
            }
        }
        Ok(None)
    }

    /// The image with exactly this name.
    pub(super) fn image_named(&self, reference: &Reference) -> Result<Option<ImageRecord>, Error> {
        Ok(match self.find_reference(reference)? {
            Named::Image(record, _) => Some(*record),
            Named::List | Named::Nothing => None,
        })
    }

    fn find_reference(&self, reference: &Reference) -> Result<Named, Error> {
        let reference = reference.clone().or_latest().digest_over_tag();
        let name = reference.to_string();
        if let Some(tag) = self.tag_of(&name)? {
            if let Some(record) = self.record(&tag.image)? {
                return Ok(Named::Image(Box::new(record), Some(name)));
            }
            if self.list(&tag.image)?.is_some() {
                return Ok(Named::List);
            }
        }
        if reference.digest().is_some() {
            let known = |record: &ImageRecord| record.repo_digests.contains(&name);
            if let Some(record) = self.records()?.into_iter().find(known) {
                return Ok(Named::Image(Box::new(record), None));
            }
        }
        Ok(Named::Nothing)
    }

    pub(super) fn find_by_id(&self, text: &str) -> Result<ImageRecord, Error> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let unknown = || Error::NotFound(text.to_owned());
        if prefix.is_empty() || prefix.len() > 128 || !prefix.bytes().all(hex) {
            return Err(unknown());
        }
        if let Some(id) = Digest::from_sha256_hex(prefix) {
            return self.record(&id)?.ok_or_else(unknown);
        }
        let mut matches: Vec<Digest> = self.ids()?;
        matches.retain(|id| id.hex().starts_with(prefix));
        match matches.as_slice() {
            [] => Err(unknown()),
            [id] => self.record(id)?.ok_or_else(unknown),
            _ => Err(Error::Ambiguous {
                prefix: text.to_owned(),
                matches,
            }),
        }
    }
}
