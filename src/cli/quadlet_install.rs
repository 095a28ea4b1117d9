//! `kelp quadlet install`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::units::Units;
use kelp_quadlet::bundle::{self, Bundle, Input};
use kelp_quadlet::{Kind, Set, store};

use super::{output, quadlet, quadlet_rm};

/// Install Quadlet files, for systemd to make services of
#[derive(clap::Args)]
pub struct Args {
    /// Have systemd read its units anew afterwards
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    reload_systemd: bool,
    /// Replace what is installed already
    #[arg(short, long)]
    replace: bool,
    /// Unit files, files that belong to the unit before them, .quadlets files with many units, or a directory;
    /// or URLs of files
    #[arg(required = true, value_name = "FILE|URL|DIRECTORY")]
    sources: Vec<String>,
}

/// Installs them and prints where they are.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let directory = quadlet::environment().install_dir();
    let Some(directory) = directory else {
        bail!("no directory for units: set HOME or XDG_CONFIG_HOME");
    };
    let bundles = bundles(engine, &args.sources)?;
    // Where there is no systemd, nothing is left half done.
    let mut systemd = args.reload_systemd.then(|| connect(engine)).transpose()?;
    // Nothing is deleted but what is replaced.
    let before = if args.replace {
        quadlet::units().0
    } else {
        Set::default()
    };
    let installed = store::install(&directory, &bundles, args.replace)?;
    for path in &installed.written {
        output::line(path.display())?;
    }
    for path in &installed.deleted {
        output::note(format_args!(
            "{} is deleted: what was replaced had it, and this has not",
            path.display()
        ));
    }
    // Before the reload: systemd still knows how those services end.
    let stopped = stop_deleted(engine, systemd.as_mut(), &before, &installed.deleted);
    if let Some(systemd) = &mut systemd {
        systemd.reload()?;
        engine.tell_of_linger();
    }
    stopped?;
    Ok(0)
}

/// Stops the services of units that are deleted, as `quadlet rm --force` does: nothing would be left to stop them by.
fn stop_deleted(
    engine: &Engine,
    systemd: Option<&mut Units>,
    before: &Set,
    deleted: &[PathBuf],
) -> anyhow::Result<()> {
    let services = quadlet_rm::services(before, deleted);
    if services.is_empty() {
        return Ok(());
    }
    let mut found = None;
    let systemd = match systemd {
        Some(systemd) => systemd,
        None => match engine.units() {
            Ok(units) => found.insert(units),
            // Where there is no systemd, nothing runs by it.
            Err(_) => return Ok(()),
        },
    };
    let others: BTreeSet<_> = quadlet::units().0.iter().map(quadlet_rm::service).collect();
    for service in systemd.running(&services)? {
        // One that another file makes now goes on.
        if others.contains(&service) {
            continue;
        }
        engine.stop_unit(&service)?;
        output::note(format_args!("{service} is stopped: its unit is deleted"));
    }
    Ok(())
}

/// The user's systemd, and what to do without one.
pub fn connect(engine: &Engine) -> anyhow::Result<Units> {
    engine.units().map_err(|error| {
        let line = error.line();
        anyhow::anyhow!("{line}; --reload-systemd=false does without")
    })
}

fn bundles(engine: &Engine, sources: &[String]) -> anyhow::Result<Vec<Bundle>> {
    let mut bundles: Vec<Bundle> = Vec::new();
    for source in sources {
        if Path::new(source).is_dir() {
            bundles.push(bundle::bundle_of_directory(Path::new(source))?);
            continue;
        }
        let is_url = source.starts_with("http://") || source.starts_with("https://");
        let path = source.split(['?', '#']).next().filter(|_| is_url);
        let path = Path::new(path.unwrap_or(source));
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            bail!("{source} has no name of a file");
        };
        let bytes = if is_url {
            engine.fetch(source)?
        } else {
            bundle::read(Path::new(source))?
        };
        if path
            .extension()
            .is_some_and(|extension| extension == "quadlets")
        {
            let text =
                String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{source} is not UTF-8"))?;
            bundles.push(bundle::bundle_of_many(name, &text)?);
            continue;
        }
        let input = Input {
            name: name.to_owned(),
            bytes,
        };
        match (Kind::of(name), bundles.last_mut()) {
            (Some(_), _) => bundles.push(Bundle {
                list: None,
                files: vec![input],
            }),
            (None, Some(before)) => {
                let of = before
                    .files
                    .first()
                    .map(|file| format!("{}.asset", file.name));
                before.list = before.list.take().or(of);
                before.files.push(input);
            }
            (None, None) => {
                bail!("{source} is no unit file, and stands after none: name the unit first")
            }
        }
    }
    Ok(bundles)
}
