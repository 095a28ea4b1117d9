//! `kelp quadlet rm`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use kelp_engine::Engine;
use kelp_quadlet::store::{self, Removal};
use kelp_quadlet::{Set, Source, load};

use super::{exit, output, quadlet, quadlet_install};

/// Remove Quadlet files; with one of an application, all of it
#[derive(clap::Args)]
pub struct Args {
    /// Remove every one that is installed
    #[arg(short, long, conflicts_with = "quadlets")]
    all: bool,
    /// Stop services that run, and remove their files as well
    #[arg(short, long)]
    force: bool,
    /// It is no error if one is not there
    #[arg(short, long)]
    ignore: bool,
    /// Have systemd read its units anew afterwards
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    reload_systemd: bool,
    /// Unit files by name, or applications
    #[arg(required_unless_present = "all")]
    quadlets: Vec<String>,
}

/// Removes them and prints the names of the units.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let Some(directory) = quadlet::environment().install_dir() else {
        bail!("no directory of units: set HOME or XDG_CONFIG_HOME");
    };
    let mut systemd = if args.reload_systemd {
        Some(quadlet_install::connect(engine)?)
    } else {
        engine.units().ok()
    };
    let (directories, _) = quadlet::environment().directories();
    let (set, _) = load(&directories);
    let mut names = args.quadlets.clone();
    if args.all {
        let installed = set.iter().filter(|unit| unit.path.starts_with(&directory));
        names.extend(installed.map(|unit| unit.name.clone()));
    }
    let (mut code, mut gone) = (0, BTreeSet::new());
    for name in names.iter().filter(|name| !name.is_empty()) {
        if gone.contains(name) {
            continue;
        }
        let removed = match removal(&set, &directories, &directory, name) {
            Ok(Some((below, removal))) => {
                remove(engine, systemd.as_mut(), &set, args.force, &below, &removal)
            }
            Ok(None) if args.ignore => continue,
            Ok(None) => Err(anyhow::anyhow!("no such Quadlet: {name}")),
            Err(error) => Err(error),
        };
        match removed {
            Ok(names) => {
                for name in names {
                    output::line(&name)?;
                    gone.insert(name);
                }
            }
            Err(error) => {
                output::error(exit::line(&error));
                code = 125;
            }
        }
    }
    if let Some(systemd) = systemd.as_mut().filter(|_| args.reload_systemd) {
        systemd.reload()?;
    }
    Ok(code)
}

/// What a name stands for, and the directory that its list would be in.
fn removal(
    set: &Set,
    directories: &[PathBuf],
    directory: &Path,
    name: &str,
) -> anyhow::Result<Option<(PathBuf, Removal)>> {
    if let Some(removal) = store::removal(directory, name)? {
        return Ok(Some((directory.to_owned(), removal)));
    }
    let Some(unit) = set.get(name) else {
        return Ok(None);
    };
    // In a directory of the user's own, or in somebody else's.
    if !unit.path.starts_with(directory) {
        bail!(
            "{name} is not the user's own: it is {}",
            unit.path.display()
        );
    }
    let own: Vec<_> = directories
        .iter()
        .filter(|own| own.starts_with(directory))
        .cloned()
        .collect();
    let beside = || {
        let below = unit.path.parent().unwrap_or(directory);
        (below.to_owned(), name.to_owned())
    };
    let app = store::application(&unit.path, &own);
    let (below, name) = app.map_or_else(beside, |app| (app.directory, app.name));
    let removal = store::removal(&below, &name)?;
    Ok(removal.map(|removal| (below, removal)))
}

/// Removes files whose services don't run; the units' names.
fn remove(
    engine: &Engine,
    systemd: Option<&mut kelp_engine::units::Units>,
    set: &Set,
    force: bool,
    directory: &Path,
    removal: &Removal,
) -> anyhow::Result<Vec<String>> {
    let names = removal
        .units
        .iter()
        .filter_map(|path| path.file_name()?.to_str());
    let names: Vec<_> = names.map(str::to_owned).collect();
    if let Some(systemd) = systemd {
        let services = services(set, &removal.units);
        let mut running = match systemd.running(&services) {
            Ok(running) => running,
            Err(error) if force => {
                output::note(format_args!(
                    "Warning: {}: nothing is stopped",
                    error.line()
                ));
                Vec::new()
            }
            Err(error) => bail!("{}; --force deletes the files all the same", error.line()),
        };
        // An instance of a template may have a file of its own, and stay.
        let others = set
            .iter()
            .filter(|unit| !removal.units.contains(&unit.path));
        let others: BTreeSet<_> = others.map(service).collect();
        running.retain(|service| !others.contains(service));
        if !force && let Some(service) = running.first() {
            bail!("{service} is running: stop it, or use --force");
        }
        for service in &running {
            engine.stop_unit(service)?;
        }
    }
    removal.run(directory)?;
    Ok(names)
}

/// The services of units' files. One that another file of its name hides has none.
pub(super) fn services(set: &Set, units: &[PathBuf]) -> Vec<String> {
    let units = set.iter().filter(|unit| units.contains(&unit.path));
    units.map(service).collect()
}

/// The service of a unit's file.
pub(super) fn service(unit: &Source) -> String {
    format!("{}.service", unit.service())
}
