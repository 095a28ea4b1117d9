//! Seccomp: a profile of the runtime specification, compiled to a filter and loaded.
//!
//! The compiler is kelp's own: libseccomp would be a C library in a static binary, and takes longer
//! than a whole container start. [`rules`] says what a profile means, [`compile`] how it becomes a
//! program, [`default`] which profile a container gets, [`single_id`] what changes where only one id
//! is mapped. All of it runs before the first namespace exists; init only calls [`Program::load`].
//!
//! The machine's own architecture is always in a filter. Calls of an architecture that the profile
//! does not list, or that the kernel can't be asked for here, kill the process.

mod arch;
mod asked;
mod bpf;
mod cache;
mod compile;
pub mod default;
pub mod engine_profile;
mod errno;
pub mod names;
mod rules;
pub mod single_id;

use std::fmt::Write;
use std::io;
use std::os::fd::OwnedFd;

use kelp_sys::seccomp::{self as sys, SockFilter};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};
use sha2::{Digest, Sha256};

pub use arch::Arch;
pub use asked::{Loaded, check_asked};
pub use cache::plan_cached;
pub use default::default_profile;

use crate::capabilities::CapSet;
use crate::error::Error;
use rules::{ALLOW, KILL_PROCESS, NOTIFY, Rules};

/// First in a stored program; the last byte counts versions of what a profile means.
const MAGIC: [u8; 8] = *b"kelpbpf\x01";

/// The flags and the kernel's bits.
const FLAGS: [(Flag, u32); 4] = [
    (Flag::SeccompFilterFlagLog, sys::FLAG_LOG),
    (Flag::SeccompFilterFlagSpecAllow, sys::FLAG_SPEC_ALLOW),
    (Flag::SeccompFilterFlagTsync, sys::FLAG_TSYNC),
    (
        Flag::SeccompFilterFlagWaitKillableRecv,
        sys::FLAG_WAIT_KILLABLE_RECV,
    ),
];

/// A filter, ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<SockFilter>,
    flags: u32,
}

/// A filter and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The filter.
    pub program: Program,
    /// What of the profile has no effect here, a line each: names that are no system call, and
    /// architectures that this machine does not run. Common in profiles that are made for many.
    pub notes: Vec<String>,
}

/// The filter of a container; none if there is nothing to filter.
///
/// `single_id` tells that one id only is mapped: see the module of this name.
///
/// # Errors
/// [`Error::Spec`] for a profile that can't be.
pub fn plan(profile: Option<&LinuxSeccomp>, single_id: bool) -> Result<Option<Program>, Error> {
    plan_cached(profile, None, single_id, None)
}

/// The filter, whether or not there is anything to filter.
fn compiled_plan(profile: Option<&LinuxSeccomp>, single_id: bool) -> Result<Program, Error> {
    Ok(compile(profile, single_id, native()?)?.program)
}

/// Makes a filter of `profile` before anything else is made, to see whether one can be, and what of the
/// profile has no effect here.
///
/// # Errors
/// [`Error::Spec`] for a profile that can't be.
pub fn check(profile: &LinuxSeccomp) -> Result<Compiled, Error> {
    compile(Some(profile), false, native()?)
}

fn native() -> Result<Arch, Error> {
    Arch::NATIVE.ok_or_else(|| {
        Error::Spec(
            "seccomp: the system calls of this machine's architecture are not known to kelp: \
             start the container with --security-opt seccomp=unconfined"
                .to_owned(),
        )
    })
}

/// Compiles `profile` for a machine of the architecture `native`.
///
/// Without a profile every call is allowed, but for what `single_id` answers.
pub fn compile(
    profile: Option<&LinuxSeccomp>,
    single_id: bool,
    native: Arch,
) -> Result<Compiled, Error> {
    let rules = Rules::new(profile, single_id)?;
    let mut notes = Vec::new();
    let archs = match profile {
        Some(profile) => architectures(profile, native, &mut notes),
        None => native.family().to_vec(),
    };
    let tables: Vec<_> = archs.iter().map(|&arch| rules.table(arch)).collect();
    let unknown = rules.unknown();
    notes.extend(
        unknown
            .iter()
            .map(|name| format!("seccomp: \"{name}\" is no system call of this machine")),
    );
    let foreign = if profile.is_some() {
        KILL_PROCESS
    } else {
        ALLOW
    };
    let instructions = compile::assemble(&tables, foreign);
    if instructions.len() > compile::MAX_INSTRUCTIONS {
        return Err(Error::Spec(format!(
            "seccomp: the profile takes {} instructions, more than the kernel's {}",
            instructions.len(),
            compile::MAX_INSTRUCTIONS
        )));
    }
    let notifies = instructions
        .iter()
        .any(|instruction| instruction.code == bpf::RETURN && instruction.k == NOTIFY);
    let flags = flags(profile, notifies, &mut notes)?;
    Ok(Compiled {
        program: Program {
            instructions,
            flags,
        },
        notes,
    })
}

