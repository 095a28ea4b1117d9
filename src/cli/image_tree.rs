//! `kelp image tree`: the layers of an image, and which images end at them.

use std::fmt::Write;

use kelp_engine::Engine;
use kelp_engine::image::tree::TreeLayer;
use kelp_format::units;

use super::output;

/// Show the layers of an image
#[derive(clap::Args)]
pub struct Args {
    /// Show what other images have on top of it
    #[arg(long)]
    whatrequires: bool,
    /// The image
    image: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let image = engine.image(&args.image)?;
    let mut text = format!(
        "Image ID: {}\nTags:     [{}]\nSize:     {}\nImage Layers\n",
        image.record.id.short(),
        image.names.join(" "),
        units::docker_size(image.record.size)
    );
    let layers = if args.whatrequires {
        engine.image_offspring(&image)?.into_iter().collect()
    } else {
        engine.image_tree(&image)?
    };
    draw(&mut text, &layers, "");
    output::text(text)?;
    Ok(0)
}

/// Draws layers, and what is on top of each below it.
fn draw(text: &mut String, layers: &[TreeLayer], indent: &str) {
    for (index, layer) in layers.iter().enumerate() {
        let (branch, inner) = if index + 1 == layers.len() {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        let id: String = layer.id.chars().take(12).collect();
        let size = units::docker_size(layer.size);
        let _ = write!(text, "{indent}{branch}ID: {id} Size: {size:>7}");
        if !layer.names.is_empty() {
            let _ = write!(text, " Top Layer of: [{}]", layer.names.join(" "));
        }
        text.push('\n');
        draw(text, &layer.above, &format!("{indent}{inner}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let layer = |id: &str, size, names: &[&str], above| TreeLayer {
            id: id.repeat(32),
            size,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            above,
        };
        let top = vec![
            layer("b", 0, &[], vec![layer("c", 9728, &["x", "y"], vec![])]),
            layer("d", 1_996_800, &[], vec![]),
        ];
        let mut text = String::new();
        draw(&mut text, &[layer("a", 10, &["z"], top)], "");
        assert_eq!(
            text,
            "└── ID: aaaaaaaaaaaa Size:     10B Top Layer of: [z]\n    \
             ├── ID: bbbbbbbbbbbb Size:      0B\n    \
             │   └── ID: cccccccccccc Size: 9.728kB Top Layer of: [x y]\n    \
             └── ID: dddddddddddd Size: 1.997MB\n"
        );
    }
}
