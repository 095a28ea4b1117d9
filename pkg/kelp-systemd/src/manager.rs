//! Calls of systemd's manager interface, and the wait for the jobs that they start.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::job::{Job, JobResult};
use crate::wire::{self, Kind, Message, Reader, Writer};

/// A manager that is silent for so long does not answer any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What sd-bus reads at first, the authentication included (its `bus_socket_read_auth`).
const FIRST_READ: usize = 256;

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be reached, or went away.
    #[error("talk to systemd")]
    Io(#[from] io::Error),
    /// It refused, in its own words.
    #[error("systemd refuses: {text}")]
    Refused {
        /// The error's name on D-Bus.
        name: String,
        /// The words.
        text: String,
    },
    /// The job that it began did not succeed.
    #[error("systemd could not start the scope: {0}")]
    Failed(JobResult),
    /// It says what nobody understands.
    #[error("systemd does not speak D-Bus: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// Whether a unit of that name is there already.
    pub fn is_unit_exists(&self) -> bool {
        matches!(self, Self::Refused { name, .. } if name.ends_with(".UnitExists"))
    }
}

/// A connection to a manager of systemd's, the user's or the system's.
#[derive(Debug)]
pub struct Manager {
    stream: UnixStream,
    received: Vec<u8>,
    /// Whether the answer to the authentication has been read.
    greeted: bool,
    serial: u32,
}

/// A transient scope to be made: a unit for processes that systemd did not start itself.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `NAME.scope`.
    pub name: &'a str,
    /// What lists of units show.
    pub description: &'a str,
    /// The slice it is put in; empty for the manager's default.
    pub slice: &'a str,
    /// The process that is moved into it.
    pub pid: u32,
    /// How long its processes have between the request to stop and SIGKILL; microseconds.
    pub stop_timeout: u64,
}

impl Manager {
    /// Connects to the manager whose runtime directory this is: `XDG_RUNTIME_DIR`, or /run of the system's.
    /// The error `NotFound` means that there is none.
    pub fn connect(runtime: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(runtime.join("systemd/private"))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Self::over(stream)
    }

    /// Says who is there. No name is given, because a user namespace has other ids than the host: the
    /// manager asks the kernel. Its answer is read together with the first message's.
    fn over(mut stream: UnixStream) -> Result<Self, Error> {
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        Ok(Self {
            stream,
            received: Vec::new(),
            greeted: false,
            serial: 0,
        })
    }

