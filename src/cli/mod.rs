//! The command line: one file a command, each with its arguments and one function.

mod artifact;
mod artifact_add;
mod artifact_inspect;
mod artifact_ls;
mod artifact_pull;
mod artifact_push;
mod artifact_rm;
mod attach;
mod auto_update;
mod command_line;
mod commit;
mod completion;
mod container;
mod container_exists;
mod container_filter;
mod container_inspect;
mod container_inspect_host;
mod container_prune;
mod cp;
mod create;
mod create_flags;
mod diff;
mod doctor;
mod events;
mod exec;
mod exit;
mod export;
mod global_flags;
mod healthcheck;
mod history;
mod image;
mod image_filter;
mod image_inspect;
mod image_mount;
mod image_prune;
mod image_referrers;
mod image_sign;
mod image_tree;
mod image_trust;
mod images;
mod import;
mod import_from;
mod info;
mod inspect;
mod kill;
mod kube;
mod kube_annotations;
mod kube_down;
mod kube_input;
mod kube_play;
mod kube_pod;
mod kube_volume;
mod listed_ports;
mod load;
mod login;
mod logs;
mod manifest;
mod manifest_add;
mod manifest_annotate;
mod manifest_create;
mod manifest_inspect;
mod manifest_push;
mod mount;
mod outline;
pub mod output;
mod pause;
mod pod;
mod pod_create;
mod pod_inspect;
mod pod_logs;
mod pod_prune;
mod pod_ps;
mod pod_rm;
mod pod_selection;
mod pod_signal;
mod pod_start;
mod pod_stats;
mod pod_top;
mod port;
mod ps;
mod ps_row;
mod pull;
mod pull_flags;
mod push;
mod push_flags;
mod quadlet;
mod quadlet_check;
mod quadlet_install;
mod quadlet_ls;
mod quadlet_rm;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod runtime_flags;
mod save;
mod search;
mod secret;
mod secret_create;
mod secret_inspect;
mod secret_ls;
mod secret_rm;
mod selection;
mod sign_flags;
mod start;
mod stats;
mod stats_row;
mod stop;
mod system;
mod system_check;
mod system_df;
mod system_prune;
mod system_reset;
mod tag;
mod time_argument;
mod top;
mod unpause;
mod unshare;
mod update;
mod usage_error;
mod version;
mod volume;
mod volume_create;
mod volume_inspect;
mod volume_ls;
mod volume_prune;
mod volume_rm;
mod wait;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{Args as _, CommandFactory, FromArgMatches, Parser, Subcommand};
use kelp_engine::Engine;

