//! Flags about health checks, which `update` has as well.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use kelp_engine::container::health::{
    HealthOptions, LogDestination, OUTPUT_LIMIT, OnFailure, StartupOptions,
};
use kelp_format::units::parse_span;

use super::absolute;

/// The flags.
#[derive(clap::Args, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "they are called what the command line calls them"
)]
pub struct HealthFlags {
    /// Check by this command whether the container works: a line for its shell, a JSON list of words, or none
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// The time between two checks, such as 30s, or disable
    #[arg(long, value_name = "TIME", value_parser = interval)]
    health_interval: Option<Duration>,
    /// How long a check may take
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    health_timeout: Option<Duration>,
    /// How often checks fail in a row before the container is unhealthy
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// For how long after the start failures do not count
    #[arg(long, value_name = "TIME", value_parser = span)]
    health_start_period: Option<Duration>,
    /// The time between two checks in that
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    health_start_interval: Option<Duration>,
    /// What happens when the container becomes unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION", value_parser = on_failure)]
    health_on_failure: Option<OnFailure>,
    /// A command that has to be passed before the other checks begin
    #[arg(long, value_name = "COMMAND")]
    health_startup_cmd: Option<String>,
    /// The time between two startup checks, or disable
    #[arg(long, value_name = "TIME", value_parser = interval)]
    health_startup_interval: Option<Duration>,
    /// How long a startup check may take
    #[arg(long, value_name = "TIME", value_parser = timeout)]
    health_startup_timeout: Option<Duration>,
    /// How often in a row startup checks have to be passed
    #[arg(long, value_name = "NUMBER")]
    health_startup_success: Option<u32>,
    /// How often in a row they may fail before the container is started again; 0 for as often as they like
    #[arg(long, value_name = "NUMBER")]
    health_startup_retries: Option<u32>,
    /// Where checks are remembered: local; a directory that gets a file as well; or events_logger, for an event of each
    #[arg(long, value_name = "WHERE")]
    health_log_destination: Option<String>,
    /// How many checks are remembered; 0 for all
    #[arg(long, value_name = "NUMBER")]
    health_max_log_count: Option<u32>,
    /// Bytes of output that are remembered of each; 0 for 65536
    #[arg(long, value_name = "BYTES")]
    health_max_log_size: Option<u32>,
    /// Check nothing, whatever the image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// What they ask for.
    pub fn options(&self) -> anyhow::Result<HealthOptions> {
        let command = |text: &Option<String>| text.as_deref().map(command).transpose();
        let test = command(&self.health_cmd)?;
        if self.no_healthcheck && test.as_ref().is_some_and(|test| test[0] != "NONE") {
            bail!("cannot specify both --no-healthcheck and --health-cmd: leave one of them away");
        }
        if self
            .health_max_log_size
            .is_some_and(|size| size > OUTPUT_LIMIT)
        {
            bail!("invalid --health-max-log-size: at most {OUTPUT_LIMIT} bytes are remembered");
        }
        Ok(HealthOptions {
            none: self.no_healthcheck,
            test,
            interval: self.health_interval,
            timeout: self.health_timeout,
            retries: self.health_retries,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            on_failure: self.health_on_failure,
            startup: StartupOptions {
                test: command(&self.health_startup_cmd)?,
                interval: self.health_startup_interval,
                timeout: self.health_startup_timeout,
                successes: self.health_startup_success,
                retries: self.health_startup_retries,
            },
            log_count: self.health_max_log_count,
            log_size: self.health_max_log_size,
            log_to: self.log_to()?,
        })
    }

    fn log_to(&self) -> anyhow::Result<Option<LogDestination>> {
        let Some(text) = self.health_log_destination.as_deref() else {
            return Ok(None);
        };
        match text {
            "local" | "" => Ok(Some(LogDestination::Local)),
            "events_logger" => Ok(Some(LogDestination::Events)),
            path => {
                let path = absolute(Path::new(path))?;
                let what = || format!("invalid --health-log-destination {}", path.display());
                if !path.metadata().with_context(what)?.is_dir() {
                    bail!("{}: it is not a directory", what());
                }
                Ok(Some(LogDestination::Directory(path)))
            }
        }
    }
}

