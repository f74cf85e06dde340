//! The reading end of the ring buffer (`BPF_MAP_TYPE_RINGBUF`).
//!
//! The kernel has the data twice, one behind the other, so that a record may go past the end. Here only as much of the
//! second time is mapped as the longest record takes: what is mapped of it counts as this process's memory, used or not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Lengths of the pages before the data: of the position read up to, and of the position written up to.
const PAGE: usize = 4096;
/// What comes before each record: its length and flags, and a word of the kernel's own.
const HEADER: usize = 8;
/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` of `linux/bpf.h`.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// No record of the probe's is longer, with its header.
const LONGEST: usize = 64 * 1024;

/// A ring buffer, mapped.
#[derive(Debug)]
pub(super) struct Ring {
    map: OwnedFd,
    read: Mapped,
    written: Mapped,
    mask: u64,
}

/// Memory that is mapped.
#[derive(Debug)]
struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is this value's own, and is not tied to a thread.
unsafe impl Send for Mapped {}

impl Mapped {
    fn new(map: &OwnedFd, offset: usize, length: usize, protection: libc::c_int) -> io::Result<Self> {
        // SAFETY: a mapping at a place of the kernel's choice; the result is checked.
        let start = unsafe {
            libc::mmap(null_mut(), length, protection, libc::MAP_SHARED, map.as_raw_fd(), offset as i64)
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast::<libc::c_void>() != libc::MAP_FAILED => {
                Ok(Self { start, length })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The position at its start.
    fn position(&self) -> &AtomicU64 {
        // SAFETY: a page at least is mapped for as long as this value lives, and all that share it use it atomically.
        unsafe { self.start.cast().as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with that length, and nobody borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl Ring {
    /// Maps a ring buffer with room for `size` bytes.
    ///
    /// # Errors
    /// As mmap(2).
    pub(super) fn new(map: OwnedFd, size: u32) -> io::Result<Self> {
        // SAFETY: a plain system call.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(PAGE);
        let length = page + size as usize + LONGEST.min(size as usize);
        Ok(Self {
            read: Mapped::new(&map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?,
            written: Mapped::new(&map, page, length, libc::PROT_READ)?,
            mask: u64::from(size) - 1,
            map,
        })
    }

    /// How many bytes it has room for.
    pub(super) fn size(&self) -> u32 {
        self.mask as u32 + 1
    }

    /// Hands over all records that are there now, in the order they were written.
    pub(super) fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        let mut at = self.read.position().load(Ordering::Acquire);
        loop {
            let end = self.written.position().load(Ordering::Acquire);
            if at == end {
                // Whoever writes now sees how far was read, or is seen here.
                fence(Ordering::SeqCst);
                if self.written.position().load(Ordering::Acquire) == end {
                    return;
                }
                continue;
            }
            let Some((bytes, discarded)) = self.record(at) else { return };
            if !discarded {
                sink(bytes);
            }
            at += (HEADER + bytes.len()).next_multiple_of(HEADER) as u64;
            self.read.position().store(at, Ordering::Release);
        }
    }

    /// The record at a position, and whether it was discarded; none while it is being written.
    fn record(&self, at: u64) -> Option<(&[u8], bool)> {
        let offset = self.written.length - self.data_length() + (at & self.mask) as usize;
        // SAFETY: the kernel writes a header at each position that it tells of, in the data that is mapped here.
        let told = unsafe { self.written.start.add(offset).cast::<AtomicU32>().as_ref() };
        let told = told.load(Ordering::Acquire);
        if told & BUSY != 0 {
            return None;
        }
        let length = (told & !(BUSY | DISCARDED)) as usize;
        // SAFETY: the kernel has written so many bytes behind the header. It does not write to them again before it is told that
        // they were read; none is longer than what is mapped past the end.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.written.start.add(offset + HEADER).as_ptr(), length) };
        Some((bytes, told & DISCARDED != 0))
    }

    /// Length of the data as it is mapped.
    fn data_length(&self) -> usize {
        let size = self.mask as usize + 1;
        size + LONGEST.min(size)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
