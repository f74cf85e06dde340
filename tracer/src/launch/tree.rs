//! The program's process tree: what hangs below a process that adopts its orphans, the root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nrtrace_profiles::event::Exit;

/// A process, told apart from later ones of the same number by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Process id.
    pub pid: i32,
    /// Parent.
    pub parent: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// Whether all of it has ended and waits to be reaped. One whose first thread alone has ended goes on.
    pub zombie: bool,
}

impl Member {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads proc_pid_stat(5), where the name in parentheses may hold anything.
    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 2..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            zombie: matches!(*fields.first()?, "Z" | "X") && fields.get(17)?.parse::<u32>().ok()? <= 1,
        })
    }

    /// Sends it a signal, unless it is gone and its number belongs to another process by now.
    ///
    /// # Errors
    /// ESRCH when it is gone, else what the kernel answers.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        send(&self.pidfd()?, signal)
    }

    /// A descriptor for it.
    fn pidfd(&self) -> Result<OwnedFd, Errno> {
        let fd = open(self.pid)?;
        // The descriptor now holds on to whoever has the number; is it still the same?
        if Self::read(self.pid).is_none_or(|now| now.start != self.start) {
            return Err(Errno::ESRCH);
        }
        Ok(fd)
    }
}

/// A descriptor for whoever has the number.
fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: a plain system call; the result is checked.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the descriptor is new and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal through a pidfd.
///
/// # Errors
/// What the kernel answers.
pub fn send(pidfd: &impl AsRawFd, signal: i32) -> Result<(), Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a plain system call without a siginfo.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    Errno::result(sent).map(drop)
}

/// The process of that number, if there is one.
pub fn member(pid: i32) -> Option<Member> {
    Member::read(pid)
}

/// What the processes of a container hang below: the monitor of its first one, where it still has it.
pub(crate) fn above(main: i32) -> i32 {
    member(main).map(|member| member.parent).filter(|parent| *parent > 1).unwrap_or(main)
}

/// All processes below `root`, parents before children.
pub fn descendants(root: i32) -> Vec<Member> {
    below(root, all())
}

fn all() -> impl Iterator<Item = Member> {
    numbers().filter_map(Member::read)
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// All processes that `belongs` knows for part of the tree, wherever they hang by now.
pub fn scattered(belongs: &dyn Fn(i32, BorrowedFd<'_>) -> bool) -> Vec<Member> {
    // Of the many that do not belong to it no more is read.
    numbers()
        .filter(|pid| open(*pid).is_ok_and(|pidfd| belongs(*pid, pidfd.as_fd())))
        .filter_map(Member::read)
        .filter(|member| !member.zombie)
        .filter(|member| member.pidfd().is_ok_and(|pidfd| belongs(member.pid, pidfd.as_fd())))
        .collect()
}

fn below(root: i32, all: impl Iterator<Item = Member>) -> Vec<Member> {
    let mut children: BTreeMap<i32, Vec<Member>> = BTreeMap::new();
    for member in all {
        children.entry(member.parent).or_default().push(member);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        // Removed, so that a ring (numbers reused while reading) ends.
        let members = children.remove(&parent).unwrap_or_default();
        next.extend(members.iter().map(|member| member.pid));
        found.extend(members);
    }
    found
}

/// Whether the process is a descendant of `root`, also if it is a zombie.
pub fn contains(root: i32, pid: i32) -> bool {
    let mut parent = Member::read(pid).map(|member| member.parent);
    // Chains are short; the bound is for numbers reused while reading.
    for _ in 0..4096 {
        match parent {
            Some(pid) if pid == root => return true,
            Some(pid) if pid > 1 => parent = Member::read(pid).map(|member| member.parent),
            _ => return false,
        }
    }
    false
}

/// Asks the top of the tree to end: each direct child that is not in `asked` yet gets SIGTERM, and SIGCONT in case it
/// is stopped. Daemons count, since the root has adopted them.
pub fn ask_to_end(root: i32, asked: &mut BTreeSet<(i32, u64)>) {
    for member in descendants(root).into_iter().filter(|member| member.parent == root && !member.zombie) {
        if asked.insert((member.pid, member.start)) {
            // Gone or not ours to signal: killing will show.
            let _ = member.signal(libc::SIGTERM);
            let _ = member.signal(libc::SIGCONT);
        }
    }
}

/// Kills everything below `root`, until a look finds nothing new.
pub fn kill_all(root: i32) {
    kill(|| descendants(root));
}

/// Kills all that `look` finds, until it finds nothing new.
pub fn kill(look: impl Fn() -> Vec<Member>) {
    let mut killed = BTreeSet::new();
    // Each look may find what was forked during the last; a fork bomb needs several.
    for _ in 0..64 {
        let mut news = false;
        for member in look().into_iter().filter(|member| !member.zombie) {
            news |= killed.insert((member.pid, member.start));
            // Gone, or not to be killed by us: then it stays in sight.
            let _ = member.signal(libc::SIGKILL);
        }
        if !news {
            break;
        }
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Which.
    pub pid: i32,
    /// How.
    pub end: End,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit status.
    Exited(i32),
    /// By a signal.
    Signaled(i32),
}

impl From<End> for Exit {
    fn from(end: End) -> Self {
        match end {
            End::Exited(status) => Self::Exited { status },
            End::Signaled(signal) => Self::Signaled { signal },
        }
    }
}

impl End {
    /// As the shell tells it: the exit status, or 128 and the signal's number.
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Reaps one ended child without waiting: `Ok(None)` if none has ended.
///
/// # Errors
/// ECHILD when there are no children any more: the tree is gone.
pub fn reap() -> Result<Option<Reaped>, Errno> {
    let mut status = 0;
    // Not nix's, which cannot express a real-time signal and then loses the process.
    // SAFETY: the status is a local of the type the call writes.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    let pid = Errno::result(pid)?;
    let end = if libc::WIFSIGNALED(status) {
        End::Signaled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    };
    Ok((pid != 0).then_some(Reaped { pid, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(pid: i32, parent: i32) -> Member {
        Member { pid, parent, start: 1, zombie: false }
    }

    #[test]
    fn names_may_hold_anything() {
        let tail = "4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 777 22 23";
        let stat = format!("9 (a) R 1 (b\n) S 3 {tail}");
        let expected = Member { pid: 9, parent: 3, start: 777, zombie: false };
        assert_eq!(Member::parse(9, stat.as_bytes()), Some(expected));
        assert_eq!(Member::parse(9, b"9 (a"), None);
        assert_eq!(Member::parse(9, b"9 (a)"), None);
    }

    #[test]
    fn the_tree_is_what_hangs_below() {
        let all = [member(2, 1), member(3, 2), member(5, 3), member(4, 9), member(9, 4), member(6, 2)];
        let pids: Vec<i32> = below(2, all.into_iter()).iter().map(|member| member.pid).collect();
        assert_eq!(pids, [3, 6, 5]);
    }

    #[test]
    fn a_number_used_again_is_not_signalled() {
        let mut own = Member::read(std::process::id() as i32).unwrap();
        own.start += 1;
        assert_eq!(own.signal(libc::SIGKILL), Err(Errno::ESRCH));
    }
}
