//! Scheduling as the specification names it (runtime-spec, config.md, "Linux Process"; config-linux.md,
//! "Memory Policy"), turned into what the kernel takes.

use kelp_sys::scheduling::{SchedAttr, sched_setattr, set_io_priority, set_memory_policy};
use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy,
    MemoryPolicyFlagType as MemoryFlag, MemoryPolicyModeType as MemoryMode, Process, Scheduler,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{Error, Failure, Step};

/// Memory policies and the kernel's numbers (linux/mempolicy.h).
const MEMORY_MODES: [(MemoryMode, i32); 7] = [
    (MemoryMode::MpolDefault, 0),
    (MemoryMode::MpolPreferred, 1),
    (MemoryMode::MpolBind, 2),
    (MemoryMode::MpolInterleave, 3),
    (MemoryMode::MpolLocal, 4),
    (MemoryMode::MpolPreferredMany, 5),
    (MemoryMode::MpolWeightedInterleave, 6),
];

/// Their flags and the kernel's bits.
const MEMORY_FLAGS: [(MemoryFlag, i32); 3] = [
    (MemoryFlag::MpolFNumaBalancing, 1 << 13),
    (MemoryFlag::MpolFRelativeNodes, 1 << 14),
    (MemoryFlag::MpolFStaticNodes, 1 << 15),
];

/// The names of memory policies.
pub fn memory_modes() -> Vec<String> {
    let names = MEMORY_MODES.iter().map(|(mode, _)| mode.to_string());
    names.collect()
}

/// The names of their flags.
pub fn memory_flags() -> Vec<String> {
    let names = MEMORY_FLAGS.iter().map(|(flag, _)| flag.to_string());
    names.collect()
}

/// What a process asks for; most ask for nothing.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    scheduler: Option<SchedAttr>,
    /// Class and level.
    io_priority: Option<(u16, u16)>,
    memory_policy: Option<(i32, Vec<u64>)>,
    /// The processors of a process that exec adds, before and after it is in the container's cgroup.
    affinity: [Option<CpuSet>; 2],
}

impl Scheduling {
    /// Of a process.
    pub(crate) fn new(process: &Process) -> Result<Self, Error> {
        let affinity = process.exec_cpu_affinity().as_ref();
        let initial = affinity.and_then(|affinity| affinity.initial().as_deref());
        let last = affinity.and_then(|affinity| affinity.cpu_affinity_final().as_deref());
        let io_priority = process.io_priority().as_ref().map(|io| {
            let class = match io.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = u16::try_from(io.priority()).ok().filter(|level| *level < 8);
            level.map(|level| (class, level)).ok_or_else(|| {
                let level = io.priority();
                Error::Spec(format!("ioPriority: priority {level} is not 0 to 7"))
            })
        });
        Ok(Self {
            scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
            io_priority: io_priority.transpose()?,
            memory_policy: None,
            affinity: [processors(initial)?, processors(last)?],
        })
    }

    /// With the memory policy of a container.
    pub(crate) fn with_memory(self, policy: Option<&LinuxMemoryPolicy>) -> Result<Self, Error> {
        let memory_policy = policy.map(memory_policy).transpose()?;
        Ok(Self {
            memory_policy,
            ..self
        })
    }

    /// Applies it to the calling process; the programs that it executes keep it.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        if let Some(attr) = self.scheduler {
            sched_setattr(attr).step(|| "set process.scheduler".to_owned())?;
        }
        if let Some((class, level)) = self.io_priority {
            set_io_priority(class, level).step(|| "set process.ioPriority".to_owned())?;
        }
        if let Some((mode, nodes)) = &self.memory_policy {
            set_memory_policy(*mode, nodes).step(|| "set linux.memoryPolicy".to_owned())?;
        }
        Ok(())
    }

    /// Binds the calling process to the processors that one of exec has before it is in the cgroup.
    pub(crate) fn bind_initial(&self) -> Result<(), Failure> {
        bind(self.affinity[0].as_ref(), "initial")
    }

    /// Binds the calling process to those that it has after.
    pub(crate) fn bind_final(&self) -> Result<(), Failure> {
        bind(self.affinity[1].as_ref(), "final")
    }
}

