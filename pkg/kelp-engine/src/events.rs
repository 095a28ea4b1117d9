//! The journal of events: noting them, and reading them as they come.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use kelp_state::ContainerId;
pub use kelp_state::events::{Event, append};
use rustix::fs::inotify::WatchFlags;

use crate::container::Config;
use crate::pod::PodConfig;
use crate::watch::{Watch, Woken};
use crate::{Engine, Error};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventRequest {
    /// Only those that happened then or later; without it all, but only new ones with `follow`.
    pub since: Option<SystemTime>,
    /// Only those until then; with `follow`, the reading ends then.
    pub until: Option<SystemTime>,
    /// Go on with what happens from now on.
    pub follow: bool,
}

impl Engine {
    /// Notes that something happened to a container.
    pub(crate) fn note(&self, action: &str, config: &Config) {
        self.note_code(action, config, None);
    }

    /// [`Engine::note`] with an exit code.
    pub(crate) fn note_code(&self, action: &str, config: &Config, exit_code: Option<i32>) {
        let mut event = Event::now("container", action, config.id.as_str(), &config.name);
        config.image_name.clone_into(&mut event.image);
        let pod = config.options.pod.as_ref();
        event.pod = pod.map(|pod| pod.pod.clone()).unwrap_or_default();
        event.attributes.clone_from(&config.labels);
        event.exit_code = exit_code;
        append(&self.paths, &event);
    }

    /// [`Engine::note`] where only the id is at hand.
    pub(crate) fn note_id(&self, action: &str, id: &ContainerId, exit_code: Option<i32>) {
        if let Ok(Some(config)) = Config::read(&self.paths, id) {
            self.note_code(action, &config, exit_code);
        }
    }

    /// Notes that something happened to an image, or to one of its names.
    pub(crate) fn note_image(&self, action: &str, id: &str, name: &str) {
        append(&self.paths, &Event::now("image", action, id, name));
    }

    /// Notes that something happened to a pod.
    pub(crate) fn note_pod(&self, action: &str, pod: &PodConfig) {
        let mut event = Event::now("pod", action, pod.id.as_str(), &pod.name);
        event.attributes.clone_from(&pod.labels);
        append(&self.paths, &event);
    }

    /// Notes that something happened to a volume.
    pub(crate) fn note_volume(&self, action: &str, name: &str) {
        append(&self.paths, &Event::now("volume", action, "", name));
    }

    /// Notes that something happened to a secret.
    pub(crate) fn note_secret(&self, action: &str, id: &str, name: &str) {
        append(&self.paths, &Event::now("secret", action, id, name));
    }

