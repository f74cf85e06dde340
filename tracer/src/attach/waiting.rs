//! Waiting for what does not run yet.
//!
//! Where the probe can tell by itself (the control group that the first process joins, the arguments of the container
//! runtime that starts it), the first instruction of the program is seen. Elsewhere its appearance is looked for.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nrtrace_ebpf::layout::{ARMED, Aim, WAITING};
use nrtrace_ebpf::record::{
    FLAG_DEEP, FLAG_TRUNCATED, FLAG_UNREADABLE, Head, KIND_EXEC, ProcessRecord, read,
};
use nrtrace_profiles::RawText;

use super::cgroup::Group;
use super::glance::{Glance, Glances};
use super::places::Places;
use super::process::Facts;
use super::record::asks_to_end;
use super::scope::{Scope, words};
use super::sight::Sight;
use super::state::Known;
use super::{Error, Subject, Target, container, find, state, surroundings, upcoming};
use crate::collect::{Observation, Trees, decode, upright};
use crate::launch;
use crate::launch::signals::Signals;
use crate::launch::tree;
use crate::session::{Begins, Source, monotonic};

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// One in so many looks goes through the runtimes' state, which takes longer.
const STATE: u32 = 10;
/// One in so many does where nothing was made there for a while.
const IDLE: u32 = 100;
/// Something was made there: for so long it is looked for at once.
const LIVELY: Duration = Duration::from_secs(1);

/// What was waited for is there.
#[derive(Debug)]
pub struct Arrival {
    /// What it is.
    pub subject: Subject,
    /// What was recorded of it so far.
    pub records: Vec<Vec<u8>>,
    /// Time of the first record, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Whether its start was seen.
    pub from_start: bool,
    /// Its files, should it be gone by now.
    pub trees: Trees,
}

impl Arrival {
    /// Of what begins now, or has begun.
    fn of(subject: Subject, from_start: bool) -> Self {
        let (records, trees) = (Vec::new(), Trees::default());
        Self { subject, records, time: monotonic(), from_start, trees }
    }
}

