//! Keeps the tracer on the CPU of the tracee while the tree runs one task at a time.
//!
//! A stop takes two wake-ups, and each costs far more from one idle CPU to another than on one CPU, where it is a mere
//! switch; in a virtual machine, ten times as much. The scheduler would put the two apart, though: it wakes the tracee on
//! an idle CPU, and that of a running tracer is none. Under `SCHED_IDLE` it counts as one (`sched_idle_cpu` in
//! `kernel/sched/fair.c`), so the tracee is woken right there, and the tracer goes on when it stops again.
//!
//! A tracer under that policy gets next to nothing when somebody else wants its CPU. So a thread with the ordinary policy
//! watches whether it gets its turn, and else gives it back its own: it then runs as it came, for a while that gets longer
//! with each time.
//!
//! What would want that CPU most is whoever reads the records, woken by the tracer and hence put beside it: it is told to
//! [step aside](super::ring::ClaimedCpu).
//!
//! Nothing of this can be seen by the tracee, whose own affinity and policy stay as they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use libc::{c_int, pid_t};

use super::ring::ClaimedCpu;
use super::sys;

/// Stops after which is looked how they came, and where the tracee is: often, for once something else had the CPU, the
/// tracee was woken on another, and stays there.
const WINDOW: u32 = 32;
/// Stops of a window by another task than the one before, for a tree that runs one task at a time.
const SERIAL: u32 = WINDOW / 4;
/// The longest time for a window of a tree that is worth it, in nanoseconds.
const BUSY: u64 = 25_000_000;
/// How often the watchdog looks.
const TICK: Duration = Duration::from_millis(10);
/// Looks without a stop after which there is nothing to be near to.
const QUIET: u32 = 10;
/// How long the tracer stays away after it had to wait for its turn, at first and at most, in nanoseconds.
const APART: std::ops::Range<u64> = 50_000_000..8_000_000_000;
/// Looks in a row at which the tracer waits for its turn, before it is given up: a passing thread of the kernel is none.
const STARVED: u32 = 2;
/// Who was near for so many times as long as it had been away before is not in a hurry to part.
const WORTH: u64 = 8;

/// The tracer's side.
#[derive(Debug)]
pub struct Nearness {
    shared: Arc<Shared>,
    wake: SyncSender<()>,
    last: pid_t,
    changes: u32,
    stops: u32,
    cpu: Option<usize>,
    began: u64,
}

/// What the tracer and its watchdog share.
#[derive(Debug)]
struct Shared {
    tracer: pid_t,
    /// The CPUs and the policy that the tracer came with.
    allowed: libc::cpu_set_t,
    near: AtomicBool,
    stops: AtomicU64,
    /// Not before this time again.
    not_before: AtomicU64,
    place: ClaimedCpu,
}

impl Nearness {
    /// For the calling thread; `None` where it would be of no use, or could not be taken back: with one CPU, under
    /// another policy than the ordinary one, or without the right to leave `SCHED_IDLE` again.
    pub fn new(place: ClaimedCpu) -> Option<Self> {
        let allowed = sys::affinity().ok()?;
        if count(&allowed) < 2 || sys::policy(0).ok()? != libc::SCHED_OTHER {
            return None;
        }
        let tracer = nix::unistd::gettid().as_raw();
        let schedstat = File::open(format!("/proc/self/task/{tracer}/schedstat")).ok()?;
        let shared = Arc::new(Shared {
            tracer,
            allowed,
            near: AtomicBool::new(false),
            stops: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            place,
        });
        let (wake, woken) = sync_channel(1);
        let (ready, able) = sync_channel(1);
        let watchdog = Watchdog { shared: Arc::clone(&shared), schedstat, apart: APART.start };
        let body = move || {
            // Tried on this thread first, which nobody waits for.
            let there_and_back =
                sys::set_policy(0, libc::SCHED_IDLE).and_then(|()| sys::set_policy(0, libc::SCHED_OTHER));
            if ready.send(there_and_back.is_ok()).is_ok() && there_and_back.is_ok() {
                watchdog.watch(&woken);
            }
        };
        std::thread::Builder::new().name("nrtrace-near".into()).spawn(body).ok()?;
        able.recv().ok()?.then(|| Self {
            shared,
            wake,
            last: 0,
            changes: 0,
            stops: 0,
            cpu: None,
            began: sys::monotonic(),
        })
    }

    /// Takes note of a stop of task `tid`, which has not yet been let go.
    pub fn stopped(&mut self, tid: pid_t) {
        self.changes += u32::from(tid != self.last);
        self.last = tid;
        self.stops += 1;
        if self.stops == WINDOW {
            self.look();
            (self.stops, self.changes) = (0, 0);
        }
    }

    fn look(&mut self) {
        let now = sys::monotonic();
        let (near, serial) = (self.shared.near.load(Ordering::SeqCst), self.changes <= SERIAL);
        self.shared.stops.fetch_add(1, Ordering::Relaxed);
        if near && !serial {
            self.shared.part(now + APART.start);
        } else if serial && now.saturating_sub(self.began) < BUSY {
            if !near && now >= self.shared.not_before.load(Ordering::Relaxed) {
                self.approach();
            } else if near {
                self.follow();
            }
        }
        self.began = now;
    }

    fn approach(&mut self) {
        self.shared.near.store(true, Ordering::SeqCst);
        let _ = self.wake.try_send(());
        self.cpu = None;
        self.follow();
        let _ = sys::set_policy(0, libc::SCHED_IDLE);
        // The watchdog may have ended it before it began.
        if !self.shared.near.load(Ordering::SeqCst) {
            self.shared.restore();
        }
    }

