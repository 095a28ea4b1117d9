//! Error numbers by name: a profile says ENOSYS, and a filter returns a number.

use rustix::io::Errno;

macro_rules! table {
    ($($name:ident)*) => {
        &[$((stringify!($name), Errno::$name)),*]
    };
}

/// Without the E.
const NUMBERS: &[(&str, Errno)] = table! {
    PERM NOENT SRCH INTR IO NXIO NOEXEC BADF CHILD AGAIN NOMEM FAULT NOTBLK BUSY EXIST XDEV
    NODEV NOTDIR ISDIR INVAL NFILE MFILE NOTTY TXTBSY FBIG NOSPC SPIPE ROFS MLINK PIPE DOM RANGE
    DEADLK NAMETOOLONG NOLCK NOSYS NOTEMPTY LOOP NOMSG IDRM NOSTR NODATA TIME NOSR NOLINK PROTO
    BADMSG OVERFLOW ILSEQ USERS NOTSOCK DESTADDRREQ MSGSIZE PROTOTYPE NOPROTOOPT PROTONOSUPPORT
    SOCKTNOSUPPORT OPNOTSUPP PFNOSUPPORT AFNOSUPPORT ADDRINUSE ADDRNOTAVAIL NETDOWN NETUNREACH
    NETRESET CONNABORTED CONNRESET NOBUFS ISCONN NOTCONN SHUTDOWN TOOMANYREFS TIMEDOUT CONNREFUSED
    HOSTDOWN HOSTUNREACH ALREADY INPROGRESS STALE DQUOT REMOTE NOMEDIUM MEDIUMTYPE CANCELED NOKEY
    KEYEXPIRED KEYREVOKED KEYREJECTED OWNERDEAD NOTRECOVERABLE
};

/// Names that rustix has in another form.
const OTHERS: &[(&str, Errno)] = &[
    ("2BIG", Errno::TOOBIG),
    ("ACCES", Errno::ACCESS),
    ("NOTSUP", Errno::OPNOTSUPP),
    ("WOULDBLOCK", Errno::AGAIN),
    ("DEADLOCK", Errno::DEADLK),
];

/// The number of an error that a profile names.
pub(super) fn number(name: &str) -> Option<u32> {
    let short = name.strip_prefix('E')?;
    let mut known = NUMBERS.iter().chain(OTHERS);
    let found = known.find(|(name, _)| *name == short)?;
    u32::try_from(found.1.raw_os_error()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels_numbers() {
        for (name, wanted) in [
            ("EPERM", Some(1)),
            ("E2BIG", Some(7)),
            ("EACCES", Some(13)),
            ("EWOULDBLOCK", Some(11)),
            ("ENOSYS", Some(38)),
            ("ENOTRECOVERABLE", Some(131)),
            ("EACCESS", None),
            ("ENOTHING", None),
            ("PERM", None),
            ("eperm", None),
            ("", None),
        ] {
            assert_eq!(number(name), wanted, "{name}");
        }
    }
}
