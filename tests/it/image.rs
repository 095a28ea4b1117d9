//! Images: layers and a configuration, made on the spot.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::archive::Layer;
use crate::env::kelp_program;
use crate::http::Registry;

/// An image.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Archives, the lowest first.
    layers: Vec<Vec<u8>>,
    /// The `config` of the image configuration.
    config: Value,
    /// Its `history`, if that is not one step for each layer.
    history: Option<Value>,
    /// What it says that it runs on; the host's architecture otherwise.
    architecture: Option<&'static str>,
}

impl Image {
    /// No layers, no configuration.
    pub(crate) fn empty() -> Self {
        Self {
            layers: Vec::new(),
            config: json!({}),
            history: None,
            architecture: None,
        }
    }

    /// busybox, the probe, and the users root and `user` (1000, with the group `extra`, 2000).
    pub(crate) fn busybox() -> Self {
        let busybox = static_busybox().expect("a static busybox");
        let applets = Command::new(&busybox).arg("--list").output().unwrap();
        let mut system = Layer::default();
        for directory in [
            "bin", "dev", "etc", "home", "proc", "run", "sys", "usr", "var",
        ] {
            system = system.directory(directory, 0o755);
        }
        system = system
            .directory("root", 0o700)
            .directory("tmp", 0o1777)
            .owned_directory("home/user", 0o755, (1000, 1000))
            .file("bin/busybox", 0o755, &fs::read(&busybox).unwrap())
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
            )
            .file(
                "etc/group",
                0o644,
                b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
            );
        for applet in String::from_utf8(applets.stdout).unwrap().lines() {
            if applet != "busybox" {
                system = system.symlink(&format!("bin/{applet}"), "busybox");
            }
        }
        let probe = Layer::default().file("bin/kelp-probe", 0o755, &fs::read(probe()).unwrap());
        Self::empty()
            .layer(system)
            .layer(probe)
            .set("Env", json!(["PATH=/usr/bin:/bin"]))
            .set("Cmd", json!(["sh"]))
    }

    /// Adds a layer on top.
    pub(crate) fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer.finish());
        self
    }

    /// Adds an archive that another program made as a layer on top.
    pub(crate) fn archive(mut self, bytes: Vec<u8>) -> Self {
        self.layers.push(bytes);
        self
    }

    /// Adds a layer at the bottom.
    pub(crate) fn below(mut self, layer: Layer) -> Self {
        self.layers.insert(0, layer.finish());
        self
    }

    /// Sets a member of the configuration, by its name in the OCI image specification.
    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Says that it is for an architecture, in Go's words.
    pub(crate) fn architecture(mut self, architecture: &'static str) -> Self {
        self.architecture = Some(architecture);
        self
    }

    /// Sets how it came to be.
    pub(crate) fn history(mut self, history: Value) -> Self {
        self.history = Some(history);
        self
    }

    /// Pushes it with gzip layers; the manifest's digest.
    pub(crate) fn push(&self, registry: &Registry, repository: &str, tag: &str) -> String {
        let compressed: Vec<Vec<u8>> = self.layers.iter().map(|layer| gzip(layer)).collect();
        let usual = || vec![json!({"created_by": "kelp's tests"}); self.layers.len()].into();
        let history = self.history.clone().unwrap_or_else(usual);
        let config = json!({
            "architecture": self.architecture.unwrap_or_else(architecture),
            "os": "linux",
            "config": self.config,
            "rootfs": {
                "type": "layers",
                "diff_ids": self.layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>(),
            },
            "history": history,
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8]| {
            json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "size": bytes.len(),
                "digest": digest(bytes),
            })
        };
        for blob in compressed.iter().chain([&config]) {
            registry.push_blob(repository, &digest(blob), blob);
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": compressed
                .iter()
                .map(|layer| descriptor("layer.v1.tar+gzip", layer))
                .collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        registry.push_manifest(repository, tag, &manifest);
        digest(&manifest)
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A busybox that needs no library.
pub(crate) fn static_busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join("busybox"));
    candidates.find(|file| fs::read(file).is_ok_and(|bytes| is_static(&bytes) == Some(true)))
}

/// Whether an executable names no loader: no program header of the type `PT_INTERP` (elf(5), of
/// 64 bits and little-endian).
pub(crate) fn is_static(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    let number = |offset: usize, size: usize| {
        let bytes = elf.get(offset..offset + size)?;
        let digits = bytes.iter().rev();
        Some(digits.fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number((table + index * size) as usize, 4)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

/// The program that tells what it sees; it is built beside kelp, or in another profile.
fn probe() -> PathBuf {
    let kelp = kelp_program();
    let places = ["kelp-probe", "../release/kelp-probe", "../debug/kelp-probe"];
    let mut candidates = places
        .iter()
        .map(|place| kelp.parent().unwrap().join(place));
    candidates
        .find(|path| path.is_file())
        .expect("kelp-probe is built: cargo build --package kelp-probe")
}

/// A root file system of the host's with these directories, busybox, and these names for it.
pub(crate) fn busybox_root(root: &Path, directories: &[&str], applets: &[&str]) {
    for directory in directories.iter().chain(&["bin"]) {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(static_busybox().unwrap(), root.join("bin/busybox")).unwrap();
    for applet in applets {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
}
