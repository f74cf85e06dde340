//! Limits of this process that its work takes.

use std::ffi::c_int;

use crate::launch::Error;

/// So many descriptors a run takes at most, with some to spare: maps, programs and links of the probe, channels, timers.
const DESCRIPTORS: usize = 64;

/// Makes sure that there are descriptors enough for a run, before anything is begun.
///
/// The limit is not raised, for the program inherits it.
///
/// # Errors
/// When there are not.
pub fn require_descriptors() -> Result<(), Error> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is a local of the type the call writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Ok(());
    }
    let end = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX);
    // SAFETY: asking about a descriptor changes nothing, whether or not it is open.
    let is_free = |fd: &c_int| unsafe { libc::fcntl(*fd, libc::F_GETFD) } == -1;
    let free = (0..end).filter(is_free).take(DESCRIPTORS).count();
    if free < DESCRIPTORS {
        return Err(Error::Descriptors { limit: limit.rlim_cur, free, wanted: DESCRIPTORS });
    }
    Ok(())
}
