//! `kelp login` and `kelp logout`: credentials for registries.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_engine::Engine;

use super::output;
use super::pull_flags::AccessFlags;

/// Log in to a registry
#[derive(clap::Args)]
pub struct LoginArgs {
    #[command(flatten)]
    access: AccessFlags,
    /// The user's name
    #[arg(short, long)]
    username: Option<String>,
    /// The password; --password-stdin keeps it out of the process list
    #[arg(short, long)]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Take the password from this secret, whose name is the user's unless --username says another
    #[arg(long, value_name = "SECRET", conflicts_with_all = ["password", "password_stdin"])]
    secret: Option<String>,
    /// Tell where the credentials are kept
    #[arg(short, long)]
    verbose: bool,
    /// Print the user that is logged in
    #[arg(long)]
    get_login: bool,
    /// The registry: HOST[:PORT]
    registry: Option<String>,
}

/// Log out of a registry
#[derive(clap::Args)]
pub struct LogoutArgs {
    /// Forget the credentials for every registry
    #[arg(short, long)]
    all: bool,
    /// The file with credentials
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// The registry: HOST[:PORT]
    registry: Option<String>,
}

const DEFAULT: &str = "docker.io";

/// Checks the credentials with the registry and keeps them.
pub fn login(engine: &Engine, args: LoginArgs) -> anyhow::Result<i32> {
    let registry = args.registry.as_deref().unwrap_or(DEFAULT);
    if args.get_login {
        match engine.logged_in(registry, args.access.authfile.as_deref())? {
            Some(user) => output::line(user)?,
            None => bail!("not logged into {registry}"),
        }
        return Ok(0);
    }
    let secret = args.secret.as_deref();
    let user = match args.username.or_else(|| secret.map(str::to_owned)) {
        Some(user) => user,
        None => ask("Username: ")?,
    };
    let secret = secret.map(|secret| password(engine, secret)).transpose()?;
    let password = match args.password.or(secret) {
        Some(_) if args.password_stdin => {
            bail!("--password and --password-stdin exclude each other")
        }
        Some(password) => password,
        None if args.password_stdin => read_line()?,
        None => engine.ask_secret("Password: ")?,
    };
    let place = engine.login(registry, &user, &password, &args.access.request())?;
    if args.verbose {
        output::line(format_args!("Used: {}", place.display()))?;
    }
    output::line("Login Succeeded!")?;
    Ok(0)
}

/// The password that a secret has; a line's end behind it is none of it.
fn password(engine: &Engine, secret: &str) -> anyhow::Result<String> {
    let (_, value) = engine.secret_value(secret)?;
    let Ok(text) = String::from_utf8(value) else {
        bail!("secret {secret:?} is no UTF-8 text, and no password");
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Forgets credentials.
pub fn logout(engine: &Engine, args: &LogoutArgs) -> anyhow::Result<i32> {
    let authfile = args.authfile.as_deref();
    if args.all {
        engine.logout(None, authfile)?;
        output::line("Removed login credentials for all registries")?;
        return Ok(0);
    }
    let registry = args.registry.as_deref().unwrap_or(DEFAULT);
    engine.logout(Some(registry), authfile)?;
    output::line(format_args!("Removed login credentials for {registry}"))?;
    Ok(0)
}

fn ask(prompt: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!(
            "there is no terminal to ask for the user's name: use --username and --password-stdin"
        );
    }
    output::text(prompt)?;
    read_line()
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("read standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
