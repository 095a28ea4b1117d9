//! The unpack and remove roles as processes in real user namespaces.
//!
//! This binary is both sides: called as `roles internal ...` it is the role, otherwise it runs its
//! tests one after another. It needs no test harness, which would not let it be a role.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kelp_image::Digest;
use kelp_image::role::{CONTROL, ProcessUnpacker, remove_main, unpack_arguments, unpack_main};
use kelp_image::store::Store;
use kelp_image::unpack::Ownership;
use kelp_image::unpacker::Unpacker;
use kelp_sys::clone::Child;
use kelp_sys::exec::CStringArray;
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::spawn::Spawn;
use kelp_userns::subid::SubIds;
use kelp_userns::{IdMap, IdMapping, UserNamespace};
use rustix::pipe::{PipeFlags, pipe_with};

type Outcome = Result<(), Box<dyn std::error::Error>>;

type Test = (&'static str, fn() -> Outcome);

const TESTS: [Test; 6] = [
    ("a layer is published with mapped owners", published),
    ("with other ids inside the owners are right too", keep_id),
    ("what is dropped is garbage and can be removed", dropped),
    ("without an order nothing is left", no_order),
    ("another diff id is an error", other_diff_id),
    ("an id out of range is named", out_of_range),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["internal", "unpack", ..] => return ExitCode::from(unpack_main(&arguments[2..]) as u8),
        ["internal", "remove", ..] => return ExitCode::from(remove_main(&arguments[2..]) as u8),
        _ => {}
    }
    if let Err(error) = kelp_userns::namespace::probe() {
        println!("skipped: {error}");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS {
        match test() {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                println!("test {name} ... FAILED: {error}");
                failed += 1;
            }
        }
    }
    ExitCode::from(failed)
}

struct Fixture {
    directory: tempfile::TempDir,
    userns: UserNamespace,
}

impl Fixture {
    fn new(map: IdMap) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            directory: tempfile::tempdir()?,
            userns: UserNamespace::create(map)?,
        })
    }

    fn data(&self) -> &Path {
        self.directory.path()
    }

    fn key(&self) -> String {
        self.userns.map().key()
    }

    fn ownership(&self) -> Ownership {
        if self.userns.map().is_single() {
            Ownership::Single
        } else {
            Ownership::Mapped
        }
    }

    fn spawn(&self, arguments: &[String], fds: Vec<(BorrowedFd<'_>, RawFd)>) -> io::Result<Child> {
        let mut argv = vec![CString::from(c"roles"), CString::from(c"internal")];
        for argument in arguments {
            argv.push(CString::new(argument.as_str())?);
        }
        Spawn {
            program: CString::from(c"/proc/self/exe"),
            argv: CStringArray::new(argv),
            envp: CStringArray::new(Vec::new()),
            fds,
            userns: Some(self.userns.as_fd()),
            session: false,
            death_signal: None,
        }
        .start()
    }

    fn with_unpacker(&self, test: impl FnOnce(&dyn Unpacker) -> Outcome) -> Outcome {
        let spawn =
            |arguments: &[String], fds: Vec<(BorrowedFd<'_>, RawFd)>| self.spawn(arguments, fds);
        let unpacker = ProcessUnpacker::new(self.data(), &self.key(), self.ownership(), &spawn)?;
        test(&unpacker)
    }

    /// An archive as the unpacker gets it.
    fn input(&self, archive: &[u8]) -> io::Result<OwnedFd> {
        let path = self.data().join("input");
        fs::write(&path, archive)?;
        Ok(File::open(path)?.into())
    }

    fn in_tmp(&self) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(self.data().join("tmp"))?
            .map(|entry| Ok(entry?.path()))
            .collect()
    }

    /// Removes trees in the namespace.
    fn remove(&self, paths: &[PathBuf]) -> Outcome {
        let mut arguments = vec!["remove".to_owned()];
        arguments.extend(paths.iter().map(|path| path.display().to_string()));
        let child = self.spawn(&arguments, Vec::new())?;
        check(wait_pidfd(child.pidfd.as_fd())? == Exit::Code(0), "remove")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Subordinate ids own some of it.
        let _ = self.remove(&[self.data().join("layers"), self.data().join("tmp")]);
    }
}

