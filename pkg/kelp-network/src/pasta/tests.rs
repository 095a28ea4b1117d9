//! What the command line is, and what a failure is made of. Starting it for real: `tests/pasta.rs`.

use std::net::Ipv6Addr;

use super::*;

fn program(maps_addresses: bool) -> Program {
    Program {
        path: PathBuf::from("/usr/bin/pasta"),
        maps_addresses,
    }
}

fn arguments(options: &PastaOptions, maps_addresses: bool, ports: &[PublishedPort]) -> String {
    let plan = options.plan_for(&program(maps_addresses), ports).unwrap();
    let all = plan.arguments.join(" ");
    let constant = "--foreground --quiet --netns /proc/self/fd/0 --netns-only --no-netns-quit --pid \
                    /proc/self/fd/1 --config-net --tcp-ns none --udp-ns none ";
    let own = all.strip_prefix(constant).unwrap();
    // Root's has two words more, see `plan_for`.
    let as_root = rustix::process::geteuid().is_root();
    let prefix = if as_root { "--runas 0:0 " } else { "" };
    own.strip_prefix(prefix).unwrap().to_owned()
}

#[test]
fn the_hosts_loopback_is_out_of_reach_unless_asked_for() {
    let closed = PastaOptions::default();
    let rest = "--dns-forward 169.254.1.1 --tcp-ports none --udp-ports none";
    assert_eq!(
        arguments(&closed, true, &[]),
        format!("--no-map-gw --map-guest-addr 169.254.1.2 {rest}")
    );
    assert_eq!(
        arguments(&closed, false, &[]),
        format!("--no-map-gw {rest}")
    );
    let open = PastaOptions {
        host_loopback: true,
        ..closed
    };
    assert_eq!(
        arguments(&open, true, &[]),
        format!("--map-host-loopback 169.254.1.2 {rest}")
    );
    assert_eq!(arguments(&open, false, &[]), rest);
}

#[test]
fn ports_are_spelled_as_pasta_reads_them() {
    let port = PublishedPort {
        host_port: Some(8080),
        ..PublishedPort::random(80, Protocol::Tcp)
    };
    for (port, expected) in [
        (port, "8080:80"),
        (
            PublishedPort {
                host_ip: Some(Ipv4Addr::LOCALHOST.into()),
                ..port
            },
            "127.0.0.1/8080:80",
        ),
        (
            PublishedPort {
                host_ip: Some(Ipv6Addr::LOCALHOST.into()),
                range: 3,
                ..port
            },
            "::1/8080-8082:80-82",
        ),
    ] {
        assert_eq!(port_spec(&port).unwrap(), expected);
    }
    assert!(port_spec(&PublishedPort::random(80, Protocol::Tcp)).is_err());
}

#[test]
fn an_old_pasta_does_not_get_a_udp_port_that_it_would_break() {
    let options = PastaOptions::default();
    for (host_port, maps_addresses, fits) in
        [(53, false, true), (5353, false, false), (5353, true, true)]
    {
        let port = PublishedPort {
            host_port: Some(host_port),
            ..PublishedPort::random(53, Protocol::Udp)
        };
        let plan = options.plan_for(&program(maps_addresses), &[port]);
        assert_eq!(plan.is_ok(), fits, "{host_port} {maps_addresses}");
    }
}

#[test]
fn own_options_pass_unless_they_break_the_plan() {
    let with = |words: &[&str]| PastaOptions {
        extra: words.iter().map(|&word| word.to_owned()).collect(),
        ..PastaOptions::default()
    };
    let line = arguments(&with(&["-t", "auto", "--map-gw"]), true, &[]);
    assert_eq!(line, "--dns-forward 169.254.1.1 --udp-ports none -t auto");
    for word in ["--netns=/proc/1/ns/net", "-P", "--runas=0"] {
        let error = with(&[word]).plan_for(&program(true), &[]).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
}

#[test]
fn what_pasta_says_is_cut_to_what_it_means() {
    for (said, expected) in [
        ("", "it said nothing"),
        ("Couldn't open PID file\n", "Couldn't open PID file"),
        (
            "Failed to send 51 bytes to syslog\n\nunrecognized option '--x'\nFailed to send 9 bytes \
             to syslog\nUsage: pasta\n  -d\n",
            "unrecognized option '--x'",
        ),
        ("one\ntwo\nthree\n", "two; three"),
    ] {
        assert_eq!(essence(said), expected);
    }
}

#[test]
fn the_gateway_is_read_from_the_kernels_table() {
    let gateway = u32::from_ne_bytes([192, 0, 2, 1]);
    let routes = format!(
        "Iface\tDestination\tGateway\tFlags\neth0\t0002000A\t00000000\t0001\n\
         eth0\t00000000\t{gateway:08X}\t0003\n"
    );
    assert_eq!(
        gateway_in(&routes),
        Some(Ipv4Addr::new(192, 0, 2, 1).into())
    );
    assert_eq!(gateway_in("Iface\n"), None);
    assert_eq!(gateway_in("Iface\neth0\t00000000\tzz\n"), None);
}
