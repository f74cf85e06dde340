//! Programs whose files change the rights of whoever executes them (`cap_bprm_creds_from_file` of the kernel's
//! `security/commoncap.c`).

use std::collections::BTreeSet;

use nrtrace_ebpf::record::Head;
use nrtrace_profiles::Capability;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Call, Event, Object, Outcome, PathObject, Phase};

use super::event::Builder;
use super::process::comm;
use crate::changes::node::{Kind, NodeFacts};

/// What is behind the version of a `struct vfs_ns_cap_data` (`linux/capability.h`).
const REVISION: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// `VFS_CAP_FLAGS_EFFECTIVE`
const EFFECTIVE: u32 = 1;
/// A set-group-ID bit without this one means something else.
const GROUP_EXECUTES: u32 = libc::S_ISGID | libc::S_IXGRP;

/// The capabilities without which the kernel refuses to execute a file with this `security.capability`: its permitted ones,
/// when it has the effective bit. `is_root` tells whether a user id is root's in the program's user namespace.
fn insisted_on(attribute: &[u8], is_root: impl Fn(u32) -> bool) -> BTreeSet<Capability> {
    let word = |index: usize| {
        let bytes = attribute.get(index * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let magic = word(0).unwrap_or(0);
    let high = match magic & REVISION {
        REVISION_1 => Some(0),
        REVISION_2 => word(3),
        REVISION_3 if word(5).is_some_and(is_root) => word(3),
        // Of another user namespace's root, or of a version that the kernel does not execute either.
        _ => None,
    };
    let (Some(low), Some(high)) = (word(1), high) else { return BTreeSet::new() };
    let permitted = if magic & EFFECTIVE == 0 { 0 } else { u64::from(low) | u64::from(high) << 32 };
    (0..64).filter(|number| permitted >> number & 1 == 1).map(Capability::from_number).collect()
}

fn has_set_id(facts: &NodeFacts) -> bool {
    facts.rights.mode & libc::S_ISUID != 0 || facts.rights.mode & GROUP_EXECUTES == GROUP_EXECUTES
}

impl Builder {
    /// The event of the program that `head`'s process runs now, where its file changes rights.
    pub fn program(&mut self, head: &Head, phase: Phase) -> Option<Event> {
        let path = self.processes.get(head.pid)?.exe.clone()?;
        let facts = self.paths.tree(head.mnt_ns)?.program(path.as_bytes())?;
        let capabilities = self.insisted_on(&facts);
        if facts.kind != Kind::Regular || (capabilities.is_empty() && !has_set_id(&facts)) {
            return None;
        }
        let [given, seen] = [path.clone(), path.clone()];
        let mut object = PathObject { given, seen, path, resolved: true, ..PathObject::default() };
        self.paths.add_facts(&mut object, head.mnt_ns, head.time);
        let time = head.time.saturating_sub(self.start);
        Some(Event {
            seq: 0,
            time,
            count: 1,
            last: time,
            process: self.process(head.pid, head.tid, RawText::from(comm(head))),
            credentials: self.within.credentials(head.fsuid, head.fsgid),
            phase,
            call: Call { name: "execve".into(), args: [0; 6], data: None, structure: Vec::new() },
            object: Object::Program { path: object, capabilities },
            outcome: Outcome::Success { value: 0 },
            checks: Vec::new(),
            obstacle: None,
        })
    }

    /// Makes the object of a refused execve that of a program, where the file insists on capabilities.
    pub fn refused_program(&self, object: &mut Object, mnt_ns: u32) {
        let Object::Path(path) = object else { return };
        let found = self.paths.tree(mnt_ns).and_then(|tree| tree.program(path.path.as_bytes()));
        let capabilities = found.map(|facts| self.insisted_on(&facts)).unwrap_or_default();
        if !capabilities.is_empty() {
            *object = Object::Program { path: std::mem::take(path), capabilities };
        }
    }

    fn insisted_on(&self, facts: &NodeFacts) -> BTreeSet<Capability> {
        let attribute = facts.rights.capabilities.as_deref().unwrap_or_default();
        insisted_on(attribute, |uid| self.within.uid(uid) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_effective_bit_makes_the_permitted_set_a_condition() {
        let net_raw = 1 << Capability::NET_RAW.number();
        let of = |words: &[u32]| insisted_on(&attribute(words), |uid| uid == 0);
        let needed = BTreeSet::from([Capability::NET_RAW]);
        assert_eq!(of(&[REVISION_2 | EFFECTIVE, net_raw, 0, 0, 0]), needed);
        assert_eq!(of(&[REVISION_1 | EFFECTIVE, net_raw, 0]), needed);
        assert_eq!(of(&[REVISION_2, net_raw, 0, 0, 0]), BTreeSet::new(), "without it, none");
        assert_eq!(of(&[REVISION_2 | EFFECTIVE, 0, net_raw, 0, 0]), BTreeSet::new(), "inheritable only");
        let high = 1 << (Capability::BPF.number() - 32);
        assert_eq!(of(&[REVISION_2 | EFFECTIVE, 0, 0, high, 0]), BTreeSet::from([Capability::BPF]));
        assert_eq!(of(&[REVISION_3 | EFFECTIVE, net_raw, 0, 0, 0, 0]), needed);
        assert_eq!(
            of(&[REVISION_3 | EFFECTIVE, net_raw, 0, 0, 0, 100_000]),
            BTreeSet::new(),
            "another root's"
        );
        assert_eq!(of(&[REVISION_2 | EFFECTIVE, net_raw]), BTreeSet::new(), "cut short");
        assert_eq!(of(&[]), BTreeSet::new());
    }
}
