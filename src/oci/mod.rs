//! `kelp-runtime`: the command line of a low-level runtime, as runc has it.
//!
//! It parses and prints; kelp-oci does.

mod features;
mod list;
mod log;
mod run;
mod spec;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kelp_args::Signal;
use kelp_format::units;
use kelp_oci::{ConsoleSocket, CreateOptions, ExecOptions, Root};
use oci_spec::runtime::{LinuxResources, Process};

use crate::cli::output;
use log::{Format, Log};

/// Runs OCI bundles.
#[derive(Parser)]
#[command(name = "kelp-runtime", version, disable_help_subcommand = true)]
struct Runtime {
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
    Exec(Exec),
    /// List containers
    List(list::Args),
    /// List a container's processes
    Ps(Ps),
    /// Freeze a container
    Pause(One),
    /// Thaw a container
    Resume(One),
    /// Change a container's limits
    Update(Update),
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
    /// The signal's name or number
    #[arg(default_value = "SIGTERM")]
    signal: Signal,
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
struct Exec {
    /// A socket that gets the outer end of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// The working directory
    #[arg(long, value_name = "DIRECTORY")]
    cwd: Option<PathBuf>,
    /// A variable: NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// The ids: UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Further groups, by number
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A file with the process, as process.json
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["cwd", "env", "user", "cap"])]
    process: Option<PathBuf>,
    /// Return once it runs
    #[arg(short, long)]
    detach: bool,
    /// A file that gets its number
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Whether exec gives no privilege
    #[arg(long)]
    no_new_privs: bool,
    /// A capability that it has as well
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// How many descriptors after standard error are passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// The container's id
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
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

#[derive(Args)]
struct Update {
    /// A file with linux.resources; - for standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Bytes of memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<i64>,
    /// Bytes of memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<i64>,
    /// Bytes of memory that are reclaimed last
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<i64>,
    /// Microseconds of a processor in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// The share of the processors against others
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// The processors it may use
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// How many processes it may have
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The container's id
    id: String,
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let runtime = match Runtime::try_parse_from(std::env::args_os()) {
        Ok(runtime) => runtime,
        Err(error) => return usage(&error),
    };
    let log = Log::new(runtime.global.log.clone(), runtime.global.log_format);
    match Root::open(runtime.global.root.as_deref())
        .map_err(anyhow::Error::from)
        .and_then(|root| act(&root, runtime))
    {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(255)),
        Err(error) => {
            let text = line(&error);
            log.error(&text);
            output::note(format_args!("kelp-runtime: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = output::text(error.to_string());
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    output::note(format_args!(
        "kelp-runtime: {}: see --help",
        text.lines().next().unwrap_or_default().trim_end()
    ));
    ExitCode::FAILURE
}

fn line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<kelp_oci::Error>() {
        Some(error) => error.line(),
        None => format!("{error:#}").replace('\n', " "),
    }
}

fn act(root: &Root, runtime: Runtime) -> anyhow::Result<i32> {
    let systemd = runtime.global.systemd_cgroup;
    match runtime.verb {
        Verb::Create(args) => {
            root.create(&args.id, &args.made.options(systemd)?)?;
        }
        Verb::Start(One { id }) => root.container(&id)?.start()?,
        Verb::Run(args) => {
            let options = args.made.options(systemd)?;
            return run::run(root, &args.id, &options, args.detach, args.keep);
        }
        Verb::State(One { id }) => {
            let state = root.container(&id)?.state()?;
            output::line(serde_json::to_string_pretty(&state)?)?;
        }
        Verb::Kill(args) => root
            .container(&args.id)?
            .kill(args.signal.number(), args.all)?,
        Verb::Delete(args) => root.delete(&args.id, args.force)?,
        Verb::Exec(args) => return exec(root, args),
        Verb::List(args) => list::run(root, &args)?,
        Verb::Ps(args) => return list::ps(&root.container(&args.id)?, &args.format, args.options),
        Verb::Pause(One { id }) => root.container(&id)?.pause(true)?,
        Verb::Resume(One { id }) => root.container(&id)?.pause(false)?,
        Verb::Update(args) => update(root, args)?,
        Verb::Spec(args) => spec::run(&args)?,
        Verb::Features => output::line(serde_json::to_string_pretty(&features::features())?)?,
    }
    Ok(0)
}

impl Made {
    fn options(self, systemd: bool) -> anyhow::Result<CreateOptions> {
        let _ = (self.no_pivot, self.no_new_keyring);
        Ok(CreateOptions {
            bundle: self.bundle,
            console: self
                .console_socket
                .map(|path| ConsoleSocket::open(&path))
                .transpose()?,
            pid_file: self.pid_file,
            preserved_fds: self.preserve_fds.into(),
            systemd,
            now: units::rfc3339(SystemTime::now()),
        })
    }
}

fn exec(root: &Root, args: Exec) -> anyhow::Result<i32> {
    let container = root.container(&args.id)?;
    let process = match &args.process {
        Some(path) => {
            anyhow::ensure!(
                args.command.is_empty(),
                "--process names the program: leave the command out"
            );
            kelp_oci::read_process(path)?
        }
        None => of_flags(
            &args,
            container.spec()?.process().clone().unwrap_or_default(),
        )?,
    };
    Ok(container.exec(&ExecOptions {
        process,
        console: args
            .console_socket
            .map(|path| ConsoleSocket::open(&path))
            .transpose()?,
        pid_file: args.pid_file,
        preserved_fds: args.preserve_fds.into(),
        detach: args.detach,
    })?)
}

/// The container's process, changed by the flags.
fn of_flags(args: &Exec, mut process: Process) -> anyhow::Result<Process> {
    anyhow::ensure!(
        !args.command.is_empty(),
        "no program: name it after the container's id, or give --process"
    );
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut user = process.user().clone();
    if let Some(text) = &args.user {
        let (uid, gid) = text.split_once(':').unwrap_or((text, ""));
        let number = |text: &str| {
            text.parse::<u32>()
                .with_context(|| format!("invalid --user {text:?}: it is UID[:GID], by number"))
        };
        user.set_uid(number(uid)?);
        user.set_gid(if gid.is_empty() { 0 } else { number(gid)? });
    }
    if !args.additional_gids.is_empty() {
        user.set_additional_gids(Some(args.additional_gids.clone()));
    }
    process.set_user(user);
    if !args.cap.is_empty() {
        let capabilities = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with(capabilities, &args.cap)?));
    }
    Ok(process)
}