fn check(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn ids() -> (u32, u32) {
    (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    )
}

fn map() -> Result<IdMap, Box<dyn std::error::Error>> {
    let (uid, gid) = ids();
    let subordinate = SubIds::of_user(uid)?;
    if uid == 0 && subordinate.is_empty() {
        let ids = vec![IdMapping {
            container: 0,
            host: 0,
            size: 65536,
        }];
        return Ok(IdMap {
            uids: ids.clone(),
            gids: ids,
        });
    }
    Ok(subordinate.default_map(uid, gid))
}

/// An archive with a file for each owner.
fn archive(owners: &[u32]) -> Vec<u8> {
    let mut archive = Vec::new();
    for owner in owners {
        let mut block = [0; 512];
        let name = format!("file{owner}");
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0004755\0");
        for at in [108, 116] {
            block[at..at + 8].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0]);
            block[at + 4..at + 8].copy_from_slice(&owner.to_be_bytes());
        }
        block[124..136].copy_from_slice(b"00000000005\0");
        block[136..148].copy_from_slice(b"00000000001\0");
        block[156] = b'0';
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&block);
        archive.extend_from_slice(b"hello");
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn owners(fixture: &Fixture, archive: &[u8]) -> Outcome {
    let diff_id = Digest::of(archive);
    fixture.with_unpacker(|unpacker| {
        check(!unpacker.has_layer(&diff_id)?, "not here before")?;
        let mut job = unpacker.start(&diff_id, fixture.input(archive)?)?;
        let summary = job.finish()?;
        check(summary.diff_id == diff_id, "diff id")?;
        check(
            !unpacker.has_layer(&diff_id)?,
            "not here before its publication",
        )?;
        job.publish()?;
        check(unpacker.has_layer(&diff_id)?, "here after it")
    })?;
    check(fixture.in_tmp()?.is_empty(), "tmp is empty")?;
    let store = Store::open(fixture.data())?;
    let layers = store.layers(&fixture.key())?;
    let info = layers.info(&diff_id)?.ok_or("the layer has a size")?;
    check(info.files == 2 && info.size == 10, "size and files")?;
    let map = fixture.userns.map();
    for owner in [0, 1000] {
        let file = layers.path(&diff_id).join(format!("file{owner}"));
        let metadata = fs::metadata(file)?;
        let expected = match fixture.ownership() {
            Ownership::Mapped => (map.host_uid(owner), map.host_gid(owner), 0o4755),
            Ownership::Single => (map.host_uid(0), map.host_gid(0), 0o755),
        };
        let found = (
            Some(metadata.uid()),
            Some(metadata.gid()),
            metadata.mode() & 0o7777,
        );
        check(
            found == expected,
            &format!("{found:?} instead of {expected:?}"),
        )?;
    }
    // What the user can't remove, the role can.
    let trash: Vec<_> = store.collect_garbage(true)?.trash;
    check(trash.len() == 1, "an image refers to no layer")?;
    fixture.remove(&trash)?;
    check(!trash[0].exists(), "removed")
}

fn published() -> Outcome {
    owners(&Fixture::new(map()?)?, &archive(&[0, 1000]))
}

fn keep_id() -> Outcome {
    let (uid, gid) = ids();
    let subordinate = SubIds::of_user(uid)?;
    if subordinate.is_empty() {
        println!("skipped: this user has no range in /etc/subuid");
        return Ok(());
    }
    let map = subordinate.keep_id_map(uid, gid, 1000, 1000)?;
    owners(&Fixture::new(map)?, &archive(&[0, 1000]))
}

fn dropped() -> Outcome {
    let fixture = Fixture::new(map()?)?;
    let archive = archive(&[0, 1000]);
    let diff_id = Digest::of(&archive);
    fixture.with_unpacker(|unpacker| {
        let mut job = unpacker.start(&diff_id, fixture.input(&archive)?)?;
        job.finish()?;
        let store = Store::open(fixture.data())?;
        check(
            store.collect_garbage(true)?.trash.is_empty(),
            "a live extraction is no garbage",
        )?;
        drop(job);
        check(!unpacker.has_layer(&diff_id)?, "not published")
    })?;
    let garbage = Store::open(fixture.data())?.collect_garbage(true)?;
    check(
        garbage.trash == fixture.in_tmp()?,
        "what is left is garbage",
    )?;
    fixture.remove(&garbage.trash)?;
    check(fixture.in_tmp()?.is_empty(), "tmp is empty")
}

fn no_order() -> Outcome {
    let fixture = Fixture::new(map()?)?;
    let archive = archive(&[0]);
    for order in ["", "abort\n", "commit"] {
        let input = fixture.input(&archive)?;
        let (reply, reply_writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (control_reader, control) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut arguments = vec!["unpack".to_owned()];
        arguments.extend(unpack_arguments(
            fixture.data(),
            &fixture.key(),
            fixture.ownership(),
            None,
            None,
        ));
        let fds = vec![
            (input.as_fd(), 0),
            (reply_writer.as_fd(), 1),
            (control_reader.as_fd(), CONTROL),
        ];
        let child = fixture.spawn(&arguments, fds)?;
        drop((reply_writer, control_reader));
        File::from(control).write_all(order.as_bytes())?;
        let exit = wait_pidfd(child.pidfd.as_fd())?;
        check(exit == Exit::Code(1), &format!("{order:?}: {exit:?}"))?;
        let said = io::read_to_string(File::from(reply))?;
        check(said.contains("give up"), &said)?;
        check(fixture.in_tmp()?.is_empty(), "tmp is empty")?;
    }
    Ok(())
}

fn other_diff_id() -> Outcome {
    let fixture = Fixture::new(map()?)?;
    fixture.with_unpacker(|unpacker| {
        let expected = Digest::of(b"other");
        let mut job = unpacker.start(&expected, fixture.input(&archive(&[0]))?)?;
        let error = job.finish().err().ok_or("it is an error")?.to_string();
        check(error.contains(&expected.to_string()), &error)
    })
}

fn out_of_range() -> Outcome {
    let fixture = Fixture::new(map()?)?;
    if fixture.ownership() == Ownership::Single {
        return Ok(());
    }
    fixture.with_unpacker(|unpacker| {
        let archive = archive(&[3_000_000]);
        let mut job = unpacker.start(&Digest::of(&archive), fixture.input(&archive)?)?;
        let error = job.finish().err().ok_or("it is an error")?.to_string();
        let named = error.contains("3000000:3000000") && error.contains("/etc/subuid");
        check(named && error.contains("file3000000"), &error)
    })
}
