//! `--change`: an instruction of a Dockerfile that changes an image's configuration.
//!
//! The instructions that make no layer: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL,
//! STOPSIGNAL, USER, VOLUME and WORKDIR. As with podman an `=` may stand in place of the space, and
//! variables are no part of it: `$NAME` stays as it is written.

mod health;
mod words;

use std::str::FromStr;

pub use health::HealthCheck;
use words::{json_list, words};

use crate::Signal;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The command, or what the entrypoint gets.
    Cmd(Invocation),
    /// What is executed; the command becomes its arguments.
    Entrypoint(Invocation),
    /// Variables.
    Env(Vec<(String, String)>),
    /// Ports that it serves, as `80/tcp` or `8000-8010/udp`.
    Expose(Vec<String>),
    /// How to find out whether it works.
    HealthCheck(HealthCheck),
    /// Labels.
    Label(Vec<(String, String)>),
    /// An instruction for images that are made from it.
    OnBuild(String),
    /// What executes commands that are no lists.
    Shell(Vec<String>),
    /// The signal that asks it to stop, as it was written.
    StopSignal(String),
    /// Who executes it: `USER[:GROUP]`.
    User(String),
    /// Places for volumes.
    Volume(Vec<String>),
    /// Where it is executed; one that does not begin with a slash is below what it was.
    Workdir(String),
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// A program and its arguments; empty for none.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("invalid change {text:?} - {why}");
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(trimmed.len());
        let (name, rest) = trimmed.split_at(end);
        let name = name.to_ascii_uppercase();
        let value = match rest.chars().next() {
            Some('=') => &rest[1..],
            Some(c) if c.is_whitespace() => rest,
            _ => return Err(wrong("must be formatted as KEY VALUE")),
        };
        let value = value.trim();
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(wrong("it has more than one line"));
        }
        parse(&name, value).map_err(|why| wrong(&why))
    }
}

fn parse(name: &str, value: &str) -> Result<Change, String> {
    let given = |value: &str| match value {
        "" => Err(format!("must provide a value to {name}")),
        value => Ok(value.to_owned()),
    };
    Ok(match name {
        "CMD" => Change::Cmd(invocation(value)),
        "ENTRYPOINT" => Change::Entrypoint(invocation(value)),
        "ENV" => Change::Env(pairs(name, value)?),
        "EXPOSE" => {
            let ports = words(value)?;
            if ports.is_empty() {
                return Err(format!("must provide a value to {name}"));
            }
            Change::Expose(
                ports
                    .iter()
                    .map(|port| exposed(port))
                    .collect::<Result<_, _>>()?,
            )
        }
        "HEALTHCHECK" => Change::HealthCheck(value.parse()?),
        "LABEL" => Change::Label(pairs(name, value)?),
        "ONBUILD" => Change::OnBuild(on_build(value)?),
        "SHELL" => match json_list(value) {
            Some(words) if !words.is_empty() => Change::Shell(words),
            _ => return Err("SHELL must be a list: [\"PROGRAM\", \"ARGUMENT\"]".to_owned()),
        },
        "STOPSIGNAL" => {
            value.parse::<Signal>().map_err(|error| error.to_string())?;
            Change::StopSignal(value.to_owned())
        }
        "USER" => Change::User(given(value)?),
        "VOLUME" => {
            let places = match json_list(value) {
                Some(list) => list,
                None => words(value)?,
            };
            if places.is_empty() || places.iter().any(String::is_empty) {
                return Err(format!("must provide a value to {name}"));
            }
            Change::Volume(places)
        }
        "WORKDIR" => Change::Workdir(given(value)?),
        other => return Err(format!("invalid instruction {other}")),
    })
}

/// A JSON list is a program and its arguments; anything else is a line for the shell, and nothing is none.
fn invocation(value: &str) -> Invocation {
    match json_list(value) {
        Some(words) => Invocation::Exec(words),
        None if value.is_empty() => Invocation::Exec(Vec::new()),
        None => Invocation::Shell(value.to_owned()),
    }
}

/// `KEY=VALUE` and more of them, or the older `KEY VALUE`.
fn pairs(name: &str, value: &str) -> Result<Vec<(String, String)>, String> {
    let must = || format!("{name} must have the form KEY=VALUE");
    // Quotes may stand around a key with spaces, or open in a value that is a line as it is.
    let first = words(value).ok().and_then(|words| words.into_iter().next());
    let first = first.or_else(|| value.split_whitespace().next().map(str::to_owned));
    let pairs: Vec<(String, String)> = if first.is_some_and(|first| first.contains('=')) {
        let mut pairs = Vec::new();
        for word in words(value)? {
            let (key, value) = word.split_once('=').ok_or_else(must)?;
            pairs.push((key.to_owned(), value.to_owned()));
        }
        pairs
    } else {
        let (key, value) = value.split_once(char::is_whitespace).ok_or_else(must)?;
        // The rest of the line as it is, but for quotes around all of it.
        let value = value.trim();
        let quoted = words(value).ok().filter(|words| words.len() == 1);
        let value = quoted.map_or_else(|| value.to_owned(), |mut words| words.remove(0));
        vec![(key.to_owned(), value)]
    };
    if pairs.is_empty() || pairs.iter().any(|(key, _)| key.is_empty()) {
        return Err(must());
    }
    Ok(pairs)
}

