//! `kelp image inspect`: everything about images.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_format::render::{json, object};
use serde_json::{Map, Value, json as value};

use super::output;

/// Show everything about images
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// The images
    #[arg(required = true)]
    images: Vec<String>,
}

/// Prints each; images that are not here are told of at the end.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut found = Vec::new();
    let mut code = 0;
    for name in &args.images {
        match describe(engine, name) {
            Ok(image) => found.push(image),
            Err(error) => {
                output::error(super::exit::line(&error));
                code = 125;
            }
        }
    }
    match args.format.as_deref() {
        None | Some("json") => output::line(json(&found)?)?,
        Some(template) => {
            for image in &found {
                output::line(object(image, template)?)?;
            }
        }
    }
    Ok(code)
}

/// In podman's words.
pub(super) fn describe(engine: &Engine, name: &str) -> anyhow::Result<Value> {
    let image = engine.image(name)?;
    let config = engine.image_config(&image)?;
    let record = &image.record;
    let layers: Vec<_> = record
        .layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    let document = engine.image_document(&image)?;
    let annotations = match engine.image_annotations(&image)? {
        Value::Null => value!({}),
        annotations => annotations,
    };
    let run = config.config().clone().unwrap_or_default();
    let mut shown = value!({
        "Id": record.id.hex(),
        "Digest": record.manifest.to_string(),
        "RepoTags": image.names,
        "RepoDigests": record.repo_digests,
        "Parent": "",
        "Comment": comment(&document),
        "Created": record.created,
        "Config": run,
        "Version": document["docker_version"].as_str().unwrap_or_default(),
        "Author": config.author().clone().unwrap_or_default(),
        "Architecture": record.architecture,
        "Variant": record.variant,
        "Os": record.os,
        "Size": record.size,
        "VirtualSize": record.size,
        "GraphDriver": graph_driver(&engine.image_directories(&image)?),
        "RootFS": { "Type": "layers", "Layers": layers },
        "Labels": record.labels,
        "Annotations": annotations,
        "ManifestType": record.media_type,
        "User": run.user().clone().unwrap_or_default(),
        "History": config.history(),
        "NamesHistory": image.names,
        "Healthcheck": null,
    });
    if let Some(check) = document.pointer("/config/Healthcheck") {
        shown["Healthcheck"] = check.clone();
    }
    Ok(shown)
}

/// The remark that docker's format has of an image, or else that of the last step of its making.
fn comment(document: &Value) -> &str {
    let own = document["comment"].as_str().filter(|text| !text.is_empty());
    let last = || document["history"].as_array()?.last()?["comment"].as_str();
    own.or_else(last).unwrap_or_default()
}

/// The directories of an image's layers, topmost first, under the names that overlayfs has.
fn graph_driver(layers: &[PathBuf]) -> Value {
    let mut data = Map::new();
    let mut texts = layers.iter().map(|path| path.display().to_string());
    if let Some(top) = texts.next() {
        data.insert("UpperDir".to_owned(), top.into());
    }
    let lower: Vec<_> = texts.collect();
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":").into());
    }
    value!({ "Name": "overlay", "Data": data })
}
