//! `kelp image …`: the image commands under their group's name.

use clap::Subcommand;
use kelp_engine::Engine;

use super::{
    diff, history, image_inspect, image_mount, image_prune, image_referrers, image_sign,
    image_tree, image_trust, images, import, import_from, load, pull, push, rmi, save, search, tag,
};

/// Manage images
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Diff(diff::ImageArgs),
    /// Tell by the exit code whether an image is here
    Exists {
        /// The image
        image: String,
    },
    History(history::Args),
    Import(import::Args),
    ImportFrom(import_from::Args),
    Inspect(image_inspect::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Load(load::Args),
    Mount(image_mount::Args),
    Prune(image_prune::Args),
    Pull(pull::Args),
    Push(push::Args),
    Referrers(image_referrers::Args),
    #[command(visible_aliases = ["remove"])]
    Rm(rmi::Args),
    Save(save::Args),
    Search(search::Args),
    Sign(image_sign::Args),
    Tag(tag::TagArgs),
    Trust(image_trust::Args),
    Tree(image_tree::Args),
    #[command(visible_alias = "umount")]
    Unmount(image_mount::UnmountArgs),
    Untag(tag::UntagArgs),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Diff(args) => diff::run_on_image(engine, &args),
        Command::Exists { image } => Ok(i32::from(!engine.image_exists(&image)?)),
        Command::History(args) => history::run(engine, &args),
        Command::Import(args) => import::run(engine, args),
        Command::ImportFrom(args) => import_from::run(engine, &args),
        Command::Inspect(args) => image_inspect::run(engine, &args),
        Command::Ls(args) => images::run(engine, &args),
        Command::Load(args) => load::run(engine, args),
        Command::Mount(args) => image_mount::run(engine, args),
        Command::Prune(args) => image_prune::run(engine, &args),
        Command::Pull(args) => pull::run(engine, args),
        Command::Push(args) => push::run(engine, &args),
        Command::Referrers(args) => image_referrers::run(engine, &args),
        Command::Rm(args) => rmi::run(engine, args),
        Command::Save(args) => save::run(engine, args),
        Command::Search(args) => search::run(engine, &args),
        Command::Sign(args) => image_sign::run(engine, &args),
        Command::Tag(args) => tag::tag(engine, &args),
        Command::Trust(args) => image_trust::run(engine, &args),
        Command::Tree(args) => image_tree::run(engine, &args),
        Command::Unmount(args) => image_mount::unmount(engine, args),
        Command::Untag(args) => tag::untag(engine, &args),
    }
}
