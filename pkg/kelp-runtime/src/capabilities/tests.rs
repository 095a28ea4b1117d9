//! Tests of capability sets.

use super::*;

const NONE: [&str; 0] = [];

fn adjusted(add: &[&str], drop: &[&str]) -> Result<CapSet, String> {
    adjust(CapSet::DEFAULT, add, drop, CapSet::NAMED).map_err(|error| error.to_string())
}

#[test]
fn names_and_bits_agree_with_the_kernel_header() {
    for (name, bit) in [
        ("CHOWN", 0),
        ("SETPCAP", 8),
        ("NET_ADMIN", 12),
        ("SYS_ADMIN", 21),
        ("SYS_TTY_CONFIG", 26),
        ("MKNOD", 27),
        ("AUDIT_CONTROL", 30),
        ("SETFCAP", 31),
        ("MAC_ADMIN", 33),
        ("SYSLOG", 34),
        ("AUDIT_READ", 37),
        ("CHECKPOINT_RESTORE", 40),
    ] {
        assert_eq!(Cap::parse(name).unwrap().bit(), bit, "{name}");
        assert_eq!(Cap(bit).to_string(), format!("CAP_{name}"));
    }
    for bit in 0..41 {
        assert_eq!(Cap::parse(&Cap(bit).to_string()).unwrap(), Cap(bit));
    }
    for (cap, name) in [
        (Cap::SYS_CHROOT, "SYS_CHROOT"),
        (Cap::SYS_PTRACE, "SYS_PTRACE"),
        (Cap::SYS_PACCT, "SYS_PACCT"),
        (Cap::SYS_MODULE, "SYS_MODULE"),
        (Cap::SYS_RAWIO, "SYS_RAWIO"),
        (Cap::SYS_BOOT, "SYS_BOOT"),
        (Cap::SYS_NICE, "SYS_NICE"),
        (Cap::SYS_TIME, "SYS_TIME"),
        (Cap::SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
        (Cap::AUDIT_WRITE, "AUDIT_WRITE"),
        (Cap::PERFMON, "PERFMON"),
        (Cap::BPF, "BPF"),
        (Cap::NET_RAW, "NET_RAW"),
        (Cap::NET_BIND_SERVICE, "NET_BIND_SERVICE"),
    ] {
        assert_eq!(cap, Cap::parse(name).unwrap());
    }
}

#[test]
fn the_default_set_is_the_one_that_engines_share() {
    assert_eq!(CapSet::DEFAULT.bits(), 0x0000_0000_8004_05fb);
    assert_eq!(CapSet::DEFAULT.names().len(), 11);
    assert_eq!(CapSet::DEFAULT.names()[0], "CAP_CHOWN");
}

#[test]
fn adding_and_dropping() {
    let plain = CapSet::DEFAULT;
    let net = Cap::NET_ADMIN;
    for (add, drop, want) in [
        (&[][..], &[][..], plain),
        (&["net_admin"], &[], plain.with(net)),
        (&["CAP_NET_ADMIN", "NET_ADMIN"], &[], plain.with(net)),
        (&[], &["cap_chown"], plain.without(Cap::CHOWN)),
        (&[], &["SYS_TIME"], plain),
        (&[], &["all"], CapSet::EMPTY),
        (&["NET_ADMIN"], &["ALL"], CapSet::of(&[net])),
        (&["ALL"], &[], CapSet::NAMED),
        (&["ALL"], &["NET_ADMIN"], CapSet::NAMED.without(net)),
    ] {
        assert_eq!(adjusted(add, drop).unwrap(), want, "{add:?} {drop:?}");
    }
    for (add, drop, want) in [
        (
            &["ALL"][..],
            &["ALL"][..],
            "adding all capabilities and dropping all capabilities is not allowed",
        ),
        (
            &["BPF"],
            &["CAP_BPF"],
            "capability CAP_BPF can't be both added and dropped",
        ),
        (
            &["NET_ADMN"],
            &[],
            "unknown capability \"NET_ADMN\": did you mean NET_ADMIN?",
        ),
        (&[], &["quux"], "unknown capability \"quux\""),
        (&[""], &[], "unknown capability \"\""),
        (&["CAP_"], &[], "unknown capability \"CAP_\""),
    ] {
        assert_eq!(adjusted(add, drop).unwrap_err(), want);
    }
}

#[test]
fn what_the_kernel_lacks_is_refused_by_name_and_left_out_of_all() {
    let old = CapSet::up_to(37);
    let error = adjust(CapSet::DEFAULT, &["BPF"], &NONE, old).unwrap_err();
    assert_eq!(
        error.to_string(),
        "capability CAP_BPF can't be added: this kernel does not have it"
    );
    assert_eq!(adjust(CapSet::DEFAULT, &["ALL"], &NONE, old).unwrap(), old);
    assert_eq!(CapSet::up_to(63).bits(), u64::MAX);
    assert_eq!(CapSet::up_to(0), CapSet::of(&[Cap::CHOWN]));
}

#[test]
fn random_names_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let mut name = String::new();
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        for i in 0..state >> 59 {
            name.push(char::from_u32((state >> (i % 40)) as u32 & 0x17f).unwrap_or('x'));
        }
        let _ = adjusted(&[&name], &["ALL"]);
    }
}

