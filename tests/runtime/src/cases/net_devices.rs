//! config-linux.md: network interfaces that move into the container.
//!
//! The runtime is called in a network namespace of the case's own, which ip(8) fills.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::case::{Case, Needs};
use crate::command::Done;
use crate::outcome::{Outcome, fails, has, holds, not_applicable, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: Network Devices";

pub(crate) const CASES: &[Case] = &[
    Case::new("an_interface_moves_with_what_it_has", SECTION, moves).needs(Needs::Root),
    Case::new("it_gets_its_new_name", SECTION, renamed).needs(Needs::Root),
    Case::new("a_pattern_is_the_first_free_name", SECTION, pattern).needs(Needs::Root),
    Case::new("hooks_find_it_in_the_container", SECTION, before_hooks).needs(Needs::Root),
    Case::new("a_name_that_is_taken_is_an_error", SECTION, taken).needs(Needs::Root),
    Case::new("an_interface_that_is_missing_is_an_error", SECTION, missing).needs(Needs::Root),
    Case::new("it_comes_back_where_create_fails", SECTION, comes_back).needs(Needs::Root),
    Case::new("it_takes_a_network_namespace", SECTION, no_namespace).needs(Needs::Root),
    Case::new("only_root_may", SECTION, not_root).needs(Needs::User),
];

/// A network namespace, there as long as this is.
struct Network<'a> {
    stage: &'a Stage<'a>,
    namespace: File,
}

impl<'a> Network<'a> {
    /// With these orders of ip(8), a line each.
    fn new(stage: &'a Stage<'a>, script: &str) -> Outcome<Self> {
        if Command::new("ip").arg("-V").output().is_err() {
            return not_applicable("no ip(8)");
        }
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; read x || true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.as_mut().expect("it has a pipe");
        let begun = out.read_exact(&mut [0]);
        let namespace = File::open(format!("/proc/{}/ns/net", child.id()));
        drop(child.stdin.take());
        child.wait()?;
        begun?;
        let network = Self {
            stage,
            namespace: namespace?,
        };
        let lines = script.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty()) {
            network.ip(line)?;
        }
        Ok(network)
    }

    /// A command that begins in it.
    fn command(&self) -> Command {
        let (pid, fd) = (std::process::id(), self.namespace.as_raw_fd());
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/fd/{fd}"));
        command
    }

    /// What an order of ip(8) prints.
    fn ip(&self, line: &str) -> Outcome<String> {
        let output = self
            .command()
            .arg("ip")
            .args(line.split_whitespace())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        fails(format!("ip {line}: {}", said.trim()))
    }

    /// Calls the runtime in it.
    fn call(&self, words: &[&str]) -> Outcome<Done> {
        let mut command = self.command();
        command.arg(self.stage.runtime().path());
        self.stage.furnish(&mut command);
        command.arg("--root").arg(self.stage.state_root());
        command.args(words);
        self.stage.finish(command)
    }

    /// What a shell command in a container prints.
    fn shell(&self, spec: &mut Spec, script: &str) -> Outcome<String> {
        spec.script(script);
        self.stage.write(spec)?;
        let id = self.stage.id();
        self.stage.remember(&id);
        self.call(&["run", &id])?.succeeds()
    }

    /// What `create` says that fails and leaves nothing.
    fn refuses(&self, spec: &Spec) -> Outcome<String> {
        self.stage.write(spec)?;
        let id = self.stage.id();
        self.stage.remember(&id);
        let said = self.call(&["create", &id])?.refused()?;
        self.stage.says_why(&said)?;
        self.stage.left_nothing()?;
        Ok(said)
    }
}

fn spec(stage: &Stage<'_>, devices: Value) -> Spec {
    let mut spec = stage.spec();
    spec["linux"]["netDevices"] = devices;
    spec
}

const ONE: &str = "link add one type veth peer name oneb
    link set one mtu 1334 address 02:00:00:00:00:07
    address add 192.0.2.7/24 broadcast 192.0.2.255 dev one
    address add 192.0.2.8/24 dev one
    address add 198.51.100.9 peer 198.51.100.1 dev one
    address add 2001:db8::7/64 dev one nodad
    address add 169.254.1.1/16 scope link dev one
    address add 203.0.113.5/24 valid_lft 1000 preferred_lft 1000 dev one
    link set one up";

