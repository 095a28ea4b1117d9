//! `kelp image trust`: which images are accepted.

use std::path::PathBuf;

use clap::Subcommand;
use kelp_engine::Engine;
use kelp_engine::image::trust::Shown;
use kelp_format::{Format, render};
use serde::Serialize;

use super::output;

/// Show and change which images are accepted
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key pair for sigstore signatures: PREFIX.private and PREFIX.pub
    GenerateSigstoreKey {
        /// The beginning of the files' names
        #[arg(long, value_name = "PREFIX")]
        output_prefix: String,
        /// The file whose first line is the private key's passphrase
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
    },
    Set(SetArgs),
    Show(ShowArgs),
}

/// Set what images of a registry, of a part of it, or of any (default) must have
#[derive(clap::Args)]
struct SetArgs {
    /// A file with a public key that must have signed; again for a further one
    #[arg(short = 'f', long, value_name = "FILE")]
    pubkeysfile: Vec<PathBuf>,
    /// The policy to change, instead of the user's
    #[arg(long, value_name = "FILE")]
    signature_policy: Option<PathBuf>,
    /// accept, reject, signedBy or sigstoreSigned
    #[arg(
        short = 't',
        long = "type",
        value_name = "TYPE",
        default_value = "signedBy"
    )]
    kind: String,
    /// The registry, as HOST[:PORT][/PATH], or default
    registry: String,
}

/// Show what images must have
#[derive(clap::Args)]
struct ShowArgs {
    /// Show JSON
    #[arg(short, long, conflicts_with = "raw")]
    json: bool,
    /// Leave the heading out
    #[arg(short = 'n', long)]
    noheading: bool,
    /// Show the file as it is
    #[arg(long)]
    raw: bool,
    /// The policy to show, instead of the user's or the machine's
    #[arg(long, value_name = "FILE")]
    signature_policy: Option<PathBuf>,
    /// Show what has to do with this registry, or with a part of one
    registry: Option<String>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    transport: String,
    name: String,
    r#type: &'static str,
    id: String,
    store: String,
}

const HEADERS: &[(&str, &str)] = &[
    ("Transport", "TRANSPORT"),
    ("Name", "NAME"),
    ("Type", "TYPE"),
    ("Id", "ID"),
    ("Store", "STORE"),
];

/// Runs the command of the group.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    match &args.command {
        Command::GenerateSigstoreKey {
            output_prefix,
            passphrase_file,
        } => engine.generate_sigstore_key(output_prefix, passphrase_file)?,
        Command::Set(args) => {
            let policy = args.signature_policy.as_deref();
            engine.set_trust(policy, &args.registry, &args.kind, &args.pubkeysfile)?;
        }
        Command::Show(args) => show(engine, args)?,
    }
    Ok(0)
}

fn show(engine: &Engine, args: &ShowArgs) -> anyhow::Result<()> {
    let policy = args.signature_policy.as_deref();
    if args.raw {
        output::text(engine.trust_policy(policy)?)?;
        return Ok(());
    }
    let shown = engine.trust(policy, args.registry.as_deref())?;
    if args.json {
        output::line(serde_json::to_string_pretty(&shown)?)?;
        return Ok(());
    }
    let rows: Vec<Row> = shown.into_iter().map(row).collect();
    let columns = "{{.Transport}}\t{{.Name}}\t{{.Type}}\t{{.Id}}\t{{.Store}}";
    let format = Format::parse("", columns);
    output::text(render(&rows, &format, HEADERS, !args.noheading)?)?;
    Ok(())
}

fn row(shown: Shown) -> Row {
    Row {
        transport: shown.transport,
        name: shown.repo_name,
        r#type: shown.kind,
        id: shown.ids,
        store: shown.store,
    }
}
