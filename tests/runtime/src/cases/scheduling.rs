//! config.md, "Linux Process" on scheduling; config-linux.md, "Memory policy".

use serde_json::{Value, json};

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, has, not_applicable, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config.md: Linux Process";
const MEMORY: &str = "config-linux.md: Memory policy";

pub(crate) const CASES: &[Case] = &[
    Case::new("scheduler_batch", SECTION, |stage| {
        scheduler(stage, json!({"policy": "SCHED_BATCH", "nice": 5}), "3 0 5")
    }),
    Case::new("scheduler_idle", SECTION, |stage| {
        scheduler(stage, json!({"policy": "SCHED_IDLE"}), "5 0 0")
    }),
    Case::new("scheduler_other_with_a_nice_value", SECTION, |stage| {
        scheduler(stage, json!({"policy": "SCHED_OTHER", "nice": 7}), "0 0 7")
    }),
    Case::new("scheduler_fifo", SECTION, |stage| {
        scheduler(
            stage,
            json!({"policy": "SCHED_FIFO", "priority": 10}),
            "1 10 0",
        )
    })
    .needs(Needs::Root),
    Case::new("scheduler_round_robin_reset_on_fork", SECTION, |stage| {
        let flags = json!(["SCHED_FLAG_RESET_ON_FORK"]);
        scheduler(
            stage,
            json!({"policy": "SCHED_RR", "priority": 3, "flags": flags}),
            "2 3 0",
        )
    })
    .needs(Needs::Root),
    Case::new("scheduler_deadline", SECTION, |stage| {
        let times = json!({
            "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000,
            "period": 30_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        });
        scheduler(stage, times, "6 0 0")
    })
    .needs(Needs::Root),
    Case::new("scheduler_unknown_policy", SECTION, |stage| {
        refused(stage, "scheduler", json!({"policy": "SCHED_NOSUCH"}))
    }),
    Case::new("scheduler_unknown_flag", SECTION, |stage| {
        let flags = json!(["SCHED_FLAG_NOSUCH"]);
        refused(
            stage,
            "scheduler",
            json!({"policy": "SCHED_OTHER", "flags": flags}),
        )
    }),
    Case::new("scheduler_beyond_the_callers_rights", SECTION, |stage| {
        refused(
            stage,
            "scheduler",
            json!({"policy": "SCHED_OTHER", "nice": -20}),
        )
    })
    .needs(Needs::User),
    Case::new("io_priority_best_effort", SECTION, |stage| {
        io(
            stage,
            json!({"class": "IOPRIO_CLASS_BE", "priority": 6}),
            "best-effort: prio 6\n",
        )
    }),
    Case::new("io_priority_idle", SECTION, |stage| {
        io(
            stage,
            json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
            "idle\n",
        )
    }),
    Case::new("io_priority_real_time", SECTION, |stage| {
        io(
            stage,
            json!({"class": "IOPRIO_CLASS_RT", "priority": 2}),
            "realtime: prio 2\n",
        )
    })
    .needs(Needs::Root),
    Case::new("io_priority_unknown_class", SECTION, |stage| {
        refused(
            stage,
            "ioPriority",
            json!({"class": "IOPRIO_CLASS_NOSUCH", "priority": 0}),
        )
    }),
    Case::new("io_priority_out_of_range", SECTION, |stage| {
        refused(
            stage,
            "ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
        )
    }),
    Case::new("exec_affinity_final", SECTION, affinity),
    Case::new("exec_affinity_not_for_the_init", SECTION, affinity_init),
    Case::new("memory_policy_bind", MEMORY, |stage| {
        memory(stage, json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind")
    }),
    Case::new("memory_policy_interleave_with_flags", MEMORY, |stage| {
        let flags = json!(["MPOL_F_STATIC_NODES"]);
        memory(
            stage,
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": flags}),
            "interleave=static",
        )
    }),
    Case::new("memory_policy_local", MEMORY, |stage| {
        memory(stage, json!({"mode": "MPOL_LOCAL", "nodes": ""}), "local")
    }),
    Case::new("memory_policy_unknown_mode", MEMORY, |stage| {
        memory_refused(stage, json!({"mode": "MPOL_NOSUCH", "nodes": "0"}))
    }),
    Case::new("memory_policy_that_can_not_be", MEMORY, |stage| {
        memory_refused(stage, json!({"mode": "MPOL_BIND", "nodes": ""}))
    }),
];

/// Policy, priority and nice value of the program itself, proc_pid_stat(5): what comes after the
/// name, which has no space.
fn scheduler(stage: &Stage<'_>, value: Value, expected: &str) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["scheduler"] = value;
    spec["process"]["args"] = json!(["/bin/awk", "{ print $41, $40, $19 }", "/proc/self/stat"]);
    let out = stage.run(&spec)?.succeeds()?;
    same("policy, priority, nice", out.trim_end(), expected)
}

fn refused(stage: &Stage<'_>, property: &str, value: Value) -> Outcome {
    let mut spec = stage.spec();
    spec["process"][property] = value;
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn io(stage: &Stage<'_>, value: Value, expected: &str) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["ioPriority"] = value;
    stage.prints(
        &mut spec,
        "ionice -p 1 | sed 's/^\\(idle\\): prio .*/\\1/'",
        expected,
    )
}

fn cpus() -> Outcome<Vec<String>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    let list = list.unwrap_or_default().to_owned();
    let ends: Vec<&str> = list.split(['-', ',']).collect();
    Ok(vec![
        list.clone(),
        (*ends.last().unwrap_or(&"0")).to_owned(),
    ])
}

const ALLOWED: &str = "sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status";

fn with_affinity(stage: &Stage<'_>, cpu: &str) -> Spec {
    let mut spec = stage.spec();
    spec["process"]["execCPUAffinity"] = json!({"initial": cpu, "final": cpu});
    spec
}

fn affinity(stage: &Stage<'_>) -> Outcome {
    let cpus = cpus()?;
    if cpus[0] == cpus[1] {
        return not_applicable("one processor");
    }
    let container = stage.running(&mut with_affinity(stage, &cpus[1]))?;
    let out = container.exec(&[], ALLOWED)?;
    same("processors of exec", out.trim_end(), cpus[1].as_str())?;
    container.end()
}

fn affinity_init(stage: &Stage<'_>) -> Outcome {
    let cpus = cpus()?;
    stage.prints(
        &mut with_affinity(stage, &cpus[1]),
        ALLOWED,
        &format!("{}\n", cpus[0]),
    )
}

fn memory(stage: &Stage<'_>, value: Value, expected: &str) -> Outcome {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        return not_applicable("a kernel without NUMA");
    }
    let mut spec = stage.spec();
    spec["linux"]["memoryPolicy"] = value;
    let out = stage.shell(&mut spec, "cut -d ' ' -f 2 /proc/self/numa_maps | sort -u")?;
    has("policies of its memory", &out, expected)
}

fn memory_refused(stage: &Stage<'_>, value: Value) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["memoryPolicy"] = value;
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}
