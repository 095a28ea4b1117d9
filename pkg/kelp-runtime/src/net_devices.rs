//! Network interfaces that move into a container's network namespace (runtime-spec, config-linux.md, "Network
//! Devices").
//!
//! An interface keeps its hardware address and its MTU on the way. Its addresses it loses, so those of global
//! scope that are there for good are given to it again. Then it is up. What goes wrong later takes none away:
//! [`Moved::put_back`] has each where it was, with its name and addresses. Routes over it are gone, as they are
//! whenever an interface goes down.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::error::{Error, plain};
use crate::netlink::{
    CREATE, GET_ADDRESS, GET_LINK, Message, NEW_ADDRESS, NEW_LINK, Netlink, SET_LINK, attributes,
    u32_at,
};

/// `struct ifinfomsg` and `struct ifaddrmsg` (rtnetlink(7)).
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// `IFLA_IFNAME` and `IFLA_NET_NS_FD`
const NAME: u16 = 3;
const NAMESPACE: u16 = 28;
/// `IFF_UP`
const UP: u32 = 1;

/// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`, `IFA_RT_PRIORITY`: what is said of an address again.
const KEPT: [u16; 4] = [1, 2, 4, 9];
/// `IFA_FLAGS`
const FLAGS: u16 = 8;
/// `IFA_F_PERMANENT`
const PERMANENT: u32 = 0x80;
/// `IFA_F_NODAD`, `HOMEADDRESS`, `MANAGETEMPADDR`, `NOPREFIXROUTE` and `MCAUTOJOIN`: those of its flags that
/// somebody has set; the others are the kernel's.
const KEPT_FLAGS: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// `RT_SCOPE_UNIVERSE`
const GLOBAL: u8 = 0;

/// The longest name, without the zero at its end (`IFNAMSIZ`).
const LONGEST: usize = 15;

/// An interface that is to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetDevice {
    /// Its name on the host.
    name: String,
    /// Its name in the container; `%d` in it is the first number that is free.
    new_name: String,
}

/// What `linux.netDevices` asks for, in the order of names.
pub fn planned(linux: &Linux) -> Result<Vec<NetDevice>, Error> {
    let mut devices = Vec::new();
    for (name, device) in linux.net_devices().iter().flatten() {
        let new_name = device.name().as_ref().filter(|name| !name.is_empty());
        let new_name = new_name.unwrap_or(name);
        for name in [name, new_name] {
            let name = name.replacen("%d", "0", 1);
            if !is_name(&name) {
                return Err(refused(&format!("{name:?} is no name of an interface")));
            }
        }
        devices.push(NetDevice {
            name: name.clone(),
            new_name: new_name.clone(),
        });
    }
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut namespaces = linux.namespaces().iter().flatten();
    let has_own = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    if !devices.is_empty() && !has_own {
        return Err(refused(
            "the container has no network namespace of its own: add one to linux.namespaces",
        ));
    }
    Ok(devices)
}

/// As the kernel takes it (`dev_valid_name`).
fn is_name(name: &str) -> bool {
    let is_bad = |byte: u8| b"/:%".contains(&byte) || byte.is_ascii_whitespace() || byte == 0;
    (1..=LONGEST).contains(&name.len()) && !matches!(name, "." | "..") && !name.bytes().any(is_bad)
}

fn refused(why: &str) -> Error {
    Error::Spec(format!("linux.netDevices: {why}"))
}

/// Interfaces that have moved, and the way back.
#[derive(Debug)]
pub struct Moved {
    here: Place,
    there: Place,
    /// Both keep the namespace there while it is needed, whatever becomes of its processes.
    done: Vec<(NetDevice, Interface)>,
}

/// One of the two namespaces.
#[derive(Debug)]
struct Place {
    namespace: OwnedFd,
    netlink: Netlink,
}

/// What an interface has that a move takes from it.
#[derive(Debug)]
struct Interface {
    index: u32,
    is_up: bool,
    /// Orders that give its addresses to it, but for its number in them.
    addresses: Vec<Message>,
}

impl Moved {
    /// None yet. `pid` is a process in the namespace that they are to move to.
    pub fn new(pid: i32) -> Result<Self, Error> {
        let own = namespace("/proc/self/ns/net")?;
        let other = namespace(&format!("/proc/{pid}/ns/net"))?;
        let what = "linux.netDevices: look at the network namespaces";
        let number = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        let numbers = [&own, &other].map(number);
        let [here, there] = numbers.map(|number| number.map_err(io_error(what)));
        if here? == there? {
            return Err(refused(
                "the container's network namespace is the caller's: there is nowhere to move to",
            ));
        }
        let netlink = Netlink::open().map_err(Error::io(what))?;
        let other_netlink = Netlink::open_in(other.as_fd(), own.as_fd());
        let what = "linux.netDevices: enter the container's network namespace";
        Ok(Self {
            here: Place {
                namespace: own,
                netlink,
            },
            there: Place {
                namespace: other,
                netlink: other_netlink.map_err(Error::io(what))?,
            },
            done: Vec::new(),
        })
    }

