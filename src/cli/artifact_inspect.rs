//! `kelp artifact inspect`: everything about an artifact.

use kelp_engine::Engine;
use kelp_engine::artifact::ArtifactDetails;
use kelp_format::render::{json, object};
use serde_json::{Map, Value, json as value};

use super::output;

/// Show everything about an artifact
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// The artifact
    artifact: String,
}

/// Prints it: one object, and no list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let artifact = engine.artifact(&args.artifact)?;
    match args.format.as_deref().map(str::trim) {
        None | Some("json" | "") => output::line(json(&plain(&artifact))?)?,
        Some(template) => output::line(object(&fields(&artifact), template)?)?,
    }
    Ok(0)
}

fn plain(artifact: &ArtifactDetails) -> Value {
    value!({
        "Manifest": artifact.manifest,
        "Name": artifact.name,
        "Digest": artifact.digest,
    })
}

/// What a template sees: the manifest's fields have the names of the specification's Go types there.
fn fields(artifact: &ArtifactDetails) -> Value {
    let manifest = go_names(&artifact.manifest);
    value!({
        "Artifact": { "Manifest": manifest, "Name": artifact.name },
        "Manifest": manifest,
        "Name": artifact.name,
        "Digest": artifact.digest,
        "TotalSizeBytes": artifact.size,
    })
}

/// The same with names that begin with a capital; the keys of annotations are nobody's.
fn go_names(json: &Value) -> Value {
    match json {
        Value::Object(fields) => Value::Object(fields.iter().map(renamed).collect::<Map<_, _>>()),
        Value::Array(values) => values.iter().map(go_names).collect(),
        other => other.clone(),
    }
}

fn renamed((key, json): (&String, &Value)) -> (String, Value) {
    let name = match key.as_str() {
        "urls" => "URLs".to_owned(),
        "os" => "OS".to_owned(),
        key => {
            let mut letters = key.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    };
    let json = if key == "annotations" {
        json.clone()
    } else {
        go_names(json)
    };
    (name, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_gos_names_and_the_json_the_manifests() {
        let artifact = ArtifactDetails {
            name: "h/a:b".to_owned(),
            digest: "sha256:0".to_owned(),
            size: 7,
            manifest: value!({
                "artifactType": "application/x",
                "layers": [{"mediaType": "text/plain", "annotations": {"a.b": "c"}}],
            }),
        };
        for (template, shown) in [
            ("{{.Manifest.ArtifactType}}", "application/x"),
            ("{{(index .Manifest.Layers 0).MediaType}}", "text/plain"),
            (
                "{{range .Manifest.Layers}}{{index .Annotations \"a.b\"}}{{end}}",
                "c",
            ),
            (
                "{{len .Artifact.Manifest.Layers}} {{.TotalSizeBytes}}",
                "1 7",
            ),
            ("{{.Name}} {{.Digest}}", "h/a:b sha256:0"),
        ] {
            assert_eq!(object(&fields(&artifact), template).unwrap(), shown);
        }
        let text = json(&plain(&artifact)).unwrap();
        assert!(
            text.contains("\"artifactType\"") && !text.contains("TotalSizeBytes"),
            "{text}"
        );
    }
}
