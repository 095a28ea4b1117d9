//! Measures extraction and removal: `unpack DIRECTORY JOBS ARCHIVE...` extracts every archive into a
//! directory of its own beneath DIRECTORY, JOBS at a time; `unpack --remove PATH...` removes trees.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use kelp_image::unpack::{Options, Ownership, unpack};
use rustix::fs::{Mode, OFlags};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    if let [first, paths @ ..] = arguments.as_slice()
        && first == "--remove"
    {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let count = kelp_image::remove::remove_trees(&paths)?;
        println!(
            "removed {count} files in {:.3} s",
            start.elapsed().as_secs_f64()
        );
        return Ok(());
    }
    let [directory, jobs, archives @ ..] = arguments.as_slice() else {
        return Err("usage: unpack DIRECTORY JOBS ARCHIVE...".into());
    };
    rustix::process::umask(Mode::empty());
    let queue = Mutex::new(archives.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..jobs.parse::<usize>().unwrap_or(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no job panics").next();
                    let Some((index, archive)) = next else {
                        return;
                    };
                    let target = Path::new(directory).join(index.to_string());
                    if let Err(error) = extract(archive, &target) {
                        eprintln!("{archive}: {error}");
                    }
                }
            });
        }
    });
    println!("all in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn extract(archive: &str, target: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    fs::create_dir_all(target)?;
    let root = rustix::fs::open(
        target,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let ownership = match std::env::var("OWNERSHIP").as_deref() {
        Ok("single") => Ownership::Single,
        _ => Ownership::Mapped,
    };
    let summary = unpack(File::open(archive)?, root, Options::layer(ownership), None)?;
    println!(
        "{archive}: {} files, {} bytes, {} in {:.3} s",
        summary.files,
        summary.size,
        summary.diff_id,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
