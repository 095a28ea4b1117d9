//! Other limits for a cgroup in which something runs: all of them, or none.

use std::fs;
use std::path::PathBuf;

use super::{Cgroup, controllers, hand_out, write_file};
use crate::error::Error;
use crate::resources::Setting;

/// The limit whose writing can't be taken back: the kernel makes room at once, and kills if it must.
const MEMORY: &str = "memory.max";

/// What it takes to have the limits again that there were before.
#[derive(Debug)]
pub struct Undo {
    cgroup: PathBuf,
    /// Files and what they said, in the order in which they were written.
    files: Vec<(String, String)>,
    /// Controllers that were handed out for it.
    controllers: Vec<String>,
}

impl Cgroup {
    /// Sets limits. If the kernel refuses one, those that were there before are there again.
    ///
    /// # Errors
    /// The first refusal.
    pub fn change(&self, settings: &[Setting]) -> Result<Undo, Error> {
        let mut undo = Undo {
            cgroup: self.path.clone(),
            files: Vec::new(),
            controllers: Vec::new(),
        };
        if let Some(parent) = self.path.parent() {
            let handed_out = hand_out(parent, &controllers(settings))?;
            undo.controllers = handed_out.into_iter().map(str::to_owned).collect();
        }
        let (last, first): (Vec<_>, Vec<_>) =
            settings.iter().partition(|setting| setting.file == MEMORY);
        for setting in first.into_iter().chain(last) {
            let before = fs::read_to_string(self.path.join(&setting.file)).unwrap_or_default();
            let before = restoring(setting, &before);
            undo.files.push((setting.file.clone(), before));
            if let Err(error) = self.apply(std::slice::from_ref(setting)) {
                undo.restore();
                return Err(error);
            }
        }
        Ok(undo)
    }
}

impl Undo {
    /// Has the limits be what they were.
    pub fn restore(self) {
        for (file, value) in self.files.iter().rev() {
            // What has been written can be written again.
            let _ = write_file(&self.cgroup.join(file), value);
        }
        let words: Vec<_> = self
            .controllers
            .iter()
            .map(|name| format!("-{name}"))
            .collect();
        if let Some(parent) = self.cgroup.parent().filter(|_| !words.is_empty()) {
            let _ = write_file(&parent.join("cgroup.subtree_control"), &words.join(" "));
        }
    }
}

/// What to write so that a file says again what it said before this setting.
fn restoring(setting: &Setting, before: &str) -> String {
    let device = setting.value.split(' ').next().unwrap_or_default();
    match (setting.file.as_str(), device.contains(':')) {
        // Files with a line for each device: what is not there has the default.
        ("io.max", true) => line(before, device)
            .unwrap_or_else(|| format!("{device} rbps=max wbps=max riops=max wiops=max")),
        ("io.weight", true) => line(before, device).unwrap_or_else(|| format!("{device} default")),
        ("io.weight", false) => line(before, "default").unwrap_or_default(),
        // The end of the line alone takes a set away; nothing at all is not written.
        _ => format!("{}\n", before.trim_end()),
    }
}

/// The line that begins with this word.
fn line(text: &str, word: &str) -> Option<String> {
    let mut lines = text.lines();
    let found = lines.find(|line| line.split(' ').next() == Some(word))?;
    Some(found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_can_be_written_again() {
        let max = "254:0 rbps=5 wbps=max riops=max wiops=max\n";
        for (file, value, before, expected) in [
            ("pids.max", "5", "max\n", "max\n"),
            ("cpu.max", "1 2", "max 100000\n", "max 100000\n"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("io.max", "254:0 wbps=1", max, max.trim_end()),
            (
                "io.max",
                "8:0 wbps=1",
                max,
                "8:0 rbps=max wbps=max riops=max wiops=max",
            ),
            ("io.weight", "200", "default 100\n", "default 100"),
            ("io.weight", "8:0 200", "default 100\n", "8:0 default"),
            ("io.weight", "8:0 200", "default 100\n8:0 50\n", "8:0 50"),
        ] {
            let setting = Setting {
                file: file.to_owned(),
                value: value.to_owned(),
                option: String::new(),
            };
            assert_eq!(restoring(&setting, before), expected, "{file} {value}");
        }
    }
}
