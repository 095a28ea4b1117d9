//! `kelp secret inspect`.

use kelp_engine::Engine;
use kelp_engine::secret::Secret;
use kelp_format::units;
use serde_json::{Value, json};

use super::{exit, inspect, output};

/// Show everything about secrets
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long, conflicts_with = "pretty")]
    format: Option<String>,
    /// Print a list for people
    #[arg(long)]
    pretty: bool,
    /// Show the values as well
    #[arg(long)]
    showsecret: bool,
    /// The secrets: names, ids or the beginning of those
    #[arg(required = true)]
    secrets: Vec<String>,
}

const PRETTY: &str = "ID:                {{.ID}}
Name:              {{.Spec.Name}}
{{- if .Spec.Labels}}
Labels:
{{- range $key, $value := .Spec.Labels}}
 - {{$key}}{{if $value}}={{$value}}{{end}}
{{- end}}{{end}}
Driver:            {{.Spec.Driver.Name}}
Created at:        {{.CreatedAt}}
Updated at:        {{.UpdatedAt}}
{{- if .SecretData}}
Secret:            {{.SecretData}}
{{- end}}";

/// Prints each; what is not here is told of at the end.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for text in &args.secrets {
        match describe(engine, text, args.showsecret) {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error),
        }
    }
    let format = if args.pretty {
        // What is not shown is not there for a template.
        for value in found.iter_mut().filter(|_| !args.showsecret) {
            value["SecretData"] = "".into();
        }
        Some(PRETTY)
    } else {
        args.format.as_deref()
    };
    inspect::print(format, &found)?;
    for error in &errors {
        output::error(exit::line(error));
    }
    Ok(if errors.is_empty() { 0 } else { 125 })
}

fn describe(engine: &Engine, text: &str, shows: bool) -> anyhow::Result<Value> {
    if !shows {
        return Ok(shown(engine, &engine.find_secret(text)?));
    }
    let (secret, data) = engine.secret_value(text)?;
    let mut value = shown(engine, &secret);
    value["SecretData"] = String::from_utf8_lossy(&data).into();
    Ok(value)
}

/// In podman's words.
fn shown(engine: &Engine, secret: &Secret) -> Value {
    json!({
        "ID": secret.id,
        "CreatedAt": units::rfc3339_local(secret.created),
        "UpdatedAt": units::rfc3339_local(secret.updated),
        "Spec": {
            "Name": secret.name,
            "Driver": {
                "Name": "file",
                "Options": { "path": engine.secrets_directory().display().to_string() },
            },
            "Labels": secret.labels,
        },
    })
}