    /// Moves them. What has moved before one could not is told by [`Moved::put_back`].
    pub fn take(&mut self, devices: &[NetDevice]) -> Result<(), Error> {
        let mut taken = self.there.names()?;
        let mut all = Vec::new();
        // All of it is looked at before the first one moves.
        for device in devices {
            let name = &device.name;
            let interface = self.here.interface(name)?;
            let interface =
                interface.ok_or_else(|| refused(&format!("there is no interface {name} here")))?;
            let new_name = free_name(&device.new_name, &taken)?;
            taken.push(new_name.clone());
            let device = NetDevice {
                name: name.clone(),
                new_name,
            };
            all.push((device, interface));
        }
        for (device, interface) in all {
            let what = format!("linux.netDevices: move {} into the container", device.name);
            self.here
                .send(interface.index, &device.new_name, &self.there)
                .map_err(|error| because(&what, error))?;
            self.done.push((device, interface));
            let (device, interface) = &self.done[self.done.len() - 1];
            self.there
                .settle(&device.new_name, &interface.addresses, true)
                .map_err(|error| because(&what, error))?;
        }
        Ok(())
    }

    /// Has each where it was before, the last one first; a line for each that could not be.
    pub fn put_back(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some((device, interface)) = self.done.pop() {
            let NetDevice { name, new_name } = &device;
            let back = self.there.index(new_name).and_then(|index| {
                self.there.send(index, name, &self.here)?;
                self.here
                    .settle(name, &interface.addresses, interface.is_up)
            });
            if let Err(error) = back {
                lines.push(format!(
                    "the interface {name} could not be put back as it was ({}): look for it here, and as \
                     {new_name} in the container's network namespace",
                    plain(&error)
                ));
            }
        }
        lines
    }
}

impl Place {
    /// What is known of an interface, if there is one of that name.
    fn interface(&mut self, name: &str) -> Result<Option<Interface>, Error> {
        let what = format!("linux.netDevices: look at {name}");
        let links = self.links().map_err(Error::io(what.as_str()))?;
        let Some(link) = links.iter().find(|link| name_of(link) == Some(name)) else {
            return Ok(None);
        };
        let number = |at| u32_at(link, at).unwrap_or(0);
        let index = number(4);
        let question = Message::new(GET_ADDRESS, 0, &[0; ADDRESS]);
        let addresses = self.netlink.dump(&question, NEW_ADDRESS);
        let addresses = addresses.map_err(Error::io(what))?;
        let own = |body: &&Vec<u8>| u32_at(body, 4) == Some(index);
        Ok(Some(Interface {
            index,
            is_up: number(8) & UP != 0,
            addresses: addresses.iter().filter(own).filter_map(again).collect(),
        }))
    }

    fn links(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let question = Message::new(GET_LINK, 0, &[0; LINK]);
        self.netlink.dump(&question, NEW_LINK)
    }

    fn names(&mut self) -> Result<Vec<String>, Error> {
        let links = self.links();
        let links = links.map_err(Error::io(
            "linux.netDevices: list the container's interfaces",
        ))?;
        let names = links.iter().filter_map(|link| name_of(link));
        Ok(names.map(str::to_owned).collect())
    }

    fn index(&mut self, name: &str) -> io::Result<u32> {
        let links = self.links()?;
        let link = links.iter().find(|link| name_of(link) == Some(name));
        let index = link.and_then(|link| u32_at(link, 4));
        index.ok_or_else(|| Errno::NODEV.into())
    }

    /// Moves an interface from here to another namespace, under a name.
    fn send(&mut self, index: u32, name: &str, to: &Self) -> io::Result<()> {
        let number = to.namespace.as_raw_fd();
        let message = Message::new(SET_LINK, 0, &link(index, 0, 0))
            .with(NAME, &[name.as_bytes(), b"\0"].concat())
            .with(NAMESPACE, &number.to_ne_bytes());
        self.netlink.order(&message)
    }

    /// Gives addresses to an interface that has come here, and has it up or not.
    fn settle(&mut self, name: &str, addresses: &[Message], up: bool) -> io::Result<()> {
        // It may have another number here.
        let index = self.index(name)?;
        for address in addresses {
            let address = address.clone().at(4, &index.to_ne_bytes());
            self.netlink.order(&address)?;
        }
        let flags = if up { UP } else { 0 };
        let message = Message::new(SET_LINK, 0, &link(index, flags, UP));
        self.netlink.order(&message)
    }
}

/// `struct ifinfomsg`: family, type, number, flags, and which of them change.
fn link(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut body = [0; LINK];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&change.to_ne_bytes());
    body
}

fn name_of(link: &[u8]) -> Option<&str> {
    let all = attributes(link, LINK);
    let (_, name) = all.into_iter().find(|(kind, _)| *kind == NAME)?;
    str::from_utf8(name).ok()?.strip_suffix('\0')
}

