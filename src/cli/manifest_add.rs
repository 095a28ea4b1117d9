//! `kelp manifest add`: an image into a list.

use kelp_engine::Engine;
use kelp_engine::image::manifest::{AddRequest, EntryChanges};

use super::manifest::annotations;
use super::output;
use super::pull_flags::AccessFlags;

/// What an entry of a list says.
#[derive(clap::Args, Debug)]
pub struct EntryFlags {
    /// An annotation of the entry: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// The architecture
    #[arg(long)]
    arch: Option<String>,
    /// What the processor has to have
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
    /// The operating system
    #[arg(long)]
    os: Option<String>,
    /// What the operating system has to have
    #[arg(long, value_delimiter = ',')]
    os_features: Vec<String>,
    /// The operating system's version
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// The variant of the architecture
    #[arg(long)]
    variant: Option<String>,
}

impl EntryFlags {
    /// The engine's request.
    pub fn changes(self) -> anyhow::Result<EntryChanges> {
        Ok(EntryChanges {
            annotations: annotations(&self.annotation)?,
            os: self.os,
            arch: self.arch,
            variant: self.variant,
            os_version: self.os_version,
            os_features: self.os_features,
            features: self.features,
        })
    }
}

/// Add an image to a manifest list
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    entry: EntryFlags,
    /// Add all images of what is a list itself
    #[arg(long)]
    all: bool,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// The list
    list: String,
    /// The image: one that is here or in a registry, or oci:, oci-archive:, docker-archive: or dir: and a path
    image: String,
}

/// Adds the image and prints the list's id.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let mut request = AddRequest {
        all: args.all,
        changes: args.entry.changes()?,
        access: args.access.request(),
    };
    request.access.credentials = args.creds;
    output::line(engine.add_to_list(&args.list, &args.image, &request)?)?;
    Ok(0)
}
