//! `--log-opt tag=`: what a container's entries in the journal are tagged with.

use std::collections::BTreeMap;
use std::str::FromStr;

use kelp_format::template::Template;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;

/// A template that was understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogTag(String);

/// What the template may speak of, by podman's names and docker's.
#[derive(Clone, Copy, Debug)]
pub struct Tagged<'a> {
    /// The container's whole id: `.ID`, `.Id` and `.FullID`.
    pub id: &'a str,
    /// Its name: `.Name`.
    pub name: &'a str,
    /// Its image's name: `.ImageName`.
    pub image: &'a str,
    /// Its image's whole id: `.Image` and `.ImageFullID`, and as far as it is shown `.ImageID`.
    pub image_id: &'a str,
    /// Its labels: `.Config.Labels`.
    pub labels: &'a BTreeMap<String, String>,
}

impl FromStr for LogTag {
    type Err = Error;

    /// A Go template.
    fn from_str(text: &str) -> Result<Self, Error> {
        Template::parse(text).map_err(|error| invalid(text, error))?;
        Ok(Self(text.to_owned()))
    }
}

impl LogTag {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag of a container.
    pub fn of(&self, tagged: &Tagged<'_>) -> Result<String, Error> {
        let value = json!({
            "ID": tagged.id,
            "Id": tagged.id,
            "FullID": tagged.id,
            "Name": tagged.name,
            "ImageName": tagged.image,
            "Image": tagged.image_id,
            "ImageFullID": tagged.image_id,
            "ImageID": tagged.image_id.get(..12).unwrap_or(tagged.image_id),
            "Config": { "Labels": tagged.labels },
        });
        let filled = Template::parse(&self.0).and_then(|template| template.execute(&value));
        filled.map_err(|error| invalid(&self.0, error))
    }
}

fn invalid(text: &str, error: impl std::fmt::Display) -> Error {
    Error::invalid(
        "log tag",
        text,
        format!(
            "{error}: use .Name, .ID, .FullID, .ImageName, .ImageID, .ImageFullID or .Config.Labels"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_speaks_of_the_container() {
        let (id, image_id) = ("a".repeat(64), "b".repeat(64));
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        let tagged = Tagged {
            id: &id,
            name: "web",
            image: "docker.io/library/busybox:latest",
            image_id: &image_id,
            labels: &labels,
        };
        for (template, tag) in [
            ("plain", "plain"),
            (
                "{{.ImageName}}/{{.Name}}",
                "docker.io/library/busybox:latest/web",
            ),
            ("{{.ID}}", &id),
            ("{{.FullID}}", &id),
            ("{{.ImageID}}", "bbbbbbbbbbbb"),
            ("{{.Image}}", &image_id),
            ("{{index .Config.Labels \"tier\"}}", "front"),
        ] {
            let parsed: LogTag = template.parse().unwrap();
            assert_eq!(parsed.of(&tagged).unwrap(), tag, "{template}");
        }
        let unknown: LogTag = "{{.Nothing}}".parse().unwrap();
        let said = unknown.of(&tagged).unwrap_err().to_string();
        assert!(
            said.starts_with("invalid log tag \"{{.Nothing}}\": "),
            "{said}"
        );
        assert!("{{.Name".parse::<LogTag>().is_err());
    }
}
