//! A bounded queue of records in memory shared with the tracer process.
//!
//! One process writes, one reads. Readiness is a timer that the writer arms with the first record after a read:
//! one system call and one wake-up a batch, however many records come.

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::sys;

/// Bytes of records the queue holds.
const CAPACITY: usize = 8 << 20;
/// How long a record may wait for others before the reader is woken.
const BATCH: Duration = Duration::from_millis(20);
/// How long the writer, and with it the tracees, waits for a reader that does not keep up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What both processes share.
#[repr(C)]
struct Shared {
    /// Bytes ever written.
    written: AtomicU64,
    /// Bytes ever read.
    read: AtomicU64,
    /// Records that found no room.
    lost: AtomicU64,
    /// Tasks being traced.
    tasks: AtomicU32,
    /// Whether the timer has been armed since the last read.
    armed: AtomicU32,
    /// One more than the number of the CPU that the reader is to leave alone; 0 for none.
    place: AtomicU32,
    data: UnsafeCell<[u8; CAPACITY]>,
}

/// The queue itself.
#[derive(Debug)]
struct Queue {
    shared: NonNull<Shared>,
    timer: TimerFd,
}

// SAFETY: the counters are atomic; `data` is written through the one writer and read through the one reader, in ranges
// that the counters keep apart.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

/// The end that records go in.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    /// How much had been read when the reader was last waited for in vain.
    gave_up_at: Option<u64>,
}

/// Where the tracer is near its tracee: a CPU that others of this program are to leave alone.
#[derive(Debug)]
pub struct ClaimedCpu(Arc<Queue>);

/// The end that records come out.
#[derive(Debug)]
pub struct Reader(Arc<Queue>);

/// An empty queue, shared with processes forked from now on.
///
/// # Errors
/// No memory or no file descriptors.
pub fn ring() -> io::Result<(Writer, Reader)> {
    let queue = Arc::new(Queue::new()?);
    Ok((Writer { queue: Arc::clone(&queue), gave_up_at: None }, Reader(queue)))
}

impl Queue {
    fn new() -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        // SAFETY: a new anonymous mapping; pages come as they are touched, filled with zeros.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        match NonNull::new(memory.cast::<Shared>()) {
            Some(shared) if memory != libc::MAP_FAILED => Ok(Self { shared, timer }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped in `new` until `drop`; zeros are a valid value, and what changes is atomic or in a cell.
        unsafe { self.shared.as_ref() }
    }

    fn data(&self) -> *mut u8 {
        self.shared().data.get().cast()
    }

    fn step_aside(&self) {
        let place = self.shared().place.load(Ordering::Relaxed);
        if let Some(cpu) = place.checked_sub(1).map(|cpu| cpu as usize)
            && sys::cpu() == Some(cpu)
        {
            sys::leave(cpu);
        }
    }

    /// Makes the timer expire after `delay`. A failure would only delay the reader until its next look.
    fn arm(&self, delay: Duration) {
        let _ =
            self.timer.set(Expiration::OneShot(TimeSpec::from_duration(delay)), TimerSetTimeFlags::empty());
    }

    fn copy_in(&self, at: u64, bytes: &[u8]) {
        let start = at as usize % CAPACITY;
        let first = bytes.len().min(CAPACITY - start);
        // SAFETY: both parts lie in `data`, in a range that `wait_for_room` found free of unread bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data().add(start), first);
            std::ptr::copy_nonoverlapping(bytes.as_ptr().add(first), self.data(), bytes.len() - first);
        }
    }

    fn copy_out(&self, at: u64, bytes: &mut [u8]) {
        let start = at as usize % CAPACITY;
        let first = bytes.len().min(CAPACITY - start);
        // SAFETY: both parts lie in `data`, in a range that was written and is not yet given back.
        unsafe {
            std::ptr::copy_nonoverlapping(self.data().add(start), bytes.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(self.data(), bytes.as_mut_ptr().add(first), bytes.len() - first);
        }
    }
}