    /// Gives events to `each`, the oldest first. One whose reader went away (`EPIPE`) ends it without
    /// an error.
    pub fn read_events(
        &self,
        request: &EventRequest,
        mut each: impl FnMut(&Event) -> io::Result<()>,
    ) -> Result<(), Error> {
        let from = match request.since {
            None if request.follow && request.until.is_none() => Some(SystemTime::now()),
            since => since,
        };
        // Times are not in order where several wrote at once, or the clock was set.
        let mut take = |event: &Event| -> io::Result<()> {
            let wanted = from.is_none_or(|from| event.time >= from)
                && request.until.is_none_or(|until| event.time <= until);
            if wanted { each(event) } else { Ok(()) }
        };
        match self.read_journal(request, &mut take) {
            Err(Failure::Reader(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(Failure::Reader(error)) => Err(Error::io("write the events")(error)),
            Err(Failure::Other(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    fn read_journal(
        &self,
        request: &EventRequest,
        take: &mut dyn FnMut(&Event) -> io::Result<()>,
    ) -> Result<(), Failure> {
        // Before the files are opened, so that nothing goes unnoticed.
        let watch = if request.follow {
            let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
            Some(Watch::on(&self.paths.data, events)?)
        } else {
            None
        };
        let mut files = Vec::new();
        self.open_journals(&mut files)?;
        let mut late = false;
        loop {
            for file in &mut files {
                file.read(take)?;
            }
            let Some(watch) = watch.as_ref().filter(|_| !late) else {
                return Ok(());
            };
            // Where there is always something new, the time is never waited for.
            late = request.until.is_some_and(|until| until < SystemTime::now())
                || watch.wait_with(None, request.until)? == Woken::Late;
            self.open_journals(&mut files)?;
            // The one that was current is read on for those who had it open when it was renamed.
            let surplus = files.len().saturating_sub(2);
            for mut file in files.drain(..surplus) {
                file.read(take)?;
            }
        }
    }

    /// Adds the journal's files that are not among these, the older one first: a reader that was slow may have
    /// missed a rotation.
    fn open_journals(&self, files: &mut Vec<Journal>) -> Result<(), Error> {
        let [old, current] = kelp_state::events::files(&self.paths);
        let first = files.len();
        // The current one is opened first: if it is renamed meanwhile, it is met again as the old.
        for path in [&current, &old] {
            if let Some(file) = Journal::open(path)?
                && files.iter().all(|known| known.identity != file.identity)
            {
                files.push(file);
            }
        }
        files[first..].reverse();
        Ok(())
    }
}

enum Failure {
    Reader(io::Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// A file of the journal, read from its beginning on.
struct Journal {
    file: BufReader<File>,
    identity: (u64, u64),
    line: Vec<u8>,
}

impl Journal {
    fn open(path: &Path) -> Result<Option<Self>, Error> {
        let what = || format!("open {}", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(what())(error)),
        };
        let metadata = file.metadata().map_err(Error::io(what()))?;
        Ok(Some(Self {
            file: BufReader::with_capacity(64 << 10, file),
            identity: (metadata.dev(), metadata.ino()),
            line: Vec::new(),
        }))
    }

    /// Reads what is there. A line that is none of the journal's, as
    /// a crash of the machine leaves it, is passed over.
    fn read(&mut self, take: &mut dyn FnMut(&Event) -> io::Result<()>) -> Result<(), Failure> {
        loop {
            self.file
                .read_until(b'\n', &mut self.line)
                .map_err(Error::io("read the events"))?;
            if !self.line.ends_with(b"\n") {
                return Ok(());
            }
            let event = serde_json::from_slice(&self.line);
            self.line.clear();
            if let Ok(event) = event {
                take(&event).map_err(Failure::Reader)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::container::config::CgroupMode;
    use kelp_state::Paths;

    fn engine(root: &Path) -> Engine {
        Engine {
            cgroup_mode: CgroupMode::Enabled,
            storage: None,
            additional_stores: None,
            tell: None,
            paths: Paths {
                data: root.to_owned(),
                runtime: root.to_owned(),
                config: root.to_owned(),
            },
        }
    }

    fn event(second: u64) -> Event {
        Event {
            time: UNIX_EPOCH + Duration::from_secs(second),
            ..Event::now("container", "start", "id", &second.to_string())
        }
    }

    fn names(engine: &Engine, request: &EventRequest) -> Vec<String> {
        let mut names = Vec::new();
        engine
            .read_events(request, |event| {
                names.push(event.name.clone());
                Ok(())
            })
            .unwrap();
        names
    }

    #[test]
    fn both_files_are_read_and_times_limit_them() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path());
        assert!(names(&engine, &EventRequest::default()).is_empty());
        for second in 1..=2 {
            append(&engine.paths, &event(second));
        }
        std::fs::rename(root.path().join("events"), root.path().join("events.1")).unwrap();
        std::fs::write(root.path().join("events"), "damaged\n{}\n").unwrap();
        // The clock was wrong for a while.
        for second in [9, 3, 4] {
            append(&engine.paths, &event(second));
        }
        let at = |second| Some(UNIX_EPOCH + Duration::from_secs(second));
        for (since, until, expected) in [
            (None, None, &["1", "2", "9", "3", "4"][..]),
            (at(2), at(3), &["2", "3"]),
            (at(5), at(8), &[]),
            (at(5), None, &["9"]),
        ] {
            let request = EventRequest {
                since,
                until,
                follow: false,
            };
            assert_eq!(names(&engine, &request), expected);
        }
        // Following ends at a time that has passed.
        let request = EventRequest {
            since: None,
            until: at(8),
            follow: true,
        };
        assert_eq!(names(&engine, &request), ["1", "2", "3", "4"]);
    }

    #[test]
    fn a_follower_sees_what_comes_across_a_rotation() {
        let root = tempfile::tempdir().unwrap();
        let engine = engine(root.path());
        let request = EventRequest {
            since: Some(UNIX_EPOCH),
            until: None,
            follow: true,
        };
        append(&engine.paths, &event(1));
        let mut seen = Vec::new();
        let result = engine.read_events(&request, |met| {
            seen.push(met.name.clone());
            // Each is written when the one before has been seen.
            match seen.len() as u64 {
                2 => {
                    let (current, old) = (root.path().join("events"), root.path().join("events.1"));
                    std::fs::rename(current, old).unwrap();
                    append(&engine.paths, &event(3));
                }
                5 => return Err(io::ErrorKind::BrokenPipe.into()),
                count => append(&engine.paths, &event(count + 1)),
            }
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!(seen, ["1", "2", "3", "4", "5"]);
    }
}
