//! What a recording shows as a whole, for judging its single events.

use std::collections::{BTreeMap, BTreeSet};

use crate::calls::{File, Operation, Socket};
use crate::event::{Check, Event, Mode, Object, Outcome, Process, RunFacts, Trace, TraceEnd};
use crate::{Capability, RawText};

use super::files;
use super::noise::{self, Relevance};
use super::site;

/// The run, and what its events show together.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// How the recording was made.
    pub run: &'a RunFacts,
    /// How it ended.
    pub end: &'a TraceEnd,
    /// The run's own processes.
    pids: BTreeSet<u32>,
    /// Names the run made.
    made: BTreeSet<RawText>,
    /// Directories among them.
    made_directories: BTreeSet<RawText>,
    /// Old and new names of files renamed within a directory that the user cannot write.
    renamed: BTreeSet<RawText>,
    /// New names of all files renamed, by their old ones.
    new_names: BTreeMap<RawText, RawText>,
    /// What was last written to a file below `/proc/sys`.
    written: BTreeMap<RawText, (u64, RawText)>,
    /// Programs run, by last component.
    executed: BTreeMap<Vec<u8>, BTreeSet<RawText>>,
    /// Executables that were given a raw socket.
    raw: BTreeSet<RawText>,
    /// Owners of set-user-ID programs that were run.
    set_users: BTreeSet<u32>,
    /// Groups of set-group-ID programs that were run.
    set_groups: BTreeSet<u32>,
}

impl<'a> Context<'a> {
    /// Gathers what the events of `trace` show together.
    pub fn new(trace: &'a Trace) -> Self {
        let mut context = Self {
            run: &trace.run,
            end: &trace.end,
            pids: BTreeSet::new(),
            made: BTreeSet::new(),
            made_directories: BTreeSet::new(),
            renamed: BTreeSet::new(),
            new_names: BTreeMap::new(),
            written: BTreeMap::new(),
            executed: BTreeMap::new(),
            raw: BTreeSet::new(),
            set_users: BTreeSet::new(),
            set_groups: BTreeSet::new(),
        };
        trace.events.iter().for_each(|event| context.note(event));
        context
    }

    fn note(&mut self, event: &Event) {
        self.pids.insert(event.process.pid);
        if let Some(exe) = &event.process.exe {
            self.note_executed(exe);
        }
        if matches!(event.outcome, Outcome::Failure { .. }) {
            return;
        }
        let is_raw = |check: &Check| check.capability == Capability::NET_RAW && check.granted;
        if event.call.operation() == Operation::Socket(Socket::Make) && event.checks.iter().any(is_raw) {
            self.raw.insert(program(&event.process).clone());
        }
        if let Object::Program { path, .. } = &event.object {
            let has = |bit| path.inode.as_ref().filter(|inode| inode.mode & bit != 0);
            self.set_users.extend(has(0o4000).map(|inode| inode.uid));
            self.set_groups.extend(has(0o2000).map(|inode| inode.gid));
        }
        self.note_made(event);
        self.note_renamed(event);
        let (Some(path), _) = files::of(&event.object) else { return };
        if files::is_exec(event) && event.outcome != Outcome::Unknown {
            self.note_executed(&path.path);
        }
        if let Some(data) = &event.call.data {
            let last = self.written.entry(path.path.clone()).or_insert((0, RawText::default()));
            *last = (event.last, data.clone()).max(last.clone());
        }
    }

    fn note_executed(&mut self, path: &RawText) {
        self.executed.entry(files::name(path).to_vec()).or_default().insert(path.clone());
    }

    fn note_made(&mut self, event: &Event) {
        let operation = event.call.operation();
        let Some(path) = files::made(event) else { return };
        let own = path.inode.as_ref().is_none_or(|inode| inode.uid == event.credentials.uid);
        if matches!(operation, Operation::File(File::MakeDirectory(_))) {
            self.made_directories.insert(path.path.clone());
        }
        if operation.makes_name()
            || files::is_rename(event)
            || files::creates_only(event)
            || (files::may_create(event) && own)
        {
            self.made.insert(path.path.clone());
        }
    }

