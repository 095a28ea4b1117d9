//! Debian's docker-registry on the loopback interface: plain, or with TLS and a password.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use tempfile::TempDir;

use crate::http;
use crate::image::Image;

/// A registry that runs.
pub(crate) struct Registry {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    directory: PathBuf,
    pushed: Mutex<BTreeSet<String>>,
    // Declared in this order: the shell ends once its input is closed.
    lifeline: Option<ChildStdin>,
    shell: Child,
}

/// A user that a registry asks for.
pub(crate) const USER: (&str, &str) = ("kelp", "a secret");

impl Registry {
    /// The one that all tests of this process share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<Registry>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| {
            let directory = storage();
            Arc::new(Self::start(directory, ""))
        }))
    }

    /// A plain one that no other test uses.
    pub(crate) fn own() -> Self {
        Self::start(storage(), "")
    }

    /// One with a certificate of its own (`ca.crt` in [`Registry::certificate`]) that asks for
    /// [`USER`]; with the images that `pushed` fills a plain one with beforehand.
    pub(crate) fn locked(push: impl FnOnce(&http::Registry<'_>)) -> Self {
        let directory = storage();
        let plain = Self::start(directory, "");
        push(&http::Registry(&plain.address));
        let directory = plain.stop_and_keep();
        make_certificate(&directory);
        make_password_file(&directory);
        let path = directory.display();
        let more = format!(
            "  tls: {{certificate: {path}/ca.crt, key: {path}/key.pem}}\nauth:\n  htpasswd: \
             {{realm: kelp, path: {path}/htpasswd}}\n"
        );
        Self::start(directory, &more)
    }

    /// The certificate of a [`Registry::locked`] one.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Pushes an image unless one of this name has been.
    pub(crate) fn push_once(&self, name: &str, make: &dyn Fn() -> Image) {
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        if !pushed.contains(name) {
            make().push(&http::Registry(&self.address), name, "latest");
            pushed.insert(name.to_owned());
        }
    }

    /// Forgets all that was pushed.
    pub(crate) fn forget_all(&self) {
        match fs::remove_dir_all(self.directory.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    fn start(directory: PathBuf, more: &str) -> Self {
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: \
             {}/data}}\n  delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:0\n{more}",
            directory.display()
        );
        fs::write(directory.join("config.yml"), config).unwrap();
        // The registry ends when this process does, however that ends: then the pipe is closed.
        let script = "docker-registry serve \"$1/config.yml\" <&- &
                      exec 2>/dev/null; cat >/dev/null
                      kill $!; wait $!; [ -e \"$1/keep\" ] || rm -rf \"$1\"";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&directory)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(shell.stderr.take().unwrap()).lines();
        let address = log
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')?;
                Some(rest[..end].to_owned())
            })
            .expect("the registry says where it listens");
        // A full pipe would stop it.
        thread::spawn(move || log.for_each(drop));
        Self {
            address,
            directory,
            pushed: Mutex::default(),
            lifeline: shell.stdin.take(),
            shell,
        }
    }

    fn stop_and_keep(mut self) -> PathBuf {
        fs::write(self.directory.join("keep"), "").unwrap();
        self.stop();
        fs::remove_file(self.directory.join("keep")).unwrap();
        self.directory.clone()
    }

    fn stop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn storage() -> PathBuf {
    TempDir::with_prefix("kelp-registry-").unwrap().keep()
}

fn make_certificate(directory: &Path) {
    let output = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-out", "ca.crt", "-keyout", "key.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn make_password_file(directory: &Path) {
    let output = Command::new("htpasswd")
        .args(["-Bbn", USER.0, USER.1])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::write(directory.join("htpasswd"), output.stdout).unwrap();
}
