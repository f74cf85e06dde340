//! What grants let the user do beyond what the program did.

use std::collections::BTreeMap;

use super::{FileKind, Grants, Method, PORT_SYSCTL, carriers};
use crate::event::FileType;
use crate::profile::Profile;
use crate::requirement::{Access, Need, Requirement, Severity};
use crate::text::letters;
use crate::{Capability, RawText};

/// Something that the user gains and the program did not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// On what.
    pub on: On,
    /// In a few words, without the subject. They may hold text from the tracee.
    pub words: String,
}

/// What a reach is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// An object itself: these permission bits, 4 read, 2 write, 1 search.
    Itself(RawText, u32),
    /// The entries of a directory: they can be removed and renamed, whoever owns them.
    Entries(RawText),
    /// What lies below a directory and is open to everybody there.
    Open(RawText),
    /// More than files that are known.
    Machine(String),
}

impl Reach {
    /// Subject and words.
    pub fn text(&self) -> String {
        let (On::Itself(path, _) | On::Entries(path) | On::Open(path)) = &self.on else {
            let On::Machine(subject) = &self.on else { return self.words.clone() };
            return format!("{subject}: {}", self.words);
        };
        format!("{path}: {}", self.words)
    }
}

/// What the program did with each path: the bits that it takes of the path itself.
struct Used<'a>(BTreeMap<&'a RawText, u32>);

impl<'a> Used<'a> {
    fn by(profile: &'a Profile) -> Self {
        let mut used: BTreeMap<&RawText, u32> = BTreeMap::new();
        let required = |requirement: &&Requirement| requirement.severity == Severity::Required;
        for requirement in profile.requirements.iter().filter(required) {
            let (Need::Path { path, access, .. } | Need::Device { path, access, .. }) = &requirement.need
            else {
                continue;
            };
            *used.entry(path).or_default() |= Access::bits(access);
            let changes = access.iter().any(|access| matches!(access, Access::Create | Access::Delete));
            if let Some(holder) = requirement.evidence.refused_at.as_ref().filter(|_| changes) {
                *used.entry(holder).or_default() |= 3;
            }
        }
        Self(used)
    }

    /// Those of the bits that the program did not use.
    fn beyond(&self, path: &RawText, bits: u32) -> u32 {
        bits & !self.0.get(path).copied().unwrap_or(0)
    }
}

/// All that is gained beyond the needs, in the order of the grants.
pub fn reach(profile: &Profile, grants: &Grants) -> Vec<Reach> {
    let used = Used::by(profile);
    let mut out = Vec::new();
    let mut add = |on, words: String| out.push(Reach { on, words });
    let itself = |path: &RawText, bits: u32, owns: bool, add: &mut dyn FnMut(On, String)| {
        let beyond = used.beyond(path, bits);
        let owner = if owns { ", and set its mode" } else { "" };
        if beyond != 0 || owns {
            let may = if beyond == 0 { String::new() } else { format!("{} as well", letters(beyond)) };
            let words = format!("{may}{owner}");
            add(On::Itself(path.clone(), beyond), words.trim_start_matches(", and ").to_owned());
        }
    };
    for (path, directory) in grants.directories.iter().filter(|(_, directory)| directory.existed) {
        itself(path, 7, true, &mut add);
        if directory.mode & 0o1000 == 0 {
            add(On::Entries(path.clone()), "remove and rename whatever lies in it".into());
        }
        add(On::Open(path.clone()), "reach what is open to everybody in it".into());
    }
    for (path, _) in grants.files.iter().filter(|(_, file)| file.existed && file.kind != FileKind::Attribute)
    {
        itself(path, 6, true, &mut add);
    }
    for (path, acl) in &grants.acls {
        itself(path, acl.bits, false, &mut add);
        if is_directory(profile, path) && acl.bits & 2 != 0 {
            add(On::Entries(path.clone()), "remove and rename whatever lies in it".into());
        }
        if is_directory(profile, path) && acl.bits & 1 != 0 {
            add(On::Open(path.clone()), "reach what is open to everybody in it".into());
        }
    }
    machine(profile, grants, &mut out);
    out
}

fn is_directory(profile: &Profile, path: &RawText) -> bool {
    profile.requirements.iter().any(|requirement| match &requirement.need {
        Need::Path { path: needed, file_type, .. } => {
            let at = requirement.evidence.refused_at.as_ref() == Some(path);
            let inode = requirement.evidence.refused_inode.as_ref().filter(|_| at);
            (needed == path && *file_type == FileType::Directory)
                || inode.is_some_and(|inode| inode.file_type == FileType::Directory)
        }
        _ => false,
    })
}

/// What is no matter of a known file.
fn machine(profile: &Profile, grants: &Grants, out: &mut Vec<Reach>) {
    let mut add = |subject: String, words: String| out.push(Reach { on: On::Machine(subject), words });
    for (group, membership) in &grants.groups {
        let words =
            membership.caution.map_or_else(|| "whatever it may on this machine".into(), str::to_owned);
        add(format!("group {group}"), words);
    }
    for (capability, grant) in &grants.capabilities {
        match grant.danger {
            Some(danger) => add(capability.to_string(), danger.to_owned()),
            None if *capability == Capability::NET_BIND_SERVICE => {
                let first = profile.run.unprivileged_port_start;
                add(capability.to_string(), format!("every port below {first}"));
            }
            None => {}
        }
    }
    if !grants.executes.gains.is_empty() {
        let words = "gives what its file says, within the bounding set, as it does to every user";
        add("any set-id program, and any with file capabilities".into(), words.into());
    }
    if let Some(sysctl) = grants.sysctls.get(PORT_SYSCTL).filter(|_| grants.port_method == Method::Sysctl) {
        add(PORT_SYSCTL.into(), format!("every program binds ports from {} on", sysctl.value));
    }
    if grants.on_file {
        for path in carriers(profile, grants, |_| true).files.keys() {
            add(path.to_text(), "whoever runs it has its capabilities".into());
        }
    }
}
