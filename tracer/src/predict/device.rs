//! Whether a request on a descriptor takes a capability: ioctl(2) and fcntl(2).

use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use nrtrace_profiles::calls::flags;

use super::host::{self, Host};
use crate::ptrace::CallAtEntry;

/// What the descriptor in the first argument leads to.
fn metadata(call: &CallAtEntry<'_>) -> Option<Metadata> {
    fs::metadata(link(call)).ok()
}

fn link(call: &CallAtEntry<'_>) -> String {
    format!("/proc/{}/fd/{}", call.tid, call.args[0] as i32)
}

/// `F_SETLEASE` on a file of another user (`generic_setlease`).
pub fn leases(call: &CallAtEntry<'_>, host: &Host) -> bool {
    call.args[1] as i32 == libc::F_SETLEASE
        && metadata(call).is_some_and(|facts| facts.is_file() && facts.uid() != host.identity.uid)
}

/// `F_SETPIPE_SZ` beyond what everybody may have (`pipe_set_size`).
pub fn enlarges_pipe(call: &CallAtEntry<'_>) -> bool {
    let most = host::setting("fs/pipe-max-size").unwrap_or(i64::MAX);
    call.args[1] as i32 == libc::F_SETPIPE_SZ
        && i64::from(call.args[2] as u32) > most
        && metadata(call).is_some_and(|facts| facts.file_type().is_fifo())
}

/// `FS_IOC_SETFLAGS` that makes an inode immutable or append-only, or no longer (`fileattr_set_prepare`).
pub fn changes_immutable(call: &CallAtEntry<'_>) -> bool {
    /// `FS_IMMUTABLE_FL` and `FS_APPEND_FL`.
    const FLAGS: i32 = 0x30;
    /// `FS_IOC_GETFLAGS`
    const GET: libc::c_ulong = 0x8008_6601;
    if !flags::SET_INODE_FLAGS.contains(&(call.args[1] as u32))
        || !metadata(call).is_some_and(|facts| facts.is_file() || facts.is_dir())
    {
        return false;
    }
    let mut present = 0;
    if let Ok(file) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(link(call)) {
        // SAFETY: the request writes one number, and file systems no more than an `int` of it.
        unsafe { libc::ioctl(file.as_raw_fd(), GET as _, (&raw mut present).cast::<i32>()) };
    }
    let wanted = call.read::<4>(call.args[2]).map_or(present, i32::from_ne_bytes);
    (wanted ^ present) & FLAGS != 0
}

/// `TIOCSTI` where it is switched off, or on a terminal that is not the process's own (`tiocsti`).
pub fn puts_input(call: &CallAtEntry<'_>) -> bool {
    if call.args[1] as u32 != flags::TERMINAL_INPUT {
        return false;
    }
    let Some(terminal) = metadata(call).filter(|facts| facts.file_type().is_char_device()) else {
        return false;
    };
    // Behind the name, which may hold anything: state, parent, group, session, terminal.
    let text = fs::read(format!("/proc/{}/stat", call.pid)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let own =
        text.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(4)?.parse::<i32>().ok());
    let (major, minor) = (libc::major(terminal.rdev()), libc::minor(terminal.rdev()));
    // `new_encode_dev` of the kernel.
    let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    host::setting("dev/tty/legacy_tiocsti") == Some(0) || own != Some(number as i32)
}
