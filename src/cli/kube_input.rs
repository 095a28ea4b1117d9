//! Reading Kubernetes YAML: from files, standard input and URLs.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use kelp_engine::Engine;
use kelp_engine::fetch::is_url;
use kelp_kube::{Documents, Sources, Stream, parse};

use super::output;

/// Reads the config maps of files that are there for pods of others.
pub fn config_maps(paths: &[PathBuf]) -> anyhow::Result<Sources> {
    let mut known = Sources::default();
    for path in paths {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        let stream = Stream {
            name: &shown,
            text: &text,
        };
        let found = parse(&[stream], &known)?;
        let is_other = !found.pods.is_empty() || !found.claims.is_empty();
        if is_other || found.sources.config_maps.len() == known.config_maps.len() {
            anyhow::bail!("{shown}: a file for --configmap has ConfigMaps, and nothing else");
        }
        known.config_maps = found.sources.config_maps;
    }
    Ok(known)
}

/// Reads all that is named as one; `known` counts for its pods too.
pub fn read(engine: &Engine, names: &[String], known: &Sources) -> anyhow::Result<Documents> {
    let texts = names
        .iter()
        .map(|name| text(engine, name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let several = names.len() > 1;
    let streams: Vec<_> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| Stream {
            name: if several { name } else { "" },
            text,
        })
        .collect();
    let documents = parse(&streams, known)?;
    for passed in &documents.passed {
        let (document, why) = (&passed.document, passed.why);
        output::note(format_args!("{document} is passed over: {why}"));
    }
    let has_any = !documents.pods.is_empty()
        || !documents.claims.is_empty()
        || !documents.secrets.is_empty()
        || documents.sources.config_maps.len() > known.config_maps.len();
    if !has_any {
        anyhow::bail!("YAML document does not contain any supported kube kind");
    }
    Ok(documents)
}

fn text(engine: &Engine, name: &str) -> anyhow::Result<String> {
    if is_url(name) {
        return Ok(engine.fetch_text(name)?);
    }
    if name == "-" {
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.context("read standard input")?;
        return Ok(text);
    }
    fs::read_to_string(name).with_context(|| format!("read {name}"))
}
