//! Marks on what already runs.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use aya::maps::Array;
use nrtrace_ebpf::layout::{ARMED, Aim, TRACED, WAITING};

use super::load::tracepoint;
use super::probe::map_error;
use super::{Error, Probe};
use crate::attach::process::{namespace, threads};
use crate::session::Begins;

/// `PIDFD_THREAD` of `linux/pidfd.h`, since Linux 6.9.
pub(super) const PIDFD_THREAD: libc::c_int = libc::O_EXCL;

/// Words of an [`Aim`].
const AIM_WORDS: usize = size_of::<Aim>() / 8;

impl Probe {
    /// Traces a process that runs already, with all its threads and all that will descend from it, from when
    /// it `begins`. One that is gone is left out.
    ///
    /// Where the kernel has no pidfds of threads, only the first thread is marked here, and the probe marks each other one
    /// when it next does something.
    ///
    /// # Errors
    /// When memory is short.
    pub fn adopt(&mut self, pid: i32, begins: Begins) -> Result<(), Error> {
        let (state, origin) = match begins {
            Begins::Now => (TRACED, 0),
            Begins::WithExec => (WAITING, 0),
            Begins::InContainer => (ARMED, namespace(pid, "mnt")),
        };
        let state = (state, origin);
        self.adopt_task(pid, 0, state)?;
        loop {
            let mut news = false;
            for tid in threads(pid).into_iter().filter(|tid| *tid != pid) {
                match self.adopt_task(tid, PIDFD_THREAD, state)? {
                    Adopted::New => news = true,
                    Adopted::NotNew => {}
                    Adopted::Unsupported => return Ok(()),
                }
            }
            if !news {
                return Ok(());
            }
        }
    }

    fn adopt_task(
        &mut self,
        tid: i32,
        flags: libc::c_int,
        (state, origin): (u32, u32),
    ) -> Result<Adopted, Error> {
        let failed = |source| Error::Map { action: "mark a running process in", map: "MARKS", source };
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, flags) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(Adopted::NotNew),
                // Its number is a thread's, or the kernel does not know the flag.
                Some(libc::EINVAL | libc::ENOENT) => Ok(Adopted::Unsupported),
                _ => Err(failed(error)),
            };
        }
        // SAFETY: the descriptor is new and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        match self.set_mark(fd.as_fd(), state, origin) {
            Ok(()) => Ok(Adopted::New),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ESRCH | libc::ENOENT)) => {
                Ok(Adopted::NotNew)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Tells the probe which tasks without a mark belong to what is traced.
    ///
    /// # Errors
    /// When the kernel refuses a program.
    pub fn aim(&mut self, aim: &Aim) -> Result<(), Error> {
        let aim = Aim { level: self.level, ..*aim };
        let map = self.ebpf.map_mut("AIM").ok_or(Error::Missing("map AIM"))?;
        let mut array =
            Array::<_, [u64; AIM_WORDS]>::try_from(map).map_err(|error| map_error("open", "AIM", error))?;
        array.set(0, aim_words(&aim), 0).map_err(|error| map_error("fill", "AIM", error))?;
        if aim.by_group != 0 && !self.expecting {
            for name in ["cgroup_attach_task", "cgroup_mkdir"] {
                let btf = self.btf.as_ref().ok_or(Error::NoTracepoint(name))?;
                tracepoint(&mut self.ebpf, btf, name)?;
            }
            self.expecting = true;
        }
        Ok(())
    }
}

enum Adopted {
    New,
    NotNew,
    Unsupported,
}

/// The aim as the map holds it.
fn aim_words(aim: &Aim) -> [u64; AIM_WORDS] {
    let Aim { cgroup, words, depth, found, joins, by_group, by_argument, by_ancestor, mnt_ns, level } = *aim;
    let mut out = [0; AIM_WORDS];
    out[0] = cgroup;
    out[1..=words.len()].copy_from_slice(&words);
    let pair = |low: u32, high: u32| {
        let (low, high) = (low.to_ne_bytes(), high.to_ne_bytes());
        u64::from_ne_bytes(std::array::from_fn(|at| if at < 4 { low[at] } else { high[at - 4] }))
    };
    let rest =
        [pair(depth, found), pair(joins, by_group), pair(by_argument, by_ancestor), pair(mnt_ns, level)];
    out[1 + words.len()..].copy_from_slice(&rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_holds_the_structure() {
        let words = std::array::from_fn(|at| at as u64 + 100);
        let aim = Aim {
            cgroup: 1,
            words,
            depth: 2,
            found: 3,
            joins: 4,
            by_group: 5,
            by_argument: 6,
            by_ancestor: 7,
            mnt_ns: 8,
            level: 9,
        };
        // SAFETY: the structure is integers alone, without padding.
        let bytes: [u8; size_of::<Aim>()] = unsafe { std::mem::transmute(aim) };
        let expected: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        assert_eq!(aim_words(&aim).as_slice(), expected);
    }
}
