//! config.md, "Process": `terminal` and `consoleSize`; the console socket.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use serde_json::json;

use crate::case::Case;
use crate::command::{LIMIT, readable};
use crate::container::Container;
use crate::outcome::{Outcome, Stop, fails, has, same};
use crate::socket::Listener;
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config.md: Process";

pub(crate) const CASES: &[Case] = &[
    Case::new("streams_are_the_terminal", SECTION, streams),
    Case::new("is_the_controlling_one", SECTION, controlling),
    Case::new("console_size", SECTION, size),
    Case::new(
        "console_is_the_terminal",
        "config-linux.md: Default Devices",
        console,
    ),
    Case::new("what_is_typed_arrives", SECTION, typed),
    Case::new("create_needs_a_socket", SECTION, no_socket),
    Case::new("socket_that_is_missing", SECTION, missing_socket),
    Case::new("of_exec", SECTION, of_exec),
    Case::new("of_a_user", SECTION, of_user),
];

/// The outer end of a container's terminal.
struct Terminal(File);

impl Terminal {
    /// What is printed, up to a mark or the end.
    fn read(&mut self, mark: &str) -> Outcome<String> {
        let mut found = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&found).replace("\r\n", "\n");
            if !mark.is_empty() && text.contains(mark) {
                return Ok(text);
            }
            if !readable(self.0.as_fd(), LIMIT)? {
                return fails(format!("the terminal shows no more than {text:?}"));
            }
            let mut buffer = [0; 1024];
            match self.0.read(&mut buffer) {
                // EIO once nobody has the other end.
                Ok(0) | Err(_) => return Ok(text),
                Ok(read) => found.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

fn create<'a>(
    stage: &'a Stage<'_>,
    spec: &mut Spec,
    script: &str,
) -> Outcome<(Container<'a>, Terminal)> {
    let socket = stage.path("console");
    let listener = Listener::new(&socket)?;
    spec["process"]["terminal"] = true.into();
    spec.script(script);
    stage.write(spec)?;
    let path = socket.display().to_string();
    let container = Container::create(stage, &stage.id(), &["create", "--console-socket", &path])?;
    let terminal = received(&listener)?;
    Ok((container, terminal))
}

fn received(listener: &Listener) -> Outcome<Terminal> {
    let mut message = listener.message()?;
    let descriptor = message.descriptors.pop();
    let descriptor = descriptor.ok_or_else(|| Stop::Fails("no descriptor came".to_owned()))?;
    same(
        "whether it is a terminal",
        rustix::termios::isatty(&descriptor),
        true,
    )?;
    Ok(Terminal(File::from(descriptor)))
}

/// Runs a script with a terminal; what it shows.
fn shows(stage: &Stage<'_>, spec: &mut Spec, script: &str) -> Outcome<String> {
    let (container, mut terminal) = create(stage, spec, script)?;
    container.start()?;
    let found = terminal.read("")?;
    container.wait()?;
    container.delete()?;
    Ok(found)
}

fn streams(stage: &Stage<'_>) -> Outcome {
    let script = "for n in 0 1 2; do test -t $n && echo $n; done; \
        for n in 1 2; do test /proc/self/fd/0 -ef /proc/self/fd/$n && echo same; done";
    let found = shows(stage, &mut stage.spec(), script)?;
    same("output", found.as_str(), "0\n1\n2\nsame\nsame\n")
}

fn controlling(stage: &Stage<'_>) -> Outcome {
    let found = shows(
        stage,
        &mut stage.spec(),
        "echo here >/dev/tty; awk '{ print $6, $8 }' /proc/1/stat",
    )?;
    same(
        "output, session and foreground group",
        found.as_str(),
        "here\n1 1\n",
    )
    .or_else(|_| {
        // The foreground group is awk's where the shell makes one for it.
        has("output", &found, "here\n1 ")
    })
}

fn size(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["consoleSize"] = json!({"height": 25, "width": 91});
    same(
        "size",
        shows(stage, &mut spec, "stty size")?.as_str(),
        "25 91\n",
    )
}

fn console(stage: &Stage<'_>) -> Outcome {
    let script = "echo x >/dev/console; stat -c %F /dev/console; \
        test $(stat -c %t:%T /dev/console) = $(stat -L -c %t:%T /proc/self/fd/0) && echo same; \
        grep -c ' /dev/console ' /proc/self/mountinfo";
    let found = shows(stage, &mut stage.spec(), script)?;
    same(
        "output",
        found.as_str(),
        "x\ncharacter special file\nsame\n1\n",
    )
}

fn typed(stage: &Stage<'_>) -> Outcome {
    let script = "echo ready; read x; echo \"got $x\"; read y; echo not here";
    let (container, mut terminal) = create(stage, &mut stage.spec(), script)?;
    container.start()?;
    terminal.read("ready\n")?;
    terminal.0.write_all(b"hello\n")?;
    terminal.read("got hello\n")?;
    // The terminal sends a signal to what is in its foreground.
    container.kill("KILL")?;
    container.wait()?;
    container.delete()
}

fn no_socket(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["terminal"] = true.into();
    stage.refuses(&spec)?;
    Ok(())
}

fn missing_socket(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["terminal"] = true.into();
    stage.write(&spec)?;
    let path = stage.path("nosuch").display().to_string();
    stage.refuses_call(&["create", "--console-socket", &path, &stage.id()])?;
    Ok(())
}

fn of_exec(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let socket = stage.path("exec-console");
    let listener = Listener::new(&socket)?;
    let path = socket.display().to_string();
    let words = [
        "exec",
        "--tty",
        "--detach",
        "--console-socket",
        &path,
        container.id(),
    ];
    let script = "test -t 0 && tty && echo here >/dev/tty";
    stage
        .call(&[&words[..], &["/bin/sh", "-c", script]].concat())?
        .succeeds()?;
    let found = received(&listener)?.read("")?;
    same("output", found.as_str(), "/dev/pts/0\nhere\n")?;
    container.end()
}

/// The terminal is the user's.
fn of_user(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.wide_spec()?;
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    let script = "stat -L -c %u /proc/self/fd/0; echo x >/dev/stdout; tty >/dev/null && echo tty";
    same(
        "owner",
        shows(stage, &mut spec, script)?.as_str(),
        "1000\nx\ntty\n",
    )
}
