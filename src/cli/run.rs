//! `kelp run`: create, start, attach, wait.

use kelp_args::{DetachKeys, RestartPolicy};
use kelp_engine::sockets::Sockets;
use kelp_engine::terminal::{End, Options, Other, Session};
use kelp_engine::{Engine, Kind};

use super::create_flags::{CreateFlags, Stream, pod};
use super::output;
use super::runtime_flags::RuntimeFlags;

/// Run a command in a new container
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Remove the image as well when the container has ended, unless another one uses it
    #[arg(long)]
    rmi: bool,
    /// Pass signals on to the container
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sig_proxy: bool,
    /// Pass so many descriptors after standard error on to the program
    #[arg(long, value_name = "NUMBER", default_value_t)]
    preserve_fds: u16,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    create: CreateFlags,
}

impl Args {
    /// Whether the flags can be meant, as far as that is known before anything is done.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_streams()?;
        self.create.check()
    }

    fn check_streams(&self) -> anyhow::Result<()> {
        if self.detach && self.create.names_streams() {
            anyhow::bail!("--attach and --detach exclude each other");
        }
        if self.detach && self.rmi {
            anyhow::bail!(
                "--rmi and --detach exclude each other: nobody waits to remove the image"
            );
        }
        Ok(())
    }
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, runtime: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    args.check_streams()?;
    let (mut options, pull) = args.create.requests(runtime)?;
    if args.rmi && options.restart != RestartPolicy::No {
        anyhow::bail!(
            "--rmi and --restart exclude each other: a container that is gone can't start again"
        );
    }
    options.remove |= args.rmi;
    let image = args.rmi.then(|| options.image.clone());
    let connects = |stream| !args.detach && args.create.attaches(stream);
    let attach = Options {
        stdin: options.interactive && connects(Stream::Stdin),
        stdout: connects(Stream::Stdout),
        stderr: connects(Stream::Stderr),
        tty: options.tty,
        sig_proxy: args.sig_proxy,
        detach_keys: match &options.detach_keys {
            Some(keys) => keys.parse::<DetachKeys>()?.0,
            None => DetachKeys::default().0,
        },
    };
    output::warn_without_terminal(options.interactive && !args.detach, options.tty);
    if options.rootfs.is_none() {
        engine.ensure_image(&options.image, &pull)?;
    }
    pod::make_new(engine, runtime, &mut options)?;
    let (session, mut pipes) = Session::new(attach)?;
    pipes.preserved_fds = args.preserve_fds;
    pipes.sockets = Sockets::of_this_process();
    pipes.is_main = true;
    let (id, started) = engine.run_container(options, pipes)?;
    if args.detach {
        output::line(id)?;
        return Ok(0);
    }
    let code = match session.run(engine, Other::Container(&id, &started.connection))? {
        End::Exited(code) => code,
        End::Detached => return Ok(0),
        End::Lost => engine.wait_container(&id).unwrap_or(137),
    };
    if let Some(image) = image {
        match engine.remove_image(&image, false, false) {
            Err(error) if error.kind() != Kind::Conflict => return Err(error.into()),
            _ => {}
        }
    }
    Ok(code)
}