/// Waits with a source that can be told what to look out for. Nothing when a signal ends the waiting. What was missed at its
/// start has arrived, too, but not `from_start`.
///
/// # Errors
/// When the source fails, or a container has ended before it could be watched.
pub async fn expect(
    target: &Target,
    source: &mut dyn Source,
    sight: &mut Sight,
) -> Result<Option<Arrival>, PollError> {
    let signals = Signals::take()?;
    let mut waiting = Waiting::of(Some(target));
    waiting.aim(source, state::joined(state::all()))?;
    let mut places = Places::find();
    let mut glances = Glances::at(target, places.clone())
        .map_err(|error| launch::Error::system("starting a thread of", "nrtrace", error))?;
    let (mut looks, mut stamp, mut lively) = (0u32, places.stamp(), None::<Instant>);
    loop {
        if asks_to_end(&signals) {
            return Ok(None);
        }
        waiting.drain(source);
        if let Some(arrival) = waiting.arrived() {
            return Ok(Some(arrival));
        }
        let now = places.stamp();
        let changed = now != stamp;
        if changed {
            (stamp, lively) = (now, Some(Instant::now()));
        }
        let is_lively = lively.is_some_and(|since| since.elapsed() < LIVELY);
        if is_lively {
            waiting.hurry(source, &places)?;
        }
        if let Some(glance) = glances.take() {
            sight.saw_all(target, &glance.all)?;
            if let Some(subject) = sight.missed(glance.subject.as_ref()) {
                return Ok(Some(Arrival::of(subject.clone(), false)));
            }
            places = glance.places.clone();
            waiting.take(source, glance)?;
        }
        let idle = !is_lively && matches!(target, Target::Container(_));
        if (changed && places.has_asked())
            || waiting.is_near()
            || looks.is_multiple_of(if idle { IDLE } else { STATE })
        {
            glances.ask();
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits by looking, for a source that cannot be told: until it runs, or its container's runtime is about to run it. Nothing
/// when a signal ends the waiting.
///
/// # Errors
/// When what was named is not clear, or a container has ended before it could be watched.
pub async fn poll(target: &Target, sight: &mut Sight) -> Result<Option<(Subject, Begins)>, PollError> {
    let signals = Signals::take()?;
    loop {
        sight.look(target)?;
        match find(target) {
            Ok(subject) if !is_runtime(&subject.main) => return Ok(Some((subject, Begins::Now))),
            Ok(runtime) => {
                if let Some(subject) = upcoming(target, &runtime) {
                    return Ok(Some((subject, Begins::WithExec)));
                }
            }
            Err(error) if is_not_there(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if asks_to_end(&signals) {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has `source` watch the program that is about to run from its first instruction on. Nothing when it runs already.
///
/// # Errors
/// When the source fails.
pub fn await_start(subject: &Subject, source: &mut dyn Source) -> Result<Option<Arrival>, launch::Error> {
    let pid = subject.main.pid;
    source.adopt(pid, Begins::WithExec)?;
    let arrival = Arrival::of(subject.clone(), true);
    Ok(Facts::read(pid).is_some_and(|facts| is_runtime(&facts)).then_some(arrival))
}

/// Why waiting ended.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// What was named cannot be attached to.
    #[error(transparent)]
    Target(#[from] Error),
    /// Signals cannot be taken.
    #[error(transparent)]
    Launch(#[from] launch::Error),
}

/// Whether an error says that it does not run yet.
pub fn is_not_there(error: &Error) -> bool {
    matches!(
        error,
        Error::NoGroup { .. } | Error::NoUnit { .. } | Error::NoContainer { .. } | Error::Empty { .. }
    )
}

/// Whether a process is still the runtime's, in a container that is made but not started.
pub fn is_runtime(facts: &Facts) -> bool {
    const RUNTIMES: [&str; 4] = ["runc", "crun", "youki", "runsc"];
    let name = facts.name.to_text();
    // runc runs from a copy of itself in memory, which has another name.
    let called = facts.command.first().map(RawText::to_text).unwrap_or_default();
    let called = called.rsplit('/').next().unwrap_or_default();
    // Such a copy may be met before it has its arguments.
    let exe = facts.exe.as_ref().map(RawText::to_text).unwrap_or_default();
    let copied = exe.strip_prefix("/memfd:").and_then(|rest| rest.split_once("_cloned")).map(|(of, _)| of);
    copied.is_some_and(|of| RUNTIMES.contains(&of))
        || RUNTIMES.contains(&facts.program().as_str())
        || RUNTIMES.contains(&called)
        || name.starts_with("runc:[")
        || name.starts_with("youki:")
}

pub struct Waiting<'a> {
    /// What is waited for; nothing for whatever a container engine starts.
    target: Option<&'a Target>,
    records: Vec<Vec<u8>>,
    /// The files of what is about to begin.
    trees: Trees,
    /// The control group of its container.
    group: Option<Group>,
    /// The names looked out for.
    known: Vec<String>,
    /// What was found before it began.
    adopted: Option<i32>,
    /// The program that it was to become.
    upcoming: Option<Facts>,
}

impl<'a> Waiting<'a> {
    /// Waits for that, or for whatever begins.
    pub fn of(target: Option<&'a Target>) -> Self {
        let (records, trees) = (Vec::new(), Trees::default());
        Self { target, records, trees, group: None, known: Vec::new(), adopted: None, upcoming: None }
    }

    /// Takes what was recorded.
    pub fn drain(&mut self, source: &mut dyn Source) {
        let records = &mut self.records;
        source.drain(&mut |bytes| records.push(bytes.to_vec()));
        self.hold();
    }

    /// Keeps the files of what is about to begin.
    fn hold(&mut self) {
        let Some(head) = self.records.last().and_then(|bytes| read::<Head>(bytes)) else { return };
        // Who joins is a monitor or the runtime, and the program is to be a child of it.
        let near = || {
            let pid = head.pid as i32;
            std::iter::once(pid).chain(tree::descendants(pid).into_iter().map(|member| member.pid))
        };
        self.group = self.group.take().or_else(|| near().find_map(container::group));
        for pid in self.group.iter().flat_map(Group::processes) {
            self.trees.hold(pid as u32);
        }
    }

    /// Tells the source at once of a container that was just made: a look at everything takes longer than its start.
    fn hurry(&mut self, source: &mut dyn Source, places: &Places) -> Result<(), launch::Error> {
        let Some(Target::Container(name)) = self.target else { return Ok(()) };
        let recent = places.recent();
        if recent.iter().any(|known| known.is_called(name)) { self.aim(source, recent) } else { Ok(()) }
    }

    /// Tells the source what to look out for, with what the runtimes know by now.
    fn aim(&mut self, source: &mut dyn Source, all: Vec<Known>) -> Result<(), launch::Error> {
        let mut names = Vec::new();
        let mut aim = Aim { joins: WAITING, by_group: 1, ..Aim::default() };
        match self.target {
            None | Some(Target::Process(_)) => return Ok(()),
            Some(Target::Unit(unit)) => {
                // Once, or a group that was found since would be forgotten.
                if self.known.is_empty() {
                    source.aim(&aim_at_unit(unit))?;
                    self.known.push(unit.clone());
                }
                return Ok(());
            }
            Some(Target::Cgroup(path)) => {
                names.extend(path.file_name().and_then(OsStr::to_str).map(str::to_owned))
            }
            Some(Target::Container(name)) => {
                (aim.joins, aim.by_argument) = (ARMED, 1);
                names.push(name.clone());
                let known = all.into_iter().find(|known| known.is_called(name));
                names.extend(known.map(|known| container::names(&known.id)).into_iter().flatten());
                // A whole id is known before its container is.
                names.extend(
                    container::sign(name).map(|sign| container::names(&sign.id)).into_iter().flatten(),
                );
                names.dedup();
            }
        }
        if names != self.known {
            aim.found = aim.joins;
            aim.words = words(names.iter().map(String::as_str));
            source.aim(&aim)?;
            self.known = names;
        }
        Ok(())
    }

    /// Takes in what was seen by looking, which the source cannot have seen: a container that was made before, and waits to be
    /// started.
    fn take(&mut self, source: &mut dyn Source, glance: Glance) -> Result<(), launch::Error> {
        self.aim(source, glance.all)?;
        self.upcoming = self.upcoming.take().or(glance.upcoming);
        let runtime = glance.subject.filter(|_| self.adopted.is_none()).map(|subject| subject.main.pid);
        // By now it may have begun.
        if let Some(pid) = runtime.filter(|pid| Facts::read(*pid).is_some_and(|facts| is_runtime(&facts))) {
            source.adopt(pid, Begins::WithExec)?;
            self.adopted = Some(pid);
        }
        Ok(())
    }

    /// Whether the runtime is at work, and it is not known yet what it will run.
    fn is_near(&self) -> bool {
        self.upcoming.is_none() && (self.adopted.is_some() || !self.records.is_empty())
    }

    /// Whether the program has begun.
    pub fn arrived(&mut self) -> Option<Arrival> {
        let first = self.records.iter().position(|bytes| is_exec(bytes))?;
        let record: ProcessRecord = read(&self.records[first])?;
        let Head { pid, time, .. } = record.head;
        let subject = self.subject(&record, &self.records[first]);
        // What came before is the runtime's attempt at it.
        let begin =
            self.records.iter().position(|bytes| read::<Head>(bytes).is_some_and(|head| head.pid == pid));
        let records = self.records.split_off(begin.unwrap_or(first).min(first));
        let time =
            records.first().and_then(|bytes| read::<Head>(bytes)).map_or(time, |head| head.time.min(time));
        let trees = std::mem::take(&mut self.trees);
        Some(Arrival { subject, records, time, from_start: true, trees })
    }

    /// A program that has ended already, as far as its record tells, and its container's bundle.
    fn gone(&self, recorded: Facts) -> Facts {
        let Some(Target::Container(name)) = self.target else { return recorded };
        let all = state::joined(state::all());
        let known = all.into_iter().find(|known| known.is_called(name));
        known.and_then(|known| known.program).map_or(recorded.clone(), |program| program.facts(&recorded))
    }

    /// What has begun, by what is known of it now; a program that has ended already is known by its record alone.
    fn subject(&self, record: &ProcessRecord, bytes: &[u8]) -> Subject {
        let pid = record.head.pid as i32;
        let foreseen = || self.upcoming.clone().filter(|facts| facts.pid == pid);
        let now = Facts::read(pid).filter(|facts| !facts.is_kernel());
        let main = now.or_else(foreseen).unwrap_or_else(|| self.gone(from_record(record, bytes)));
        if let Some(target) = self.target
            && let Ok(found) = find(target)
            && !is_runtime(&found.main)
        {
            return Subject { main, ..found };
        }
        let sign = container::of_process(pid);
        let named = |known: &state::Known| match self.target {
            Some(Target::Container(name)) => known.is_called(name),
            _ => sign.as_ref().is_some_and(|sign| sign.id == known.id),
        };
        let known = match self.target {
            None | Some(Target::Container(_)) => {
                state::joined(state::all()).into_iter().find(|known| named(known))
            }
            _ => None,
        };
        let called = known.as_ref().and_then(|known| known.names.first().cloned());
        let (description, name) = match self.target {
            Some(Target::Container(name)) => (format!("container {name}"), name.clone()),
            Some(Target::Unit(unit)) => (format!("unit {unit}"), unit.clone()),
            Some(Target::Cgroup(path)) => (format!("control group {}", path.display()), main.program()),
            Some(Target::Process(pid)) => (format!("process {pid}"), main.program()),
            None => {
                let id = sign.as_ref().map_or_else(|| format!("of process {pid}"), |sign| sign.id.clone());
                (format!("container {}", called.unwrap_or(id)), main.program())
            }
        };
        let scope = match &sign {
            Some(sign) if self.target.is_none() => Scope::of_container(pid, &sign.id),
            _ => Scope::Tree(pid),
        };
        let known = known.map(|known| (known.id.clone(), sign, Some(known)));
        let container = surroundings(&main, known);
        Subject { description, name, scope, main, container }
    }
}

/// What joins a control group of that name, or is born in one that is made from here on.
pub(super) fn aim_at_unit(unit: &str) -> Aim {
    Aim { joins: WAITING, found: WAITING, by_group: 1, words: words([unit]), ..Aim::default() }
}

fn is_exec(bytes: &[u8]) -> bool {
    read::<Head>(bytes).is_some_and(|head| head.kind == KIND_EXEC)
}

fn from_record(record: &ProcessRecord, bytes: &[u8]) -> Facts {
    let head = &record.head;
    let exe = match decode(bytes) {
        Some(Observation::Exec { exe, .. })
            if head.flags & (FLAG_UNREADABLE | FLAG_DEEP | FLAG_TRUNCATED) == 0 =>
        {
            Some(RawText::new(upright(exe)))
        }
        _ => None,
    };
    let name = head.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    Facts {
        pid: head.pid as i32,
        name: RawText::from(name),
        command: exe.clone().into_iter().collect(),
        exe,
        cwd: RawText::from("/"),
        uid: head.fsuid,
        gid: head.fsgid,
        capabilities: record.capabilities,
        mnt_ns: head.mnt_ns,
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_known_by_its_copy_in_memory_too() {
        let running = |exe: &str| Facts { exe: Some(exe.into()), name: "4".into(), ..Facts::default() };
        for exe in ["/usr/bin/runc", "/memfd:crun_cloned:/proc/self/exe (deleted)", "/usr/bin/crun (deleted)"]
        {
            assert!(is_runtime(&running(exe)), "{exe}");
        }
        for exe in ["/memfd:web (deleted)", "/proc/self/exe", "/usr/sbin/nginx"] {
            assert!(!is_runtime(&running(exe)), "{exe}");
        }
    }
}
