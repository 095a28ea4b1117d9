//! What holds for every parser.

use std::str::FromStr;

use super::*;

/// Words and marks that the parsers look for, so that random text reaches their inner branches.
const PIECES: &[&str] = &[
    "",
    ":",
    "::",
    ",",
    "=",
    "/",
    "-",
    "@",
    "#",
    ";",
    "[",
    "]",
    ".",
    "..",
    " ",
    "\"",
    "\\",
    "\0",
    "\n",
    "é",
    "\u{1f40b}",
    "%",
    "*",
    "+",
    "0",
    "1",
    "80",
    "65535",
    "65536",
    "4294967295",
    "18446744073709551616",
    "-1",
    "1.5",
    "/a",
    "tcp",
    "ro",
    "O",
    "size",
    "mode",
    "type=",
    "bind",
    "volume",
    "tmpfs",
    "image",
    "devpts",
    "glob",
    "src=",
    "dst=",
    "idmap=",
    "uids=",
    "gids=",
    "upperdir=",
    "keep-id",
    "auto",
    "uid",
    "uidmapping",
    "ctrl-",
    "SIG",
    "RTMIN",
    "RTMAX",
    "RLIMIT_",
    "nofile",
    "host",
    "k",
    "KiB",
    "label",
    ",target=",
    ",type=env",
    "mask",
    "max-size=",
    "[::1]",
    "127.0.0.1",
    "on-failure:",
    "net.ipv4.",
    "vendor.com/class=",
];

/// Numbers of a sequence that is the same at every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn check<T: FromStr<Err = Error>>(text: &str) {
    if let Err(error) = text.parse::<T>() {
        let said = error.to_string();
        assert!(said.starts_with("invalid "), "{said}");
        assert!(!said.contains(['\n', '\0']), "{said:?}");
        assert!(!said.ends_with('.'), "{said}");
    }
}

#[test]
fn no_text_makes_a_parser_panic_and_errors_are_one_line() {
    let mut random = Random(0x6b65_6c70);
    let host = [("A".to_owned(), "b".to_owned())];
    for _ in 0..20_000 {
        let count = random.next(9);
        let text: String = (0..count)
            .map(|_| PIECES[random.next(PIECES.len())])
            .collect();
        check::<AddHost>(&text);
        check::<DetachKeys>(&text);
        check::<Device>(&text);
        check::<IdMapping>(&text);
        check::<LogOption>(&text);
        check::<PullPolicy>(&text);
        check::<RestartPolicy>(&text);
        check::<Secret>(&text);
        check::<SecurityOption>(&text);
        check::<Signal>(&text);
        check::<StopTimeout>(&text);
        check::<Sysctl>(&text);
        let _ = env::argument(&text, &host);
        let _ = env::file(&text, "f", &host);
        let _ = mount::mount(&text, "/");
        let _ = mount::tmpfs(&text);
        let _ = mount::volume(&text, "/");
        let _ = namespace::network(&text);
        let _ = namespace::parse("pid", &text);
        let _ = namespace::user(&text);
        let _ = port::parse(&text);
        let _ = size::limit(&text);
        let _ = ulimit::parse(&text);
    }
}
