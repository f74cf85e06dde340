//! Executes nrtrace anew from a copy in memory that nobody can change.
//!
//! In a sandbox `/proc/1/exe` and `/proc/1/map_files` lead to the very files that process 1 was executed from, past all
//! overlays: a program with CAP_FOWNER could make the machine's nrtrace set-user-ID root. Executed anew in the sandbox, it is a
//! file that exists nowhere else, and its libraries are those of the overlay.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{dup2_stdin, fexecve};

use crate::launch::Error;

/// `MFD_EXEC`, since Linux 6.3: where executables in memory are to be asked for.
const EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(0x10);
/// `F_SEAL_EXEC`, likewise: its mode stays as it is.
const SEAL_MODE: SealFlag = SealFlag::from_bits_retain(0x20);

fn failed<E: Into<std::io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::system(operation, "nrtrace in memory", error.into())
}

/// Goes on as a sealed copy of this program, with these arguments.
///
/// # Errors
/// Whenever it returns.
pub fn execute<T>(arguments: &[String]) -> Result<T, Error> {
    let program = copy()?;
    let words = std::iter::once("nrtrace").chain(arguments.iter().map(String::as_str));
    let words: Vec<CString> = words.filter_map(|word| CString::new(word).ok()).collect();
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok());
    let environment: Vec<CString> = environment.collect();
    match fexecve(&program, &words, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(failed("executing")(errno)),
    }
}

/// What `comm` tells would be the descriptor it was executed from.
pub fn take_name() -> Result<(), Errno> {
    nix::sys::prctl::set_name(c"nrtrace")
}

/// The standard input of a service. Some end at the end of a pipe.
pub fn empty_input() -> Result<(), Errno> {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    dup2_stdin(nix::fcntl::open("/dev/null", flags, nix::sys::stat::Mode::empty())?)
}

/// The copy, open for reading alone: what is open for writing cannot be executed.
fn copy() -> Result<OwnedFd, Error> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let made = match memfd_create("nrtrace", flags | EXECUTABLE) {
        Err(Errno::EINVAL) => memfd_create("nrtrace", flags),
        made => made,
    };
    let mut copy = File::from(made.map_err(failed("making room for (does vm.memfd_noexec forbid it?)"))?);
    let mut own = File::open("/proc/self/exe").map_err(failed("reading"))?;
    std::io::copy(&mut own, &mut copy).map_err(failed("copying"))?;
    // Where the kernel does not know this seal, the mode of a file that only this sandbox executes may change.
    let _ = seal(copy.as_fd(), SEAL_MODE);
    let content = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    seal(copy.as_fd(), content | SealFlag::F_SEAL_SEAL).map_err(failed("sealing"))?;
    let again = File::open(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    Ok(again.map_err(failed("opening"))?.into())
}

fn seal(file: BorrowedFd<'_>, seals: SealFlag) -> Result<(), Errno> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map(drop)
}

/// Has every descriptor beyond the standard ones but those `kept` closed by the next execve(2).
///
/// # Errors
/// When they cannot be listed.
pub fn close_on_execute(kept: &[i32]) -> std::io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if fd > libc::STDERR_FILENO && !kept.contains(&fd) {
            // SAFETY: it is borrowed for this call, and at worst closed by then: the call fails.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        }
    }
    Ok(())
}
