//! `--log`: what is complained of, for the engine that has called.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use kelp_format::units;

use crate::cli::output;

/// How a line of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=LEVEL msg="…"`.
    Text,
    /// A JSON object.
    Json,
}

/// The log, which may be nowhere.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    format: Format,
}

impl Log {
    pub fn new(path: Option<PathBuf>, format: Format) -> Self {
        Self { path, format }
    }

    /// Tells what was passed over, and what went wrong beside what was asked for.
    pub fn warn(&self, lines: &[String]) {
        for line in lines {
            self.add("warning", line);
            output::note(format_args!("kelp-runtime: warning: {line}"));
        }
    }

    /// Adds why a verb has failed; on standard error it is as well.
    pub fn error(&self, text: &str) {
        self.add("error", text);
    }

    fn add(&self, level: &str, text: &str) {
        let Some(path) = &self.path else {
            return;
        };
        let time = units::rfc3339(SystemTime::now());
        let line = match self.format {
            Format::Text => format!("time={time:?} level={level} msg={text:?}\n"),
            Format::Json => {
                let line = serde_json::json!({"level": level, "msg": text, "time": time});
                format!("{line}\n")
            }
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_in_both_formats() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::new(Some(path.clone()), Format::Text);
        log.warn(&["small".to_owned()]);
        log.error("large");
        Log::new(Some(path.clone()), Format::Json).error("larger");
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].ends_with(r#" level=warning msg="small""#),
            "{text}"
        );
        assert!(lines[1].ends_with(r#" level=error msg="large""#), "{text}");
        assert!(lines[2].contains(r#""level":"error""#), "{text}");
        assert_eq!(lines.len(), 3);
    }
}
