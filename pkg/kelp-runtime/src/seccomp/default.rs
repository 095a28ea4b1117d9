//! The profile of a container that asks for no other: the calls that podman's and buildah's allow.
//!
//! What ordinary programs need is allowed. A call that has an older way around it, or that nobody
//! knew when this list was written, is "not there" (ENOSYS), and the program goes the older way. A
//! call that a container could make if it had a capability more is refused (EPERM), so that the
//! program says what is wrong. Mounts and namespaces are allowed: in a user namespace they reach
//! nothing but the container's own.
//!
//! Not allowed, as elsewhere: io_uring, which does things that a filter can't see; userfaultfd,
//! kexec and swap, keys of others; sockets to the hypervisor; obsolete calls that only widen the
//! kernel's surface.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::arch::Arch;
use super::rules::{ENOSYS, EPERM};
use crate::capabilities::{Cap, CapSet};

const EINVAL: u32 = 22;

/// Allowed whatever the capabilities, by area. Names of one architecture do not exist in others.
const ALLOWED: &[&str] = &[
    // Files by name and descriptor.
    "_llseek access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 \
     dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_init fanotify_mark \
     fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
     flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
     ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr inotify_add_watch \
     inotify_init inotify_init1 inotify_rm_watch ioctl landlock_add_rule landlock_create_ruleset \
     landlock_restrict_self lchown lchown32 lgetxattr link linkat listxattr llistxattr \
     lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at \
     newfstatat open openat openat2 readahead readlink readlinkat removexattr rename renameat \
     renameat2 rmdir setxattr stat stat64 statfs statfs64 statx symlink symlinkat sync \
     sync_file_range syncfs truncate truncate64 umask unlink unlinkat utime utimensat \
     utimensat_time64 utimes",
    // Reading and writing.
    "pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv sendfile sendfile64 \
     splice tee write writev",
    // Memory.
    "brk get_mempolicy madvise mbind membarrier memfd_create memfd_secret mincore mlock mlock2 \
     mlockall mmap mmap2 mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free \
     pkey_mprotect process_mrelease process_vm_readv process_vm_writev remap_file_pages \
     set_mempolicy",
    // Sockets.
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom \
     recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown \
     socketcall socketpair",
    // Waiting for events.
    "_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
     epoll_wait epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents io_setup \
     io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4 \
     timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // System V and POSIX messages, semaphores and shared memory.
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
     mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
     semtimedop_time64 shmat shmctl shmdt shmget",
    // Signals.
    "kill pause pidfd_getfd pidfd_open pidfd_send_signal restart_syscall rt_sigaction \
     rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
     rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signal sigprocmask sigreturn tgkill \
     tkill",
    // Ids and capabilities.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
     getresgid getresgid32 getresuid getresuid32 getuid getuid32 keyctl setfsgid setfsgid32 \
     setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid \
     setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32",
    // Time.
    "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
     clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep \
     setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
     timer_settime timer_settime64 times",
    // Mounts and namespaces, which a user namespace may have of its own.
    "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root setns \
     umount umount2 unshare",
    // Processes, and the rest.
    "clone clone3 execve execveat exit exit_group fork futex futex_requeue futex_time64 \
     futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getpgid getpgrp \
     getpid getppid getpriority getrandom getrlimit getrusage getsid gettid ioprio_get \
     ioprio_set prctl prlimit64 ptrace reboot rseq sched_get_priority_max sched_get_priority_min \
     sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
     sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address \
     setpgid setpriority setrlimit setsid sysinfo syslog ugetrlimit uname vfork wait4 waitid \
     waitpid",
];

/// Allowed too; there is no such call elsewhere.
const OF_ONE_ARCHITECTURE: &str = "arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush modify_ldt \
    riscv_flush_icache s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr set_tls \
    swapcontext sync_file_range2";

/// Allowed beyond that list: what the kernel's own trampolines call in a program that is probed.
/// Made by hand they only fail; refused, they kill the program (kernels before 6.18 filter them).
const TRAMPOLINES: &str = "uprobe uretprobe";

/// Refused with EPERM whatever the capabilities.
const REFUSED: &str = "bdflush cachestat io_pgetevents io_pgetevents_time64 kexec_file_load \
    kexec_load map_shadow_stack migrate_pages move_pages nfsservctl nice oldfstat oldlstat \
    oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask \
    swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old vmsplice";

