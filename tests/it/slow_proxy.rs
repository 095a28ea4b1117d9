//! A registry that is slow, or hangs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A proxy that lets so many bytes of the registry's answers through, and then holds on.
pub(crate) struct SlowProxy {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    gate: Arc<Gate>,
}

struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Bytes that may still pass.
    left: usize,
    /// Whether something waits for more.
    held: bool,
}

impl SlowProxy {
    /// One that lets nothing through at first.
    pub(crate) fn start(registry: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new(Gate {
            state: Mutex::new(State {
                left: 0,
                held: false,
            }),
            changed: Condvar::new(),
        });
        let (registry, shared) = (registry.to_owned(), Arc::clone(&gate));
        // It ends with the process; a connection ends with its client.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&registry).unwrap();
                let mut request = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut request.0, &mut request.1);
                    let _ = request.1.shutdown(Shutdown::Both);
                });
                let gate = Arc::clone(&shared);
                thread::spawn(move || gate.pass(server, client));
            }
        });
        Self { address, gate }
    }

    /// Lets this many more bytes pass.
    pub(crate) fn allow(&self, bytes: usize) {
        let mut state = self.gate.state.lock().unwrap();
        state.left = bytes;
        state.held = false;
        self.gate.changed.notify_all();
    }

    /// Waits until they have passed and more would come, or the client has ended.
    pub(crate) fn wait_until_held(&self, client: &mut Child) {
        let mut state = self.gate.state.lock().unwrap();
        while !state.held && client.try_wait().unwrap().is_none() {
            // Nothing here tells of the client's end.
            let pause = std::time::Duration::from_millis(50);
            state = self.gate.changed.wait_timeout(state, pause).unwrap().0;
        }
    }
}

impl Gate {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let mut state = self.state.lock().unwrap();
                while state.left == 0 {
                    state.held = true;
                    self.changed.notify_all();
                    state = self.changed.wait(state).unwrap();
                }
                let now = rest.len().min(state.left);
                state.left -= now;
                drop(state);
                if to.write_all(&rest[..now]).is_err() {
                    return;
                }
                rest = &rest[now..];
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