    /// Asks for a scope whose cgroup is the user's to divide. The answer is waited for by
    /// [`Job::wait`], so that other work can be done meanwhile.
    pub fn start_scope(mut self, scope: &Scope<'_>) -> Result<Job, Error> {
        let mut body = Writer::default();
        body.string(scope.name);
        body.string("fail");
        body.array(8, |properties| {
            let text = |value: &str| {
                let value = value.to_owned();
                move |writer: &mut Writer| writer.string(&value)
            };
            properties.property("Description", "s", text(scope.description));
            if !scope.slice.is_empty() {
                properties.property("Slice", "s", text(scope.slice));
            }
            properties.property("Delegate", "b", |value| value.number(1));
            properties.property("CollectMode", "s", text("inactive-or-failed"));
            properties.property("TimeoutStopUSec", "t", |value| {
                value.long(scope.stop_timeout);
            });
            properties.property("PIDs", "au", |value| {
                value.array(4, |pids| pids.number(scope.pid));
            });
        });
        // No units beside it.
        body.array(8, |_| {});
        let serial = self.send("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        Ok(Job {
            manager: self,
            serial,
        })
    }

    /// Moves a process into the cgroup `below` (`/name`) of a unit of this manager.
    pub fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<(), Error> {
        let mut body = Writer::default();
        body.string(unit);
        body.string(below);
        body.array(4, |pids| pids.number(pid));
        let serial = self.send("AttachProcessesToUnit", "ssau", body)?;
        self.answer(serial).map(drop)
    }

    /// Stops a unit, which kills its processes in the end, and forgets that it failed.
    pub fn stop(mut self, unit: &str) -> Result<(), Error> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        let serial = self.send("StopUnit", "ss", body)?;
        let job = Job {
            manager: self,
            serial,
        };
        match job.wait() {
            // It went by itself.
            Err(Error::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
            result => result,
        }
    }

    /// Stops a unit and starts it again, and waits until that has ended, at most so long. What the job has come
    /// to is told; that it was taken on means nothing yet.
    pub fn restart(&mut self, unit: &str, limit: Duration) -> Result<JobResult, Error> {
        let mut body = Writer::default();
        body.string(unit);
        body.string("replace");
        let serial = self.send("RestartUnit", "ss", body)?;
        self.result_of(serial, limit)
    }

    /// Waits for the end of the job that a call has begun.
    pub(crate) fn result_of(&mut self, serial: u32, limit: Duration) -> Result<JobResult, Error> {
        let answer = self.answer(serial)?;
        let job = Reader::new(&answer.body)
            .string()
            .ok_or(Error::Protocol("an answer without a job"))?;
        let deadline = Instant::now() + limit;
        loop {
            // The manager tells all its private clients of every job's end: id, job, unit, result.
            let message = self.receive(deadline)?;
            if message.kind != Kind::Signal || message.member != "JobRemoved" {
                continue;
            }
            let mut body = Reader::new(&message.body);
            let parts = (body.number(), body.string(), body.string(), body.string());
            match parts {
                (_, Some(path), _, Some(result)) if path == job => {
                    return Ok(JobResult::of(&result));
                }
                _ => {}
            }
        }
    }

    /// Has the manager run its generators and read all units anew.
    pub fn reload(&mut self) -> Result<(), Error> {
        let serial = self.send("Reload", "", Writer::default())?;
        self.answer(serial).map(drop)
    }

    /// How a unit is: loaded or not (`LoadState`), active or not (`ActiveState`), and more exactly
    /// (`SubState`), in systemd's words.
    pub fn state(&mut self, unit: &str) -> Result<[String; 3], Error> {
        let interface = "org.freedesktop.systemd1.Unit";
        let mut text = |name| {
            let answer = self.property(unit, interface, name)?;
            let mut value = Reader::new(&answer.body);
            match (value.signature().as_deref(), value.string()) {
                (Some("s"), Some(text)) => Ok(text),
                _ => Err(Error::Protocol("a property of another type")),
            }
        };
        Ok([text("LoadState")?, text("ActiveState")?, text("SubState")?])
    }

    /// The units in memory whose names fit one of these patterns (glob(7)), each with whether it is active
    /// (`ActiveState`), in systemd's words.
    pub fn list(&mut self, patterns: &[&str]) -> Result<Vec<(String, String)>, Error> {
        let mut body = Writer::default();
        // Of any state.
        body.array(4, |_| {});
        body.array(4, |body| {
            for pattern in patterns {
                body.string(pattern);
            }
        });
        let serial = self.send("ListUnitsByPatterns", "asas", body)?;
        let answer = self.answer(serial)?;
        // Name, description, load, active and sub state, whom it follows, path; its job, and that one's type and path.
        let units = Reader::new(&answer.body).array(8, |unit| {
            let name = unit.string()?;
            unit.string()?;
            unit.string()?;
            let active = unit.string()?;
            for _ in 0..3 {
                unit.string()?;
            }
            unit.number()?;
            unit.string()?;
            unit.string()?;
            Some((name, active))
        });
        units.ok_or(Error::Protocol("a list of units that ends too early"))
    }

    /// Whether a unit's cgroup is the user's to divide: a service's or scope's `Delegate=`.
    pub fn delegates(&mut self, unit: &str) -> Result<bool, Error> {
        let interface = match unit.rsplit_once('.') {
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            _ => "org.freedesktop.systemd1.Service",
        };
        let answer = self.property(unit, interface, "Delegate")?;
        let mut value = Reader::new(&answer.body);
        match (value.signature().as_deref(), value.number()) {
            (Some("b"), Some(value)) => Ok(value != 0),
            _ => Err(Error::Protocol("a property of another type")),
        }
    }

    fn property(&mut self, unit: &str, interface: &str, name: &str) -> Result<Message, Error> {
        let mut body = Writer::default();
        body.string(interface);
        body.string(name);
        let path = format!("/org/freedesktop/systemd1/unit/{}", label(unit));
        let method = (path.as_str(), "org.freedesktop.DBus.Properties", "Get");
        let serial = self.call(method, "ss", body)?;
        self.answer(serial)
    }

    fn send(&mut self, member: &str, signature: &str, body: Writer) -> Result<u32, Error> {
        let manager = "org.freedesktop.systemd1.Manager";
        self.call(
            ("/org/freedesktop/systemd1", manager, member),
            signature,
            body,
        )
    }

    fn call(
        &mut self,
        method: (&str, &str, &str),
        signature: &str,
        body: Writer,
    ) -> Result<u32, Error> {
        self.serial += 1;
        let message = wire::call(self.serial, method, signature, body);
        if message.len() <= FIRST_READ {
            // In one piece with the authentication it would stay in the buffer of sd-bus, unread until more comes.
            let deadline = Instant::now() + PATIENCE;
            while !self.greeted && !self.greet()? {
                self.read_more(deadline)?;
            }
        }
        self.stream.write_all(&message)?;
        Ok(self.serial)
    }

    /// The answer to a call; signals that come before it are dropped.
    fn answer(&mut self, serial: u32) -> Result<Message, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(deadline)?;
            if message.reply_to != Some(serial) {
                continue;
            }
            return match message.kind {
                Kind::Error => Err(Error::Refused {
                    text: Reader::new(&message.body).string().unwrap_or_default(),
                    name: message.error,
                }),
                _ => Ok(message),
            };
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message, Error> {
        loop {
            if !self.greeted && !self.greet()? {
                self.read_more(deadline)?;
                continue;
            }
            match wire::length(&self.received).map_err(Error::Protocol)? {
                Some(length) if length <= self.received.len() => {
                    let bytes: Vec<u8> = self.received.drain(..length).collect();
                    return wire::parse(&bytes).ok_or(Error::Protocol("a malformed message"));
                }
                _ => self.read_more(deadline)?,
            }
        }
    }

    /// Takes the answer to the authentication off what was received: the line `DATA`, which asks for
    /// a name and got none, and the line `OK` with the server's id. Whether it is there.
    fn greet(&mut self) -> Result<bool, Error> {
        while let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
            let line: Vec<u8> = self.received.drain(..end + 2).collect();
            if line.starts_with(b"OK ") {
                self.greeted = true;
                return Ok(true);
            }
            if !line.starts_with(b"DATA") {
                return Err(Error::Protocol("the authentication is refused"));
            }
        }
        Ok(false)
    }

    fn read_more(&mut self, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::from(io::ErrorKind::TimedOut).into())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A unit's name as the last part of an object's path: what is no letter or digit is its code