/// The order that gives an address again, if it is one of global scope that is there for good: one that was
/// leased or that a router told of belongs to the network that the interface was in.
fn again(body: &Vec<u8>) -> Option<Message> {
    let &[family, prefix, short_flags, scope, ..] = body.as_slice() else {
        return None;
    };
    let all = attributes(body, ADDRESS);
    let flags = all.iter().find(|(kind, _)| *kind == FLAGS);
    let flags = flags.and_then(|(_, value)| u32_at(value, 0));
    let flags = flags.unwrap_or(u32::from(short_flags));
    if scope != GLOBAL || flags & PERMANENT == 0 {
        return None;
    }
    let mut message = Message::new(NEW_ADDRESS, CREATE, &[family, prefix, 0, scope, 0, 0, 0, 0]);
    for (kind, value) in all {
        if KEPT.contains(&kind) {
            message = message.with(kind, value);
        }
    }
    Some(message.with(FLAGS, &(flags & KEPT_FLAGS).to_ne_bytes()))
}

/// A name that none of those taken is.
fn free_name(name: &str, taken: &[String]) -> Result<String, Error> {
    let is_free = |name: &String| !taken.contains(name);
    let found = match name.split_once("%d") {
        None => Some(name.to_owned()).filter(is_free),
        Some((before, after)) => {
            let mut names = (0..=taken.len()).map(|number| format!("{before}{number}{after}"));
            names.find(is_free)
        }
    };
    let found = found.filter(|name| name.len() <= LONGEST);
    found.ok_or_else(|| {
        refused(&format!(
            "the container has an interface {name} already: choose another name"
        ))
    })
}

fn namespace(path: &str) -> Result<OwnedFd, Error> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(io_error("linux.netDevices: open the network namespace"))
}

fn io_error(what: &str) -> impl FnOnce(Errno) -> Error {
    let error = Error::io(what);
    move |errno| error(errno.into())
}

fn because(what: &str, error: io::Error) -> Error {
    let hint = match Errno::from_io_error(&error) {
        Some(Errno::PERM) => " (it takes root in this network namespace and in the container's)",
        Some(Errno::INVAL) => " (there are kinds of interfaces that can't leave their namespace)",
        _ => "",
    };
    Error::io(format!("{what}{hint}"))(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(devices: &str, namespaces: &str) -> Result<Vec<(String, String)>, String> {
        let linux = format!(r#"{{"netDevices": {devices}, "namespaces": {namespaces}}}"#);
        let planned = planned(&serde_json::from_str(&linux).unwrap());
        let names = |device: NetDevice| (device.name, device.new_name);
        let planned = planned.map(|devices| devices.into_iter().map(names).collect());
        planned.map_err(|error| error.to_string())
    }

    const OWN: &str = r#"[{"type": "network"}]"#;

    #[test]
    fn an_interface_keeps_its_name_unless_it_gets_another() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let devices = r#"{"eth1": {"name": "net%d"}, "eth0": {}}"#;
        let expected = vec![pair("eth0", "eth0"), pair("eth1", "net%d")];
        assert_eq!(plan(devices, OWN).unwrap(), expected);
        assert!(plan("{}", "[]").unwrap().is_empty());
    }

    #[test]
    fn what_can_not_be_is_refused() {
        let error = plan(r#"{"eth0": {}}"#, r#"[{"type": "pid"}]"#).unwrap_err();
        assert!(error.contains("no network namespace of its own"), "{error}");
        for name in ["a/b", "..", "a b", "sixteen-letters-", "%d%d", "50%"] {
            let error = plan(&format!(r#"{{"eth0": {{"name": "{name}"}}}}"#), OWN).unwrap_err();
            assert!(
                error.contains("is no name of an interface"),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_pattern_is_the_first_name_that_is_free() {
        let taken = ["lo", "net0", "net2", "eth0"].map(str::to_owned);
        assert_eq!(free_name("net%d", &taken).unwrap(), "net1");
        assert_eq!(free_name("eth1", &taken).unwrap(), "eth1");
        let error = free_name("eth0", &taken).unwrap_err().to_string();
        let expected =
            "linux.netDevices: the container has an interface eth0 already: choose another name";
        assert_eq!(error, expected);
    }

    #[test]
    fn an_address_is_given_again_unless_it_was_leased_or_is_local() {
        let address = |flags: u32, scope: u8| {
            let body = [2, 24, flags as u8, scope, 3, 0, 0, 0];
            let mut bytes = body.to_vec();
            for (kind, value) in [(2_u16, [10, 0, 0, 1]), (FLAGS, flags.to_ne_bytes())] {
                bytes.extend(8_u16.to_ne_bytes());
                bytes.extend(kind.to_ne_bytes());
                bytes.extend(value);
            }
            again(&bytes)
        };
        assert!(address(PERMANENT, GLOBAL).is_some());
        assert!(address(PERMANENT | 0x200, GLOBAL).is_some());
        assert!(address(0, GLOBAL).is_none());
        assert!(address(PERMANENT, 253).is_none());
        assert!(again(&vec![2]).is_none());
    }
}
