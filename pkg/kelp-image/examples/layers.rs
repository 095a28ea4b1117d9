//! Measures what a pull does with its layers: `layers DATA JOBS ARCHIVE...` extracts each archive in
//! the hidden unpack role, inside this user's own namespace, and publishes it; `layers --remove
//! PATH...` removes trees in the remove role.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use kelp_image::Digest;
use kelp_image::decompress::Decompressor;
use kelp_image::digest::{Algorithm, Hasher};
use kelp_image::role::{ProcessUnpacker, remove_main, unpack_main};
use kelp_image::unpack::Ownership;
use kelp_image::unpacker::Unpacker;
use kelp_sys::clone::Child;
use kelp_sys::exec::CStringArray;
use kelp_sys::spawn::Spawn;
use kelp_userns::UserNamespace;
use kelp_userns::subid::SubIds;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["internal", "unpack", ..] => std::process::exit(unpack_main(&arguments[2..])),
        ["internal", "remove", ..] => std::process::exit(remove_main(&arguments[2..])),
        ["--remove", ..] => remove(&arguments[1..]),
        [data, jobs, ..] => extract(Path::new(data), jobs.parse()?, &arguments[2..]),
        _ => Err("usage: layers DATA JOBS ARCHIVE...".into()),
    }
}

fn namespace() -> Result<UserNamespace, Box<dyn std::error::Error>> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let ids = SubIds::of_user(uid)?;
    let map = match std::env::var("MAP").as_deref() {
        Ok("keep-id") => ids.keep_id_map(uid, gid, uid, gid)?,
        Ok("single") => kelp_userns::IdMap::single(uid, gid),
        _ => ids.default_map(uid, gid),
    };
    Ok(UserNamespace::create(map)?)
}

fn spawn(
    userns: &UserNamespace,
    arguments: &[String],
    fds: Vec<(BorrowedFd<'_>, RawFd)>,
) -> io::Result<Child> {
    let mut argv = vec![CString::from(c"layers"), CString::from(c"internal")];
    for argument in arguments {
        argv.push(CString::new(argument.as_str())?);
    }
    Spawn {
        program: CString::from(c"/proc/self/exe"),
        argv: CStringArray::new(argv),
        envp: CStringArray::new(Vec::new()),
        fds,
        userns: Some(userns.as_fd()),
        session: false,
        death_signal: None,
    }
    .start()
}

fn extract(
    data: &Path,
    jobs: usize,
    archives: &[String],
) -> Result<(), Box<dyn std::error::Error>> {
    let diff_ids: Vec<Digest> = archives
        .iter()
        .map(|archive| diff_id(archive))
        .collect::<io::Result<_>>()?;
    let start = Instant::now();
    let userns = namespace()?;
    let ownership = if userns.map().is_single() {
        Ownership::Single
    } else {
        Ownership::Mapped
    };
    let spawn =
        |arguments: &[String], fds: Vec<(BorrowedFd<'_>, RawFd)>| spawn(&userns, arguments, fds);
    let unpacker = ProcessUnpacker::new(data, &userns.map().key(), ownership, &spawn)?;
    let queue = Mutex::new(archives.iter().zip(&diff_ids));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no job panics").next();
                    let Some((archive, diff_id)) = next else {
                        return;
                    };
                    if let Err(error) = one(&unpacker, archive, diff_id, start) {
                        eprintln!("{archive}: {error}");
                    }
                }
            });
        }
    });
    println!("all in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn one(
    unpacker: &dyn Unpacker,
    archive: &str,
    diff_id: &Digest,
    start: Instant,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut job = unpacker.start(diff_id, File::open(archive)?.into())?;
    let summary = job.finish()?;
    let extracted = start.elapsed();
    job.publish()?;
    println!(
        "{archive}: {} files, {} bytes; extracted at {:.3} s, published at {:.3} s",
        summary.files,
        summary.size,
        extracted.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn diff_id(archive: &str) -> io::Result<Digest> {
    let mut source = Decompressor::new(File::open(archive)?)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = source.fill(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

fn remove(paths: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let userns = namespace()?;
    let mut arguments = vec!["remove".to_owned()];
    arguments.extend(paths.iter().cloned());
    let child = spawn(&userns, &arguments, Vec::new())?;
    let exit = kelp_sys::process::wait_pidfd(child.pidfd.as_fd())?;
    println!(
        "removed in {:.3} s ({exit:?})",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
