//! Debian's docker-registry, started for one test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// A registry that ends with the test.
pub(crate) struct Distribution {
    child: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Distribution {
    /// Whether it can be started; says why not.
    pub(crate) fn is_installed() -> bool {
        let installed = Path::new(PROGRAM).exists();
        if !installed {
            eprintln!("skipped: docker-registry is not installed (Debian's docker-registry)");
        }
        installed
    }

    /// Starts it on a free port, with its storage in `directory`. `http` and `rest` are further
    /// lines of its configuration.
    pub(crate) fn start(directory: &Path, http: &str, rest: &str) -> Self {
        let storage = directory.join("storage");
        fs::create_dir_all(&storage).unwrap();
        let config = directory.join(format!("config-{}.yml", next_number(directory)));
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{rest}",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find([',', '"', ' ', '\n']).unwrap_or(rest.len());
                break rest[..end].to_owned();
            }
        };
        // It blocks once its log's pipe is full.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    /// Without TLS and authentication.
    pub(crate) fn plain(directory: &Path) -> Self {
        Self::start(directory, "", "")
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that no other configuration in the directory has.
fn next_number(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}
