//! `HEALTHCHECK`.

use std::str::FromStr;
use std::time::Duration;

use kelp_format::units::parse_span;

use super::words::json_list;

/// How to find out whether a container works; what is `None` is as it was, or the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheck {
    /// `NONE`; `CMD`, a program and its arguments; or `CMD-SHELL` and a line for the shell.
    pub test: Vec<String>,
    /// How long between two checks.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How long it may fail in the beginning.
    pub start_period: Option<Duration>,
    /// How long between two checks in the beginning.
    pub start_interval: Option<Duration>,
    /// How often it fails before the container counts as not working.
    pub retries: Option<u32>,
}

impl FromStr for HealthCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut check = Self::default();
        let mut rest = text.trim();
        while let Some(flag) = rest.strip_prefix("--") {
            let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
            let (name, value) = flag
                .split_once('=')
                .ok_or_else(|| format!("HEALTHCHECK --{flag} needs a value"))?;
            let span = || {
                parse_span(value)
                    .filter(|_| !value.starts_with('-'))
                    .ok_or_else(|| format!("HEALTHCHECK --{name}: {value:?} is no span of time"))
            };
            match name {
                "interval" => check.interval = Some(span()?),
                "timeout" => check.timeout = Some(span()?),
                "start-period" => check.start_period = Some(span()?),
                "start-interval" => check.start_interval = Some(span()?),
                "retries" => {
                    let retries = value.parse();
                    check.retries =
                        Some(retries.map_err(|_| "HEALTHCHECK --retries must be a number")?);
                }
                _ => return Err(format!("HEALTHCHECK has no --{name}")),
            }
            rest = after.trim_start();
        }
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let command = command.trim();
        check.test = match (kind.to_ascii_uppercase().as_str(), command) {
            ("NONE", "") if check == Self::default() => vec!["NONE".to_owned()],
            ("NONE", _) => return Err("HEALTHCHECK NONE takes nothing else".to_owned()),
            ("CMD", "") => return Err("HEALTHCHECK CMD needs a command".to_owned()),
            ("CMD", command) => match json_list(command) {
                Some(words) if words.is_empty() => {
                    return Err("HEALTHCHECK CMD needs a command".to_owned());
                }
                Some(words) => [vec!["CMD".to_owned()], words].concat(),
                None => vec!["CMD-SHELL".to_owned(), command.to_owned()],
            },
            _ => return Err("HEALTHCHECK must be followed by CMD or NONE".to_owned()),
        };
        Ok(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_read_with_its_spans() {
        let check: HealthCheck = "--interval=1m30s --timeout=500ms --retries=3 CMD curl -f x"
            .parse()
            .unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!(check.interval, Some(Duration::from_secs(90)));
        assert_eq!(check.timeout, Some(Duration::from_millis(500)));
        assert_eq!((check.retries, check.start_period), (Some(3), None));
        let check: HealthCheck = r#"CMD ["true", "x"]"#.parse().unwrap();
        assert_eq!(check.test, ["CMD", "true", "x"]);
        assert_eq!("none".parse::<HealthCheck>().unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for text in [
            "",
            "true",
            "CMD",
            "CMD []",
            "NONE x",
            "--retries=3 NONE",
            "--interval=5 CMD x",
            "--interval CMD x",
            "--foo=1 CMD x",
            "--retries=x CMD y",
        ] {
            assert!(text.parse::<HealthCheck>().is_err(), "{text}");
        }
    }
}
