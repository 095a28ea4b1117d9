//! Capabilities: names and bits, the sets of a container, and how a process takes them on.
//!
//! A container's inheritable set is empty (CVE-2022-27649): a program that starts others as root
//! would otherwise hand them capabilities through file capabilities that nobody asked for. The one
//! exception is what the ambient set needs, for the kernel keeps ambient within inheritable
//! (capabilities(7)); and a specification from elsewhere that asks for more is followed.
//!
//! A thread takes them on in an order that the kernel's rules set, each step needing what a later
//! one gives up:
//! 1. [`drop_bounding`], which takes `CAP_SETPCAP`, and [`keep_over_setuid`];
//! 2. setgroups, setresgid, setresuid, which take `CAP_SETGID` and `CAP_SETUID`;
//! 3. a seccomp filter without no_new_privs, which takes an effective `CAP_SYS_ADMIN`, so
//!    [`regain_effective`] before it;
//! 4. [`apply`]: permitted, effective and inheritable by one capset(2), then ambient.
//!
//! rustix has these calls. None of them allocates.

mod cap;

use std::fs;
use std::io;

use oci_spec::runtime::LinuxCapabilities;
use rustix::thread::{CapabilitySet, CapabilitySets};

pub use cap::Cap;

use crate::error::Error;
use cap::NAMES;

/// The names of all capabilities, as the specification has them.
pub fn known_names() -> Vec<String> {
    NAMES
        .iter()
        .map(|(name, _)| format!("CAP_{name}"))
        .collect()
}

/// A set of capabilities.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// What a container has unless more or less is asked for: enough to be root over its own files
    /// and ids, and nothing that reaches the kernel's configuration.
    pub const DEFAULT: Self = Self::of(&[
        Cap::CHOWN,
        Cap::DAC_OVERRIDE,
        Cap::FOWNER,
        Cap::FSETID,
        Cap::KILL,
        Cap::NET_BIND_SERVICE,
        Cap::SETFCAP,
        Cap::SETGID,
        Cap::SETPCAP,
        Cap::SETUID,
        Cap::SYS_CHROOT,
    ]);

    /// Every capability that has a name here.
    pub const NAMED: Self = Self((1 << NAMES.len()) - 1);

    /// The set of these.
    pub const fn of(caps: &[Cap]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < caps.len() {
            bits |= 1 << caps[i].0;
            i += 1;
        }
        Self(bits)
    }

    /// The set with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Capabilities 0 to `last`, the content of `/proc/sys/kernel/cap_last_cap`.
    pub const fn up_to(last: u8) -> Self {
        if last >= 63 {
            return Self(u64::MAX);
        }
        Self((1 << (last + 1)) - 1)
    }

    /// What the running kernel and this table both know. Reads /proc.
    pub fn known() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
        let last = text.trim().parse::<u8>().map_err(io::Error::other)?;
        Ok(Self::up_to(last).intersection(Self::NAMED))
    }

    /// Whether it has no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `cap` is a member.
    pub const fn contains(self, cap: Cap) -> bool {
        self.0 & (1 << cap.0) != 0
    }

    /// This and `cap`.
    #[must_use]
    pub const fn with(self, cap: Cap) -> Self {
        Self(self.0 | 1 << cap.0)
    }

    /// This without `cap`.
    #[must_use]
    pub const fn without(self, cap: Cap) -> Self {
        Self(self.0 & !(1 << cap.0))
    }

    /// The members of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members that `other` lacks.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, lowest bit first.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        (0..64)
            .map(Cap)
            .filter(move |cap| self.0 & (1 << cap.0) != 0)
    }

    /// The members' names, sorted, as `inspect` and OCI documents show them.
    pub fn names(self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|cap| cap.to_string()).collect();
        names.sort();
        names
    }

    /// The members as OCI has them; those it has no name for are left out.
    pub fn to_oci(self) -> oci_spec::runtime::Capabilities {
        NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.contains(Cap(*bit as u8)))
            .map(|(_, (_, oci))| *oci)
            .collect()
    }

    /// The set that an OCI list names.
    pub fn from_oci(list: Option<&oci_spec::runtime::Capabilities>) -> Self {
        let mut bits = 0;
        for oci in list.into_iter().flatten() {
            if let Some(bit) = NAMES.iter().position(|(_, known)| known == oci) {
                bits |= 1 << bit;
            }
        }
        Self(bits)
    }

    fn kernel(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

/// `base` with what `--cap-add` and `--cap-drop` ask for.
///
/// `ALL` on one side sets the start: dropped, only what is added remains; added, everything of
/// `known` (see [`CapSet::known`]) but what is dropped. A name on both sides, or `ALL` on both, is
/// an error, as is an added capability that the kernel does not know.
pub fn adjust(
    base: CapSet,
    add: &[impl AsRef<str>],
    drop: &[impl AsRef<str>],
    known: CapSet,
) -> Result<CapSet, Error> {
    let (add_all, add) = parse_list(add)?;
    let (drop_all, drop) = parse_list(drop)?;
    if add_all && drop_all {
        return Err(Error::Spec(
            "adding all capabilities and dropping all capabilities is not allowed".to_owned(),
        ));
    }
    if let Some(cap) = add.intersection(drop).iter().next() {
        return Err(Error::Spec(format!(
            "capability {cap} can't be both added and dropped"
        )));
    }
    if let Some(cap) = add.difference(known).iter().next() {
        return Err(Error::Spec(format!(
            "capability {cap} can't be added: this kernel does not have it"
        )));
    }
    let start = match (add_all, drop_all) {
        (true, _) => known,
        (_, true) => CapSet::EMPTY,
        _ => base.intersection(known),
    };
    Ok(start.union(add).difference(drop))
}

fn parse_list(list: &[impl AsRef<str>]) -> Result<(bool, CapSet), Error> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in list {
        let name = name.as_ref();
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set = set.with(Cap::parse(name)?);
        }
    }
    Ok((all, set))
}

