//! config.md and config-linux.md on names, kernel parameters and personality.

use serde_json::json;

use crate::case::Case;
use crate::outcome::{Outcome, not_applicable, same};
use crate::stage::Stage;

const SYSCTL: &str = "config-linux.md: Sysctl";
const PERSONALITY: &str = "config-linux.md: Personality";

pub(crate) const CASES: &[Case] = &[
    Case::new("hostname", "config.md: Hostname", hostname),
    Case::new(
        "hostname_of_the_host_stays",
        "config.md: Hostname",
        hostname_stays,
    ),
    Case::new("domainname", "config.md: Domainname", domainname),
    Case::new("sysctl_of_the_network", SYSCTL, sysctl_net),
    Case::new("sysctl_of_ipc", SYSCTL, sysctl_ipc),
    Case::new("sysctl_that_is_missing", SYSCTL, sysctl_missing),
    Case::new("sysctl_with_an_invalid_value", SYSCTL, sysctl_invalid),
    Case::new("sysctl_stays_in_proc_sys", SYSCTL, sysctl_outside),
    Case::new("personality_32", PERSONALITY, personality_32),
    Case::new("personality_64", PERSONALITY, personality_64),
    Case::new("personality_unknown", PERSONALITY, personality_unknown),
    Case::new(
        "intel_rdt_without_resctrl",
        "config-linux.md: IntelRdt",
        rdt,
    ),
];

fn hostname(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["hostname"] = "mrsdalloway".into();
    stage.prints(
        &mut spec,
        "hostname; uname -n",
        "mrsdalloway\nmrsdalloway\n",
    )
}

fn hostname_stays(stage: &Stage<'_>) -> Outcome {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    // Without one the container has the host's.
    stage.prints(&mut stage.spec(), "cat /proc/sys/kernel/hostname", &own)?;
    hostname(stage)?;
    same(
        "the host's",
        std::fs::read_to_string("/proc/sys/kernel/hostname")?,
        own,
    )
}

fn domainname(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["domainname"] = "foobarbaz.test".into();
    stage.prints(
        &mut spec,
        "cat /proc/sys/kernel/domainname",
        "foobarbaz.test\n",
    )
}

fn sysctl_net(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["sysctl"] = json!({
        "net.ipv4.ip_forward": "1",
        "net.ipv4.ping_group_range": "0 0",
        "net/ipv4/ip_default_ttl": "77",
    });
    let script = "cd /proc/sys/net/ipv4; cat ip_forward ping_group_range ip_default_ttl";
    stage.prints(&mut spec, script, "1\n0\t0\n77\n")
}

fn sysctl_ipc(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["sysctl"] = json!({"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "17"});
    let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max";
    stage.prints(&mut spec, script, "1\n17\n")
}

fn sysctl_missing(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["sysctl"] = json!({"net.nosuch.name": "1"});
    stage.refuses(&spec)?;
    Ok(())
}

fn sysctl_invalid(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "nonsense"});
    stage.refuses(&spec)?;
    Ok(())
}

fn sysctl_outside(stage: &Stage<'_>) -> Outcome {
    for name in [
        "net/../../self/oom_score_adj",
        "net/../../../tmp/file",
        "net..ipv4",
    ] {
        let mut spec = stage.spec();
        spec["linux"]["sysctl"] = json!({name: "900"});
        stage.refuses(&spec)?;
    }
    Ok(())
}

fn personality_32(stage: &Stage<'_>) -> Outcome {
    if std::env::consts::ARCH != "x86_64" {
        return not_applicable("not x86_64");
    }
    let mut spec = stage.spec();
    spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    stage.prints(
        &mut spec,
        "uname -m; cat /proc/self/personality",
        "i686\n00000008\n",
    )
}

fn personality_64(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["personality"] = json!({"domain": "LINUX"});
    stage.prints(&mut spec, "cat /proc/self/personality", "00000000\n")
}

fn personality_unknown(stage: &Stage<'_>) -> Outcome {
    for personality in [
        json!({"domain": "NOSUCH"}),
        json!({"domain": "LINUX", "flags": ["NOSUCH"]}),
    ] {
        let mut spec = stage.spec();
        spec["linux"]["personality"] = personality;
        stage.refuses_late(&spec)?;
    }
    stage.left_nothing()
}

fn rdt(stage: &Stage<'_>) -> Outcome {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if mounts.contains(" - resctrl ") {
        return not_applicable("resctrl is mounted");
    }
    let mut spec = stage.spec();
    spec["linux"]["intelRdt"] = json!({"closID": "nosuch", "l3CacheSchema": "L3:0=1"});
    stage.refuses(&spec)?;
    Ok(())
}
