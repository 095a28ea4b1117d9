//! Which processor, disk and memory a process gets: sched_setattr(2), ioprio_set(2), set_mempolicy(2),
//! none of which rustix has.

use std::io;

use crate::fd::check;

/// `struct sched_attr`, as sched_setattr(2) has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Its size, which [`sched_setattr`] fills in.
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH, −20 to 19.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR, 1 to 99.
    pub priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub period: u64,
    /// With `SCHED_FLAG_UTIL_CLAMP_MIN`, 0 to 1024.
    pub util_min: u32,
    /// With `SCHED_FLAG_UTIL_CLAMP_MAX`, 0 to 1024.
    pub util_max: u32,
}

/// Sets the calling thread's scheduling policy and attributes.
///
/// # Errors
/// `EPERM` for what takes CAP_SYS_NICE in the first user namespace, `EINVAL` for a policy that the kernel
/// does not have and for numbers out of its range.
pub fn sched_setattr(attr: SchedAttr) -> io::Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        ..attr
    };
    // SAFETY: the pointer is to a sched_attr whose size it says; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Sets the calling thread's I/O class and level (`IOPRIO_PRIO_VALUE` of linux/ioprio.h).
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(level);
    // SAFETY: it takes three numbers; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) })
}

/// Sets the calling thread's memory policy: a mode with its flags, and a bit for each node.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    let (pointer, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        // The kernel looks at one bit less than it is told of.
        nodes => (nodes.as_ptr(), nodes.len() as libc::c_ulong * 64 + 1),
    };
    // SAFETY: the mask has as many bits as are said, or none and no pointer.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_has_already_can_be_set() {
        sched_setattr(SchedAttr::default()).unwrap();
        set_memory_policy(0, &[]).unwrap();
        // Best effort, the usual level.
        set_io_priority(2, 4).unwrap();
        let unknown = SchedAttr {
            policy: 77,
            ..SchedAttr::default()
        };
        let error = sched_setattr(unknown).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
