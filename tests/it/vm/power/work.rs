//! What is done until the power fails: two users of one store, each of whom marks every step.

use std::fs;
use std::sync::Arc;
use std::thread;

use super::mark::{Claims, END, Marks};
use super::{DISK, VOLUME, kelp};
use crate::archive::{Layer, noise};
use crate::http;
use crate::image::{Image, static_busybox};
use crate::registry::Registry;

/// Small files of a layer.
const FILES: u32 = 60;

/// What holds of all that a command is about once it is done.
#[derive(Clone, Copy)]
enum After<'a> {
    /// What it prints, which is an image's id.
    Printed,
    Is(&'a str),
    Gone,
}

struct Work {
    registry: Arc<Registry>,
    marks: Marks,
    /// In the names of all that is made: several processes may work one after another.
    process: u32,
}

/// Works for so many rounds.
pub(super) fn some(rounds: usize) {
    let registry = Registry::shared();
    let work = Work {
        registry,
        marks: Marks::open(DISK),
        process: std::process::id(),
    };
    let base = work.pull("base", 0);
    thread::scope(|scope| {
        scope.spawn(|| (0..rounds).for_each(|round| work.on_images(round)));
        scope.spawn(|| (0..rounds).for_each(|round| work.on_volumes(round, &base)));
    });
    work.marks.write(END, true, Claims::new());
}

impl Work {
    /// Runs a command, with a mark before and after; what it prints.
    fn does(&self, about: &[String], after: After<'_>, words: &[&str]) -> String {
        let claims = |what: Option<&str>| {
            let claim = |about: &String| (about.clone(), what.map(str::to_owned));
            about.iter().map(claim).collect::<Claims>()
        };
        let command = words.join(" ");
        self.marks.write(&command, false, claims(None));
        let printed = kelp(words).succeeds();
        let printed = printed.trim();
        let what = match after {
            After::Printed => Some(printed.trim_start_matches("sha256:")),
            After::Is(what) => Some(what),
            After::Gone => None,
        };
        self.marks.write(&command, true, claims(what));
        printed.to_owned()
    }

    /// Has an image be what a name in the registry means, and pulls it; the name.
    fn pull(&self, name: &str, round: usize) -> String {
        image(round).push(&http::Registry(&self.registry.address), name, "latest");
        let name = format!("{}/{name}:latest", self.registry.address);
        let words = ["pull", "-q", "--tls-verify=false", &name];
        self.does(&[about("image", &name)], After::Printed, &words);
        name
    }

    fn on_images(&self, round: usize) {
        let name =
            |kind: &str, round: usize| format!("localhost/{kind}-{}-{round}:latest", self.process);
        let image = |name: &str| [about("image", name)];
        // The same name for another image each time.
        let pulled = self.pull(&format!("moving-{}", self.process), 2 * round);
        let other = self.pull(&format!("other-{}-{round}", self.process), 2 * round + 1);
        let id = kelp(&["image", "inspect", "--format={{.Id}}", &other]).succeeds();
        let id = After::Is(id.trim());
        let tagged = name("tagged", round);
        self.does(&image(&tagged), id, &["tag", &other, &tagged]);
        let archive = format!("/tmp/power-{}.tar", self.process);
        let _ = fs::remove_file(&archive);
        self.does(&[], After::Gone, &["save", "-q", "-o", &archive, &tagged]);
        self.does(&image(&other), After::Gone, &["rmi", &other]);
        self.does(&image(&tagged), After::Gone, &["rmi", &tagged]);
        self.does(&image(&tagged), id, &["load", "-q", "-i", &archive]);
        let imported = name("imported", round);
        let root = format!("/tmp/power-{}-root.tar", self.process);
        fs::write(&root, base(round).finish()).unwrap();
        let words = ["import", "-q", &root, &imported];
        self.does(&image(&imported), After::Printed, &words);
        self.does(&[], After::Gone, &["image", "prune", "-f"]);
        if round % 2 == 1 {
            let names = [imported, name("imported", round - 1)];
            let both = names.each_ref().map(|name| about("image", name));
            self.does(&both, After::Gone, &["rmi", &names[0], &names[1]]);
            self.does(&image(&tagged), After::Gone, &["untag", &tagged]);
            self.does(&image(&pulled), After::Gone, &["rmi", &pulled]);
        }
    }

    fn on_volumes(&self, round: usize, base: &str) {
        let name = |kind: &str, round: usize| format!("{kind}-{}-{round}", self.process);
        let (volume, container) = (name("volume", round), name("container", round));
        let label = format!("round={round}");
        let words = ["volume", "create", "--label", &label, &volume];
        let there = round.to_string();
        self.does(&[about("volume", &volume)], After::Is(&there), &words);
        let made = [about("container", &container)];
        let words = [
            "--network=none",
            "--pull=never",
            "-v",
            &format!("{volume}:/data"),
        ];
        let program = [base, "sh", "-c", "echo more >/data/more; echo file >/file"];
        let words = [&["run", "--name", &container], &words[..], &program].concat();
        self.does(&made, After::Is("exited"), &words);
        let image = format!("localhost/{}:latest", name("committed", round));
        let words = ["commit", "-q", &container, &image];
        self.does(&[about("image", &image)], After::Printed, &words);
        self.does(&made, After::Gone, &["rm", &container]);
        if round % 2 == 1 {
            self.does(
                &[about("volume", &volume)],
                After::Gone,
                &["volume", "rm", &volume],
            );
            let older = format!("localhost/{}:latest", name("committed", round - 1));
            self.does(&[about("image", &older)], After::Gone, &["rmi", &older]);
        }
    }
}

fn about(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

/// A layer that a container can start on.
fn base(round: usize) -> Layer {
    let busybox = fs::read(static_busybox().unwrap()).unwrap();
    let mut layer = Layer::default();
    for name in ["bin", "data", "dev", "etc", "proc", "sys"] {
        layer = layer.directory(name, 0o755);
    }
    layer = layer.file("bin/busybox", 0o755, &busybox);
    for applet in ["sh", "cat"] {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    let content = format!("{round}\n");
    layer.file(VOLUME.0, 0o644, VOLUME.1.as_bytes()).owned_file(
        "etc/round",
        0o600,
        (1000, 1000),
        content.as_bytes(),
    )
}

/// An image whose lower layer all have, and whose upper one is of this round.
fn image(round: usize) -> Image {
    let mut layer = Layer::default().directory("files", 0o755);
    for number in 0..FILES {
        let path = format!("files/{number}");
        let content = noise(round as u32 * FILES + number, 20 * number as usize);
        layer = layer.owned_file(&path, 0o640, (number, 1000), &content);
    }
    let large = noise(round as u32, 300_000);
    layer = layer
        .file("large", 0o644, &large)
        .hardlink("files/link", "large")
        .whiteout("etc/round");
    Image::empty().layer(base(0)).layer(layer)
}
