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

/// Whether there is a journal in which the user finds what they write to it: one on the disk, of which journald
/// gives everybody their own part, or one that they may read as a whole (systemd-journald.service(8), "Access
/// control").
pub fn has_journal() -> bool {
    if is_there(Path::new(JOURNAL)).is_err() {
        return false;
    }
    let Ok(machine) = fs::read_to_string("/etc/machine-id") else {
        return false;
    };
    let machine = machine.trim();
    let is_readable = |path: String| access(path, Access::READ_OK).is_ok();
    is_readable(format!("/var/log/journal/{machine}"))
        || is_readable(format!("/run/log/journal/{machine}/system.journal"))
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