#[test]
fn cve_2022_27649_the_inheritable_set_is_empty() {
    let set = CapSet::DEFAULT.with(Cap::NET_ADMIN);
    let root = CapSets::for_user(true, set, CapSet::of(&[Cap::NET_ADMIN]));
    assert_eq!(root.inheritable, CapSet::EMPTY);
    assert_eq!(root.ambient, CapSet::EMPTY);
    assert_eq!(
        (root.bounding, root.effective, root.permitted),
        (set, set, set)
    );
    let user = CapSets::for_user(false, set, CapSet::EMPTY);
    assert_eq!(
        user,
        CapSets {
            bounding: set,
            ..CapSets::default()
        }
    );
    // What was asked for by name works for a user too, and that takes an equal inheritable set.
    let own = CapSet::of(&[Cap::NET_ADMIN]);
    let user = CapSets::for_user(false, set, own);
    assert_eq!(
        (user.ambient, user.inheritable, user.effective),
        (own, own, own)
    );
}

#[test]
fn oci_sets_survive_a_round_trip() {
    let mut sets = CapSets::for_user(false, CapSet::NAMED, CapSet::of(&[Cap::BPF]));
    assert_eq!(CapSets::from_oci(Some(&sets.to_oci())), sets);
    sets = CapSets::for_user(true, CapSet::DEFAULT, CapSet::EMPTY);
    assert_eq!(sets.to_oci().inheritable(), &None);
    assert_eq!(CapSets::from_oci(Some(&sets.to_oci())), sets);
    assert_eq!(CapSets::from_oci(None), CapSets::default());
    let only_ambient: LinuxCapabilities =
        serde_json::from_str(r#"{"ambient": ["CAP_KILL"]}"#).unwrap();
    let sets = CapSets::from_oci(Some(&only_ambient));
    assert!(sets.permitted.contains(Cap::KILL) && sets.inheritable.contains(Cap::KILL));
}

/// In a thread of its own: capabilities are a thread's.
#[test]
fn applying_sets_leaves_exactly_these() {
    let before = rustix::thread::capabilities(None).unwrap();
    if !before
        .permitted
        .contains(CapabilitySet::SETPCAP | CapabilitySet::SETUID)
    {
        eprintln!("skipped: the test's user has no CAP_SETPCAP and CAP_SETUID");
        return;
    }
    let ambient = CapSet::of(&[Cap::KILL]);
    let sets = CapSets {
        bounding: CapSet::DEFAULT,
        effective: ambient,
        inheritable: ambient,
        permitted: ambient.with(Cap::CHOWN),
        ambient,
    };
    let status = std::thread::spawn(move || {
        keep_over_setuid().unwrap();
        drop_bounding(&sets).unwrap();
        let uid = rustix::process::Uid::from_raw(1000);
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let between = rustix::thread::capabilities(None).unwrap();
        assert!(between.effective.is_empty());
        regain_effective().unwrap();
        let between = rustix::thread::capabilities(None).unwrap();
        assert_eq!(between.effective, before.permitted);
        apply(&sets).unwrap();
        fs::read_to_string("/proc/thread-self/status").unwrap()
    })
    .join()
    .unwrap();
    for line in [
        "CapInh:\t0000000000000020",
        "CapPrm:\t0000000000000021",
        "CapEff:\t0000000000000020",
        "CapBnd:\t00000000800405fb",
        "CapAmb:\t0000000000000020",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
}
