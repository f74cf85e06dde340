//! Asks whether the program is ready, without ever waiting for the answer.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use super::command::Command;
use super::notify::Notify;
use super::output::Output;
use super::{Readiness, Tree, port};
use crate::launch::Error;

/// How long one command that asks may take.
const ASKING: Duration = Duration::from_secs(10);
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(30);

/// What is asked, and what has been heard.
#[derive(Debug)]
pub struct Asker {
    command: Option<OsString>,
    ports: Vec<u16>,
    log: bool,
    notify: Option<Notify>,
    signal_mask: SigSet,
    // What is said once holds for good.
    logged: bool,
    notified: bool,
    asking: Option<Command>,
    pause_until: Option<Instant>,
    said: String,
}

impl Asker {
    pub fn new(readiness: &Readiness, notify: Option<Notify>, signal_mask: SigSet) -> Self {
        Self {
            command: readiness.command.clone(),
            ports: readiness.ports.clone(),
            log: readiness.log.is_some(),
            notify,
            signal_mask,
            logged: false,
            notified: false,
            asking: None,
            pause_until: None,
            said: String::new(),
        }
    }

    /// Whether the program with that tree is ready; `None` while a command is being waited for.
    ///
    /// # Errors
    /// When a command cannot be started.
    pub fn ask(&mut self, tree: Tree<'_>, output: Option<&Output>) -> Result<Option<bool>, Error> {
        self.logged |= output.is_some_and(Output::matched);
        self.notified |= self.notify.as_mut().is_some_and(|notify| notify.heard(|pid| tree.includes(pid)));
        if let Some(asking) = &mut self.asking {
            let Some(finished) = asking.poll() else { return Ok(None) };
            self.asking = None;
            self.pause_until = Some(Instant::now() + PAUSE);
            self.said = if finished.said.trim().is_empty() {
                format!("the command {}", finished.end)
            } else {
                finished.said
            };
            return Ok(Some(finished.succeeded && self.holds(tree)));
        }
        if !self.holds(tree) {
            return Ok(Some(false));
        }
        let Some(command) = &self.command else { return Ok(Some(true)) };
        if self.pause_until.is_none_or(|until| Instant::now() >= until) {
            self.asking = Some(Command::start(command, ASKING, self.signal_mask)?);
        }
        Ok(None)
    }

    /// Whether all holds that needs no command.
    fn holds(&self, tree: Tree<'_>) -> bool {
        (self.logged || !self.log)
            && (self.notified || self.notify.is_none())
            && self.silent_port(tree).is_none()
    }

    /// A port that nothing listens on yet.
    fn silent_port(&self, tree: Tree<'_>) -> Option<u16> {
        // Most ask for none, and the processes need not be looked for.
        let processes = if self.ports.is_empty() { Vec::new() } else { tree.processes() };
        self.ports.iter().copied().find(|port| !port::listens(&processes, *port))
    }

    /// What is missing, in words.
    pub fn said(&self, tree: Tree<'_>) -> String {
        if self.log && !self.logged {
            return "no line of its output matched".into();
        }
        if self.notify.is_some() && !self.notified {
            return "it did not send READY=1".into();
        }
        match self.silent_port(tree) {
            Some(port) => format!("nothing of it listens on port {port}"),
            None => self.said.clone(),
        }
    }

    /// Gives up waiting for an answer.
    pub fn stop(&mut self) {
        self.asking = None;
    }
}
