//! How a container's output is to be kept: what was asked for, and whether it can be.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kelp_args::log_tag::Tagged;
use kelp_monitor::launch::{LogConfig, LogDriver};
use kelp_monitor::log::{JOURNAL, is_there};
use kelp_state::Record;
use rustix::fs::{Access, access};

use crate::Error;
use crate::container::config::CreateOptions;
use crate::image::Base;

/// Refuses what would disappear: output for which there is no journal, and what only a journal has.
pub(crate) fn check(options: &CreateOptions) -> Result<(), Error> {
    if options.log_driver == Some(LogDriver::Journald) {
        return is_there(Path::new(JOURNAL)).map_err(|_| {
            Error::invalid(format!(
                "the log driver journald needs systemd's journal, which does not listen at {JOURNAL}: use \
                 --log-driver=k8s-file"
            ))
        });
    }
    check_options(options)
}

/// Refuses what only a journal has.
pub(crate) fn check_options(options: &CreateOptions) -> Result<(), Error> {
    if options.log_driver == Some(LogDriver::Journald) {
        return Ok(());
    }
    let unused = if options.log_tag.is_some() {
        "tag"
    } else if !options.log_labels.is_empty() {
        "label"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "the log option {unused} is for the log driver journald alone: add --log-driver=journald"
    )))
}

/// Whether there is a journal in which the user finds what they write to it (systemd-journald.service(8), "Access
/// control"): one in memory that they may read, as members of its group, or their own part of one on the disk, which
/// system users don't have.
pub fn has_journal() -> bool {
    if is_there(Path::new(JOURNAL)).is_err() {
        return false;
    }
    let Ok(machine) = fs::read_to_string("/etc/machine-id") else {
        return false;
    };
    let user = kelp_userns::own::ids().0;
    finds_own(Path::new("/"), machine.trim(), user)
}

/// The same, by the journal's files below `root`.
fn finds_own(root: &Path, machine: &str, user: u32) -> bool {
    let may_read = |path: &Path| access(path, Access::READ_OK).is_ok();
    let in_memory = root.join("run/log/journal").join(machine);
    let in_memory = in_memory.join("system.journal");
    // Where this one is there, it is the one that is written: what is on the disk may be of another time.
    if in_memory.exists() {
        return may_read(&in_memory);
    }
    let on_disk = root.join("var/log/journal").join(machine);
    may_read(&on_disk.join("system.journal"))
        || may_read(&on_disk.join(format!("user-{user}.journal")))
}

/// What the monitor is told; `name` is the container's, and `labels` are its.
pub(crate) fn config(
    options: &CreateOptions,
    base: &Base,
    record: &Record,
    labels: &BTreeMap<String, String>,
) -> Result<LogConfig, Error> {
    let tagged = Tagged {
        id: record.id.as_str(),
        name: options.name.as_deref().unwrap_or_default(),
        image: &base.name,
        image_id: &base.id,
        labels,
    };
    let tag = options.log_tag.as_ref().map(|tag| tag.of(&tagged));
    let path = options.log_path.clone();
    let labels = options.log_labels.iter();
    Ok(LogConfig {
        driver: options.log_driver.unwrap_or_default(),
        path: path.unwrap_or_else(|| record.data.join("ctr.log")),
        max_size: options.log_max_size,
        max_files: options.log_max_files.max(1),
        tag: tag
            .transpose()
            .map_err(|error| Error::invalid(error.to_string()))?,
        labels: labels
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_journal_counts_where_the_user_finds_what_is_theirs() {
        let root = tempfile::tempdir().unwrap();
        let file = |path: &str, mode: u32| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let finds = |user| finds_own(root.path(), "m", user);
        // Root reads everything.
        let is_root = rustix::process::geteuid().is_root();
        assert!(!finds(1000));
        file("var/log/journal/m/system.journal", 0);
        assert_eq!(finds(1000), is_root);
        file("var/log/journal/m/user-1000.journal", 0o600);
        assert_eq!((finds(1000), finds(998)), (true, is_root));
        // What is on the disk is of another time.
        let active = file("run/log/journal/m/system.journal", 0);
        assert_eq!(finds(1000), is_root);
        fs::set_permissions(&active, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(finds(998));
    }
}