/// Rootless containers for one user, with no daemon.
#[derive(Parser)]
#[command(
    name = "kelp",
    version,
    disable_help_subcommand = true,
    disable_version_flag = true,
    infer_long_args = false
)]
struct Kelp {
    #[command(flatten)]
    global: global_flags::GlobalFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Artifact(artifact::Args),
    AutoUpdate(auto_update::Args),
    Completion(completion::Args),
    Container(container::Args),
    #[command(flatten)]
    OnContainers(container::Command),
    Doctor(doctor::Args),
    Events(events::Args),
    Healthcheck(healthcheck::Args),
    History(history::Args),
    Image(image::Args),
    Images(images::Args),
    Import(import::Args),
    Info(info::Args),
    Inspect(inspect::Args),
    Kube(kube::Args),
    Load(load::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Manifest(manifest::Args),
    Play(kube::PlayArgs),
    Pod(pod::Args),
    Pull(pull::Args),
    Push(push::Args),
    Quadlet(quadlet::Args),
    Rmi(rmi::Args),
    Save(save::Args),
    Search(search::Args),
    Secret(secret::Args),
    System(system::Args),
    Tag(tag::TagArgs),
    Untag(tag::UntagArgs),
    Unshare(unshare::Args),
    Version(version::Args),
    Volume(volume::Args),
}

/// The command line's grammar. That of a command which scripts call all the time comes alone: to set
/// up the arguments of all the others takes longer than to parse.
fn command(first: Option<&OsStr>) -> clap::Command {
    fn alone<A: clap::Args>(name: &'static str) -> clap::Command {
        let kelp = clap::Command::new("kelp")
            .version(env!("CARGO_PKG_VERSION"))
            .disable_help_subcommand(true)
            .disable_version_flag(true)
            .subcommand_required(true);
        // What stands before the command is never there, and yet it is looked for.
        global_flags::GlobalFlags::augment_args(kelp)
            .subcommand(A::augment_args(clap::Command::new(name)))
    }
    match first.and_then(OsStr::to_str) {
        Some("create") => alone::<create::Args>("create"),
        Some("exec") => alone::<exec::Args>("exec"),
        Some("images") => alone::<images::Args>("images"),
        Some("inspect") => alone::<inspect::Args>("inspect"),
        Some("logs") => alone::<logs::Args>("logs"),
        Some("ps") => alone::<ps::Args>("ps"),
        Some("rm") => alone::<rm::Args>("rm"),
        Some("run") => alone::<run::Args>("run"),
        Some("start") => alone::<start::Args>("start"),
        Some("stop") => alone::<stop::Args>("stop"),
        _ => Kelp::command(),
    }
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let words = command_line::as_help_flag(std::env::args_os().collect());
    let command = command(words.get(1).map(AsRef::as_ref)).args_override_self(true);
    let words = match command_line::normalise(&command, words) {
        Ok(words) => words,
        Err(fault) => return exit::fault(&fault),
    };
    let path = usage_error::path(&command, &words);
    let matches = command.try_get_matches_from(words);
    let kelp = match matches.and_then(|matches| Kelp::from_arg_matches(&matches)) {
        Ok(kelp) => kelp,
        Err(error) => return exit::usage(&error, &path),
    };
    let result = Engine::open()
        .map_err(anyhow::Error::from)
        .and_then(|mut engine| {
            kelp.global.apply(&mut engine)?;
            Ok((engine, &kelp.global.runtime))
        })
        .and_then(|(engine, before)| {
            let result = dispatch(&engine, before, kelp.command);
            result.map_err(|error| explain(&engine, error))
        });
    exit::code(result)
}

fn dispatch(
    engine: &Engine,
    before: &runtime_flags::RuntimeFlags,
    command: Command,
) -> anyhow::Result<i32> {
    match command {
        Command::Artifact(args) => artifact::run(engine, args),
        Command::AutoUpdate(args) => auto_update::run(engine, args),
        Command::Completion(args) => completion::run(Kelp::command(), &args),
        Command::Container(args) => container::run_group(engine, before, args),
        Command::OnContainers(command) => container::run(engine, before, command),
        Command::Doctor(args) => doctor::run(engine, &args),
        Command::Events(args) => events::run(engine, &args),
        Command::Healthcheck(args) => healthcheck::run(engine, &args),
        Command::History(args) => history::run(engine, &args),
        Command::Image(args) => image::run(engine, args),
        Command::Images(args) => images::run(engine, &args),
        Command::Import(args) => import::run(engine, args),
        Command::Info(args) => info::run(engine, before, &args),
        Command::Inspect(args) => inspect::run(engine, args),
        Command::Kube(args) => kube::run(engine, before, args),
        Command::Load(args) => load::run(engine, args),
        Command::Login(args) => login::login(engine, args),
        Command::Logout(args) => login::logout(engine, &args),
        Command::Manifest(args) => manifest::run(engine, args),
        Command::Play(args) => kube::play(engine, before, args),
        Command::Pod(args) => pod::run(engine, before, args),
        Command::Pull(args) => pull::run(engine, args),
        Command::Push(args) => push::run(engine, &args),
        Command::Quadlet(args) => quadlet::run(engine, &Kelp::command(), args),
        Command::Rmi(args) => rmi::run(engine, args),
        Command::Save(args) => save::run(engine, args),
        Command::Search(args) => search::run(engine, &args),
        Command::Secret(args) => secret::run(engine, &args),
        Command::System(args) => system::run(engine, before, &args),
        Command::Tag(args) => tag::tag(engine, &args),
        Command::Untag(args) => tag::untag(engine, &args),
        Command::Unshare(args) => unshare::run(engine, args),
        Command::Version(args) => version::run(&args),
        Command::Volume(args) => volume::run(engine, &args),
    }
}

/// An error with what a person needs to know who has run out of space.
fn explain(engine: &Engine, error: anyhow::Error) -> anyhow::Error {
    match error.downcast() {
        Ok(error) => engine.explain_space(error).into(),
        Err(error) => error,
    }
}
