//! A real pasta between the host's loopback and a network namespace, as an ordinary user.
//!
//! Each test runs itself again as a process of its own with one thread, because it forks children
//! that go on in Rust. There it enters a user namespace as the monitor does.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use kelp_network::pasta::{HOST, PastaOptions};
use kelp_network::ports::allocate;
use kelp_network::program::Program;
use kelp_network::{Error, Mode, Protocol, PublishedPort};
use kelp_sys::clone::{CloneFlags, clone3};
use kelp_sys::process::{Exit, wait_pidfd};
use rustix::process::{
    Signal, getegid, geteuid, pidfd_send_signal, set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set in the environment of a test that runs in its own process.
const INSIDE: &str = "KELP_NETWORK_TEST_INSIDE";
const LIMIT: Duration = Duration::from_secs(10);

/// Why pasta can't be run here, if it can't.
fn missing() -> Option<String> {
    Mode::Pasta(PastaOptions::default())
        .validate(&[])
        .err()
        .map(|error| error.to_string())
}

/// Runs `body` in a fresh user namespace where the user is `uid`, with the host's network namespace
/// and a second one that is the user namespace's own.
fn in_user_namespace(test: &str, uid: u32, body: impl FnOnce(OwnedFd)) {
    if let Some(missing) = missing() {
        let _ = writeln!(std::io::stderr(), "SKIP: {test}: {missing}");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        return;
    }
    let (outer_uid, outer_gid) = (geteuid().as_raw(), getegid().as_raw());
    let child = clone3(CloneFlags::NEWUSER, None, || {
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            fs::write("/proc/self/setgroups", "deny").unwrap();
            fs::write("/proc/self/uid_map", format!("{uid} {outer_uid} 1")).unwrap();
            fs::write("/proc/self/gid_map", format!("{uid} {outer_gid} 1")).unwrap();
            kelp_sys::spawn::keep_capabilities().unwrap();
            body(network_namespace());
        }));
        i32::from(verdict.is_err())
    })
    .unwrap();
    succeeds(&child);
}

/// A namespace kept by its descriptor alone, as of a container whose init has not started.
fn network_namespace() -> OwnedFd {
    let child = clone3(CloneFlags::NEWNET, None, || {
        rustix::event::pause();
        0
    })
    .unwrap();
    let path = format!("/proc/{}/ns/net", child.pid.as_raw_nonzero());
    let netns = fs::File::open(path).unwrap().into();
    pidfd_send_signal(&child.pidfd, Signal::KILL).unwrap();
    wait_pidfd(child.pidfd.as_fd()).unwrap();
    netns
}

/// Runs `body` in a child whose network is the namespace.
fn inside(netns: &OwnedFd, body: impl FnOnce()) -> kelp_sys::clone::Child {
    clone3(CloneFlags::empty(), None, || {
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            body();
        }));
        i32::from(verdict.is_err())
    })
    .unwrap()
}

fn succeeds(child: &kelp_sys::clone::Child) {
    assert_eq!(wait_pidfd(child.pidfd.as_fd()).unwrap(), Exit::Code(0));
}

fn published(host_ip: Option<IpAddr>, container_port: u16, protocol: Protocol) -> PublishedPort {
    PublishedPort {
        host_ip,
        ..PublishedPort::random(container_port, protocol)
    }
}

/// Connects until the other side accepts and answers: a published port accepts before the
/// container listens.
fn ask(address: SocketAddr) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let mut text = String::new();
        let answer = TcpStream::connect_timeout(&address, LIMIT)
            .and_then(|mut stream| stream.read_to_string(&mut text));
        if answer.is_ok() && !text.is_empty() {
            return text;
        }
        assert!(Instant::now() < end, "no answer from {address}: {answer:?}");
        std::thread::yield_now();
    }
}

fn serve(address: SocketAddr, text: &str) {
    let listener = TcpListener::bind(address).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(text.as_bytes()).unwrap();
}

