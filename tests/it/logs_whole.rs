//! Logs are whole: no line is lost or doubled where many are written and files are rotated, and what a
//! container that lives for a moment writes is in its log and at its client to the byte.

use std::fs;
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;

use crate::env::Env;
use crate::kelp::{LIMIT, collect, wait};
use crate::steps::{Chance, is_nightly};

/// What one writes that counts: as many lines as `lines`, so many a second.
struct Writer {
    name: String,
    /// Whether all files of its log are kept.
    kept: bool,
    follower: Option<(Child, Receiver<Vec<u8>>)>,
}

/// The numbers of a log's lines, each with the text that belongs to it.
fn numbers(text: &str) -> Vec<usize> {
    let numbers = text.lines().map(|line| {
        let (number, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "a line that is written for the log", "{line}");
        number.parse().unwrap()
    });
    numbers.collect()
}

#[test]
fn many_writers_at_once_lose_no_line_by_rotation() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let (writers, lines, rate) = if is_nightly() {
        (50, 50_000, "10000")
    } else {
        (8, 10_000, "10000")
    };
    let count = lines.to_string();
    let program = [image.as_str(), "kelp-probe", "lines", &count, rate];
    let writers: Vec<_> = (0..writers)
        .map(|number| {
            let name = format!("writer{number}");
            let kept = number % 2 == 0;
            let files = if kept { "max-file=100" } else { "max-file=2" };
            let run = ["run", "-d", "--network=none", "--name", &name];
            let log = ["--log-opt", "max-size=100kb", "--log-opt", files];
            env.kelp(&[&run[..], &log, &program].concat()).succeeds();
            // One that begins in the middle of it.
            let follower = (kept && number % 4 == 0).then(|| {
                let follow = env.kelp(&["logs", "-f", &name]).into_command();
                let mut child = { follow }.stdout(Stdio::piped()).spawn().unwrap();
                let output = collect(child.stdout.take().unwrap());
                (child, output)
            });
            Writer {
                name,
                kept,
                follower,
            }
        })
        .collect();
    let all: Vec<_> = (1..=lines).collect();
    for Writer {
        name,
        kept,
        follower,
    } in writers
    {
        assert_eq!(env.kelp(&["wait", &name]).succeeds(), "0\n");
        if let Some((mut child, output)) = follower {
            assert_eq!(wait(&mut child, "logs -f"), 0);
            let text = String::from_utf8(output.recv_timeout(LIMIT).unwrap()).unwrap();
            assert!(numbers(&text) == all, "logs -f {name}: {}", outline(&text));
        }
        let text = env.kelp(&["logs", &name]).succeeds();
        let numbers = numbers(&text);
        if kept {
            assert!(numbers == all, "{name}: {}", outline(&text));
        } else {
            let first = *numbers.first().unwrap();
            assert!(first > 1, "{name}: nothing was rotated away");
            assert!(numbers == all[first - 1..], "{name}: {}", outline(&text));
        }
        env.kelp(&["rm", &name]).succeeds();
    }
}

/// Where numbered lines have gaps.
fn outline(text: &str) -> String {
    let numbers = numbers(text);
    let ends = (numbers.first(), numbers.last(), numbers.len());
    let gaps = numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]);
    let gaps: Vec<_> = gaps.take(5).collect();
    format!("first, last and count {ends:?}, gaps {gaps:?}")
}

/// Bytes by chance, in lines that are short, longer than a part of the log, or not ended.
fn random(chance: &mut Chance) -> Vec<u8> {
    let most = [1, 100, 5_000, 50_000][chance.below(4)];
    let size = chance.below(most);
    let line = [2, 50, 40_000][chance.below(3)];
    let byte = |_| match chance.below(line) {
        0 => b'\n',
        _ => chance.below(256) as u8,
    };
    (0..size).map(byte).collect()
}

/// What the log shows of it: a last line is ended.
fn logged(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.last().is_some_and(|&last| last != b'\n') {
        bytes.push(b'\n');
    }
    bytes
}

#[test]
fn what_short_containers_write_arrives_to_the_byte() {
    let count = if is_nightly() { 10_000 } else { 60 };
    let mut seeds = Chance::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            let seed = seeds.below(usize::MAX);
            scope.spawn(move || write_to_the_byte(Chance::of(seed as u64), count / 2));
        }
    });
}

fn write_to_the_byte(mut chance: Chance, count: usize) {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let written = env.path("h/written");
    fs::create_dir(&written).unwrap();
    let volume = format!("{}:/written:ro", written.display());
    let run = ["run", "--name=short", "--network=none", "-v", &volume];
    let script = "cat /written/err >&2 & cat /written/out; wait";
    let run = [&run[..], &[&image, "sh", "-c", script]].concat();
    for number in 0..count {
        let texts = [random(&mut chance), random(&mut chance)];
        for (text, name) in texts.iter().zip(["out", "err"]) {
            fs::write(written.join(name), text).unwrap();
        }
        let logs: &[&str] = &["logs", "short"];
        for (words, expected) in [
            (&run[..], texts.clone()),
            (logs, [logged(&texts[0]), logged(&texts[1])]),
        ] {
            let mut child = env.kelp(words).start();
            drop(child.stdin.take());
            let output = collect(child.stdout.take().unwrap());
            let errors = collect(child.stderr.take().unwrap());
            assert_eq!(wait(&mut child, words[0]), 0);
            let found = [output, errors].map(|stream| stream.recv_timeout(LIMIT).unwrap());
            let lengths = |texts: &[Vec<u8>; 2]| texts.each_ref().map(Vec::len);
            assert!(
                found == expected,
                "{} of container {number}: {:?} bytes, not {:?}",
                words[0],
                lengths(&found),
                lengths(&expected)
            );
        }
        env.kelp(&["rm", "short"]).succeeds();
    }
}