/// Flags, MTU, hardware address and addresses of an interface, a word each line.
fn words(name: &str) -> String {
    format!(
        "ip link show {name} | grep -oE '[<,]UP[,>]|mtu [0-9]+|ether [0-9a-f:]+'
         ip address show {name} | grep -oE 'inet6? .* scope global' | sed 's/ scope.*//; s/ brd .*//'"
    )
}

const HAS: &str = "UP\nmtu 1334\nether 02:00:00:00:00:07\ninet 192.0.2.7/24\n\
    inet 198.51.100.9 peer 198.51.100.1/32\ninet 192.0.2.8/24\ninet6 2001:db8::7/64\n";

fn bare(found: &str) -> String {
    let mut lines: Vec<_> = found.lines().collect();
    // Whatever order the addresses are told in.
    let at = lines.len().min(3);
    lines[at..].sort_unstable();
    let text = lines.join("\n");
    let up = |text: &str| text.replace([',', '<', '>'], "");
    up(&text)
}

fn moves(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(stage, ONE)?;
    let mut spec = spec(stage, json!({"one": {}}));
    let found = network.shell(&mut spec, &words("one"))?;
    same("the interface", bare(&found), bare(HAS))
}

fn renamed(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(
        stage,
        &format!("{ONE}\nlink add two type veth peer name twob"),
    )?;
    let mut spec = spec(
        stage,
        json!({"one": {"name": "net7"}, "two": {"name": "one"}}),
    );
    let script = format!("{}; ls /sys/class/net", words("net7"));
    let found = network.shell(&mut spec, &script)?;
    let found = found.replace("lo\nnet7\none\n", "");
    same("the interface", bare(&found), bare(HAS))
}

fn pattern(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(stage, "link add one type veth peer name two")?;
    let devices = json!({"one": {"name": "net%d"}, "two": {"name": "net%d"}});
    let found = network.shell(&mut spec(stage, devices), "ls /sys/class/net")?;
    same("interfaces", found.as_str(), "lo\nnet0\nnet1\n")
}

fn before_hooks(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(stage, "link add one type veth peer name oneb")?;
    let mut spec = spec(stage, json!({"one": {"name": "net7"}}));
    let file = stage.path("links");
    let ask = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cut -d: -f1 /proc/$pid/net/dev >{}",
        file.display()
    );
    spec.hook("createRuntime", "/bin/sh", &ask);
    network.shell(&mut spec, "true")?;
    has("interfaces", &std::fs::read_to_string(file)?, "net7")
}

fn taken(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(
        stage,
        &format!("{ONE}\nlink add two type veth peer name twob"),
    )?;
    let devices = json!({"one": {}, "two": {"name": "lo"}});
    let said = network.refuses(&spec(stage, devices))?;
    has("the error", &said, "lo")?;
    is_as_before(&network)
}

fn missing(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(stage, ONE)?;
    let said = network.refuses(&spec(stage, json!({"one": {}, "two": {}})))?;
    has("the error", &said, "two")?;
    is_as_before(&network)
}

fn comes_back(stage: &Stage<'_>) -> Outcome {
    if !stage.runtime().is_kelp() {
        return not_applicable("the specification leaves it to the runtime");
    }
    let network = Network::new(stage, ONE)?;
    let mut spec = spec(stage, json!({"one": {"name": "net7"}}));
    spec.hook("createRuntime", "/bin/sh", "exit 3");
    network.refuses(&spec)?;
    is_as_before(&network)
}

/// Asserts that the interface is where it was, with what it had.
fn is_as_before(network: &Network<'_>) -> Outcome {
    let link = network.ip("-o link show one")?;
    for part in ["UP", "mtu 1334", "02:00:00:00:00:07"] {
        has("the interface", &link, part)?;
    }
    let addresses = network.ip("-o address show one")?;
    for part in ["192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64"] {
        has("its addresses", &addresses, part)?;
    }
    Ok(())
}

fn no_namespace(stage: &Stage<'_>) -> Outcome {
    let network = Network::new(stage, "link add one type veth peer name oneb")?;
    let mut spec = spec(stage, json!({"one": {}}));
    spec.without_namespace("network");
    network.refuses(&spec)?;
    network.ip("link show one")?;
    Ok(())
}

fn not_root(stage: &Stage<'_>) -> Outcome {
    let said = stage.refuses(&spec(stage, json!({"eth0": {}})))?;
    holds(said.contains("linux.netDevices"), format!("{said:?}"))
}