    fn follow(&mut self) {
        let there = cpu_of(self.last);
        if there != self.cpu
            && let Some(cpu) = there
        {
            let _ = sys::set_affinity(0, &only(cpu));
            self.shared.place.set(Some(cpu));
            self.cpu = there;
        }
    }
}

impl Shared {
    /// Lets the tracer run as it came, until `not_before` at least.
    fn part(&self, not_before: u64) {
        self.not_before.store(not_before, Ordering::Relaxed);
        self.near.store(false, Ordering::SeqCst);
        self.restore();
    }

    fn restore(&self) {
        let _ = sys::set_policy(self.tracer, libc::SCHED_OTHER);
        let _ = sys::set_affinity(self.tracer, &self.allowed);
        self.place.set(None);
    }
}

struct Watchdog {
    shared: Arc<Shared>,
    /// The tracer's.
    schedstat: File,
    apart: u64,
}

impl Watchdog {
    /// Watches each time that the tracer comes near, until there is no tracer.
    fn watch(mut self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            let began = sys::monotonic();
            self.until_apart();
            // The tracer may have been on its way when it was called back.
            std::thread::sleep(TICK);
            if !self.shared.near.load(Ordering::SeqCst) {
                self.shared.restore();
            }
            let long = sys::monotonic().saturating_sub(began) > WORTH * self.apart;
            self.apart = if long { APART.start } else { (2 * self.apart).min(APART.end) };
        }
    }

    fn until_apart(&self) {
        let (mut turns, mut time, mut stops, mut quiet, mut starved) =
            (self.turns(), sys::monotonic(), 0, 0, 0);
        while self.shared.near.load(Ordering::SeqCst) {
            self.shared.place.step_aside();
            std::thread::sleep(TICK);
            let (before, began) = (turns, time);
            (turns, time) = (self.turns(), sys::monotonic());
            let present = self.shared.stops.load(Ordering::Relaxed);
            quiet = if present == stops { quiet + 1 } else { 0 };
            stops = present;
            starved = if self.waits(before, turns, time - began) { starved + 1 } else { 0 };
            if starved == STARVED {
                self.shared.part(time + self.apart);
            } else if quiet > QUIET {
                self.shared.part(0);
            }
        }
    }

    /// How long the tracer has waited for a CPU so far, in nanoseconds, and how often it got one
    /// (`Documentation/scheduler/sched-stats.rst`). A wait is counted when it ends.
    fn turns(&self) -> Option<(u64, u64)> {
        let mut text = [0; 64];
        let count = self.schedstat.read_at(&mut text, 0).ok()?;
        let mut fields = std::str::from_utf8(&text[..count]).ok()?.split_ascii_whitespace().skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    }

    /// Whether the tracer could run for most of the `time` between two looks and did not, or cannot be looked at.
    fn waits(&self, before: Option<(u64, u64)>, now: Option<(u64, u64)>, time: u64) -> bool {
        let (Some((waited, turn)), Some((waits, turns))) = (before, now) else { return true };
        waits - waited > time / 2
            || (turns == turn && field(self.shared.tracer, 3).is_none_or(|state| state == "R"))
    }
}

fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: zeros are an empty set, and `CPU_SET` ignores numbers that do not fit.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

fn count(cpus: &libc::cpu_set_t) -> c_int {
    // SAFETY: reads a value of this type.
    unsafe { libc::CPU_COUNT(cpus) }
}

/// A field of a task's `stat`, of those behind the name, by its number in proc_pid_stat(5).
fn field(tid: pid_t, number: usize) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{tid}/stat")).ok()?;
    // The name may hold anything, and field 3 comes behind it.
    let rest = &stat[stat.iter().rposition(|byte| *byte == b')')? + 1..];
    std::str::from_utf8(rest).ok()?.split_ascii_whitespace().nth(number - 3).map(str::to_owned)
}

/// The CPU that task `tid` ran on last.
fn cpu_of(tid: pid_t) -> Option<usize> {
    field(tid, 39)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns time on one CPU with the ordinary policy, until told to end.
    fn hog(cpu: usize) -> (Arc<AtomicBool>, std::thread::JoinHandle<()>) {
        let end = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            sys::set_affinity(0, &only(cpu)).unwrap();
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        (end, thread)
    }

    #[test]
    fn a_tracer_that_waits_for_its_turn_gets_its_policy_and_its_cpus_back() {
        let (writer, _reader) = crate::ptrace::ring::ring().unwrap();
        let place = writer.place();
        // Without the right to come back, or with one CPU, there is nothing to be tried; then it must say so.
        let Some(mut near) = Nearness::new(place) else {
            let alone = count(&sys::affinity().unwrap()) < 2;
            assert!(alone || !nix::unistd::geteuid().is_root());
            return;
        };
        let here = nix::unistd::gettid().as_raw();
        let start = std::time::Instant::now();
        while !near.shared.near.load(Ordering::SeqCst) {
            near.stopped(here);
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "a busy tree of one task is worth being near to"
            );
        }
        let began = sys::monotonic();
        let (end, thread) = hog(near.cpu.unwrap());
        let start = std::time::Instant::now();
        while near.shared.near.load(Ordering::SeqCst) {
            // Stops that come in: the tracer is not left alone for want of them.
            near.shared.stops.fetch_add(1, Ordering::Relaxed);
            assert!(start.elapsed() < Duration::from_secs(20), "still under SCHED_IDLE beside a hog");
        }
        end.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        std::thread::sleep(4 * TICK);
        assert_eq!(sys::policy(0).unwrap(), libc::SCHED_OTHER);
        assert_eq!(count(&sys::affinity().unwrap()), count(&near.shared.allowed));
        assert!(near.shared.not_before.load(Ordering::Relaxed) > began, "not at once again");
    }
}
