//! The end of a pod whose exit policy is `stop`: the last member that ends has its infra container stopped.
//!
//! There is no daemon that could see that, so each member looks around once it has ended: first its lock is free, and
//! then it looks for others. Of two that end at once, one at least finds nobody, and to stop what is stopped already
//! changes nothing. Who starts a member keeps the pod open meanwhile, and looks by itself when that is done.

use std::os::fd::AsFd;
use std::time::Duration;

use kelp_state::{ContainerId, Paths, Record, liveness, pod};
use serde::{Deserialize, Serialize};

use crate::attach::Connection;

const SIGTERM: i32 = 15;

/// For how long the infra container is waited for, so that who starts a member next does not find it on its way out.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pod of a container, as far as its monitor has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its id.
    pub id: ContainerId,
    /// Its infra container, if that is to end with the last other one.
    pub ends: Option<ContainerId>,
}

/// Ends the pod, if nothing runs in it but what has to end with the last member. Whoever calls this has ended, or has
/// started something.
pub fn leave(paths: &Paths, pod: &Pod) {
    let Some(infra) = &pod.ends else { return };
    let Ok(_turn) = pod::take_turn(paths, &pod.id) else {
        return;
    };
    let Ok(Some(_closed)) = pod::try_close(paths, &pod.id) else {
        return;
    };
    let mut others = pod::members(paths, &pod.id).into_iter();
    let runs = |id: ContainerId| Record::new(paths, id).is_alive();
    if !others.any(|id| id != *infra && runs(id)) {
        end(&Record::new(paths, infra.clone()));
    }
}

/// Has the monitor end its program, as at the end of a session, but for good.
fn end(infra: &Record) {
    let Ok(monitor) = Connection::open(&infra.runtime) else {
        return;
    };
    if !monitor.stop() {
        return;
    }
    if let Ok(Some(process)) = monitor.monitor() {
        let _ = kelp_sys::signal::pidfd_send(process.as_fd(), SIGTERM);
        let _ = liveness::gone_within(&infra.runtime, PATIENCE);
    }
}
