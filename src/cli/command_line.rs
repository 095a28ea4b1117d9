//! The command line as podman's users write it, rewritten once to what clap reads.
//!
//! clap differs from Go's pflag in a few ways: a switch takes no value (`--rm=false`), a value may
//! not begin with a dash, an unknown option is taken for a positional argument where those may begin
//! with one, and options go on after the image. Here every word is assigned as pflag would; clap
//! gets options as `--name=value`, then `--`, then the positional words.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command};

use super::create_flags::unsupported;

/// A word that is no option of its command.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// One that podman has, and what is said of it.
    Unsupported(String),
    /// What is wrong, and the command whose help says more.
    Usage(String, String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(what) => formatter.write_str(what),
            Self::Usage(what, command) => write!(formatter, "{what}\nSee '{command} --help'"),
        }
    }
}

/// The command line as it was given, for inspect.
pub fn given() -> Vec<String> {
    std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

/// `kelp help run` is `kelp run --help`.
pub fn as_help_flag(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

/// The words for clap; the first one is the program.
pub fn normalise(
    root: &Command,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Fault> {
    let mut words = words.into_iter();
    let mut reader = Reader {
        command: root,
        path: root.get_name().to_owned(),
        switches: BTreeMap::new(),
        out: words.next().into_iter().collect(),
    };
    let mut positional: Vec<OsString> = Vec::new();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            positional.extend(words);
            break;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            reader.long(long, &mut words)?;
        } else if bytes.len() > 1 && bytes[0] == b'-' {
            reader.short(&bytes[1..], &mut words)?;
        } else if reader.command.has_subcommands() {
            if !reader.enter(&word) {
                let next = words.next();
                let what = unsupported::missing_command(
                    &reader.path,
                    &word.to_string_lossy(),
                    next.as_deref().and_then(OsStr::to_str),
                );
                if let Some(what) = what {
                    return Err(Fault::Unsupported(what));
                }
                // clap names the commands that there are.
                reader.out.push(word);
                reader.out.extend(next);
                reader.out.extend(words);
                return Ok(reader.out);
            }
        } else {
            positional.push(word);
            if ends_at_positional(reader.command) {
                positional.extend(words);
                break;
            }
        }
    }
    reader.write_switches();
    if !positional.is_empty() {
        reader.out.push("--".into());
        reader.out.extend(positional);
    }
    Ok(reader.out)
}

/// Whether what follows the first positional word belongs to another program.
fn ends_at_positional(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

struct Reader<'a> {
    command: &'a Command,
    /// The command as it is written: `kelp container run`.
    path: String,
    /// Switches of the command; the last word on each counts.
    switches: BTreeMap<String, bool>,
    out: Vec<OsString>,
}

impl Reader<'_> {
    fn enter(&mut self, word: &OsStr) -> bool {
        let Some(command) = self.command.find_subcommand(word) else {
            return false;
        };
        self.write_switches();
        self.out.push(word.to_owned());
        self.path = format!("{} {}", self.path, command.get_name());
        self.command = command;
        true
    }

    fn write_switches(&mut self) {
        let switches = std::mem::take(&mut self.switches);
        let on = switches.into_iter().filter(|(_, on)| *on);
        self.out.extend(on.map(|(name, _)| name.into()));
    }

    fn long(
        &mut self,
        word: &[u8],
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Fault> {
        let end = word.iter().position(|byte| *byte == b'=');
        let (name, value) = match end {
            Some(end) => (&word[..end], Some(&word[end + 1..])),
            None => (word, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let known = self.command.get_arguments().find(|arg| {
            arg.get_long() == Some(&name)
                || arg
                    .get_all_aliases()
                    .is_some_and(|aliases| aliases.contains(&name.as_str()))
        });
        let shown = format!("--{name}");
        let Some(arg) = known else {
            // clap makes it itself.
            if name == "help" {
                self.out.push(shown.into());
                return Ok(());
            }
            return Err(self.unknown(&shown, format!("unknown flag: {shown}")));
        };
        let value = match value {
            None if takes_word(arg) => Some(self.next(&shown, words)?),
            other => other.map(|value| OsString::from_vec(value.to_vec())),
        };
        self.option(arg, &shown, value)
    }

    /// One dash: `-d`, `-td`, `-eA=b`, `-e=A=b`, `-e A=b`, `-i=false`.
    fn short(
        &mut self,
        letters: &[u8],
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Fault> {
        let mut rest = letters;
        while let [letter, after @ ..] = rest {
            let letter = char::from(*letter);
            let shown = format!("-{letter}");
            let known = self.command.get_arguments().find(|arg| {
                let aliases = arg.get_all_short_aliases().unwrap_or_default();
                arg.get_short() == Some(letter) || aliases.contains(&letter)
            });
            let Some(arg) = known else {
                if letter == 'h' && !self.command.is_disable_help_flag_set() {
                    self.out.push(shown.into());
                    return Ok(());
                }
                let all = String::from_utf8_lossy(letters);
                let what = format!("unknown shorthand flag: '{letter}' in -{all}");
                return Err(self.unknown(&shown, what));
            };
            let bytes = |bytes: &[u8]| Some(OsString::from_vec(bytes.to_vec()));
            let value = match after {
                [b'=', value @ ..] => bytes(value),
                [] if takes_word(arg) => Some(self.next(&shown, words)?),
                value if takes_word(arg) => bytes(value),
                _ => None,
            };
            rest = if value.is_some() { &[] } else { after };
            self.option(arg, &shown, value)?;
        }
        Ok(())
    }

    fn next(
        &self,
        shown: &str,
        words: &mut impl Iterator<Item = OsString>,
    ) -> Result<OsString, Fault> {
        words
            .next()
            .ok_or_else(|| self.usage(format!("flag needs an argument: {shown}")))
    }

    /// Writes an option down as clap has it.
    fn option(&mut self, arg: &Arg, shown: &str, value: Option<OsString>) -> Result<(), Fault> {
        let name = match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => shown.to_owned(),
        };
        let value = match value {
            Some(value) if is_boolean(arg) => {
                let text = value.to_string_lossy();
                let truth = kelp_args::boolean(&text).ok_or_else(|| {
                    self.usage(format!(
                        "invalid argument {text:?} for \"{shown}\" flag: use true or false"
                    ))
                })?;
                Some(truth.to_string().into())
            }
            other => other,
        };
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            self.switches
                .insert(name, value.is_none_or(|value| value == "true"));
            return Ok(());
        }
        let mut word = OsString::from(name);
        if let Some(value) = value {
            word.push("=");
            word.push(value);
        }
        self.out.push(word);
        Ok(())
    }

    /// The error of an option that clap does not know.
    fn unknown(&self, shown: &str, what: String) -> Fault {
        match unsupported::refusal(&self.path, shown) {
            Some(what) => Fault::Unsupported(what),
            None => self.usage(what),
        }
    }

    fn usage(&self, what: String) -> Fault {
        Fault::Usage(what, self.path.clone())
    }
}

/// Whether an option without `=` has the next word as its value.
fn takes_word(arg: &Arg) -> bool {
    let optional = arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !optional
}

/// Whether an option is true or false.
fn is_boolean(arg: &Arg) -> bool {
    let values = arg.get_possible_values();
    matches!(arg.get_action(), ArgAction::SetTrue)
        || values.len() == 2
            && values
                .iter()
                .all(|v| matches!(v.get_name(), "true" | "false"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from);
        match normalise(&super::super::Kelp::command(), words) {
            Ok(words) => Ok(words.join(OsStr::new(" ")).into_string().unwrap()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn options_end_at_the_image() {
        for (line, expected) in [
            (
                "kelp run -it img sh -c x",
                "kelp run --interactive --tty -- img sh -c x",
            ),
            ("kelp run -- img --rm -- x", "kelp run -- img --rm -- x"),
            (
                "kelp run --rm img --nosuch",
                "kelp run --rm -- img --nosuch",
            ),
            (
                "kelp container run --rm img",
                "kelp container run --rm -- img",
            ),
            ("kelp exec -i c ls -l", "kelp exec --interactive -- c ls -l"),
            ("kelp rm c -f", "kelp rm --force -- c"),
            ("kelp ps", "kelp ps"),
            ("kelp run --help", "kelp run --help"),
            ("kelp ps -h", "kelp ps -h"),
            ("kelp nosuch -x", "kelp nosuch -x"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn values_are_given_in_every_way() {
        for (line, expected) in [
            ("kelp run -e A=b i", "kelp run --env=A=b -- i"),
            ("kelp run -eA=b i", "kelp run --env=A=b -- i"),
            ("kelp run -e=A=b i", "kelp run --env=A=b -- i"),
            ("kelp run --env A i", "kelp run --env=A -- i"),
            (
                "kelp run --pids-limit -1 i",
                "kelp run --pids-limit=-1 -- i",
            ),
            ("kelp run --net host i", "kelp run --network=host -- i"),
            (
                "kelp run -iw /x i",
                "kelp run --workdir=/x --interactive -- i",
            ),
            ("kelp run --entrypoint= i", "kelp run --entrypoint= -- i"),
            (
                "kelp run --sig-proxy=F i",
                "kelp run --sig-proxy=false -- i",
            ),
            (
                "kelp run --read-only-tmpfs i",
                "kelp run --read-only-tmpfs -- i",
            ),
        ] {
            assert_eq!(read(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn the_last_word_on_a_switch_counts() {
        for (line, expected) in [
            ("kelp run --rm=false i", "kelp run -- i"),
            ("kelp run --rm=1 i", "kelp run --rm -- i"),
            ("kelp run --rm --rm i", "kelp run --rm -- i"),
            ("kelp run --rm --rm=f i", "kelp run -- i"),
            ("kelp run -i=false -t=true i", "kelp run --tty -- i"),
            ("kelp run -td i", "kelp run --detach --tty -- i"),
            ("kelp ps --all=true", "kelp ps --all"),
        ] {
            assert_eq!(read(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn help_is_a_command_too() {
        for (line, expected) in [
            ("kelp help", "kelp --help"),
            ("kelp help run", "kelp run --help"),
            ("kelp help volume ls", "kelp volume ls --help"),
            ("kelp run help", "kelp run help"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            assert_eq!(as_help_flag(words).join(OsStr::new(" ")), expected);
        }
    }

    #[test]
    fn what_is_no_option_is_said_as_podman_says_it() {
        for (line, said) in [
            (
                "kelp run --nosuch i",
                "unknown flag: --nosuch\nSee 'kelp run --help'",
            ),
            (
                "kelp run --nosuch=1 i",
                "unknown flag: --nosuch\nSee 'kelp run --help'",
            ),
            (
                "kelp run -iZ i",
                "unknown shorthand flag: 'Z' in -iZ\nSee 'kelp run --help'",
            ),
            (
                "kelp container rm --nosuch",
                "unknown flag: --nosuch\nSee 'kelp container rm --help'",
            ),
            (
                "kelp --nosuch ps",
                "unknown flag: --nosuch\nSee 'kelp --help'",
            ),
            (
                "kelp --root /x ps",
                "--root is not supported by kelp yet: XDG_DATA_HOME says what it is in",
            ),
            (
                "kelp -H x ps",
                "-H is not supported by kelp yet: there is no service to talk to",
            ),
            ("kelp pod clone x", "pod clone is not supported by kelp yet"),
            (
                "kelp generate systemd web",
                "generate systemd is not supported by kelp: write a Quadlet file instead, of which systemd \
                 makes the service (see 'kelp quadlet --help')",
            ),
            (
                "kelp generate kube web",
                "generate is not supported by kelp yet",
            ),
            (
                "kelp system service",
                "system service is not supported by kelp yet",
            ),
            (
                "kelp run -e",
                "flag needs an argument: -e\nSee 'kelp run --help'",
            ),
            (
                "kelp run --rm=x i",
                "invalid argument \"x\" for \"--rm\" flag: use true or false\nSee 'kelp run --help'",
            ),
            (
                "kelp pod create --memory 1g",
                "--memory is not supported by kelp yet: a pod has no cgroup of its own; give the limit to its \
                 containers",
            ),
            (
                "kelp exec --no-session c ls",
                "--no-session is not supported by kelp yet",
            ),
            (
                "kelp ps --requires=x",
                "unknown flag: --requires\nSee 'kelp ps --help'",
            ),
        ] {
            assert_eq!(read(line).unwrap_err(), said, "{line}");
        }
    }
}