/// Allowed with any of the capabilities, refused with EPERM without.
const WITH: &[(&[Cap], &str)] = &[
    (&[Cap::DAC_READ_SEARCH], "open_by_handle_at"),
    (
        &[Cap::SYS_ADMIN],
        "lookup_dcookie quotactl quotactl_fd setdomainname sethostname",
    ),
    (&[Cap::SYS_ADMIN, Cap::BPF], "bpf"),
    (&[Cap::SYS_ADMIN, Cap::PERFMON], "perf_event_open"),
    (&[Cap::SYS_CHROOT], "chroot"),
    (
        &[Cap::SYS_MODULE],
        "delete_module finit_module init_module query_module",
    ),
    (&[Cap::SYS_PACCT], "acct"),
    (&[Cap::SYS_PTRACE], "kcmp process_madvise"),
    (&[Cap::SYS_RAWIO], "ioperm iopl"),
    (
        &[Cap::SYS_TIME],
        "clock_settime clock_settime64 settimeofday stime",
    ),
    (&[Cap::SYS_TTY_CONFIG], "vhangup"),
];

/// personality(2): Linux, 32-bit Linux, both with the old uname, and asking what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const AF_NETLINK: u64 = 16;
const AF_VSOCK: u64 = 40;
const NETLINK_AUDIT: u64 = 9;

/// The profile of a container with these capabilities in its bounding set, for the machine's own
/// architecture and those that it can run.
pub fn default_profile(caps: CapSet) -> LinuxSeccomp {
    profile_for(Arch::NATIVE, caps)
}

fn profile_for(native: Option<Arch>, caps: CapSet) -> LinuxSeccomp {
    let lists = ALLOWED.iter().chain([&OF_ONE_ARCHITECTURE, &TRAMPOLINES]);
    let mut allowed: Vec<&str> = lists.flat_map(|names| names.split_whitespace()).collect();
    let mut refused: Vec<&str> = REFUSED.split_whitespace().collect();
    for (any, names) in WITH {
        if caps.intersection(CapSet::of(any)).is_empty() {
            refused.extend(names.split_whitespace());
        } else {
            allowed.extend(names.split_whitespace());
        }
    }
    let mut syscalls = sockets(caps.contains(Cap::AUDIT_WRITE));
    for personality in PERSONALITIES {
        let is = argument(0, Operator::ScmpCmpEq, personality);
        syscalls.push(entry(
            &["personality"],
            Action::ScmpActAllow,
            None,
            vec![is],
        ));
    }
    syscalls.push(entry(&allowed, Action::ScmpActAllow, None, Vec::new()));
    syscalls.push(entry(
        &refused,
        Action::ScmpActErrno,
        Some(EPERM),
        Vec::new(),
    ));

    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(Action::ScmpActErrno)
        .set_default_errno_ret(Some(ENOSYS))
        .set_architectures(native.map(|native| {
            let family = native.family().iter();
            family.map(|arch| arch.to_oci()).collect()
        }))
        .set_syscalls(Some(syscalls));
    profile
}

/// Every socket but two kinds: those to the hypervisor and its other guests, which no network
/// namespace holds back; and the kernel's audit socket without the capability for it, which answers
/// to the first user namespace only. EINVAL is what programs take as "no audit here" (netlink(7)).
fn sockets(audit: bool) -> Vec<LinuxSyscall> {
    let family = |op, family| argument(0, op, family);
    let protocol = |op| argument(2, op, NETLINK_AUDIT);
    let (is, is_not) = (Operator::ScmpCmpEq, Operator::ScmpCmpNe);
    let allow = |args| entry(&["socket"], Action::ScmpActAllow, None, args);
    let refuse = |errno, args| entry(&["socket"], Action::ScmpActErrno, Some(errno), args);
    let mut rules = vec![refuse(EPERM, vec![family(is, AF_VSOCK)])];
    if audit {
        rules.push(allow(vec![family(is_not, AF_VSOCK)]));
    } else {
        rules.extend([
            refuse(EINVAL, vec![family(is, AF_NETLINK), protocol(is)]),
            allow(vec![family(is, AF_NETLINK), protocol(is_not)]),
            allow(vec![family(is_not, AF_NETLINK)]),
        ]);
    }
    rules
}

fn entry(
    names: &[&str],
    action: Action,
    errno: Option<u32>,
    args: Vec<LinuxSeccompArg>,
) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names.iter().map(|name| (*name).to_owned()).collect())
        .set_action(action)
        .set_errno_ret(errno)
        .set_args((!args.is_empty()).then_some(args));
    syscall
}

fn argument(index: usize, op: Operator, value: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value)
        .build()
        .expect("no field is required")
}

#[cfg(test)]
#[path = "default_tests.rs"]
mod tests;
