//! `ListenStream=` and `ListenDatagram=` of a container: a socket unit of systemd's beside its service, which gets
//! the sockets (sd_listen_fds(3)). They are keys of kelp's own: podman has the socket unit written by hand.

use crate::draft::{Draft, Extra};
use crate::install::Link;
use crate::key::{Form, Key, Take, row};
use crate::shape::Shape;
use crate::unit::Unit;

/// A socket of connections: a port, an address and a port, or a path, as in systemd.socket(5).
pub(crate) const STREAM: Key = row("ListenStream", Take::Each, Form::Own(""), Shape::Any);

/// One of datagrams.
pub(crate) const DATAGRAM: Key = row("ListenDatagram", Take::Each, Form::Own(""), Shape::Any);

/// Makes the socket unit, if there are sockets.
pub(crate) fn convert(draft: &mut Draft<'_>) {
    let sockets: Vec<_> = [STREAM, DATAGRAM]
        .iter()
        .flat_map(|key| draft.source.unit.all("Container", key.name))
        .map(|set| (set.key.clone(), set.value.clone()))
        .collect();
    if sockets.is_empty() {
        return;
    }
    let service = draft.source.service();
    let name = format!("{service}.socket");
    let mut unit = Unit::default();
    unit.add(
        "Unit",
        "Description",
        format!("Sockets of {service}.service"),
    );
    for (key, value) in sockets {
        unit.add("Socket", &key, value);
    }
    // A service that is started by itself gets them as well.
    draft.unit.add("Unit", "Requires", name.clone());
    draft.unit.add("Unit", "After", name.clone());
    draft.unit.add("Service", "Sockets", name.clone());
    // A template's sockets are an instance's, which somebody has to name.
    let links = if service.ends_with('@') {
        Vec::new()
    } else {
        vec![Link {
            path: format!("sockets.target.wants/{name}"),
            target: format!("../{name}"),
            place: None,
        }]
    };
    draft.extra = Some(Extra {
        name,
        text: unit.write(),
        links,
    });
}
