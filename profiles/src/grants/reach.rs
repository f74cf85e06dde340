//! What ways let the user do beyond what the program did.

use std::collections::BTreeMap;

use super::act::Act;
use super::grade::{Grade, On, Reach};
use super::parts::{FileKind, PORT_SYSCTL};
use crate::event::{FileType, Inode};
use crate::place::{Whose, World};
use crate::profile::Profile;
use crate::requirement::{Access, Need, Requirement, Severity};
use crate::text::letters;
use crate::{Capability, RawText};

/// How much more a service may do whose processes may gain what files give.
pub(crate) const GAINS: (&str, &str, Grade) = (
    "any set-id program, and any with file capabilities",
    "gives what its file says, within the bounding set, as it does to every user",
    Grade::Medium,
);

/// What the program did with each path, and what is open to everybody as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// The bits that it takes of each path itself.
    bits: BTreeMap<RawText, u32>,
    /// Paths that are directories.
    directories: std::collections::BTreeSet<RawText>,
    /// Groups that can write what others obey: no need is met by joining one.
    obeyed: std::collections::BTreeSet<u32>,
    /// The first port that needs no privilege.
    first_port: u32,
}

impl Used {
    pub(crate) fn by(profile: &Profile, world: &World) -> Self {
        let first_port = u32::from(profile.run.unprivileged_port_start);
        let mut used = Self { first_port, ..Self::default() };
        for requirement in &profile.requirements {
            used.note(requirement);
            let evidence = &requirement.evidence;
            let refused = evidence.refused_at.as_ref().zip(evidence.refused_inode.as_ref());
            let obeyed = |(at, inode): &(&RawText, &Inode)| {
                inode.mode & 0o020 != 0 && matches!(world.place(at), Whose::System(_))
            };
            used.obeyed.extend(refused.filter(obeyed).map(|(_, inode)| inode.gid));
        }
        used
    }

    /// Whether members of a group can write what others obey.
    pub(crate) fn is_obeyed(&self, gid: u32) -> bool {
        self.obeyed.contains(&gid)
    }

    fn note(&mut self, requirement: &Requirement) {
        let (Need::Path { path, access, file_type, .. } | Need::Device { path, access, file_type, .. }) =
            &requirement.need
        else {
            return;
        };
        if *file_type == FileType::Directory {
            self.directories.insert(path.clone());
        }
        let at = requirement.evidence.refused_at.as_ref();
        let inode = requirement.evidence.refused_inode.as_ref();
        if let (Some(at), Some(FileType::Directory)) = (at, inode.map(|inode| inode.file_type)) {
            self.directories.insert(at.clone());
        }
        if requirement.severity != Severity::Required {
            return;
        }
        *self.bits.entry(path.clone()).or_default() |= Access::bits(access);
        let changes = access.iter().any(|access| matches!(access, Access::Create | Access::Delete));
        if let Some(holder) = at.filter(|_| changes) {
            *self.bits.entry(holder.clone()).or_default() |= 3;
        }
    }

    /// What an object itself opens: those of the bits that the program did not use, and its mode for an owner.
    fn itself(&self, path: &RawText, bits: u32, owns: bool, out: &mut Vec<Reach>) {
        let beyond = bits & !self.bits.get(path).copied().unwrap_or(0);
        let words = match (beyond, owns) {
            (0, false) => return,
            (0, true) => "set its mode".into(),
            (_, false) => format!("{} as well", letters(beyond)),
            (_, true) => format!("{} as well, and set its mode", letters(beyond)),
        };
        out.push(Reach::low(On::Itself(path.clone(), beyond), words));
    }
}

fn entries(path: &RawText) -> Reach {
    Reach::low(On::Entries(path.clone()), "remove and rename whatever lies in it")
}

fn open(path: &RawText) -> Reach {
    Reach::low(On::Open(path.clone()), "reach what is open to everybody in it")
}

/// What one act opens beyond what the program did.
pub(super) fn of(act: &Act, used: &Used) -> Vec<Reach> {
    let mut out = Vec::new();
    match act {
        Act::Directory(path, directory) if directory.existed => {
            used.itself(path, 7, true, &mut out);
            if directory.mode & 0o1000 == 0 {
                out.push(entries(path));
            }
            out.push(open(path));
        }
        Act::File(path, file) if file.existed && file.kind != FileKind::Attribute => {
            used.itself(path, 6, true, &mut out);
        }
        Act::Acl(path, acl) => {
            used.itself(path, acl.bits, false, &mut out);
            let is_directory = used.directories.contains(path);
            if is_directory && acl.bits & 2 != 0 {
                out.push(entries(path));
            }
            if is_directory && acl.bits & 1 != 0 {
                out.push(open(path));
            }
        }
        Act::Join(group, membership) => {
            let words = membership.caution.unwrap_or("whatever it may on this machine");
            out.push(Reach::machine(format!("group {group}"), words, membership.grade));
        }
        Act::Capability(capability, grant) | Act::FileCapability(capability, grant) => match grant.danger {
            Some(danger) => {
                let root = danger.starts_with("amounts to root");
                let grade = if root { Grade::High } else { Grade::Medium };
                out.push(Reach::machine(capability.to_string(), danger, grade));
            }
            None if *capability == Capability::NET_BIND_SERVICE => {
                let words = format!("every port below {}", used.first_port);
                out.push(Reach::machine(capability.to_string(), words, Grade::Low));
            }
            None => {}
        },
        Act::Gain => {
            let (subject, words, grade) = GAINS;
            out.push(Reach::machine(subject, words, grade));
        }
        Act::Sysctl(name, sysctl) if name == PORT_SYSCTL => {
            let words = format!("every program binds ports from {} on", sysctl.value);
            out.push(Reach::machine(PORT_SYSCTL, words, Grade::Medium));
        }
        _ => {}
    }
    out
}
