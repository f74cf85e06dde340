//! The processes of the tree, as far as events need them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use nrtrace_ebpf::record::Head;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Ancestor, Credentials, Process};

/// Ended processes that are still known, for what is told of them late.
const GONE: usize = 1024;

/// What is known of a process.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its executable in the mount namespace, where known.
    pub exe: Option<RawText>,
    /// As whom it acted last.
    pub credentials: Option<Credentials>,
    /// The path it passed to the execve whose return is not seen yet.
    pub started: Option<Box<[u8]>>,
    /// Its mount namespace.
    pub mnt_ns: u32,
    /// Whether it, or a process it comes from, has installed a seccomp filter.
    pub filtered: bool,
    /// The processes it comes from, outermost first.
    pub ancestors: Arc<[Ancestor]>,
    ended: bool,
}

/// All processes.
#[derive(Debug, Default)]
pub struct Processes {
    known: HashMap<u32, Known>,
    gone: VecDeque<u32>,
    seen: u64,
}

impl Processes {
    /// How many were seen so far.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The process of `head`, which acts.
    pub fn acts(&mut self, head: &Head) -> &mut Known {
        let seen = &mut self.seen;
        let known = self.known.entry(head.pid).or_insert_with(|| {
            *seen += 1;
            Known::default()
        });
        known.mnt_ns = head.mnt_ns;
        known.credentials = Some(Credentials { uid: head.fsuid, gid: head.fsgid });
        known
    }

    /// Process `pid` runs already.
    pub fn met(&mut self, pid: u32, exe: Option<RawText>, mnt_ns: u32, filtered: bool) {
        self.seen += 1;
        self.known.insert(pid, Known { exe, mnt_ns, filtered, ..Known::default() });
    }

    /// What is known of `pid`.
    pub fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    /// `head`'s process made process `child`, or a thread of its own when that is the same.
    pub fn fork(&mut self, head: &Head, child: u32) {
        let parent = self.acts(head);
        if child == head.pid {
            return;
        }
        let ancestors = descend(&parent.ancestors, head, parent.exe.clone());
        let inherited = Known { ended: false, started: None, ancestors, ..parent.clone() };
        // The child may have acted already; then it has been counted.
        match self.known.get_mut(&child) {
            Some(known) if !known.ended => {
                known.exe = known.exe.take().or(inherited.exe);
                known.filtered |= inherited.filtered;
                known.ancestors = inherited.ancestors;
            }
            _ => {
                self.seen += 1;
                self.known.insert(child, inherited);
            }
        }
    }

    /// `head`'s process runs a new program, `exe`, for which it passed `path`.
    pub fn exec(&mut self, head: &Head, path: &[u8], exe: Option<RawText>) {
        let known = self.acts(head);
        known.exe = exe;
        known.started = Some(path.into());
    }

    /// Process `pid` has ended. It stays known for a while.
    pub fn ended(&mut self, pid: u32) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.ended = true;
            self.gone.push_back(pid);
        }
        if self.gone.len() > GONE
            && let Some(oldest) = self.gone.pop_front()
            && self.known.get(&oldest).is_some_and(|known| known.ended)
        {
            self.known.remove(&oldest);
        }
    }
}

/// The ancestors of a child of `head`'s process, which itself has `ancestors`.
fn descend(ancestors: &[Ancestor], head: &Head, exe: Option<RawText>) -> Arc<[Ancestor]> {
    let surplus = (ancestors.len() + 1).saturating_sub(Process::ANCESTORS);
    let parent = Ancestor { pid: head.pid, name: RawText::from(comm(head)), exe };
    ancestors.iter().skip(surplus).cloned().chain([parent]).collect()
}

/// The thread's name, without its padding.
pub fn comm(head: &Head) -> &[u8] {
    head.comm.split(|byte| *byte == 0).next().unwrap_or_default()
}
