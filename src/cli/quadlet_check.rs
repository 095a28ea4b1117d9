//! `kelp quadlet check`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, FromArgMatches};
use kelp_quadlet::{DropIns, Finding, Grammar, Set, Source, check, load, load_file, unit_name};

use super::{
    Kelp, artifact, command_line, container, exit, kube, output, pod, quadlet, usage_error, volume,
};

/// Tell what is wrong in Quadlet files, each with its line; 1 if anything is
#[derive(clap::Args)]
pub struct Args {
    /// Files, and directories with files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Prints what is wrong.
pub fn run(kelp: &Command, args: &Args) -> anyhow::Result<i32> {
    let (mut set, mut findings) = (Set::default(), Vec::new());
    // What a unit refers to is beside it, or where systemd finds it.
    let mut directories: Vec<PathBuf> = Vec::new();
    let mut asked = BTreeSet::new();
    for file in &args.files {
        let path = std::path::absolute(file)?;
        if path.is_dir() {
            directories.push(path);
        } else {
            directories.extend(path.parent().map(Path::to_owned));
            asked.insert(path);
        }
    }
    directories.extend(quadlet::environment().directories().0);
    let mut seen = BTreeSet::new();
    directories.retain(|directory| seen.insert(directory.clone()));
    let drop_ins = DropIns::of(&directories);
    for path in &asked {
        match load_file(path, &drop_ins) {
            Ok(source) => set.add(source),
            Err(finding) => findings.push(finding),
        }
    }
    let whole: Vec<_> = args.files.iter().filter(|file| file.is_dir()).collect();
    let is_in_whole = |path: &Path| {
        let mut whole = whole.iter().flat_map(std::path::absolute);
        whole.any(|directory| path.parent() == Some(&directory))
    };
    let (others, unread) = load(&directories);
    findings.extend(
        unread
            .into_iter()
            .filter(|finding| is_in_whole(&finding.file)),
    );
    for source in others.iter() {
        set.add(source.clone());
    }
    let is_asked = |source: &Source| asked.contains(&source.path) || is_in_whole(&source.path);
    let grammar = Grammar {
        knows: &|command, flag| knows(kelp, command, flag),
        refuses: &|command, words| refusal(kelp, command, words),
    };
    findings.extend(quadlet::on_this_machine(|host| {
        check(&set, &is_asked, host, &grammar)
    })?);
    // Two files of one name can't be looked at as one.
    let unseen = asked.iter().filter(|path| {
        let name = unit_name(path).and_then(|(name, _)| set.get(&name));
        name.is_some_and(|source| source.path != **path)
    });
    let told = "there is another file of this name: check them one by one";
    findings.extend(unseen.map(|path| Finding::error(path, None, told)));
    for finding in &findings {
        output::line(shown(finding))?;
    }
    Ok(i32::from(!findings.is_empty()))
}

/// A finding, its path from where the user is if it is beneath.
fn shown(finding: &Finding) -> String {
    let mut finding = finding.clone();
    if let Ok(here) = std::env::current_dir()
        && let Ok(path) = finding.file.strip_prefix(here)
    {
        finding.file = path.to_owned();
    }
    finding.to_string()
}

/// Whether kelp has a command, or a flag of it.
fn knows(kelp: &Command, command: &[&str], flag: Option<&str>) -> bool {
    let mut found = kelp;
    for word in command {
        match found.find_subcommand(word) {
            Some(inner) => found = inner,
            None => return false,
        }
    }
    let Some(flag) = flag else { return true };
    let name = flag.trim_start_matches('-');
    found.get_arguments().any(|arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        arg.get_long() == Some(name) || aliases.contains(&name)
    })
}