/// (sd_bus_path_encode(3)).
fn label(unit: &str) -> String {
    let mut label = String::new();
    for (index, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            let _ = write!(label, "_{byte:02x}");
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// A manager that answers to the authentication, and then to one message, with these bytes; what it has
    /// received.
    fn answering(greeting: &[u8], answer: Vec<u8>) -> (Manager, thread::JoinHandle<Vec<u8>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let greeting = greeting.to_vec();
        let server = thread::spawn(move || {
            let mut received = Vec::new();
            let begins = |bytes: &[u8]| {
                let mut places = bytes.windows(7);
                places.position(|place| place == b"BEGIN\r\n")
            };
            read(&mut theirs, &mut received, |bytes| begins(bytes).is_some());
            theirs.write_all(&greeting).unwrap();
            read(&mut theirs, &mut received, |bytes| {
                let message = &bytes[begins(bytes).unwrap() + 7..];
                wire::length(message) == Ok(Some(message.len()))
            });
            // Who has gone does not hear it.
            let _ = theirs.write_all(&answer);
            received
        });
        (Manager::over(ours).unwrap(), server)
    }

    /// Reads until that is enough, or to the end.
    fn read(stream: &mut UnixStream, received: &mut Vec<u8>, is_enough: impl Fn(&[u8]) -> bool) {
        let mut buffer = [0; 4096];
        while !is_enough(received) {
            let count = stream.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            received.extend(&buffer[..count]);
        }
    }

    fn served(answer: Vec<u8>) -> (Manager, thread::JoinHandle<Vec<u8>>) {
        answering(GREETING, answer)
    }

    fn scope() -> Scope<'static> {
        Scope {
            name: "kelp-1.scope",
            description: "kelp",
            slice: "",
            pid: 17,
            stop_timeout: 5,
        }
    }

    /// A message of this kind with string fields and a body.
    fn message(kind: u8, reply_to: Option<u32>, member: &str, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        for byte in [b'l', kind, 0, 1] {
            writer.byte(byte);
        }
        writer.number(body.len() as u32);
        writer.number(1);
        writer.array(8, |fields| {
            if let Some(serial) = reply_to {
                fields.align(8);
                fields.byte(5);
                fields.signature("u");
                fields.number(serial);
            }
            fields.align(8);
            fields.byte(if kind == 3 { 4 } else { 3 });
            fields.signature("s");
            fields.string(member);
        });
        writer.align(8);
        for byte in body {
            writer.byte(*byte);
        }
        writer.into_bytes()
    }

    fn strings(texts: &[&str]) -> Vec<u8> {
        let mut writer = Writer::default();
        for text in texts {
            writer.string(text);
        }
        writer.into_bytes()
    }

    fn removed(job: &str, result: &str) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.number(1);
        for text in [job, "kelp-1.scope", result] {
            writer.string(text);
        }
        message(4, None, "JobRemoved", &writer.into_bytes())
    }

    const GREETING: &[u8] = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n";

    #[test]
    fn a_scope_is_there_when_its_job_is_done() {
        let answer = [
            // Another client's, and one before the answer.
            removed("/job/1", "failed"),
            message(2, Some(1), "", &strings(&["/job/2"])),
            removed("/job/1", "failed"),
            removed("/job/2", "done"),
        ];
        let (manager, server) = served(answer.concat());
        manager.start_scope(&scope()).unwrap().wait().unwrap();
        let sent = server.join().unwrap();
        assert!(sent.starts_with(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"));
    }

    #[test]
    fn a_job_that_failed_and_a_refusal_say_so() {
        let failed = [
            message(2, Some(1), "", &strings(&["/job/2"])),
            removed("/job/2", "canceled"),
        ];
        let (manager, server) = served(failed.concat());
        let error = manager.start_scope(&scope()).unwrap().wait().unwrap_err();
        assert!(matches!(error, Error::Failed(JobResult::Canceled)));
        server.join().unwrap();
        let refused = message(3, Some(1), "a.UnitExists", &strings(&["it is there"]));
        let (manager, server) = served(refused);
        let error = manager.start_scope(&scope()).unwrap().wait().unwrap_err();
        assert_eq!(error.to_string(), "systemd refuses: it is there");
        server.join().unwrap();
    }

    #[test]
    fn a_restart_tells_what_its_job_came_to() {
        for (word, result) in [
            ("done", JobResult::Done),
            ("failed", JobResult::Failed),
            ("canceled", JobResult::Canceled),
            ("timeout", JobResult::Timeout),
            ("dependency", JobResult::Dependency),
            ("skipped", JobResult::Skipped),
            ("frozen", JobResult::Other("frozen".to_owned())),
        ] {
            let answer = [
                message(2, Some(1), "", &strings(&["/job/2"])),
                removed("/job/1", "done"),
                removed("/job/2", word),
            ];
            let (mut manager, server) = served(answer.concat());
            let told = manager.restart("a.service", PATIENCE).unwrap();
            assert_eq!((told.to_string().as_str(), &told), (word, &result));
            let sent = server.join().unwrap();
            assert!(sent.windows(11).any(|text| text == b"RestartUnit"));
        }
        // The answer alone is no end, and one that never comes is waited for as long as was said.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let taken_on = message(2, Some(1), "", &strings(&["/job/2"]));
        theirs.write_all(&[GREETING, &taken_on].concat()).unwrap();
        let mut manager = Manager::over(ours).unwrap();
        let error = manager.restart("a.service", Duration::from_millis(1));
        let Err(Error::Io(error)) = error else {
            panic!("{error:?}")
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_property_of_a_unit_is_read() {
        assert_eq!(label("1-a.service"), "_31_2da_2eservice");
        let yes = [1, b'b', 0, 0, 1, 0, 0, 0];
        let (mut manager, server) = served(message(2, Some(1), "", &yes));
        assert!(manager.delegates("a.service").unwrap());
        server.join().unwrap();
        let text = [1, b's', 0, 0, 1, 0, 0, 0, b'a', 0];
        let (mut manager, server) = served(message(2, Some(1), "", &text));
        assert!(manager.delegates("a.service").is_err());
        server.join().unwrap();
    }

    #[test]
    fn units_are_read_anew() {
        let (mut manager, server) = served(message(2, Some(1), "", &[]));
        manager.reload().unwrap();
        let sent = server.join().unwrap();
        assert!(sent.windows(6).any(|text| text == b"Reload"));
    }

    #[test]
    fn a_unit_tells_how_it_is() {
        let value = |text: &str| {
            let mut writer = Writer::default();
            writer.signature("s");
            writer.string(text);
            writer.into_bytes()
        };
        let answers = [(1, "loaded"), (2, "active"), (3, "running")];
        let answers = answers.map(|(serial, text)| message(2, Some(serial), "", &value(text)));
        // It answers in advance, and hears what is asked to the end.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(&[GREETING, &answers.concat()].concat())
            .unwrap();
        let server = thread::spawn(move || {
            let mut received = Vec::new();
            read(&mut theirs, &mut received, |_| false);
            received
        });
        let mut manager = Manager::over(ours).unwrap();
        assert_eq!(
            manager.state("a.service").unwrap(),
            ["loaded", "active", "running"]
        );
        drop(manager);
        let received = server.join().unwrap();
        for name in ["LoadState", "ActiveState", "SubState"] {
            let mut places = received.windows(name.len());
            assert!(places.any(|place| place == name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn units_are_listed_with_their_states() {
        let mut body = Writer::default();
        body.array(8, |units| {
            for (name, active) in [("a@1.service", "active"), ("b.service", "deactivating")] {
                units.align(8);
                for text in [name, "of kelp", "loaded", active, "running", "", "/unit"] {
                    units.string(text);
                }
                units.number(0);
                units.string("");
                units.string("/");
            }
        });
        let body = body.into_bytes();
        let (mut manager, server) = served(message(2, Some(1), "", &body));
        let units = manager.list(&["a@*.service", "b.service"]).unwrap();
        let expected = [("a@1.service", "active"), ("b.service", "deactivating")];
        let expected = expected.map(|(name, active)| (name.to_owned(), active.to_owned()));
        assert_eq!(units, expected);
        let sent = server.join().unwrap();
        assert!(sent.windows(11).any(|text| text == b"a@*.service"));
        let (mut manager, server) = served(message(2, Some(1), "", &body[..body.len() - 4]));
        assert!(manager.list(&["b.service"]).is_err());
        server.join().unwrap();
    }

    #[test]
    fn what_is_cut_or_is_no_dbus_is_an_error() {
        let whole = message(2, Some(1), "", &strings(&["/job/2"]));
        for end in [0, 9, whole.len()] {
            let (manager, server) = served(whole[..end].to_vec());
            assert!(manager.start_scope(&scope()).unwrap().wait().is_err());
            server.join().unwrap();
        }
        let (manager, server) = served(b"HTTP/1.1 400 Bad Request\r\n".to_vec());
        let error = manager.start_scope(&scope()).unwrap().wait().unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
        server.join().unwrap();
        let (manager, server) = answering(b"DATA\r\nREJECTED\r\n", Vec::new());
        let error = manager.start_scope(&scope()).unwrap().wait().unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error}");
        server.join().unwrap();
    }
}
