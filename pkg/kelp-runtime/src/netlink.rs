//! rtnetlink(7): questions and orders about network interfaces, one at a time.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// `RTM_*`
pub(crate) const NEW_LINK: u16 = 16;
pub(crate) const GET_LINK: u16 = 18;
pub(crate) const SET_LINK: u16 = 19;
pub(crate) const NEW_ADDRESS: u16 = 20;
pub(crate) const GET_ADDRESS: u16 = 22;

/// `NLM_F_*`
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x600;

/// `NLMSG_*`
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// A socket in a network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// An order or a question.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// With the structure that its kind begins with.
    pub(crate) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        Self {
            kind,
            flags,
            body: body.to_vec(),
        }
    }

    /// Adds an attribute: length, type, value, and up to three bytes so that the next one is aligned.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("names and addresses are short");
        self.body.extend(length.to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    /// With other bytes in that structure.
    pub(crate) fn at(mut self, place: usize, bytes: &[u8]) -> Self {
        self.body[place..place + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn to_bytes(&self, flags: u16, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(((HEADER + self.body.len()) as u32).to_ne_bytes());
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend((self.flags | flags | REQUEST).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

impl Netlink {
    /// In the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE, which is 0.
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// In another namespace. A socket stays in the one it was made in; the calling thread goes there and
    /// comes back to `own`.
    pub(crate) fn open_in(namespace: BorrowedFd<'_>, own: BorrowedFd<'_>) -> io::Result<Self> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace, kind)?;
        let opened = Self::open();
        move_into_link_name_space(own, kind)?;
        opened
    }

    /// Gives an order.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn order(&mut self, message: &Message) -> io::Result<()> {
        self.send(message, ACKNOWLEDGE)?;
        self.receive(|_, _| {})
    }

    /// Asks for everything of a kind: the bodies of the answers.
    pub(crate) fn dump(&mut self, message: &Message, kind: u16) -> io::Result<Vec<Vec<u8>>> {
        self.send(message, DUMP)?;
        let mut found = Vec::new();
        self.receive(|answer, body| {
            if answer == kind {
                found.push(body.to_vec());
            }
        })?;
        Ok(found)
    }

    fn send(&mut self, message: &Message, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let bytes = message.to_bytes(flags, self.sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &bytes, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    /// Takes answers up to the last one, which is an acknowledgement or the end of a dump.
    fn receive(&self, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        // A message of the kernel's is no longer than a page, or 32 KiB in a dump (netlink(7)).
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                received => received?.0,
            };
            let mut rest = &buffer[..length];
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                match kind {
                    _ if sequence != self.sequence => {}
                    ERROR | DONE => return outcome(body),
                    _ => take(kind, body),
                }
            }
        }
    }
}

/// The first message: its type, its sequence number, its body, and what comes after.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    let kind = u16_at(bytes, 4)?;
    let sequence = u32_at(bytes, 8)?;
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body, after))
}

/// An error number, negative, or 0.
fn outcome(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).unwrap_or(0).cast_signed() {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(-number)),
    }
}

/// The attributes after a structure of so many bytes.
pub(crate) fn attributes(body: &[u8], after: usize) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    let mut rest = body.get(after..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else {
            break;
        };
        // The two topmost bits are flags.
        found.push((kind & 0x3fff, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_it_was_made_from() {
        let message = Message::new(SET_LINK, 0, &[7; 8])
            .with(3, b"eth0\0")
            .with(28, &[1, 2, 3, 4]);
        let bytes = message.to_bytes(ACKNOWLEDGE, 5);
        let (kind, sequence, body, after) = split(&bytes).unwrap();
        assert_eq!((kind, sequence, after), (SET_LINK, 5, &[][..]));
        let expected = [(3, &b"eth0\0"[..]), (28, &[1, 2, 3, 4][..])];
        assert_eq!(attributes(body, 8), expected);
        assert!(split(&bytes[..20]).is_none());
        assert!(attributes(&[8, 0, 1], 0).is_empty());
    }

    #[test]
    fn the_kernel_lists_interfaces_and_refuses_what_is_none() {
        let mut netlink = Netlink::open().unwrap();
        let all = Message::new(GET_LINK, 0, &[0; 16]);
        let links = netlink.dump(&all, NEW_LINK).unwrap();
        let is_loopback = |body: &Vec<u8>| attributes(body, 16).contains(&(3, &b"lo\0"[..]));
        assert_eq!(links.iter().filter(|body| is_loopback(body)).count(), 1);
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&0x7fff_0000_u32.to_ne_bytes());
        let error = netlink
            .order(&Message::new(SET_LINK, 0, &body))
            .unwrap_err();
        // Without the right it does not say whether there is one.
        assert!(
            matches!(
                Errno::from_io_error(&error),
                Some(Errno::NODEV | Errno::PERM)
            ),
            "{error}"
        );
        assert_eq!(netlink.dump(&all, NEW_LINK).unwrap().len(), links.len());
    }
}
