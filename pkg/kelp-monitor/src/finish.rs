//! The end of a container: exit record, cgroup, and for `--rm` the record itself.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use kelp_runtime::cgroup::Cgroup;
use kelp_state::events::{self, Event};
use kelp_state::file::{self, Durability};
use kelp_state::shown::Place;
use kelp_state::{ExitRecord, HealthRecord, Paths, Record, name};

use crate::launch::Launch;
use crate::overlays;

/// Writes how it ended, then takes away what is no longer needed; all of a `--rm` container, unless it is started
/// `again`. What is returned is in the trash,
/// or where it was on a full disk: nobody has to wait until it is deleted.
#[must_use = "the trash takes space until it is emptied"]
pub(crate) fn finish(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    exit: &ExitRecord,
    cgroup: Option<&Cgroup>,
    again: bool,
) -> Vec<PathBuf> {
    let name = current_name(paths, record, launch);
    if launch.remove && !again {
        note(paths, record, launch, &name, "died", Some(exit.code));
        let trash = remove(paths, record, launch, &name, cgroup);
        note(paths, record, launch, &name, "cleanup", None);
        note(paths, record, launch, &name, "remove", None);
        return trash;
    }
    // The record says the end before anything else is done: a kill from here on leaves garbage.
    let _ = record.write_exit(exit, Durability::Synced);
    note(paths, record, launch, &name, "died", Some(exit.code));
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    note(paths, record, launch, &name, "cleanup", None);
    // What stays where it is goes before the next start.
    Vec::from_iter(overlays::put_away(paths, record).ok().flatten())
}

/// Removes a `--rm` container that was to be started again, and now is not.
#[must_use = "the trash takes space until it is emptied"]
pub(crate) fn give_up(paths: &Paths, record: &Record, launch: &Launch) -> Vec<PathBuf> {
    let name = current_name(paths, record, launch);
    let trash = remove(paths, record, launch, &name, None);
    note(paths, record, launch, &name, "remove", None);
    trash
}

/// Deletes what [`finish`] has put in the trash.
pub(crate) fn empty(trash: &[PathBuf]) {
    for place in trash {
        let _ = kelp_state::trash::empty(place);
    }
}

/// Removes a `--rm` container: the record's directory is renamed first, so that nobody sees half.
fn remove(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    name: &str,
    cgroup: Option<&Cgroup>,
) -> Vec<PathBuf> {
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    Place::of_container(&paths.data, &record.id).forget();
    let mut trash = Vec::from_iter(kelp_state::trash::put_record(paths, record));
    name::release(paths, name, &record.id);
    // Who else uses a volume is not for the monitor to find out: the next prune takes it away.
    for volume in &launch.anonymous_volumes {
        let put = kelp_state::trash::put_own_volume(paths, volume);
        trash.extend(put.ok().flatten());
    }
    if let Some(file) = &launch.cid_file {
        let _ = fs::remove_file(file);
    }
    if let Some(pod) = &launch.pod {
        kelp_state::pod::forget(paths, &pod.id, &record.id);
    }
    trash
}

/// The container's name, which may have changed since it was started: then the link of the old one
/// is gone or another's.
pub(crate) fn current_name(paths: &Paths, record: &Record, launch: &Launch) -> String {
    if name::owner(paths, &launch.name).as_ref() != Some(&record.id)
        && let Ok(Some(now)) = file::read_json::<Launch>(&record.data.join("launch.json"))
    {
        return now.name;
    }
    launch.name.clone()
}

fn pod_of(launch: &Launch) -> String {
    let pod = launch.pod.as_ref();
    pod.map(|pod| pod.id.to_string()).unwrap_or_default()
}

/// Notes what happened to the container.
pub(crate) fn note(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    name: &str,
    action: &str,
    exit_code: Option<i32>,
) {
    let event = Event {
        image: launch.image.clone(),
        pod: pod_of(launch),
        attributes: launch.labels.clone(),
        exit_code,
        ..Event::now("container", action, record.id.as_str(), name)
    };
    events::append(paths, &event);
}

/// Notes what the container's health is: that it is another one, or what its last check came to.
pub(crate) fn note_health(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    name: &str,
    health: &HealthRecord,
    is_logged: bool,
) {
    let last = health.log.last().filter(|_| is_logged);
    let event = Event {
        image: launch.image.clone(),
        pod: pod_of(launch),
        attributes: launch.labels.clone(),
        health_status: health.status.to_string(),
        health_failing_streak: health.failing_streak,
        health_log: last
            .and_then(|check| serde_json::to_string(check).ok())
            .unwrap_or_default(),
        ..Event::now("container", "health_status", record.id.as_str(), name)
    };
    events::append(paths, &event);
}

/// The exit record of a container that ended now.
pub(crate) fn exit_record(
    code: i32,
    oom_killed: bool,
    started: Option<SystemTime>,
    error: &str,
) -> ExitRecord {
    ExitRecord {
        code,
        oom_killed,
        started,
        finished: SystemTime::now(),
        error: error.to_owned(),
        stopped: false,
        interrupted: false,
        restarts: 0,
    }
}
