//! `kelp stats`: what containers use, again and again or once.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use kelp_engine::container::statistics::{Sample, Usage};
use kelp_engine::{ContainerId, Engine, Kind};
use kelp_format::render::json;
use kelp_format::{Format, render};
use rustix::termios::isatty;

use super::output;
use super::stats_row::{Json, Row};

/// Show what containers use
#[derive(clap::Args)]
pub struct Args {
    /// Show containers that don't run as well
    #[arg(short, long)]
    all: bool,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5)]
    interval: u32,
    /// Use the container that was created last
    #[arg(short, long)]
    latest: bool,
    #[command(flatten)]
    stream: StreamFlags,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids of containers; without any, those that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Whether it is looked again, and what becomes of what was shown.
#[derive(clap::Args)]
pub struct StreamFlags {
    /// Leave what was shown before on the screen
    #[arg(long)]
    no_reset: bool,
    /// Look once, and end
    #[arg(long)]
    no_stream: bool,
}

impl StreamFlags {
    /// Shows what `look` makes, again and again or once, until it says that there is no more to come.
    pub fn show(
        &self,
        interval: Duration,
        mut look: impl FnMut() -> anyhow::Result<(String, bool)>,
    ) -> anyhow::Result<i32> {
        let clears = !self.no_stream && !self.no_reset && isatty(rustix::stdio::stdout());
        loop {
            let (text, is_last) = look()?;
            // Clears the screen and goes to its corner (console_codes(4)).
            let corner = if clears { "\x1b[2J\x1b[H" } else { "" };
            output::text(format!("{corner}{text}"))?;
            if self.no_stream || is_last {
                return Ok(0);
            }
            thread::sleep(interval);
        }
    }
}

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}\t{{.UpTime}}\t{{.AVGCPU}}";

const HEADERS: &[(&str, &str)] = &[
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemUsageBytes", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("UpTime", "CPU TIME"),
    ("Up", "CPU TIME"),
    ("AVGCPU", "AVG CPU %"),
    ("CPUPressureSome", "CPU SOME %"),
    ("CPUPressureFull", "CPU FULL %"),
    ("MemPressureSome", "MEM SOME %"),
    ("MemPressureFull", "MEM FULL %"),
    ("IOPressureSome", "IO SOME %"),
    ("IOPressureFull", "IO FULL %"),
];

/// Which containers are looked at.
enum Chosen {
    Every { all: bool },
    Named(Vec<ContainerId>),
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut chosen = choose(engine, args)?;
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    let mut before: HashMap<ContainerId, Usage> = HashMap::new();
    let interval = Duration::from_secs(args.interval.max(1).into());
    args.stream.show(interval, || {
        let samples = look(engine, &mut chosen)?;
        let text = text(args, &format, &samples, &before)?;
        let used = samples.into_iter();
        before = used.filter_map(|it| Some((it.id, it.usage?))).collect();
        let is_last = matches!(&chosen, Chosen::Named(ids) if ids.is_empty());
        Ok((text, is_last))
    })
}

fn choose(engine: &Engine, args: &Args) -> anyhow::Result<Chosen> {
    if u8::from(args.all) + u8::from(args.latest) + u8::from(!args.containers.is_empty()) > 1 {
        bail!("--all, --latest and containers cannot be used together");
    }
    if args.latest {
        return Ok(Chosen::Named(vec![engine.latest_container()?]));
    }
    if args.containers.is_empty() {
        return Ok(Chosen::Every { all: args.all });
    }
    let mut ids: Vec<ContainerId> = Vec::new();
    for name in &args.containers {
        let id = engine.find_container(name)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(Chosen::Named(ids))
}

/// Looks at them; one that has been removed is looked at no more.
fn look(engine: &Engine, chosen: &mut Chosen) -> anyhow::Result<Vec<Sample>> {
    let ids = match chosen {
        Chosen::Every { all } => return Ok(engine.sample_containers(*all)),
        Chosen::Named(ids) => ids,
    };
    let mut samples = Vec::new();
    for id in std::mem::take(ids) {
        match engine.sample_container(&id) {
            Ok(sample) => {
                samples.push(sample);
                ids.push(id);
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(samples)
}

fn text(
    args: &Args,
    format: &Format,
    samples: &[Sample],
    before: &HashMap<ContainerId, Usage>,
) -> anyhow::Result<String> {
    let rows = samples.iter();
    let rows: Vec<_> = rows
        .map(|sample| Row::new(sample, before.get(&sample.id), args.no_trunc))
        .collect();
    if *format == Format::Json {
        let list: Vec<_> = rows.iter().map(Json::new).collect();
        return Ok(json(&list)? + "\n");
    }
    Ok(render(&rows, format, HEADERS, true)?)
}