impl Writer {
    /// Appends a record. Waits while there is no room; a record for which none comes is counted as lost.
    pub fn push(&mut self, record: &[u8]) {
        let frame = 4 + record.len();
        if !self.wait_for_room(frame) {
            self.queue.shared().lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let at = self.queue.shared().written.load(Ordering::Relaxed);
        self.queue.copy_in(at, &(record.len() as u32).to_le_bytes());
        self.queue.copy_in(at + 4, record);
        self.queue.shared().written.store(at + frame as u64, Ordering::Release);
        if self.queue.shared().armed.swap(1, Ordering::AcqRel) == 0 {
            self.queue.arm(BATCH);
        }
    }

    fn wait_for_room(&mut self, frame: usize) -> bool {
        let pause = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            let shared = self.queue.shared();
            let read = shared.read.load(Ordering::Acquire);
            let used = shared.written.load(Ordering::Relaxed) - read;
            if CAPACITY - used as usize >= frame {
                return true;
            }
            // A reader that is stopped is waited for once: the tracees must not go on at a record in two seconds.
            if waited >= PATIENCE || self.gave_up_at == Some(read) {
                self.gave_up_at = Some(read);
                return false;
            }
            if waited.is_zero() {
                self.queue.arm(Duration::from_nanos(1));
            }
            std::thread::sleep(pause);
            waited += pause;
        }
    }

    /// To tell the reader which CPU to leave alone.
    pub fn place(&self) -> ClaimedCpu {
        ClaimedCpu(Arc::clone(&self.queue))
    }

    /// Publishes the number of tasks being traced.
    pub fn set_tasks(&self, count: u32) {
        self.queue.shared().tasks.store(count, Ordering::Release);
    }
}

impl ClaimedCpu {
    /// Says which CPU it is.
    pub fn set(&self, cpu: Option<usize>) {
        let place = cpu.map_or(0, |cpu| cpu as u32 + 1);
        self.0.shared().place.store(place, Ordering::Relaxed);
    }

    /// Leaves that CPU, where the calling thread is on it.
    pub fn step_aside(&self) {
        self.0.step_aside();
    }
}

impl Reader {
    /// Gives every record to `sink`.
    pub fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.0.step_aside();
        // The order matters: a record written after `armed` is cleared arms the timer again.
        let mut expirations = [0u8; 8];
        let _ = nix::unistd::read(self.0.timer.as_fd(), &mut expirations);
        self.0.shared().armed.store(0, Ordering::Release);
        let mut at = self.0.shared().read.load(Ordering::Relaxed);
        let end = self.0.shared().written.load(Ordering::Acquire);
        let mut record = Vec::new();
        while at < end {
            let mut length = [0u8; 4];
            self.0.copy_out(at, &mut length);
            record.resize(u32::from_le_bytes(length) as usize, 0);
            self.0.copy_out(at + 4, &mut record);
            at += 4 + record.len() as u64;
            self.0.shared().read.store(at, Ordering::Release);
            sink(&record);
        }
    }

    /// Records that found no room so far.
    pub fn lost(&self) -> u64 {
        self.0.shared().lost.load(Ordering::Relaxed)
    }

    /// Tasks being traced; 0 only after their last record was appended.
    pub fn tasks(&self) -> u32 {
        self.0.shared().tasks.load(Ordering::Acquire)
    }
}

impl AsFd for Reader {
    /// Readable when records wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.timer.as_fd()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing borrows from it any more.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_across_the_end() {
        let (mut writer, mut reader) = ring().unwrap();
        let (mut sent, mut got) = (0u64, 0u64);
        for round in 0..50u64 {
            for _ in 0..200 {
                let record = vec![sent as u8; 1 + (sent * 37 % 5000) as usize];
                writer.push(&record);
                sent += 1;
            }
            reader.drain(&mut |record| {
                assert_eq!(record, vec![got as u8; 1 + (got * 37 % 5000) as usize], "round {round}");
                got += 1;
            });
            assert_eq!(got, sent);
        }
        assert_eq!(reader.lost(), 0);
    }

    #[test]
    fn a_full_queue_counts_what_it_drops() {
        let (mut writer, mut reader) = ring().unwrap();
        let record = vec![7u8; CAPACITY / 2];
        writer.push(&record);
        let start = std::time::Instant::now();
        (0..100).for_each(|_| writer.push(&record));
        assert!(start.elapsed() < 2 * PATIENCE, "a stopped reader is waited for once");
        assert_eq!(reader.lost(), 100);
        let mut count = 0;
        reader.drain(&mut |_| count += 1);
        assert_eq!(count, 1);
    }

    #[test]
    fn the_timer_tells_of_records_and_is_quiet_after_a_drain() {
        use nix::poll::{PollFd, PollFlags, poll};
        let (mut writer, mut reader) = ring().unwrap();
        writer.push(b"x");
        let ready = |reader: &Reader, ms: u16| {
            poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], ms).unwrap()
        };
        assert_eq!(ready(&reader, 1000), 1);
        reader.drain(&mut |_| ());
        assert_eq!(ready(&reader, 20), 0);
        writer.push(b"y");
        assert_eq!(ready(&reader, 1000), 1);
    }
}