fn with(
    mut sets: oci_spec::runtime::LinuxCapabilities,
    names: &[String],
) -> anyhow::Result<oci_spec::runtime::LinuxCapabilities> {
    for name in names {
        let upper = name.to_ascii_uppercase();
        let known: oci_spec::runtime::Capability = serde_json::from_value(upper.clone().into())
            .or_else(|_| serde_json::from_value(format!("CAP_{upper}").into()))
            .with_context(|| format!("invalid --cap {name:?}: no such capability"))?;
        let plus = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(known);
            Some(set)
        };
        let (bounding, effective, permitted) = (
            plus(sets.bounding()),
            plus(sets.effective()),
            plus(sets.permitted()),
        );
        sets.set_bounding(bounding)
            .set_effective(effective)
            .set_permitted(permitted);
    }
    Ok(sets)
}

fn update(root: &Root, args: Update) -> anyhow::Result<()> {
    let container = root.container(&args.id)?;
    let mut resources = match &args.resources {
        None => LinuxResources::default(),
        Some(path) if path.as_os_str() == "-" => serde_json::from_reader(std::io::stdin())
            .context("standard input is no linux.resources")?,
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?
        }
    };
    let mut memory = resources.memory().unwrap_or_default();
    for (value, set) in [
        (args.memory, 0),
        (args.memory_swap, 1),
        (args.memory_reservation, 2),
    ] {
        match (value, set) {
            (None, _) => {}
            (value, 0) => drop(memory.set_limit(value)),
            (value, 1) => drop(memory.set_swap(value)),
            (value, _) => drop(memory.set_reservation(value)),
        }
    }
    resources.set_memory(Some(memory));
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    if args.cpu_quota.is_some() {
        cpu.set_quota(args.cpu_quota);
    }
    if args.cpu_period.is_some() {
        cpu.set_period(args.cpu_period);
    }
    if args.cpu_share.is_some() {
        cpu.set_shares(args.cpu_share);
    }
    if args.cpuset_cpus.is_some() {
        cpu.set_cpus(args.cpuset_cpus);
    }
    if args.cpuset_mems.is_some() {
        cpu.set_mems(args.cpuset_mems);
    }
    resources.set_cpu(Some(cpu));
    if let Some(limit) = args.pids_limit {
        let mut pids = resources.pids().unwrap_or_default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(container.update(&resources)?)
}

/// Whether this is the name of the low-level runtime.
pub fn is_name(program: &OsString) -> bool {
    let path = std::path::Path::new(program);
    path.file_name().is_some_and(|name| name == "kelp-runtime")
}
