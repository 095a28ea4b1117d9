//! `kelp logs`: what containers wrote.

use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;

use kelp_engine::container::logs::{Line, LogRequest, LogSink, Stream};
use kelp_engine::{ContainerId, Engine, Error};

use super::output::Patient;
use super::selection::report;
use super::time_argument;

/// Show the output of containers
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: LogFlags,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "containers")]
    latest: bool,
    /// Names or IDs of containers
    #[arg(value_name = "CONTAINER", required_unless_present = "latest")]
    containers: Vec<String>,
}

/// What is shown, and how.
#[derive(clap::Args)]
pub struct LogFlags {
    /// Go on until the container has ended
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines, this many of them; -1 or all for every line
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "all",
        allow_negative_numbers = true
    )]
    tail: String,
    /// Only what was written since TIME, or for a span such as 10m, since so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what was written until TIME
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Show the name of the container in front of each line
    #[arg(short, long)]
    names: bool,
    /// Show the names of containers in colors
    #[arg(long)]
    color: bool,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut ids = args
        .containers
        .iter()
        .map(|name| engine.find_container(name))
        .collect::<Result<Vec<_>, _>>()?;
    if args.latest {
        ids.push(engine.latest_container()?);
    }
    show(engine, &args.flags, &ids)
}

/// Shows what these containers wrote; the exit code.
pub fn show(engine: &Engine, args: &LogFlags, ids: &[ContainerId]) -> anyhow::Result<i32> {
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(time_argument::parse)
            .transpose()
            .map_err(anyhow::Error::msg)
    };
    let request = LogRequest {
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: time(&args.since)?,
        until: time(&args.until)?,
    };
    let is_many = ids.len() > 1;
    let mut outputs = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let mut prefix = match (args.names, is_many) {
            (true, _) => format!("{} ", engine.config(id)?.name),
            (false, true) => format!("{} ", id.short()),
            (false, false) => String::new(),
        };
        if args.color && !prefix.is_empty() {
            // Colors 31 to 36: black and white may be the terminal's own (console_codes(4)).
            prefix = format!("\x1b[{}m{prefix}\x1b[0m", 31 + number % 6);
        }
        outputs.push((id, Output::new(prefix, args.timestamps, is_many)));
    }
    if !(is_many && args.follow) {
        for (id, mut output) in outputs {
            engine.read_logs(id, &request, &mut output)?;
        }
        return Ok(0);
    }
    let errors = std::thread::scope(|scope| {
        let read = |id: &ContainerId, mut output: Output| -> Result<(), Error> {
            engine.read_logs(id, &request, &mut output)
        };
        let running: Vec<_> = outputs
            .into_iter()
            .map(|(id, output)| scope.spawn(move || read(id, output)))
            .collect();
        running
            .into_iter()
            .filter_map(|thread| match thread.join() {
                Ok(result) => result.err(),
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    Ok(report(engine, errors))
}

fn tail(text: &str) -> anyhow::Result<Option<u64>> {
    match text {
        "all" | "-1" => Ok(None),
        number => match number.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => anyhow::bail!("invalid number of lines \"{text}\""),
        },
    }
}

/// Writes lines to the stream that they came from.
struct Output {
    prefix: String,
    timestamps: bool,
    /// Others write too: a line goes out whole, and at once.
    shared: bool,
    stdout: BufWriter<Patient<BorrowedFd<'static>>>,
    stderr: BufWriter<Patient<BorrowedFd<'static>>>,
    last: Stream,
}

impl Output {
    fn new(prefix: String, timestamps: bool, shared: bool) -> Self {
        Self {
            prefix,
            timestamps,
            shared,
            stdout: BufWriter::with_capacity(64 << 10, Patient(rustix::stdio::stdout())),
            stderr: BufWriter::with_capacity(64 << 10, Patient(rustix::stdio::stderr())),
            last: Stream::Stdout,
        }
    }
}

impl LogSink for Output {
    fn line(&mut self, line: &Line<'_>) -> io::Result<()> {
        if line.stream != self.last {
            // Both may lead to one terminal: the order stays.
            self.idle()?;
            self.last = line.stream;
        }
        let mut text = Vec::with_capacity(line.text.len() + 64);
        if line.begins {
            text.extend_from_slice(self.prefix.as_bytes());
            if self.timestamps {
                text.extend_from_slice(line.time.as_bytes());
                text.push(b' ');
            }
        }
        text.extend_from_slice(line.text);
        // Of several containers, what is unfinished would otherwise run into another's line.
        if line.ends || self.shared {
            text.push(b'\n');
        }
        // Held until the line is out, in pieces where the reader is slow.
        let _whole = self.shared.then(|| io::stdout().lock());
        match line.stream {
            Stream::Stdout => self.stdout.write_all(&text)?,
            Stream::Stderr => self.stderr.write_all(&text)?,
        }
        if self.shared { self.idle() } else { Ok(()) }
    }

    fn idle(&mut self) -> io::Result<()> {
        self.stdout.flush()?;
        self.stderr.flush()
    }
}
