//! `kelp doctor`: what this host lacks, and how to get it.

use kelp_engine::Engine;
use kelp_engine::doctor::Level;
use serde_json::json;

use super::output;

/// Check what this host offers to containers, and tell how to get what is missing
#[derive(clap::Args)]
pub struct Args {
    /// json, for programs
    #[arg(long, value_name = "FORMAT", value_parser = ["json", "text"], default_value = "text")]
    format: String,
}

/// Prints a line a check; 1 if containers can't run.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let checks = engine.doctor();
    let word = |level| match level {
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    };
    if args.format == "json" {
        let list: Vec<_> = checks
            .iter()
            .map(|check| {
                json!({
                    "Name": check.name,
                    "Level": word(check.level),
                    "Found": check.found,
                    "Fix": check.fix,
                })
            })
            .collect();
        output::line(kelp_format::render::json(&list)?)?;
    } else {
        for check in &checks {
            output::line(format_args!(
                "{:<5} {}: {}",
                word(check.level),
                check.name,
                check.found
            ))?;
            if !check.fix.is_empty() {
                output::line(format_args!("      {}", check.fix))?;
            }
        }
    }
    Ok(i32::from(
        checks.iter().any(|check| check.level == Level::Fail),
    ))
}
