//! `history`: how an image came to be, step by step.

use kelp_image::store::ImageRecord;
use oci_spec::image::History;

use crate::image::list::Image;
use crate::{Engine, Error};

/// A step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The image's id, at the last step; how the image was before has none.
    pub id: Option<String>,
    /// When, as the image says (RFC 3339).
    pub created: Option<String>,
    /// What made it.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// The bytes of its layer; 0 for a step that only changed the config.
    pub size: u64,
    /// The image's names, down to the step that made its topmost layer.
    pub names: Vec<String>,
}

impl Engine {
    /// The steps of an image's making, the last first; none where the image does not tell.
    pub fn image_history(&self, image: &Image) -> Result<Vec<Step>, Error> {
        let store = self.store()?;
        let config = store.config(&image.record)?;
        let sizes = store.layer_sizes(&image.record);
        let history = config.history().as_deref().unwrap_or_default();
        Ok(steps(&image.record, &image.names, history, &sizes))
    }
}

fn steps(record: &ImageRecord, names: &[String], history: &[History], sizes: &[u64]) -> Vec<Step> {
    let mut sizes = sizes.iter();
    let mut steps = Vec::with_capacity(history.len());
    for entry in history {
        let has_layer = !entry.empty_layer().unwrap_or(false);
        steps.push((
            has_layer,
            Step {
                created: entry.created().clone(),
                created_by: entry.created_by().clone().unwrap_or_default(),
                comment: entry.comment().clone().unwrap_or_default(),
                // An image may tell of fewer layers than it has, or of more.
                size: has_layer
                    .then(|| sizes.next().copied())
                    .flatten()
                    .unwrap_or(0),
                ..Step::default()
            },
        ));
    }
    steps.reverse();
    if let Some((_, last)) = steps.first_mut() {
        last.id = Some(record.id.hex().to_owned());
    }
    for (has_layer, step) in &mut steps {
        step.names = names.to_vec();
        if *has_layer {
            break;
        }
    }
    steps.into_iter().map(|(_, step)| step).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::image::HistoryBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_go_to_the_steps_that_made_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let record: ImageRecord = serde_json::from_value(json!({
            "id": digest, "manifest": digest, "media_type": "", "os": "linux",
            "architecture": "amd64", "size": 30, "layers": [],
        }))
        .unwrap();
        let entry = |by: &str, empty: bool| {
            let entry = HistoryBuilder::default().created_by(by).empty_layer(empty);
            entry.build().unwrap()
        };
        let history = [
            entry("ADD", false),
            entry("ENV", true),
            entry("COPY", false),
            entry("CMD", true),
        ];
        let names = ["localhost/a:1".to_owned()];
        let told = |sizes: &[u64]| {
            let steps = steps(&record, &names, &history, sizes).into_iter();
            let told = steps.map(|step| {
                (
                    step.created_by,
                    step.size,
                    step.id.is_some(),
                    step.names.len(),
                )
            });
            told.collect::<Vec<_>>()
        };
        let expected = |copy, add| {
            [
                ("CMD".to_owned(), 0, true, 1),
                ("COPY".to_owned(), copy, false, 1),
                ("ENV".to_owned(), 0, false, 0),
                ("ADD".to_owned(), add, false, 0),
            ]
        };
        assert_eq!(told(&[10, 20]), expected(20, 10));
        assert_eq!(told(&[10]), expected(0, 10));
        assert_eq!(told(&[10, 20, 30]), expected(20, 10));
    }
}