/// The five sets of a process (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CapSets {
    /// What no exec can go past.
    pub bounding: CapSet,
    /// What is checked.
    pub effective: CapSet,
    /// What an exec of a file with inheritable capabilities keeps.
    pub inheritable: CapSet,
    /// What can be made effective.
    pub permitted: CapSet,
    /// What an exec of an ordinary file keeps.
    pub ambient: CapSet,
}

impl CapSets {
    /// The sets of a container that may have `set`.
    ///
    /// Root has them from the start. Another user starts without and gets at them only through
    /// set-user-ID files, except those of `added`, which were asked for by name and so would be of
    /// no use otherwise: they are ambient.
    pub fn for_user(root: bool, set: CapSet, added: CapSet) -> Self {
        if root {
            return Self {
                bounding: set,
                effective: set,
                permitted: set,
                ..Self::default()
            };
        }
        let own = added.intersection(set);
        Self {
            bounding: set,
            effective: own,
            inheritable: own,
            permitted: own,
            ambient: own,
        }
    }

    /// The sets of an OCI specification. Without any, a process has none, as with runc.
    ///
    /// The ambient set is made to fit in the permitted and inheritable ones (capabilities(7)), and
    /// these two to hold it: a specification that gives ambient alone means it.
    pub fn from_oci(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(given) = capabilities else {
            return Self::default();
        };
        let ambient = CapSet::from_oci(given.ambient().as_ref());
        Self {
            bounding: CapSet::from_oci(given.bounding().as_ref()),
            effective: CapSet::from_oci(given.effective().as_ref()),
            inheritable: CapSet::from_oci(given.inheritable().as_ref()).union(ambient),
            permitted: CapSet::from_oci(given.permitted().as_ref()).union(ambient),
            ambient,
        }
    }

    /// The sets as OCI has them; an empty one is left out.
    pub fn to_oci(&self) -> LinuxCapabilities {
        let list = |set: CapSet| (!set.is_empty()).then(|| set.to_oci());
        let mut oci = LinuxCapabilities::default();
        oci.set_bounding(list(self.bounding))
            .set_effective(list(self.effective))
            .set_inheritable(list(self.inheritable))
            .set_permitted(list(self.permitted))
            .set_ambient(list(self.ambient));
        oci
    }
}

/// Lets the permitted set outlive a change to another user id; without it the kernel clears all
/// sets when the last user id 0 goes (capabilities(7)). [`apply`] ends it.
pub fn keep_over_setuid() -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(true)?)
}

/// Lowers the bounding set to that of `sets`. Takes `CAP_SETPCAP`.
///
/// Goes up to the first number that the kernel refuses, so that one that came after this table is
/// dropped too.
pub fn drop_bounding(sets: &CapSets) -> io::Result<()> {
    for cap in (0..64).map(Cap) {
        let bit = CapSet::of(&[cap]).kernel();
        match rustix::thread::capability_is_in_bounding_set(bit) {
            Ok(true) if !sets.bounding.contains(cap) => {
                rustix::thread::remove_capability_from_bounding_set(bit)?;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes everything permitted effective again, after a change of user id that emptied the effective
/// set: a seccomp filter without no_new_privs takes an effective `CAP_SYS_ADMIN`.
pub fn regain_effective() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Gives the calling thread, whose ids are final, the four sets beside the bounding one.
pub fn apply(sets: &CapSets) -> io::Result<()> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: sets.effective.kernel(),
            permitted: sets.permitted.kernel(),
            inheritable: sets.inheritable.kernel(),
        },
    )?;
    // Setting other ids has cleared the ambient set, a change from root to root has not.
    rustix::thread::clear_ambient_capability_set()?;
    for cap in sets.ambient.iter() {
        let bit = CapSet::of(&[cap]).kernel();
        rustix::thread::configure_capability_in_ambient_set(bit, true)?;
    }
    Ok(rustix::thread::set_keep_capabilities(false)?)
}

#[cfg(test)]
#[path = "capabilities/tests.rs"]
mod tests;
