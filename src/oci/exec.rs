//! `exec`: another process, as process.json or flags say.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use kelp_oci::{ConsoleSocket, ExecOptions, Root, Terminal};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};

#[derive(clap::Args)]
pub struct Args {
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
    /// An SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// An AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Whether exec gives no privilege
    #[arg(long)]
    no_new_privs: bool,
    /// A capability that it has as well
    #[arg(short, long, value_name = "CAP")]
    cap: Vec<String>,
    /// How many descriptors after standard error are passed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u16,
    /// Also where the container is paused: then it waits until that is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// The container's id
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Adds the process; its exit code, or 0 if it is left running.
pub fn run(root: &Root, args: Args) -> anyhow::Result<i32> {
    super::check_open(args.preserve_fds.into())?;
    let container = root.container(&args.id)?;
    let process = match &args.process {
        Some(path) => {
            ensure!(
                args.command.is_empty(),
                "--process names the program: leave the command out"
            );
            let mut process = kelp_oci::read_process(path)?;
            if args.tty {
                process.set_terminal(Some(true));
            }
            process
        }
        None => of_flags(
            &args,
            container.spec()?.process().clone().unwrap_or_default(),
        )?,
    };
    let terminal = match args.console_socket {
        Some(path) => Terminal::Socket(ConsoleSocket::open(&path)?),
        None if args.detach => Terminal::Nobody,
        None => Terminal::Own,
    };
    Ok(container.exec(&ExecOptions {
        process,
        terminal,
        pid_file: args.pid_file,
        preserved_fds: args.preserve_fds.into(),
        detach: args.detach,
        although_paused: args.ignore_paused,
    })?)
}

/// The container's process, changed by the flags.
fn of_flags(args: &Args, mut process: Process) -> anyhow::Result<Process> {
    ensure!(
        !args.command.is_empty(),
        "no program: name it after the container's id, or give --process"
    );
    process.set_args(Some(args.command.clone()));
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in &args.env {
        let name = entry
            .split_once('=')
            .map_or(entry.as_str(), |(name, _)| name);
        env.retain(|old| old.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if args.process_label.is_some() {
        process.set_selinux_label(args.process_label.clone());
    }
    if args.apparmor.is_some() {
        process.set_apparmor_profile(args.apparmor.clone());
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

fn with(mut sets: LinuxCapabilities, names: &[String]) -> anyhow::Result<LinuxCapabilities> {
    for name in names {
        let upper = name.to_ascii_uppercase();
        let known: Capability = serde_json::from_value(upper.clone().into())
            .or_else(|_| serde_json::from_value(format!("CAP_{upper}").into()))
            .with_context(|| format!("invalid --cap {name:?}: no such capability"))?;
        let plus = |set: &Option<Capabilities>| {
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
