//! The keeper: a process between nrtrace and the guardian, for the case that the guardian is killed.
//!
//! It is the guardian's parent, and child subreaper above it: what the guardian leaves behind becomes the keeper's, which
//! kills it. So the program's tree outlives nrtrace only if all three are killed in one moment. As the guardian, it has
//! a session and a name of its own and is deaf to signals. SIGSTOP, to which nobody is deaf, it undoes for the guardian,
//! as nrtrace does for the keeper; beyond waiting it does nothing else.

use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork};

use super::guardian::Title;
use super::tree;

/// Forks the guardian, which calls `guardian` and does not return from it, and then waits for it and all that it may leave
/// behind. Returns only when it cannot begin: with what failed, as a place in the guardian's list of operations.
///
/// To be called in a freshly forked child with every signal blocked.
pub(super) fn keep(title: Option<Title>, guardian: &mut dyn FnMut()) -> (u8, Errno) {
    if let Err(errno) = nix::sys::prctl::set_child_subreaper(true) {
        return (0, errno);
    }
    // SAFETY: this process has one thread.
    let guardian = match unsafe { fork() } {
        Err(errno) => return (2, errno),
        Ok(ForkResult::Child) => {
            guardian();
            // SAFETY: ends this process.
            unsafe { libc::_exit(1) }
        }
        Ok(ForkResult::Parent { child }) => child.as_raw(),
    };
    // SAFETY: plain system calls; the descriptors are copies that nothing here uses from now on.
    unsafe {
        libc::setsid();
        if libc::syscall(libc::SYS_close_range, 0_u32, u32::MAX, 0_u32) == -1 {
            // Before Linux 5.9.
            for fd in 0..65_536 {
                libc::close(fd);
            }
        }
    }
    if let Some(title) = title {
        title.replace(c"keeper");
    }
    wait_for(guardian)
}

fn wait_for(guardian: i32) -> ! {
    let mut orphaned = false;
    loop {
        let flags = libc::__WALL | if orphaned { libc::WNOHANG } else { libc::WUNTRACED };
        let mut status = 0;
        // SAFETY: the status is a local of the type the call writes.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, flags) }) {
            // SAFETY: a plain system call; the child has not been waited for.
            Ok(pid) if pid == guardian && libc::WIFSTOPPED(status) => unsafe {
                libc::kill(guardian, libc::SIGCONT);
            },
            // It has left something behind.
            Ok(0) => {
                tree::kill_all(std::process::id() as i32);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(pid) => orphaned |= pid == guardian,
            Err(Errno::EINTR) => {}
            // SAFETY: nobody is left: ends this process.
            Err(_) => unsafe { libc::_exit(0) },
        }
    }
}
