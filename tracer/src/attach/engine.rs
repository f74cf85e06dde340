//! A container engine as the command of a run: the program is what it starts in a container.
//!
//! The engine itself keeps nrtrace's rights, and nothing of what it does is recorded: it is marked so that its
//! descendants are watched from their first execve(2) in another mount namespace on.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::Target;
use super::record::asks_to_end;
use super::waiting::{Arrival, Waiting};
use crate::launch::Error;
use crate::launch::signals::Signals;
use crate::launch::tree;
use crate::session::{Begins, Source, TICK};

/// What a command is whose work is done outside of its own tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It starts containers by itself.
    Starts,
    /// It has a daemon start them.
    Asks,
    /// It has the service manager start services.
    Manages,
}

/// Such commands, by their names.
const CLIENTS: [(&str, Kind); 15] = [
    ("podman", Kind::Starts),
    ("buildah", Kind::Starts),
    ("runc", Kind::Starts),
    ("crun", Kind::Starts),
    ("docker", Kind::Asks),
    ("nerdctl", Kind::Asks),
    ("ctr", Kind::Asks),
    ("crictl", Kind::Asks),
    ("kubectl", Kind::Asks),
    ("docker-compose", Kind::Asks),
    ("podman-remote", Kind::Asks),
    ("systemctl", Kind::Manages),
    ("systemd-run", Kind::Manages),
    ("service", Kind::Manages),
    ("machinectl", Kind::Manages),
];

/// Which of them the program of that path is; nothing for one that works by itself.
pub fn kind(program: &Path) -> Option<Kind> {
    let name = program.file_name()?.to_str()?;
    CLIENTS.iter().find(|(client, _)| *client == name).map(|(_, kind)| *kind)
}

/// An engine that runs.
#[derive(Debug)]
pub struct Engine {
    child: Child,
}

impl Engine {
    /// Starts a command, watched from before its first instruction on. One whose standard streams are given is apart from
    /// the terminal.
    ///
    /// # Errors
    /// When it cannot be started or watched.
    pub fn start(
        command: &[OsString],
        source: &mut dyn Source,
        stdio: Option<[RawFd; 3]>,
    ) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::system("starting", text(command), error);
        let (program, arguments) =
            command.split_first().ok_or(Error::CommandNotFound { name: String::new(), path: None })?;
        let (ready, say_ready) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
        let (go, say_go) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
        let mut words = Command::new(program);
        words.args(arguments);
        let (own_ready, own_go) = (say_ready.as_raw_fd(), go.as_raw_fd());
        // SAFETY: only async-signal-safe calls, on descriptors that live until the child has begun.
        unsafe {
            words.pre_exec(move || {
                stdio.map_or(Ok(()), apart)?;
                let pid = libc::getpid().to_ne_bytes();
                libc::write(own_ready, pid.as_ptr().cast(), pid.len());
                let mut byte = 0u8;
                libc::read(own_go, (&raw mut byte).cast(), 1);
                Ok(())
            })
        };
        // Spawning returns when the program runs, which waits for its mark.
        let starter = std::thread::spawn(move || {
            let spawned = words.spawn();
            // Where it could not even fork, nobody else would end the waiting for its number.
            drop((say_ready, go));
            spawned
        });
        let mut number = [0u8; 4];
        let marked = std::fs::File::from(ready)
            .read_exact(&mut number)
            .map_err(failed)
            .and_then(|()| source.adopt(i32::from_ne_bytes(number), Begins::InContainer));
        let released = std::fs::File::from(say_go).write_all(&[1]).map_err(failed);
        let spawned = starter.join().unwrap_or_else(|_| Err(std::io::Error::other("its thread has died")));
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::CommandNotFound { name: program.display().to_string(), path: None });
            }
            Err(error) => return Err(failed(error)),
        };
        if let Err(error) = marked.and(released) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
        Ok(Self { child })
    }

    /// Waits until something begins in a container, of that name where one is given. Nothing when the engine ends before, or
    /// a signal asks to stop.
    ///
    /// # Errors
    /// When signals cannot be taken.
    pub async fn arrival(
        &mut self,
        source: &mut dyn Source,
        target: Option<&Target>,
    ) -> Result<Option<Arrival>, Error> {
        let signals = Signals::take()?;
        let mut waiting = Waiting::of(target);
        loop {
            // Looked at first: what it did before it ended has been written by then.
            let ended = self.child.try_wait().ok().flatten().is_some();
            waiting.drain(source);
            if let Some(arrival) = waiting.arrived() {
                return Ok((!asks_to_end(&signals)).then_some(arrival));
            }
            if ended || asks_to_end(&signals) {
                return Ok(None);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Its status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends the engine if it still runs: politely at first, since it takes its container along. Its status, and whether it
    /// had to be ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self, grace: Duration) -> Result<(ExitStatus, bool), Error> {
        let failed = |error| Error::system("waiting for", "the container engine", error);
        if let Some(status) = self.child.try_wait().map_err(failed)? {
            return Ok((status, false));
        }
        if let Some(member) = tree::member(self.child.id() as i32) {
            // It may have ended just now.
            let _ = member.signal(libc::SIGTERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < grace {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                return Ok((status, true));
            }
            std::thread::sleep(TICK);
        }
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed).map(|status| (status, true))
    }
}

/// Gives a new process its standard streams, and takes it out of the terminal's group, whose signals are nrtrace's own. To be
/// called between fork and exec.
pub(crate) fn apart(stdio: [RawFd; 3]) -> std::io::Result<()> {
    // SAFETY: plain system calls, all of them async-signal-safe.
    unsafe {
        for (number, from) in (0..).zip(stdio) {
            if libc::dup2(from, number) < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        libc::setsid();
    }
    Ok(())
}

fn text(command: &[OsString]) -> String {
    command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_known_by_their_names() {
        assert_eq!(kind(Path::new("/usr/bin/podman")), Some(Kind::Starts));
        assert_eq!(kind(Path::new("docker")), Some(Kind::Asks));
        assert_eq!(kind(Path::new("nginx")), None);
        assert_eq!(kind(Path::new("/")), None);
    }
}