fn processes_named(option: &str) -> usize {
    let commands = fs::read_dir("/proc").unwrap().flatten();
    commands
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|command| String::from_utf8_lossy(command).contains(option))
        .count()
}

fn port_is_reached(test: &str, uid: u32, host: IpAddr, inside_address: IpAddr) {
    in_user_namespace(test, uid, |netns| {
        let ports = allocate(&[published(Some(host), 7000, Protocol::Tcp)]).unwrap();
        let plan = Mode::Pasta(PastaOptions::default())
            .validate(&ports)
            .unwrap();
        let network = plan.set_up(netns.as_fd()).unwrap();
        let server = inside(&netns, || {
            serve((inside_address, 7000).into(), "from inside");
        });
        let address = SocketAddr::new(host, ports[0].host_port.unwrap());
        assert_eq!(ask(address), "from inside");
        succeeds(&server);
        network.tear_down().unwrap();
        // The port is free as soon as that returns.
        TcpListener::bind(address).unwrap();
    });
}

#[test]
fn a_published_port_leads_into_the_container() {
    port_is_reached(
        "a_published_port_leads_into_the_container",
        0,
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
    );
}

#[test]
fn a_user_that_is_not_root_inside_has_a_network_too() {
    port_is_reached(
        "a_user_that_is_not_root_inside_has_a_network_too",
        1000,
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::UNSPECIFIED.into(),
    );
}

#[test]
fn a_port_is_published_on_an_address_of_ipv6() {
    let test = "a_port_is_published_on_an_address_of_ipv6";
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIP: {test}: IPv6 on the loopback interface"
        );
        return;
    }
    port_is_reached(
        test,
        0,
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
    );
}