/// podman's and docker's forms: `none`; a JSON list of words, which may begin with the form; `CMD` or `CMD-SHELL`
/// and what follows; or a line for the shell.
fn command(text: &str) -> anyhow::Result<Vec<String>> {
    let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let is_form = |word: &str| matches!(word, "NONE" | "CMD" | "CMD-SHELL");
    if let Ok(mut words) = serde_json::from_str::<Vec<String>>(text) {
        let Some(first) = words.first() else {
            bail!("invalid health check {text:?}: the list is empty");
        };
        let form = first.to_ascii_uppercase();
        if is_form(&form) {
            words[0] = form;
        } else if words.len() == 1 {
            words.insert(0, "CMD-SHELL".to_owned());
        } else {
            words.insert(0, "CMD".to_owned());
        }
        if words.len() == 1 && words[0] != "NONE" {
            bail!("invalid health check {text:?}: a command has to follow");
        }
        return Ok(words);
    }
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    match first.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => Ok(owned(&["NONE"])),
        "CMD" | "CMD-SHELL" if rest.is_empty() => {
            bail!("invalid health check {text:?}: a command has to follow")
        }
        "CMD" => {
            let words = rest.split_whitespace();
            Ok(std::iter::once("CMD")
                .chain(words)
                .map(str::to_owned)
                .collect())
        }
        "CMD-SHELL" => Ok(owned(&["CMD-SHELL", rest])),
        _ if text.trim().is_empty() => {
            bail!("invalid health check: it is empty; use none for no check")
        }
        _ => Ok(owned(&["CMD-SHELL", text])),
    }
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text)
        .filter(|_| !text.starts_with('-'))
        .ok_or_else(|| "use a time such as 30s or 1m30s".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    if text == "disable" {
        return Ok(Duration::ZERO);
    }
    span(text)
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = span(text)?;
    if time.is_zero() {
        return Err("it has to be longer than nothing".to_owned());
    }
    Ok(time)
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "none" => Ok(OnFailure::None),
        "kill" => Ok(OnFailure::Kill),
        "restart" => Ok(OnFailure::Restart),
        "stop" => Ok(OnFailure::Stop),
        _ => Err("use none, kill, restart or stop".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_podmans_and_dockers_forms() {
        for (text, words) in [
            (
                "curl -f http://x || exit 1",
                &["CMD-SHELL", "curl -f http://x || exit 1"][..],
            ),
            ("true", &["CMD-SHELL", "true"]),
            (r#"["curl", "-f", "x"]"#, &["CMD", "curl", "-f", "x"]),
            (r#"["curl -f x"]"#, &["CMD-SHELL", "curl -f x"]),
            (r#"["CMD", "true"]"#, &["CMD", "true"]),
            (r#"["cmd-shell", "a; b"]"#, &["CMD-SHELL", "a; b"]),
            ("CMD curl -f  x", &["CMD", "curl", "-f", "x"]),
            ("CMD-SHELL a | b", &["CMD-SHELL", "a | b"]),
            ("none", &["NONE"]),
            ("[ -e /run/ok ]", &["CMD-SHELL", "[ -e /run/ok ]"]),
        ] {
            assert_eq!(command(text).unwrap(), words, "{text}");
        }
        for text in ["", "  ", "[]", "CMD", "CMD-SHELL ", r#"["CMD"]"#] {
            assert!(command(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(interval("disable"), Ok(Duration::ZERO));
        assert_eq!(interval("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["-1s", "1", "soon", ""] {
            assert!(span(text).is_err(), "{text}");
        }
        assert!(timeout("0s").is_err());
        assert_eq!(timeout("10ms"), Ok(Duration::from_millis(10)));
    }
}