    fn note_renamed(&mut self, event: &Event) {
        let (Some(from), Some(to)) = files::of(&event.object) else { return };
        if !files::is_rename(event) {
            return;
        }
        let new = self.new_names.entry(from.path.clone()).or_insert_with(|| to.path.clone());
        if to.path < *new {
            new.clone_from(&to.path);
        }
        let same = files::is_known(&from.path) && files::parent(&from.path) == files::parent(&to.path);
        let refused = event.checks.iter().any(|check| {
            check.capability.is_dac()
                && noise::noise(event, check, site::site(event, check)) == Relevance::Real
        });
        if same && refused {
            self.renamed.extend([from.path.clone(), to.path.clone()]);
        }
    }

    /// Whether the oracle judged what the caller of `event` may do. Where a program was attached to, this is root alone, and
    /// what refuses others is real.
    pub fn is_foretold_for(&self, event: &Event) -> bool {
        let own = self.run.attached.as_ref().is_some_and(|attached| attached.own_refusals);
        self.run.mode == Mode::Observation && !(own && event.credentials.uid != 0)
    }

    /// Whether the process's executable was given a raw socket, which does for an echo socket.
    pub fn has_raw(&self, process: &Process) -> bool {
        self.raw.contains(program(process))
    }

    /// Whether a set-user-ID program of that owner was run.
    pub fn is_set_user(&self, uid: u32) -> bool {
        self.set_users.contains(&uid)
    }

    /// Whether a set-group-ID program of that group was run.
    pub fn is_set_group(&self, gid: u32) -> bool {
        self.set_groups.contains(&gid)
    }

    /// Whether `path` is a name the run made.
    pub fn has_made(&self, path: &RawText) -> bool {
        self.made.contains(path)
    }

    /// Whether `path` is below a directory the run made.
    pub fn is_inside_made(&self, path: &RawText) -> bool {
        let mut directory = files::parent(path);
        while directory.as_bytes().len() > 1 {
            if self.made_directories.contains(&directory) {
                return true;
            }
            directory = files::parent(&directory);
        }
        false
    }

    /// Whether `path` is the old or the new name of a file renamed within a directory that refused.
    pub fn is_renamed(&self, path: &RawText) -> bool {
        self.renamed.contains(path)
    }

    /// The name that a file made under `path` was given, where it was renamed.
    pub fn new_name<'b>(&'b self, path: &'b RawText) -> &'b RawText {
        self.new_names.get(path).unwrap_or(path)
    }

    /// What was last written to `path`, without the line's end.
    pub fn written(&self, path: &RawText) -> Option<RawText> {
        self.written.get(path).map(|(_, data)| RawText::from(data.as_bytes().trim_ascii()))
    }

    /// Whether a program of that name was run from another place than `path`.
    pub fn is_run_elsewhere(&self, path: &RawText) -> bool {
        let places = self.executed.get(files::name(path));
        places.is_some_and(|places| places.iter().any(|place| place != path))
    }

    /// Whether a program was run from `path`.
    pub fn is_run(&self, path: &RawText) -> bool {
        self.executed.get(files::name(path)).is_some_and(|places| places.contains(path))
    }

    /// Whether the text is the number of one of the run's own processes.
    pub fn is_own_pid(&self, digits: &[u8]) -> bool {
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        number.is_some_and(|pid| self.pids.contains(&pid))
    }
}

/// The executable of a process, or its name.
fn program(process: &Process) -> &RawText {
    process.exe.as_ref().unwrap_or(&process.name)
}

/// The executable that the command became: the first program run by the command's name, else what the first
/// process ran.
pub fn executable(trace: &Trace) -> Option<RawText> {
    let command = trace.run.command.first()?;
    let mut events: Vec<&Event> = trace.events.iter().collect();
    events.sort_by_key(|event| (event.time, event.seq));
    let run = events.iter().find_map(|event| {
        let (path, _) = files::of(&event.object);
        let path = &path?.path;
        let success = matches!(event.outcome, Outcome::Success { .. });
        (success && files::is_exec(event) && files::name(path) == files::name(command)).then(|| path.clone())
    });
    run.or_else(|| events.iter().find_map(|event| event.process.exe.clone()))
}
