//! The user's own commands beside the program: the one that asks whether it is ready, the one that exercises it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;

use crate::launch::environment::Variables;
use crate::launch::guardian::{Guardian, Ward};
use crate::launch::privileges::Privileges;
use crate::launch::spawn::{self, Launch};
use crate::launch::tree::End;
use crate::launch::{Credentials, Error, IdentityPolicy};

/// Of what a command says, so much of the end is kept.
const KEPT: u64 = 2048;

/// A command that runs, with nrtrace's own rights. Dropped, it is killed with all it started.
#[derive(Debug)]
pub struct Command {
    guardian: Guardian,
    _ward: Ward,
    said: OwnedFd,
    start: Instant,
    limit: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whether with success.
    pub succeeded: bool,
    /// In words: `ended with status 7`.
    pub end: String,
    /// The end of what it said.
    pub said: String,
}

impl Command {
    /// Starts `sh -c TEXT` without input.
    ///
    /// # Errors
    /// When there is no shell or no process can be made.
    pub fn start(text: &OsStr, limit: Duration, signal_mask: SigSet) -> Result<Self, Error> {
        let failed = |error: nix::errno::Errno| Error::system("preparing", "a command", error);
        let said = memfd_create("said", MFdFlags::MFD_CLOEXEC).map_err(failed)?;
        let nothing = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
        let environment: Variables = std::env::vars_os().collect();
        let launch = Launch {
            program: Path::new("/bin/sh"),
            arguments: &["sh".into(), "-c".into(), text.to_owned()],
            before: &[],
            environment: &environment,
            credentials: &Credentials::Unchanged,
            policy: IdentityPolicy::Switch,
            guarded: false,
            session: false,
            privileges: Privileges::of_self()?,
            trace_filter: &[],
            signal_mask,
            stdio: [Some(nothing.as_raw_fd()), Some(said.as_raw_fd()), Some(said.as_raw_fd())],
        };
        let started = spawn::pause(&launch)?.release()?;
        Ok(Self { guardian: started.guardian, _ward: started.child, said, start: Instant::now(), limit })
    }

    /// How it ended, if it has; it is ended when its time is over.
    pub fn poll(&mut self) -> Option<Finished> {
        let (succeeded, end) = match self.guardian.end_of_program() {
            Some(End::Exited(status)) => (status == 0, format!("ended with status {status}")),
            Some(End::Signaled(signal)) => (false, format!("was ended by signal {signal}")),
            None if self.start.elapsed() > self.limit => {
                (false, format!("was not done after {:.0} s", self.limit.as_secs_f64()))
            }
            None => return None,
        };
        Some(Finished { succeeded, end, said: self.said() })
    }

    /// The end of what it has said so far.
    fn said(&self) -> String {
        let mut bytes = Vec::new();
        let read = self.said.try_clone().map(File::from).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(KEPT)))?;
            file.read_to_end(&mut bytes)
        });
        // A memory file can always be read; without, there is nothing to be shown.
        read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
    }
}
