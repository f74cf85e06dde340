//! Reading files that somebody else may have put there.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a regular file of at most `most` bytes. Anything else that may be at the path by accident or ill will, such as a
/// pipe that nobody writes to or a device without an end, is an error at once.
///
/// # Errors
/// When it cannot be opened or read, is no regular file, or is larger.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    // A pipe that nobody has open is not waited for, and a terminal does not become the caller's.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    bounded(file, most)
}

/// Reads to the end, unless that is further than `most` bytes away.
///
/// # Errors
/// When it cannot be read, or is larger.
pub fn bounded(mut reader: impl Read, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(most).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == most && reader.read(&mut [0])? > 0 {
        let message = format!("it is larger than {} MiB, which no file of this kind is", most >> 20);
        return Err(Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn no_more_is_read_than_a_file_can_hold() {
        assert_eq!(bounded(&b"abc"[..], 3).unwrap(), b"abc");
        assert!(bounded(&b"abcd"[..], 3).unwrap_err().to_string().contains("larger"));
        assert!(bounded(std::io::repeat(b'x'), 1 << 20).is_err());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        assert_eq!(read_regular(&at("file"), 4).unwrap(), b"text");
        assert!(read_regular(&at("file"), 3).is_err());
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        std::os::unix::fs::symlink("loop", at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["pipe", "endless", "loop", "socket", ".", "missing"] {
            assert!(read_regular(&at(name), 1 << 40).is_err(), "{name}");
        }
    }
}
