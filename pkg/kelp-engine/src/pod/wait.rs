//! Waiting for the containers of pods, unless somebody interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kelp_state::ContainerId;
use kelp_sys::signal::{wait, wait_set};
use rustix::process::{Signal, getpid, kill_process};

use crate::{Engine, Error};

const ENDS: [i32; 3] = [1, 2, 15];
const DONE: i32 = 10;

impl Engine {
    /// Waits until all of these have ended, and tells what they exited with; nothing if this process was asked to end
    /// before. From now on it is not ended by signals but by itself.
    pub fn wait_unless_interrupted(&self, ids: &[ContainerId]) -> Result<Option<Vec<i32>>, Error> {
        // Threads have what their maker has blocked.
        let signals = wait_set().map_err(Error::io("block signals"))?;
        let engine = self.clone();
        let all = ids.to_vec();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        let waits = std::thread::spawn(move || {
            // One that is gone has ended.
            let codes = all
                .iter()
                .map(|id| engine.wait_container(id).unwrap_or_default());
            let codes: Vec<_> = codes.collect();
            is_done.store(true, Ordering::Release);
            let _ = kill_process(getpid(), Signal::USR1);
            codes
        });
        loop {
            match wait(&signals) {
                Some(DONE) if done.load(Ordering::Acquire) => return Ok(waits.join().ok()),
                Some(signal) if ENDS.contains(&signal) => return Ok(None),
                _ => {}
            }
        }
    }
}