/// The architectures of a filter, the machine's own first.
fn architectures(profile: &LinuxSeccomp, native: Arch, notes: &mut Vec<String>) -> Vec<Arch> {
    let mut archs = vec![native];
    for &listed in profile.architectures().iter().flatten() {
        match Arch::from_oci(listed, native) {
            Some(arch) if native.family().contains(&arch) => {
                if !archs.contains(&arch) {
                    archs.push(arch);
                }
            }
            _ => notes.push(format!("seccomp: this machine does not run {listed}")),
        }
    }
    archs
}

fn flags(
    profile: Option<&LinuxSeccomp>,
    notifies: bool,
    notes: &mut Vec<String>,
) -> Result<u32, Error> {
    let mut bits = 0;
    match profile.and_then(|profile| profile.flags().as_ref()) {
        // As runc does where flags are not given: kernels before 5.16 would otherwise turn
        // speculation off for the whole container, which halves the speed of some programs.
        None => bits |= sys::FLAG_SPEC_ALLOW,
        Some(flags) => {
            for flag in flags {
                if *flag == Flag::SeccompFilterFlagWaitKillableRecv && !notifies {
                    // The kernel takes it with a listener only.
                    notes.push(format!("seccomp: {flag} is for filters that notify"));
                    continue;
                }
                let bit = FLAGS.iter().find(|(known, _)| known == flag);
                let &(_, bit) =
                    bit.ok_or_else(|| Error::Spec(format!("seccomp: {flag} is not known here")))?;
                bits |= bit;
            }
        }
    }
    if notifies {
        if profile.is_none_or(|profile| profile.listener_path().is_none()) {
            return Err(Error::Spec(
                "seccomp: SCMP_ACT_NOTIFY needs a listenerPath, the socket of an agent: add it, or take \
                 the action out"
                    .to_owned(),
            ));
        }
        bits |= sys::FLAG_NEW_LISTENER;
        if bits & sys::FLAG_TSYNC != 0 {
            bits |= sys::FLAG_TSYNC_ESRCH;
        }
    }
    Ok(bits)
}

/// The name under which the filter of the default profile is kept: all that it depends on.
///
/// Of the kernel nothing is: its release decides about rules of an engine's profile
/// ([`engine_profile`]), and so about the profile that is compiled, not about how.
pub fn default_key(caps: CapSet, single_id: bool) -> String {
    let single = if single_id { "-single" } else { "" };
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!(
        "default-{version}-{BUILD:016x}-{arch}-{:x}{single}",
        caps.bits()
    )
}

/// The name under which a profile's filter is kept: a hash of all that it depends on.
///
/// A tenth of what compiling costs, most of it for writing the profile out.
pub fn program_key(profile: Option<&LinuxSeccomp>, single_id: bool) -> Result<String, Error> {
    let text = serde_json::to_vec(&profile)
        .map_err(|error| Error::Spec(format!("seccomp: the profile is no document: {error}")))?;
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    // The tables of system calls come with a version of kelp.
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(BUILD.to_le_bytes());
    hash.update([u8::from(single_id)]);
    hash.update(std::env::consts::ARCH);
    hash.update([0]);
    hash.update(&text);
    let mut key = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

/// A hash of the sources that say what a filter is (FNV-1a), so that no build has the filters of
/// another of the same version.
const BUILD: u64 = {
    let sources: [&[u8]; 7] = [
        include_bytes!("seccomp.rs"),
        include_bytes!("seccomp/arch.rs"),
        include_bytes!("seccomp/bpf.rs"),
        include_bytes!("seccomp/compile.rs"),
        include_bytes!("seccomp/default.rs"),
        include_bytes!("seccomp/rules.rs"),
        include_bytes!("seccomp/single_id.rs"),
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut source = 0;
    while source < sources.len() {
        let mut at = 0;
        while at < sources[source].len() {
            hash = (hash ^ sources[source][at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        source += 1;
    }
    hash
};

impl Program {
    /// Filters the calling thread and what it starts, for good. Allocates nothing.
    ///
    /// Takes no_new_privs or an effective `CAP_SYS_ADMIN` (seccomp(2)). Returns the listener of a
    /// filter that notifies, to be sent to the profile's `listenerPath`.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        sys::set_mode_filter(self.flags, &self.instructions)
    }

    /// Whether loading returns a listener.
    pub fn notifies(&self) -> bool {
        self.flags & sys::FLAG_NEW_LISTENER != 0
    }

    /// The instructions.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.instructions
    }

    /// The program as it is stored: the magic, the flags, and 8 bytes for each instruction, all
    /// little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 + 8 * self.instructions.len());
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        for instruction in &self.instructions {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.jt, instruction.jf]);
            bytes.extend(instruction.k.to_le_bytes());
        }
        bytes
    }

    /// [`Program::to_bytes`] back; none if these are other bytes. Whether the instructions are a
    /// program is for the kernel to say.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (flags, rest) = rest.split_first_chunk::<4>()?;
        let (chunks, []) = rest.as_chunks::<8>() else {
            return None;
        };
        if chunks.is_empty() || chunks.len() > compile::MAX_INSTRUCTIONS {
            return None;
        }
        Some(Self {
            flags: u32::from_le_bytes(*flags),
            instructions: chunks
                .iter()
                .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| SockFilter {
                    code: u16::from_le_bytes([c0, c1]),
                    jt,
                    jf,
                    k: u32::from_le_bytes([k0, k1, k2, k3]),
                })
                .collect(),
        })
    }
}

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