/// `PORT[-PORT][/tcp|udp|sctp]`, with its protocol.
fn exposed(port: &str) -> Result<String, String> {
    let (numbers, protocol) = match port.split_once('/') {
        Some((numbers, protocol)) => (numbers, protocol.to_ascii_lowercase()),
        None => (port, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("EXPOSE protocol must be TCP, UDP or SCTP".to_owned());
    }
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err("EXPOSE port must be a valid port number".to_owned()),
    };
    match numbers.split_once('-') {
        None => Ok(format!("{}/{protocol}", number(numbers)?)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err("EXPOSE range must ascend".to_owned());
            }
            Ok(format!("{first}-{last}/{protocol}"))
        }
    }
}

/// An instruction for later: any but those that can't be there (Dockerfile reference, "ONBUILD").
fn on_build(value: &str) -> Result<String, String> {
    let name = value.split_whitespace().next().unwrap_or_default();
    match name.to_ascii_uppercase().as_str() {
        "" => Err("must provide a value to ONBUILD".to_owned()),
        "ONBUILD" | "FROM" | "MAINTAINER" => Err(format!("ONBUILD can't be followed by {name}")),
        _ => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn owned_pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn instructions_are_read_as_in_a_dockerfile() {
        let exec = |words: &[&str]| Invocation::Exec(owned(words));
        for (text, change) in [
            (r#"CMD ["sh", "-c"]"#, Change::Cmd(exec(&["sh", "-c"]))),
            (r#"CMD=["a","b c"]"#, Change::Cmd(exec(&["a", "b c"]))),
            (
                "cmd echo $A",
                Change::Cmd(Invocation::Shell("echo $A".to_owned())),
            ),
            (
                "CMD [ -f x ]",
                Change::Cmd(Invocation::Shell("[ -f x ]".to_owned())),
            ),
            ("ENTRYPOINT []", Change::Entrypoint(exec(&[]))),
            ("ENTRYPOINT=", Change::Entrypoint(exec(&[]))),
            ("ENV A=1", Change::Env(owned_pairs(&[("A", "1")]))),
            ("ENV=A=1", Change::Env(owned_pairs(&[("A", "1")]))),
            (
                r#"ENV A="x y" B='$Z' C=a\ b D="#,
                Change::Env(owned_pairs(&[
                    ("A", "x y"),
                    ("B", "$Z"),
                    ("C", "a b"),
                    ("D", ""),
                ])),
            ),
            ("ENV A x  y=z", Change::Env(owned_pairs(&[("A", "x  y=z")]))),
            (
                "LABEL image=blue",
                Change::Label(owned_pairs(&[("image", "blue")])),
            ),
            (
                r#"LABEL "a b"="c" d=e"#,
                Change::Label(owned_pairs(&[("a b", "c"), ("d", "e")])),
            ),
            (
                "EXPOSE 80 53/UDP 8000-8010",
                Change::Expose(owned(&["80/tcp", "53/udp", "8000-8010/tcp"])),
            ),
            ("USER 5:6", Change::User("5:6".to_owned())),
            ("WORKDIR a b", Change::Workdir("a b".to_owned())),
            (
                "STOPSIGNAL SIGUSR1",
                Change::StopSignal("SIGUSR1".to_owned()),
            ),
            (
                r#"VOLUME ["/a", "/b c"]"#,
                Change::Volume(owned(&["/a", "/b c"])),
            ),
            ("VOLUME /a /b", Change::Volume(owned(&["/a", "/b"]))),
            ("ONBUILD RUN x", Change::OnBuild("RUN x".to_owned())),
            (
                r#"SHELL ["/bin/ash", "-c"]"#,
                Change::Shell(owned(&["/bin/ash", "-c"])),
            ),
        ] {
            assert_eq!(text.parse(), Ok(change), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_in_words() {
        for (text, why) in [
            ("FOO bar", "invalid instruction FOO"),
            ("CMD", "must be formatted as KEY VALUE"),
            ("", "must be formatted as KEY VALUE"),
            ("RUN true", "invalid instruction RUN"),
            ("USER ", "must be formatted as KEY VALUE"),
            ("USER=", "must provide a value to USER"),
            ("ENV A", "ENV must have the form KEY=VALUE"),
            ("ENV A=1 B", "ENV must have the form KEY=VALUE"),
            ("ENV =1", "ENV must have the form KEY=VALUE"),
            ("ENV A='x", "a quote has no end"),
            ("EXPOSE 0", "EXPOSE port must be a valid port number"),
            ("EXPOSE 70000", "EXPOSE port must be a valid port number"),
            ("EXPOSE 80/icmp", "EXPOSE protocol must be TCP, UDP or SCTP"),
            ("EXPOSE 9-8", "EXPOSE range must ascend"),
            ("ONBUILD FROM x", "ONBUILD can't be followed by FROM"),
            (
                "SHELL sh",
                "SHELL must be a list: [\"PROGRAM\", \"ARGUMENT\"]",
            ),
            ("USER a\nCMD b", "it has more than one line"),
        ] {
            let said = text.parse::<Change>().unwrap_err();
            assert_eq!(said, format!("invalid change {text:?} - {why}"));
        }
        assert!("STOPSIGNAL SIGFOO".parse::<Change>().is_err());
    }
}