#[test]
fn a_range_of_ports_and_udp_lead_into_the_container() {
    let test = "a_range_of_ports_and_udp_lead_into_the_container";
    in_user_namespace(test, 0, |netns| {
        let localhost: IpAddr = Ipv4Addr::LOCALHOST.into();
        let mut udp = published(Some(localhost), 7053, Protocol::Udp);
        if !Program::find(None).unwrap().maps_addresses {
            // Old versions can't give another number.
            udp.host_port = Some(7053);
        }
        let ports = allocate(&[
            PublishedPort {
                range: 3,
                ..published(Some(localhost), 7000, Protocol::Tcp)
            },
            udp,
        ])
        .unwrap();
        let plan = Mode::Pasta(PastaOptions::default())
            .validate(&ports)
            .unwrap();
        let network = plan.set_up(netns.as_fd()).unwrap();
        let server = inside(&netns, || serve(([0, 0, 0, 0], 7002).into(), "third"));
        let first = ports[0].host_port.unwrap();
        assert_eq!(ask(SocketAddr::new(localhost, first + 2)), "third");
        succeeds(&server);

        let echo = inside(&netns, || {
            let socket = UdpSocket::bind(("0.0.0.0", 7053)).unwrap();
            let mut buffer = [0; 16];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
        });
        let socket = UdpSocket::bind((localhost, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let end = Instant::now() + LIMIT;
        let mut buffer = [0; 16];
        // A datagram that comes before the server is lost.
        let length = loop {
            socket
                .send_to(b"datagram", (localhost, ports[1].host_port.unwrap()))
                .unwrap();
            match socket.recv(&mut buffer) {
                Ok(length) => break length,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        };
        assert_eq!(&buffer[..length], b"datagram");
        succeeds(&echo);
        network.tear_down().unwrap();
    });
}

/// Addresses at which a container may try to find the host's loopback.
fn ways_to_the_host(port: u16) -> Vec<SocketAddr> {
    let routes = fs::read_to_string("/proc/net/route").unwrap();
    let gateways = routes.lines().skip(1).filter_map(|line| {
        let gateway = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
        (gateway != 0).then(|| IpAddr::V4(gateway.to_ne_bytes().into()))
    });
    let fixed = [Ipv4Addr::LOCALHOST.into(), HOST];
    gateways.chain(fixed).map(|ip| (ip, port).into()).collect()
}

#[test]
fn a_container_does_not_reach_the_hosts_loopback_unless_asked_for() {
    let test = "a_container_does_not_reach_the_hosts_loopback_unless_asked_for";
    in_user_namespace(test, 0, |netns| {
        let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = service.local_addr().unwrap().port();
        let short = Duration::from_millis(300);

        let plan = Mode::Pasta(PastaOptions::default()).validate(&[]).unwrap();
        let network = plan.set_up(netns.as_fd()).unwrap();
        succeeds(&inside(&netns, || {
            for address in ways_to_the_host(port) {
                let result = TcpStream::connect_timeout(&address, short);
                assert!(result.is_err(), "{address} leads to the host's loopback");
            }
        }));
        network.tear_down().unwrap();

        let netns = network_namespace();
        let open = PastaOptions {
            host_loopback: true,
            ..PastaOptions::default()
        };
        let plan = Mode::Pasta(open).validate(&[]).unwrap();
        let host = plan.host().expect("the host has an address");
        let network = plan.set_up(netns.as_fd()).unwrap();
        succeeds(&inside(&netns, || {
            TcpStream::connect_timeout(&(host, port).into(), LIMIT).unwrap();
        }));
        service.accept().unwrap();
        network.tear_down().unwrap();
    });
}

#[test]
fn a_port_taken_after_the_check_is_named() {
    let test = "a_port_taken_after_the_check_is_named";
    in_user_namespace(test, 0, |netns| {
        let localhost = Some(Ipv4Addr::LOCALHOST.into());
        let ports = allocate(&[published(localhost, 7000, Protocol::Tcp)]).unwrap();
        let plan = Mode::Pasta(PastaOptions::default())
            .validate(&ports)
            .unwrap();
        let number = ports[0].host_port.unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        let error = plan.set_up(netns.as_fd()).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error}");
    });
}

#[test]
fn an_option_that_pasta_refuses_is_an_error_with_its_words() {
    let test = "an_option_that_pasta_refuses_is_an_error_with_its_words";
    in_user_namespace(test, 0, |netns| {
        let options = PastaOptions {
            extra: vec!["--no-such-option".to_owned()],
            ..PastaOptions::default()
        };
        let plan = Mode::Pasta(options).validate(&[]).unwrap();
        let error = plan.set_up(netns.as_fd()).unwrap_err().to_string();
        assert!(error.contains("no-such-option"), "{error}");
    });
}

#[test]
fn it_ends_with_whoever_started_it_and_holds_nothing_of_theirs() {
    let test = "it_ends_with_whoever_started_it_and_holds_nothing_of_theirs";
    in_user_namespace(test, 0, |netns| {
        // A word on its command line that no other test has.
        let mtu = "65321";
        let options = PastaOptions {
            mtu: Some(mtu.parse().unwrap()),
            ..PastaOptions::default()
        };
        let plan = Mode::Pasta(options).validate(&[]).unwrap();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let starter = clone3(CloneFlags::empty(), None, || {
            let verdict = catch_unwind(AssertUnwindSafe(|| {
                let network = plan.set_up(netns.as_fd()).unwrap();
                rustix::io::write(&write, b"up").unwrap();
                rustix::event::pause();
                drop(network);
            }));
            i32::from(verdict.is_err())
        })
        .unwrap();
        drop(write);
        let mut word = [0; 2];
        // If pasta held the pipe, the end below would never come.
        assert_eq!(rustix::io::read(&read, &mut word).unwrap(), 2);
        assert_eq!(processes_named(mtu), 1);
        pidfd_send_signal(&starter.pidfd, Signal::KILL).unwrap();
        wait_pidfd(starter.pidfd.as_fd()).unwrap();
        assert_eq!(rustix::io::read(&read, &mut word).unwrap(), 0);
        let end = Instant::now() + LIMIT;
        while processes_named(mtu) > 0 {
            assert!(Instant::now() < end, "pasta outlived its starter");
            std::thread::yield_now();
        }
    });
}
