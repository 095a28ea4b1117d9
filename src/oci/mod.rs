//! `kelp-runtime`: the command line of a low-level runtime, as runc has it.
//!
//! It parses and prints; kelp-oci does.

mod events;
mod exec;
mod list;
mod log;
mod run;
mod spec;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::error::ErrorKind;
use clap::{Args, FromArgMatches, Parser, Subcommand};
use kelp_args::Signal;
use kelp_format::units;
use kelp_oci::sockets::{self, Sockets};
use kelp_oci::{ConsoleSocket, CreateOptions, Root, Terminal};

use crate::cli::output;
use log::{Format, Log};

/// Runs OCI bundles.
#[derive(Parser)]
#[command(name = "kelp-runtime", version, disable_version_flag = true)]
struct Runtime {
    /// Print versions
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Global {
    /// Where the state of containers is kept
    #[arg(long, value_name = "DIRECTORY", global = true)]
    root: Option<PathBuf>,
    /// A file that gets what is complained of as well
    #[arg(long, value_name = "FILE", global = true)]
    log: Option<PathBuf>,
    /// How it is written there: text or json
    #[arg(long, value_name = "FORMAT", global = true, default_value = "text")]
    log_format: Format,
    /// Taken for runc's sake; there is no more to tell
    #[arg(long, global = true)]
    debug: bool,
    /// Have systemd make the cgroups; cgroupsPath is then SLICE:PREFIX:NAME
    #[arg(long, global = true)]
    systemd_cgroup: bool,
    /// Taken for runc's sake: what an ordinary user can do is found out
    #[arg(id = "for-an-ordinary-user", long = "rootless", value_name = "BOOL", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true")]
    rootless: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a container that waits to be started
    Create(Create),
    /// Start a container that was created
    Start(One),
    /// Create a container, start it, wait for its end and delete it
    Run(Run),
    /// Print a container's state
    State(One),
    /// Send a signal to a container
    Kill(Kill),
    /// Remove a container that has ended
    Delete(Delete),
    /// Add a process to a container
    Exec(exec::Args),
    /// List containers
    List(list::Args),
    /// List a container's processes
    Ps(Ps),
    /// Freeze a container
    Pause(One),
    /// Thaw a container
    Resume(One),
    /// Change a container's limits
    Update(update::Args),
    /// Tell what a container uses, and when memory runs out in it
    Events(events::Args),
    /// Write a specification to begin with
    Spec(spec::Args),
    /// Tell what this runtime can do
    Features,
}

#[derive(Args)]
struct One {
    /// The container's id
    id: String,
}

#[derive(Args)]
struct Create {
    #[command(flatten)]
    made: Made,
    /// The container's id
    id: String,
}

/// What `create` and `run` have in common.
#[derive(Args)]
struct Made {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIRECTORY", default_value = ".")]
    bundle: PathBuf,
    /// A socket that gets the outer end of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// A file that gets the number of the first process
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// How many descriptors after standard error are passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// Taken for runc's sake: the root is always entered by pivot_root(2)
    #[arg(long)]
    no_pivot: bool,
    /// Taken for runc's sake: no session keyring is made
    #[arg(long)]
    no_new_keyring: bool,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    made: Made,
    /// Return once it runs
    #[arg(short, long)]
    detach: bool,
    /// Leave the container's state there after its end
    #[arg(long)]
    keep: bool,
    /// The container's id
    id: String,
}

#[derive(Args)]
struct Kill {
    /// Send it to every process of the container
    #[arg(short, long)]
    all: bool,
    /// The container's id
    id: String,
    /// The signal's name or number; 0 asks whether it runs
    #[arg(default_value = "SIGTERM", value_parser = signal)]
    signal: i32,
}

#[derive(Args)]
struct Delete {
    /// Kill it first, and don't complain if there is none
    #[arg(short, long)]
    force: bool,
    /// The container's id
    id: String,
}

#[derive(Args)]
struct Ps {
    /// How: table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// The container's id
    id: String,
    /// Options of ps(1)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// The grammar with that verb alone that a word names: to set up the arguments of all the others takes longer
/// than to parse.
fn alone(word: &OsString) -> Option<clap::Command> {
    fn grammar<A: Args>(verb: &'static str) -> clap::Command {
        let verb = A::augment_args(clap::Command::new(verb));
        Global::augment_args(clap::Command::new("kelp-runtime")).subcommand(verb)
    }
    Some(match word.to_str()? {
        "create" => grammar::<Create>("create"),
        "start" => grammar::<One>("start"),
        "run" => grammar::<Run>("run"),
        "state" => grammar::<One>("state"),
        "kill" => grammar::<Kill>("kill"),
        "delete" => grammar::<Delete>("delete"),
        "exec" => grammar::<exec::Args>("exec"),
        _ => return None,
    })
}

/// Parses the command line. A word that names a verb may be something else's value, so what goes wrong is seen by
/// the whole grammar once more.
fn parse() -> Result<Runtime, clap::Error> {
    let words: Vec<_> = std::env::args_os().collect();
    let verb = words.iter().skip(1).find_map(alone);
    let matches = verb.and_then(|grammar| grammar.try_get_matches_from(&words).ok());
    match matches.map(|matches| Runtime::from_arg_matches(&matches)) {
        Some(Ok(runtime)) => Ok(runtime),
        _ => Runtime::try_parse_from(words),
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let runtime = match parse() {
        Ok(runtime) => runtime,
        Err(error) => return usage(&error),
    };
    let log = Log::new(runtime.global.log.clone(), runtime.global.log_format);
    // A program may well end with 1: as by runc, 255 is that there was none.
    let failure = match runtime.verb {
        Verb::Exec(_) => ExitCode::from(255),
        _ => ExitCode::FAILURE,
    };
    match Root::open(runtime.global.root.as_deref())
        .map_err(anyhow::Error::from)
        .and_then(|root| act(&root, runtime, &log))
    {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Err(error) => {
            let text = line(&error);
            log.error(&text);
            output::note(format_args!("kelp-runtime: {text}"));
            failure
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::DisplayVersion {
        // In the form of runc's, which Docker reads.
        let versions = format!(
            "kelp-runtime version {}\nspec: {}",
            env!("CARGO_PKG_VERSION"),
            kelp_oci::OCI_VERSION
        );
        let _ = output::line(versions);
        return ExitCode::SUCCESS;
    }
    if !error.use_stderr() {
        let _ = output::text(error.to_string());
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // What is wrong may take several lines; the usage comes after an empty one.
    let lines = text.lines().take_while(|line| !line.is_empty());
    let lines: Vec<_> = lines.map(str::trim).collect();
    output::note(format_args!(
        "kelp-runtime: {}: see --help",
        lines.join(" ")
    ));
    ExitCode::FAILURE
}

fn line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<kelp_oci::Error>() {
        Some(error) => error.line(),
        None => kelp_oci::one_line(error.as_ref()),
    }
}

fn act(root: &Root, runtime: Runtime, log: &Log) -> anyhow::Result<i32> {
    let systemd = runtime.global.systemd_cgroup;
    if let Verb::Create(_) | Verb::Run(_) | Verb::Exec(_) = runtime.verb {
        // Nobody executes it once the verb is done.
        kelp_oci::protect_program(None)?;
    }
    match runtime.verb {
        Verb::Create(args) => {
            let container =
                root.create(&args.id, &args.made.options(systemd, Terminal::Nobody)?)?;
            log.warn(&container.notes);
        }
        Verb::Start(One { id }) => root.container(&id)?.start()?,
        Verb::Run(args) => {
            let terminal = if args.detach {
                Terminal::Nobody
            } else {
                Terminal::Own
            };
            let options = args.made.options(systemd, terminal)?;
            return run::run(root, &args.id, &options, args.detach, args.keep, log);
        }
        Verb::State(One { id }) => {
            let state = root.container(&id)?.state()?;
            output::line(serde_json::to_string_pretty(&state)?)?;
        }
        Verb::Kill(args) => root.container(&args.id)?.kill(args.signal, args.all)?,
        Verb::Delete(args) => log.warn(&root.delete(&args.id, args.force)?),
        Verb::Exec(args) => return exec::run(root, args),
        Verb::List(args) => list::run(root, &args)?,
        Verb::Ps(args) => return list::ps(&root.container(&args.id)?, &args.format, args.options),
        Verb::Pause(One { id }) => root.container(&id)?.pause(true)?,
        Verb::Resume(One { id }) => root.container(&id)?.pause(false)?,
        Verb::Update(args) => update::run(root, &args)?,
        Verb::Events(args) => events::run(root, &args)?,
        Verb::Spec(args) => spec::run(&args)?,
        Verb::Features => output::line(serde_json::to_string_pretty(&kelp_oci::features())?)?,
    }
    Ok(0)
}

impl Made {
    /// `terminal` says who has one without --console-socket.
    fn options(self, systemd: bool, terminal: Terminal) -> anyhow::Result<CreateOptions> {
        let _ = (self.no_pivot, self.no_new_keyring);
        let sockets = Sockets::of_this_process();
        let listened = sockets
            .as_ref()
            .map_or(0, |sockets| i32::from(sockets.count));
        check_open(i32::from(self.preserve_fds) + listened)?;
        Ok(CreateOptions {
            bundle: self.bundle,
            terminal: match self.console_socket {
                Some(path) => Terminal::Socket(ConsoleSocket::open(&path)?),
                None => terminal,
            },
            pid_file: self.pid_file,
            preserved_fds: i32::from(self.preserve_fds) + listened,
            sockets,
            systemd,
            now: units::rfc3339(SystemTime::now()),
        })
    }
}

fn signal(text: &str) -> Result<i32, kelp_args::Error> {
    if text == "0" {
        return Ok(0);
    }
    text.parse().map(Signal::number)
}

/// Refuses to pass on what is not open.
fn check_open(preserved: i32) -> anyhow::Result<()> {
    match sockets::closed(preserved) {
        Some(number) => anyhow::bail!(
            "descriptor {number} is not open: --preserve-fds and LISTEN_FDS count from 3 on"
        ),
        None => Ok(()),
    }
}

/// Whether this is the name of the low-level runtime.
pub fn is_name(program: &OsString) -> bool {
    let path = std::path::Path::new(program);
    path.file_name().is_some_and(|name| name == "kelp-runtime")
}
