//! What a seccomp filter costs a start: compiled, and read from where filters are kept.
//!
//! `seccomp` prints the median of each step in microseconds. `seccomp once [DIRECTORY]` plans one
//! filter, as a process does that was just started, and prints its microseconds; with a directory
//! that keeps filters, the second such process reads what the first has compiled.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use kelp_runtime::capabilities::CapSet;
use kelp_runtime::seccomp;

const ROUNDS: usize = 2000;

/// Runs it again and again; the median.
fn show(what: &str, mut step: impl FnMut()) {
    let mut times: Vec<Duration> = (0..ROUNDS).map(|_| timed(&mut step)).collect();
    times.sort();
    println!("{what:20}{:8.1}", micros(times[ROUNDS / 2]));
}

fn timed(step: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    step();
    start.elapsed()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn plan(directory: Option<&Path>) {
    let program = seccomp::plan_cached(None, Some(CapSet::DEFAULT), false, directory);
    black_box(program.expect("the default profile is one"));
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "once") {
        let directory = words.get(1).map(Path::new);
        println!("{:.1}", micros(timed(&mut || plan(directory))));
        return;
    }
    let profile = seccomp::default_profile(CapSet::DEFAULT);
    show("make the profile", || {
        black_box(seccomp::default_profile(black_box(CapSet::DEFAULT)));
    });
    show("compile it", || {
        let _ = black_box(seccomp::plan(Some(black_box(&profile)), false));
    });
    show("a profile's key", || {
        let _ = black_box(seccomp::program_key(Some(black_box(&profile)), false));
    });
    let directory = std::env::temp_dir().join(format!("seccomp-{}", std::process::id()));
    plan(Some(&directory));
    show("read a kept one", || plan(Some(&directory)));
    std::fs::remove_dir_all(&directory).expect("remove what was kept");
}
