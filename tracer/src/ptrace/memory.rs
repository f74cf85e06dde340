//! Reads the memory of a stopped tracee.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sys;
use super::tracee::Stopped;

const PAGE: u64 = 4096;
/// Most paths are shorter, and need not have the rest of the page copied.
const CHUNK: u64 = 256;

/// A string read from a tracee.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Its bytes, without the terminator.
    pub bytes: Vec<u8>,
    /// It was longer than asked for.
    pub truncated: bool,
}

impl Stopped {
    /// Reads at `address` into `buffer`; returns how much was readable.
    ///
    /// # Errors
    /// Nothing at `address` could be read.
    pub fn read_memory(&self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        sys::read_vm(self.tid(), address, buffer).or_else(|error| match error.raw_os_error() {
            // Absent from the kernel, or forbidden by a container's seccomp profile.
            Some(libc::ENOSYS | libc::EPERM) => {
                File::open(format!("/proc/{}/mem", self.tid()))?.read_at(buffer, address)
            }
            _ => Err(error),
        })
    }

    /// Reads a NUL-terminated string of at most `limit` bytes, page by page: the page behind the terminator may not
    /// exist.
    ///
    /// # Errors
    /// A page of the string could not be read.
    pub fn read_string(&self, address: u64, limit: usize) -> io::Result<Text> {
        let mut page = [0u8; CHUNK as usize];
        let mut text = Text::default();
        let mut at = address;
        loop {
            let room = (PAGE - at % PAGE).min(CHUNK) as usize;
            let count = self.read_memory(at, &mut page[..room])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let part = &page[..count];
            let end = part.iter().position(|&byte| byte == 0);
            text.bytes.extend_from_slice(&part[..end.unwrap_or(count)]);
            if text.bytes.len() > limit {
                text.bytes.truncate(limit);
                text.truncated = true;
                return Ok(text);
            }
            if end.is_some() {
                return Ok(text);
            }
            at = at.wrapping_add(count as u64);
        }
    }

    /// Reads at most `limit` of the `length` bytes at `address`.
    ///
    /// # Errors
    /// Nothing at `address` could be read.
    pub fn read_bytes(&self, address: u64, length: u64, limit: usize) -> io::Result<Text> {
        let wanted = usize::try_from(length).map_or(limit, |length| length.min(limit));
        let mut bytes = vec![0u8; wanted];
        let count = if wanted == 0 { 0 } else { self.read_memory(address, &mut bytes)? };
        bytes.truncate(count);
        Ok(Text { bytes, truncated: length > limit as u64 })
    }
}