/// What is wrong with flags of a command, as the command itself would say it.
fn refusal(kelp: &Command, command: &[&str], words: &[String]) -> Option<String> {
    let words = words.iter().map(String::as_str);
    // Something to run, pull or make.
    let all = ["kelp"]
        .iter()
        .chain(command)
        .copied()
        .chain(words)
        .chain(["name"]);
    let all = match command_line::normalise(kelp, all.map(OsString::from)) {
        Ok(all) => all,
        Err(fault) => return fault.to_string().lines().next().map(str::to_owned),
    };
    let kelp = kelp.clone().args_override_self(true);
    let matches = kelp.try_get_matches_from(all);
    let read = match matches.and_then(|matches| Kelp::from_arg_matches(&matches)) {
        Ok(read) => read,
        Err(error) => return Some(usage_error::line(&error)),
    };
    // As the command itself has it, before it does anything.
    let checked = match read.command {
        super::Command::OnContainers(container::Command::Run(args)) => args.check(),
        super::Command::Pull(args) => args.check(),
        super::Command::Artifact(artifact::Args {
            command: artifact::Command::Pull(args),
        }) => args.check(),
        super::Command::Volume(volume::Args {
            command: volume::Command::Create(args),
        }) => args.check(),
        super::Command::Pod(pod::Args {
            command: pod::Command::Create(args),
        }) => args.check(),
        super::Command::Kube(kube::Args {
            command: kube::Command::Play(args),
        }) => args.check(),
        _ => Ok(()),
    };
    // A file that is to be read may be there when the service starts.
    let refused = checked.err().map(|error| exit::line(&error));
    refused.filter(|why| !why.starts_with("read "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_kelp_has_is_known() {
        let kelp = Kelp::command();
        for (command, flag, known) in [
            (&["run"][..], None, true),
            (&["run"], Some("--publish"), true),
            (&["run"], Some("--nosuch"), false),
            (&["volume", "create"], Some("--opt"), true),
            (&["volume", "nosuch"], None, false),
            (&[], Some("--log-level"), true),
            (&[], Some("--nosuch"), false),
        ] {
            assert_eq!(knows(&kelp, command, flag), known, "{command:?} {flag:?}");
        }
    }

    #[test]
    fn what_kelp_refuses_is_said_as_kelp_says_it() {
        let kelp = Kelp::command();
        for (command, words, said) in [
            (&["run"][..], &[][..], None),
            (&["run"], &["--publish", "80:80", "--env", "a=b"], None),
            (&["run"], &["--env-file", "/no/such"], None),
            (&["run"], &["--nosuch"], Some("unknown flag: --nosuch")),
            (
                &["run"],
                &["--pids-limit", "x"],
                Some("invalid value \"x\" for --pids-limit: it is a whole number"),
            ),
            (
                &["run"],
                &["--device", "/dev/null:/dev/x:r"],
                Some(
                    "--device /dev/null: fewer permissions than rw need the devices controller, which only \
                     root has",
                ),
            ),
            (
                &["run"],
                &["--sdnotify", "maybe"],
                Some("invalid --sdnotify \"maybe\""),
            ),
            (
                &["run"],
                &["--pull", "sometimes"],
                Some("unsupported pull policy \"sometimes\""),
            ),
            (&["run"], &["--network", "front"], Some("front")),
            (&["run"], &["--secret", "key"], None),
            (
                &["run"],
                &["--secret", "key,mode=9"],
                Some("the mode is an octal number up to 0777"),
            ),
            (
                &["run"],
                &["--secret", "a", "--secret", "b,target=a"],
                Some("/run/secrets/a: duplicate mount destination"),
            ),
            (&["run"], &["--platform", "linux/"], Some("linux/")),
            (
                &["run"],
                &["-d", "--rmi"],
                Some("--rmi and --detach exclude each other"),
            ),
            (
                &["run"],
                &["--tmpfs", "/a", "--volume", "b:/a"],
                Some("/a: duplicate mount destination"),
            ),
            (
                &["run"],
                &["--label", "io.containers.autoupdate=daily"],
                Some("invalid auto-update policy \"daily\""),
            ),
            // Which image it is of is said elsewhere.
            (
                &["run"],
                &["--label", "io.containers.autoupdate=registry"],
                None,
            ),
            (&["run"], &["--cap-add", "FLY"], Some("FLY")),
            (
                &["pull"],
                &["--policy", "sometimes"],
                Some("unsupported pull policy"),
            ),
            (
                &["pull"],
                &["--creds", ":x"],
                Some("--creds is USER:PASSWORD"),
            ),
            (
                &["artifact", "pull"],
                &["--creds", ":x"],
                Some("--creds is USER:PASSWORD"),
            ),
            (
                &["artifact", "pull"],
                &["--decryption-key", "k"],
                Some("--decryption-key is not supported by kelp yet"),
            ),
            (&["artifact", "pull"], &["--retry", "2", "--quiet"], None),
            (
                &["volume", "create"],
                &["--opt", "o=x"],
                Some("the local volume driver has no option o=x"),
            ),
            (
                &["volume", "create"],
                &["--driver", "nfs"],
                Some("there is no volume driver nfs"),
            ),
            (&["volume", "create"], &["--label", "a=b"], None),
            (&["kube", "play"], &["--network", "host"], None),
            (
                &["kube", "play"],
                &["--publish", "x"],
                Some(
                    "invalid port \"x\": a port is [[IP:][HOST]:]CONTAINER[/tcp|/udp], each one or FIRST-LAST",
                ),
            ),
            (
                &["kube", "play"],
                &["--log-driver", "journald", "--log-opt", "tag=x"],
                None,
            ),
            (
                &["kube", "play"],
                &["--log-driver", "k8s-file", "--log-opt", "tag=x"],
                Some("the log option tag is for the log driver journald alone"),
            ),
            (
                &["pod", "create"],
                &["--uts", "host", "--hostname", "x"],
                Some("cannot set a hostname when the UTS namespace is not the container's own"),
            ),
            (&["pod", "create"], &["--replace", "--name", "crew"], None),
            (
                &["pod", "create"],
                &["--name", "crew", "--publish", "x"],
                Some(
                    "invalid port \"x\": a port is [[IP:][HOST]:]CONTAINER[/tcp|/udp], each one or FIRST-LAST",
                ),
            ),
        ] {
            let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            let found = refusal(&kelp, command, &words);
            let fits = match (&found, said) {
                (Some(found), Some(said)) => found.contains(said),
                (found, said) => found.is_none() && said.is_none(),
            };
            assert!(fits, "{words:?}: {found:?} and not {said:?}");
        }
    }
}
