//! `kelp tag` and `kelp untag`: further names of an image.

use kelp_engine::Engine;

/// Add names to an image
#[derive(clap::Args)]
pub struct TagArgs {
    /// The image
    image: String,
    /// The new names
    #[arg(required = true)]
    names: Vec<String>,
}

/// Take names away from an image
#[derive(clap::Args)]
pub struct UntagArgs {
    /// The image
    image: String,
    /// The names; all of them if none is given
    names: Vec<String>,
}

/// Adds the names.
pub fn tag(engine: &Engine, args: &TagArgs) -> anyhow::Result<i32> {
    for name in &args.names {
        engine.tag_image(&args.image, name)?;
    }
    Ok(0)
}

/// Takes the names away.
pub fn untag(engine: &Engine, args: &UntagArgs) -> anyhow::Result<i32> {
    engine.untag_image(&args.image, &args.names)?;
    Ok(0)
}
