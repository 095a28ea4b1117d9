//! Output that can be counted.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How many times a second lines are written.
const BURSTS: u32 = 100;

/// Writes `count` lines that begin with their number, from 1 on, and `rate` of them a second, or as many as are
/// taken.
pub(crate) fn write(count: &str, rate: &str) -> ExitCode {
    let (Ok(count), Ok(rate)) = (count.parse::<u64>(), rate.parse::<u64>()) else {
        eprintln!("lines takes two numbers");
        return ExitCode::FAILURE;
    };
    let burst = (rate / u64::from(BURSTS)).max(1);
    let start = Instant::now();
    let mut text = String::new();
    for number in 1..=count {
        let _ = writeln!(text, "{number} a line that is written for the log");
        if number % burst == 0 || number == count {
            if io::stdout().write_all(text.as_bytes()).is_err() || io::stdout().flush().is_err() {
                return ExitCode::FAILURE;
            }
            text.clear();
            let due =
                Duration::from_secs(1) / BURSTS * u32::try_from(number / burst).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    }
    ExitCode::SUCCESS
}
