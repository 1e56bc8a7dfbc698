//! Operating-system processes that never outlive this program.
//!
//! # Invariants
//!
//! 1. Every command runs in a process group of its own, and the whole group ends with it.
//! 2. When this program ends, in whatever way (also killed), the guardian ends every group that is
//!    left: it is a shell that reads the groups from a pipe, and the pipe ends with the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::model::Exit;

/// The program of the guardian. Each line it reads is a verb and a process group.
const GUARDIAN: &str = r#"
live=' '
while read -r verb group; do
  case $verb in
    watch) live="$live$group " ;;
    term) kill -s TERM -- "-$group" ;;
    end)
      kill -s KILL -- "-$group"
      case $live in
        *" $group "*) live="${live%% $group *} ${live#* $group }" ;;
      esac ;;
  esac
done
for group in $live; do kill -s KILL -- "-$group"; done
"#;

/// Longest line of output that is kept, in bytes; the rest of the line is dropped.
const OUTPUT_BYTES_MAX: usize = 120;

/// How long the last line of output is waited for once the process group has ended. It is there
/// at once, unless a descendant left the group and holds the pipe open.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(200);

/// Ends process groups on request, and all of them when this program is no more.
pub struct Guardian {
    shell: Mutex<Child>,
    requests: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    pub fn start() -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", GUARDIAN])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("the shell that guards processes does not start")?;
        let requests = shell.stdin.take();
        Ok(Self { shell: Mutex::new(shell), requests: Mutex::new(requests) })
    }

    /// Asks a process group to end.
    pub fn terminate(&self, group: u32) {
        if !self.ask("term", group) {
            signal("TERM", group);
        }
    }

    /// Ends a process group without asking it.
    pub fn kill(&self, group: u32) {
        if !self.ask("end", group) {
            signal("KILL", group);
        }
    }

    /// Says whether the request was taken; it is not when somebody killed the guardian.
    fn ask(&self, verb: &str, group: u32) -> bool {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{verb} {group}\n");
        requests.as_mut().is_some_and(|pipe| pipe.write_all(line.as_bytes()).is_ok())
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let requests = self.requests.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(requests.take());
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It ends at the end of its pipe. If it was killed there is nothing to wait for.
        let _ = shell.wait();
    }
}

/// Does the guardian's work when there is none.
fn signal(name: &str, group: u32) {
    let script = format!("kill -s {name} -- -{group}");
    // An error means that the group has ended by itself.
    let _ = Command::new("/bin/sh").args(["-c", &script]).stderr(Stdio::null()).status();
}

/// A running command. Dropping it ends it.
pub struct Process<'a> {
    child: Child,
    guardian: &'a Guardian,
    output: Receiver<String>,
    ended: bool,
}

impl<'a> Process<'a> {
    /// Starts `command` with `environment` added to that of this program.
    pub fn start(
        guardian: &'a Guardian,
        command: &[String],
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let (program, arguments) = command.split_first().context("the command is empty")?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("{program} does not start"))?;
        guardian.ask("watch", child.id());
        let output = last_line(child.stdout.take());
        Ok(Self { child, guardian, output, ended: false })
    }

    /// The number of the process, and of its group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the command ends. Says how it ended, and the last line that it wrote.
    pub fn wait(mut self) -> Result<(Exit, String)> {
        let status = self.child.wait().context("a process cannot be waited for")?;
        // What is left of the group. Its number cannot be in use by another one: numbers are given
        // in turn, and this one was given up a moment ago.
        self.guardian.kill(self.child.id());
        self.ended = true;
        let exit = match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        };
        Ok((exit, self.output.recv_timeout(OUTPUT_PATIENCE).unwrap_or_default()))
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.guardian.kill(self.child.id());
            // An error means that it has ended by itself.
            let _ = self.child.kill();
            // Reaps it; it is killed, so this does not wait long.
            let _ = self.child.wait();
        }
    }
}

/// Reads `pipe` to its end in a thread of its own and hands out the last line.
fn last_line(pipe: Option<ChildStdout>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut last = String::new();
        if let Some(pipe) = pipe {
            read_lines(&mut BufReader::new(pipe), &mut last);
        }
        // Nobody waits for the output of a process that was dropped.
        let _ = sender.send(last);
    });
    receiver
}

fn read_lines(reader: &mut BufReader<ChildStdout>, last: &mut String) {
    loop {
        let mut line = Vec::new();
        let taken = reader.by_ref().take(OUTPUT_BYTES_MAX as u64).read_until(b'\n', &mut line);
        if !matches!(taken, Ok(1..)) {
            return;
        }
        let is_whole = line.last() == Some(&b'\n');
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if !text.is_empty() {
            *last = text;
        }
        if !is_whole && !skip_line(reader) {
            return;
        }
    }
}

/// Skips what is left of a line; says whether there was an end of it.
fn skip_line(reader: &mut BufReader<ChildStdout>) -> bool {
    loop {
        let Ok(bytes) = reader.fill_buf() else { return false };
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return true;
            }
            None if bytes.is_empty() => return false,
            None => {
                let skipped = bytes.len();
                reader.consume(skipped);
            }
        }
    }
}
