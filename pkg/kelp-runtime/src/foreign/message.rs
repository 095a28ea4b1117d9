//! What a runtime says when it fails, and what that means.

use serde_json::Value;

use super::Refusal;

/// The last thing that a runtime complains of: in its log, else on its standard error; nothing if it is silent.
pub(super) fn last(log: &[u8], stderr: &[u8]) -> Option<String> {
    in_text(log).or_else(|| in_text(stderr))
}

fn in_text(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines().rev().map(str::trim);
    let errors = lines
        .clone()
        .filter(|line| level(line).is_some_and(|level| is_bad(&level)));
    let line = errors.clone().next();
    let line = line.or_else(|| lines.find(|line| !line.is_empty()))?;
    let said = said(line);
    (!said.is_empty()).then_some(said)
}

fn is_bad(level: &str) -> bool {
    matches!(level, "error" | "fatal" | "panic")
}

/// The level of a log's line, in JSON or as logfmt.
fn level(line: &str) -> Option<String> {
    if let Ok(Value::Object(entry)) = serde_json::from_str(line) {
        let level = entry.get("level").or_else(|| entry.get("Level"))?;
        return Some(level.as_str()?.to_ascii_lowercase());
    }
    let (_, rest) = line.split_once("level=")?;
    Some(rest.split(' ').next().unwrap_or_default().to_owned())
}

/// The message of a log's line, or the line.
fn said(line: &str) -> String {
    if let Ok(Value::Object(entry)) = serde_json::from_str(line) {
        let said = ["msg", "message"].iter().find_map(|key| entry.get(*key));
        if let Some(said) = said.and_then(Value::as_str) {
            return one_line(said);
        }
    }
    if let Some((_, said)) = line.split_once("msg=") {
        // Go quotes it as JSON does.
        let text = serde_json::from_str::<String>(said);
        return one_line(&text.unwrap_or_else(|_| said.to_owned()));
    }
    one_line(line)
}

/// Without the backtrace that youki adds.
fn one_line(text: &str) -> String {
    let text = text.split("\nStack backtrace:").next().unwrap_or(text);
    text.trim().replace(['\n', '\r'], " ")
}

impl Refusal {
    /// By the words of runc, crun, youki and kelp. `program` is what was to be executed.
    pub(super) fn of(message: &str, program: &str) -> Self {
        let text = message.to_ascii_lowercase();
        let is_about_program = text.contains("exec") || message.contains(program);
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        // A mount or a working directory may be missing as well.
        if has(&["mount", "chdir", "mkdir"]) && !has(&["executable file"]) {
            Self::Setup
        } else if is_about_program && has(&["not found", "no such file or directory"]) {
            Self::NotFound
        } else if is_about_program
            && has(&[
                "permission denied",
                "operation not permitted",
                "exec format error",
                "is a directory",
                "not executable",
                "correct permissions",
            ])
        {
            Self::NotExecutable
        } else {
            Self::Setup
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_counts_in_either_format() {
        let json = br#"{"level":"warning","msg":"beware","time":"t"}
{"msg":"executable file `x` not found","level":"error","time":"t"}
{"level":"info","msg":"done"}"#;
        let logfmt = b"time=\"t\" level=error msg=\"exec: \\\"x\\\": permission denied\"\n";
        let traced =
            br#"{"level":"ERROR","message":"it failed\n\nStack backtrace:\n   0: <unknown>"}"#;
        let plain = b"crun: it failed\n\n";
        for (log, stderr, expected) in [
            (&json[..], &b"other"[..], "executable file `x` not found"),
            (&logfmt[..], b"", "exec: \"x\": permission denied"),
            (traced, b"", "it failed"),
            (b"", plain, "crun: it failed"),
        ] {
            assert_eq!(last(log, stderr).as_deref(), Some(expected));
        }
        assert_eq!(last(b"", b"\n"), None);
    }

    #[test]
    fn words_tell_what_could_not_be_executed() {
        for (message, expected) in [
            (
                "executable file `no` not found in $PATH: No such file or directory",
                Refusal::NotFound,
            ),
            (
                "runc create failed: unable to start container process: exec: \"/no\": stat /no: no \
                 such file or directory",
                Refusal::NotFound,
            ),
            (
                "unable to start container process: exec: \"no\": executable file not found in $PATH",
                Refusal::NotFound,
            ),
            ("no: permission denied", Refusal::NotExecutable),
            (
                "exec: \"no\": permission denied: unknown",
                Refusal::NotExecutable,
            ),
            (
                "exec process failed with error executable '/no' at path '\"/no\"' does not have correct \
                 permissions",
                Refusal::NotExecutable,
            ),
            ("mount `/no`: No such file or directory", Refusal::Setup),
            ("open /x: permission denied", Refusal::Setup),
        ] {
            assert_eq!(Refusal::of(message, "no"), expected, "{message}");
        }
    }
}
