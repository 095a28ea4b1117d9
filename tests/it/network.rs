//! Networks of containers. Everything stays on loopback addresses.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::env::Env;
use crate::kelp::LIMIT;
use crate::skip::{no_pasta, skip};

/// An environment whose containers can have a network.
fn connected() -> Option<Env> {
    let env = Env::new()?;
    if let Some(missing) = no_pasta() {
        skip(missing);
        return None;
    }
    Some(env)
}

/// Asks a server by HTTP until it answers; the body.
pub(crate) fn get(port: u16) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let end = Instant::now() + LIMIT;
    loop {
        let mut answer = String::new();
        let result = TcpStream::connect_timeout(&address, LIMIT).and_then(|mut stream| {
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut answer)
        });
        if let (Ok(_), Some((_, body))) = (&result, answer.split_once("\r\n\r\n")) {
            return body.to_owned();
        }
        assert!(
            Instant::now() < end,
            "no answer from port {port}: {result:?}"
        );
        std::thread::yield_now();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn none_has_a_loopback_interface_and_no_other() {
    let Some(env) = Env::new() else { return };
    let script = "ls /sys/class/net; ip -o link show up | grep -c '<LOOPBACK,UP'";
    assert_eq!(env.shell(&["--network", "none"], script), "lo\n1\n");
}

#[test]
fn host_is_the_hosts() {
    let Some(env) = Env::new() else { return };
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let inside = env.shell(&["--network", "host"], "readlink /proc/self/ns/net");
    assert_eq!(inside.trim(), own.to_str().unwrap());
}

#[test]
fn ports_of_a_network_that_has_none_are_left_out() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (mode, port) in [("host", "-p80"), ("none", "-p8080:80"), ("none", "-P")] {
        let network = format!("--network={mode}");
        let words = ["run", "--name=web", &network, port, &image, "echo", "on"];
        let done = env.kelp(&words).done();
        let said = format!(
            "Port mappings have been discarded because \"{mode}\" network namespace mode does not \
             support them\n"
        );
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (0, "on\n", said.as_str())
        );
        assert_eq!(env.kelp(&["port", "web"]).succeeds(), "");
        env.kelp(&["rm", "web"]).succeeds();
    }
}

#[test]
fn a_container_has_one_network() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let words = ["create", "--network=none", "--net", "host", &image];
    assert_eq!(
        env.kelp(&words).fails(125),
        "Error: cannot set multiple networks without bridge network mode"
    );
}

#[test]
fn a_published_port_leads_into_the_container() {
    let Some(env) = connected() else { return };
    let image = env.busybox();
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:8080");
    let script = "mkdir /www && echo served > /www/index.html && httpd -f -p 8080 -h /www";
    env.kelp(&[
        "run", "-d", "--name", "web", "-p", &publish, &image, "sh", "-c", script,
    ])
    .succeeds();
    assert_eq!(get(port), "served\n");
    assert_eq!(
        env.kelp(&["port", "web"]).succeeds(),
        format!("8080/tcp -> 127.0.0.1:{port}\n")
    );
    let line = env
        .kelp(&["run", "--rm", "-p", &publish, &image, "true"])
        .fails(125);
    assert!(
        line.contains(&port.to_string()) && line.contains("in use"),
        "{line}"
    );
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
    // Free again as soon as the container is gone.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
}

#[test]
fn a_port_is_chosen_where_none_is_given() {
    let Some(env) = connected() else { return };
    let image = env.busybox();
    let script = "mkdir /www && echo chosen > /www/index.html && httpd -f -p 8080 -h /www";
    env.kelp(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "127.0.0.1::8080",
        &image,
        "sh",
        "-c",
        script,
    ])
    .succeeds();
    let line = env.kelp(&["port", "web", "8080"]).succeeds();
    let port = line
        .trim()
        .strip_prefix("127.0.0.1:")
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(get(port), "chosen\n");
    env.kelp(&["rm", "-f", "-t", "0", "web"]).succeeds();
}

#[test]
fn the_hosts_loopback_is_out_of_reach() {
    let Some(env) = connected() else { return };
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = service.local_addr().unwrap().port();
    let script = format!(
        "gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')
         for host in 127.0.0.1 $gateway host.containers.internal; do
             nc -w 1 $host {port} </dev/null && echo $host leads there
         done; true"
    );
    assert_eq!(env.shell(&[], &format!("({script}) 2>/dev/null")), "");
    service.set_nonblocking(true).unwrap();
    assert!(service.accept().is_err());
}

#[test]
fn names_are_configured() {
    let Some(env) = connected() else { return };
    let flags = [
        "--hostname",
        "web",
        "--add-host",
        "db:10.1.2.3",
        "--dns",
        "192.0.2.53",
    ];
    let script = "cat /etc/hosts /etc/resolv.conf; touch /etc/hosts && echo writable";
    let text = env.shell(&flags, script);
    for line in ["10.1.2.3\tdb", "nameserver 192.0.2.53", "writable"] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in:\n{text}"
        );
    }
    assert!(text.contains("localhost") && text.contains("web"), "{text}");
}

#[test]
fn the_network_is_there_before_the_program() {
    let Some(env) = connected() else { return };
    let begin = Instant::now();
    let addresses = env.shell(&[], "ip -o -4 addr show up | grep -v '127.0.0.1' | wc -l");
    assert_eq!(addresses, "1\n");
    assert!(begin.elapsed() < Duration::from_secs(30));
}
