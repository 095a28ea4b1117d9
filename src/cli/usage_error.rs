//! What clap finds wrong with a command line, said as podman says it: one line, and where help is.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The error's line, and whether help follows from it: a command without its subcommand shows its
/// help first.
pub fn line(error: &clap::Error) -> String {
    let invalid = texts(error, ContextKind::InvalidArg);
    let shown: Vec<_> = invalid.iter().map(|text| bare(text)).collect();
    let flag = shown.first().cloned().unwrap_or_default();
    let value = texts(error, ContextKind::InvalidValue).join(" ");
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let verb = if shown.len() > 1 { "are" } else { "is" };
            format!("{} {verb} missing", shown.join(" and "))
        }
        ErrorKind::InvalidSubcommand => {
            let word = texts(error, ContextKind::InvalidSubcommand).join(" ");
            let similar = texts(error, ContextKind::SuggestedSubcommand);
            let hint = match similar.as_slice() {
                [] => String::new(),
                similar => format!(": did you mean {}?", similar.join(" or ")),
            };
            format!("unrecognized command \"{word}\"{hint}")
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "missing command".to_owned()
        }
        ErrorKind::InvalidUtf8 => {
            // clap does not say which.
            let mut words = std::env::args_os();
            let word = words.find(|word| word.to_str().is_none());
            let word = word.unwrap_or_default();
            format!(
                "argument \"{}\" is not UTF-8",
                word.as_encoded_bytes().escape_ascii()
            )
        }
        ErrorKind::UnknownArgument => format!("unexpected argument \"{flag}\""),
        ErrorKind::ArgumentConflict => {
            let mut names = vec![flag];
            let prior = texts(error, ContextKind::PriorArg);
            names.extend(prior.iter().map(|text| bare(text)));
            format!("{} exclude each other", names.join(" and "))
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("flag needs an argument: {flag}"),
        ErrorKind::InvalidValue => {
            let valid = texts(error, ContextKind::ValidValue);
            let forms = match valid.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, others)) => format!("{} or {last}", others.join(", ")),
                None => "another value".to_owned(),
            };
            format!("invalid value {value:?} for {flag}: use {forms}")
        }
        ErrorKind::ValueValidation => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            if cause.starts_with("invalid digit") || cause.starts_with("number too") {
                return format!("invalid value {value:?} for {flag}: it is a whole number");
            }
            // A parser of ours names the value itself.
            if cause.starts_with("invalid ") && !cause.starts_with("invalid float") {
                return cause;
            }
            format!("invalid value {value:?} for {flag}: {cause}")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    }
}

/// The command that the words call, as it is written: `kelp container run`.
pub fn path(root: &Command, words: &[OsString]) -> String {
    let mut path = root.get_name().to_owned();
    let mut command = root;
    for word in words.iter().skip(1) {
        let Some(inner) = command.find_subcommand(word) else {
            break;
        };
        path = format!("{path} {}", inner.get_name());
        command = inner;
    }
    path
}

/// An argument without what clap writes around it: `--sort <KEY>` is `--sort`, and
/// `<IMAGE [COMMAND]>...` is `IMAGE [COMMAND]`.
fn bare(text: &str) -> String {
    let text = text.trim_end_matches('.');
    if text.starts_with('-') {
        let end = text.find([' ', '=', '[']).unwrap_or(text.len());
        return text[..end].to_owned();
    }
    let inner = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    inner.unwrap_or(text).to_owned()
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn one_line_says_what_is_wrong() {
        for (words, said) in [
            (&["run"][..], "IMAGE [COMMAND [ARG...]] is missing"),
            (&["tag"], "IMAGE and NAMES are missing"),
            (&["nosuch"], "unrecognized command \"nosuch\""),
            (
                &["imags"],
                "unrecognized command \"imags\": did you mean image or images?",
            ),
            (&["volume"], "missing command"),
            (&["images", "a", "b"], "unexpected argument \"b\""),
            (
                &["run", "--no-hosts", "--add-host=a:10.0.0.1", "i"],
                "--no-hosts and --add-host exclude each other",
            ),
            (
                &["images", "--sort=x"],
                "invalid value \"x\" for --sort: use created, id, repository, size or tag",
            ),
            (
                &["run", "--pids-limit=x", "i"],
                "invalid value \"x\" for --pids-limit: it is a whole number",
            ),
            (
                &["run", "--cpus=x", "i"],
                "invalid value \"x\" for --cpus: invalid float literal",
            ),
            (
                &["run", "--stop-timeout=x", "i"],
                "invalid timeout \"x\": use whole seconds, or -1 for no end",
            ),
        ] {
            let all = std::iter::once("kelp").chain(words.iter().copied());
            let Err(error) = super::super::Kelp::command().try_get_matches_from(all) else {
                panic!("{words:?} is right");
            };
            assert_eq!(line(&error), said, "{words:?}");
        }
    }

    #[test]
    fn the_command_is_named_as_it_is_written() {
        let words: Vec<_> = ["kelp", "container", "rm", "x"].map(OsString::from).into();
        assert_eq!(
            path(&super::super::Kelp::command(), &words),
            "kelp container rm"
        );
    }
}