fn bind(processors: Option<&CpuSet>, which: &str) -> Result<(), Failure> {
    let Some(processors) = processors else {
        return Ok(());
    };
    sched_setaffinity(None, processors).step(|| format!("set process.execCPUAffinity.{which}"))
}

fn scheduler(asked: &Scheduler) -> Result<SchedAttr, Error> {
    let policy = match asked.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let mut flags = 0;
    for flag in asked.flags().iter().flatten() {
        flags |= match flag {
            Flag::SchedResetOnFork => 0x01,
            Flag::SchedFlagReclaim => 0x02,
            Flag::SchedFlagDLOverrun => 0x04,
            Flag::SchedFlagKeepPolicy => 0x08,
            Flag::SchedFlagKeepParams => 0x10,
            Flag::SchedFlagUtilClampMin => 0x20,
            Flag::SchedFlagUtilClampMax => 0x40,
        };
    }
    let priority = asked.priority().unwrap_or(0);
    let priority = u32::try_from(priority)
        .map_err(|_| Error::Spec(format!("scheduler: priority {priority} is below 0")))?;
    Ok(SchedAttr {
        policy,
        flags,
        nice: asked.nice().unwrap_or(0),
        priority,
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
        ..SchedAttr::default()
    })
}

/// The kernel's mode with its flags, and a bit for each node (set_mempolicy(2)).
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<(i32, Vec<u64>), Error> {
    let unknown = |name: String| Error::Spec(format!("memoryPolicy: {name} is not known here"));
    let asked = policy.mode();
    let mut modes = MEMORY_MODES.iter();
    let mode = modes.find(|(known, _)| *known == asked);
    let &(_, mut mode) = mode.ok_or_else(|| unknown(asked.to_string()))?;
    for flag in policy.flags().iter().flatten() {
        let bit = MEMORY_FLAGS.iter().find(|(known, _)| known == flag);
        let &(_, bit) = bit.ok_or_else(|| unknown(flag.to_string()))?;
        mode |= bit;
    }
    let mut nodes = Vec::new();
    let text = policy.nodes().as_deref().unwrap_or_default();
    for node in list(text, 1024).ok_or_else(|| {
        Error::Spec(format!(
            "memoryPolicy: nodes {text:?} is no list like 0-2,4"
        ))
    })? {
        let word = node / 64;
        if nodes.len() <= word {
            nodes.resize(word + 1, 0);
        }
        nodes[word] |= 1 << (node % 64);
    }
    Ok((mode, nodes))
}

fn processors(text: Option<&str>) -> Result<Option<CpuSet>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let numbers = list(text, CpuSet::MAX_CPU).ok_or_else(|| {
        Error::Spec(format!(
            "execCPUAffinity: {text:?} is no list of processors like 0-2,4"
        ))
    })?;
    let mut set = CpuSet::new();
    for number in numbers {
        set.set(number);
    }
    Ok(Some(set))
}

/// The numbers of a list like `0-2,4`, each below `limit` (cpuset(7), "List format").
pub fn list(text: &str, limit: usize) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= limit {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges() {
        for (text, numbers) in [
            ("", Some(vec![])),
            ("0", Some(vec![0])),
            ("0-2,4", Some(vec![0, 1, 2, 4])),
            ("2-1", None),
            ("8", None),
            ("1,", None),
            ("-1", None),
            ("a", None),
        ] {
            assert_eq!(list(text, 8), numbers, "{text}");
        }
    }

    #[test]
    fn policies_become_the_kernels_numbers() {
        let asked = r#"{"mode": "MPOL_BIND", "nodes": "0,65", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let policy = memory_policy(&serde_json::from_str(asked).unwrap()).unwrap();
        assert_eq!(policy, (2 | 1 << 15, vec![1, 2]));
        let asked = r#"{"policy": "SCHED_FIFO", "priority": 7}"#;
        let attr = scheduler(&serde_json::from_str(asked).unwrap()).unwrap();
        assert_eq!((attr.policy, attr.priority), (1, 7));
        let process = r#"{"user": {"uid": 0, "gid": 0}, "cwd": "/",
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}"#;
        let error = Scheduling::new(&serde_json::from_str(process).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "ioPriority: priority 8 is not 0 to 7");
    }
}
