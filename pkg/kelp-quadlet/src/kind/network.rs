//! `.network`: a service that makes a network where there is none of its name.

use crate::draft::Draft;
use crate::key::{Form, Key, PODMAN_ARGS, Take, list, pairs, row, switch, text};
use crate::shape::Shape;

const fn own(name: &'static str, take: Take, flag: &'static str, shape: Shape) -> Key {
    row(name, take, Form::Own(flag), shape)
}

/// The keys of `[Network]`.
pub(crate) const KEYS: &[Key] = &[
    switch("DisableDNS", "--disable-dns"),
    switch("Internal", "--internal"),
    switch("IPv6", "--ipv6"),
    text(
        "Driver",
        "--driver",
        Shape::Choice(&["bridge", "macvlan", "ipvlan"]),
    ),
    text(
        "IPAMDriver",
        "--ipam-driver",
        Shape::Choice(&["host-local", "dhcp", "none"]),
    ),
    text("InterfaceName", "--interface-name", Shape::Any),
    list("DNS", "--dns", Shape::Ip),
    own("Subnet", Take::Each, "--subnet", Shape::Subnet),
    own("Gateway", Take::Each, "--gateway", Shape::Ip),
    own("IPRange", Take::Each, "--ip-range", Shape::Range),
    pairs("Options", "--opt"),
    pairs("Label", "--label"),
    PODMAN_ARGS,
    own("NetworkName", Take::Last, "", Shape::Name),
    own("NetworkDeleteOnStop", Take::Last, "", Shape::Boolean),
];

/// Makes the service.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let name = draft.source.resource().unwrap_or_default();
    if draft.truth("NetworkDeleteOnStop") == Some(true) {
        let mut words = draft.command(&["network", "rm"]);
        words.push(name.clone());
        draft.run("ExecStopPost", &words);
    }
    let mut words = draft.command(&["network", "create", "--ignore"]);
    draft.arguments(KEYS, &mut words, &mut |draft, key, words| match key {
        "Subnet" => subnets(draft, words),
        "NetworkName" => words.push(name.clone()),
        _ => {}
    });
    draft.run("ExecStart", &words);
    draft.oneshot(true);
}

/// Subnets, each with the gateway and the range that stand in the same place of their lists.
fn subnets(draft: &mut Draft<'_>, words: &mut Vec<String>) {
    let subnets = draft.values("Subnet", Take::Each);
    let gateways = draft.values("Gateway", Take::Each);
    let ranges = draft.values("IPRange", Take::Each);
    for (values, key) in [(&gateways, "Gateway"), (&ranges, "IPRange")] {
        if let Some(value) = values.get(subnets.len()) {
            draft.error(
                value.set.place,
                format!("{key}= belongs to a subnet: there is no Subnet= for this one"),
            );
        }
    }
    for (index, subnet) in subnets.into_iter().enumerate() {
        words.extend(["--subnet".to_owned(), subnet.text]);
        for (values, flag) in [(&gateways, "--gateway"), (&ranges, "--ip-range")] {
            if let Some(value) = values.get(index) {
                words.extend([flag.to_owned(), value.text.clone()]);
            }
        }
    }
}
