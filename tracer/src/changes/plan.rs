//! What is to be done, looked at whole before any of it is.

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::changes::{Action, Change, Make};
use nrtrace_profiles::edit::Edit;
use nrtrace_profiles::text::letters;
use nrtrace_profiles::{Capability, RawText};

use super::hold::{Hold, bits, conflict, uid, wanted};
use super::node::{Kind, Node, NodeFacts};
use super::place::{self, DirectoryEntry};
use super::state::KeptPath;
use super::{Error, Job, Part, accounts, configuration, kernel};
use crate::acl::Tag;

/// What one profile wants of this machine.
#[derive(Debug, Default)]
pub struct Plan {
    /// By path without links, with what is there today.
    pub paths: BTreeMap<RawText, (Hold, Option<NodeFacts>)>,
    /// Groups that the user joins.
    pub joins: BTreeSet<String>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Modules.
    pub modules: BTreeSet<String>,
    /// Lines of configuration files, and whether they are so already.
    pub edits: BTreeMap<Edit, bool>,
    /// What is left out, in words.
    pub notes: Vec<String>,
    problems: Vec<String>,
    missing: BTreeSet<RawText>,
}

impl Plan {
    /// Looks at everything that is to be changed.
    ///
    /// # Errors
    /// [`Error::Refused`], with all reasons.
    pub fn make(job: &Job<'_>) -> Result<Self, Error> {
        let mut plan = Self::default();
        let part = job.selection.part;
        let others = job.changes.changes.iter().filter(|change| match part {
            Part::All => true,
            Part::Capabilities => false,
            Part::Configuration => matches!(change.action, Action::Edit(_)),
        });
        let on_files = job.changes.file_capabilities.iter().filter(|_| match part {
            Part::All => job.changes.on_file,
            Part::Capabilities => true,
            Part::Configuration => false,
        });
        for change in others.chain(on_files) {
            if let Err(error) = plan.take(change, job) {
                plan.problems.push(error.to_string());
            }
        }
        // Directories that were made for what is in them.
        for path in std::mem::take(&mut plan.missing) {
            let hold = Hold { make: Some(Kind::Directory), mode: Some(0o755), ..Hold::default() };
            plan.paths.entry(path).or_insert((hold, None));
        }
        plan.conflicts(job);
        plan.problems.sort();
        plan.problems.dedup();
        if plan.problems.is_empty() { Ok(plan) } else { Err(Error::Refused(plan.problems)) }
    }

    fn take(&mut self, change: &Change, job: &Job<'_>) -> Result<(), Error> {
        let changes = job.changes;
        match &change.action {
            // One without a name is no group of this machine's; whoever starts the program gives it by number.
            Action::Join { group } if group.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.notes
                    .push(format!("group {group} has no name here: it is given by who starts the program"));
            }
            Action::Join { group } => drop(self.joins.insert(group.clone())),
            Action::Directory { path, mode, group } => {
                let group = Some(group.clone().unwrap_or_else(|| changes.group.clone()));
                let user = Some(changes.user.clone());
                let hold =
                    Hold { make: Some(Kind::Directory), user, group, mode: Some(*mode), ..Hold::default() };
                self.want(path, hold, job)?;
            }
            Action::File { path, make, mode, group, existed, owned } => {
                let own = || (!existed).then(|| changes.group.clone());
                let make = match make {
                    Make::Regular => Some(Kind::Regular),
                    Make::Fifo => Some(Kind::Fifo),
                    Make::Nothing => None,
                };
                let user = owned.then(|| changes.user.clone());
                let group = group.clone().or_else(own);
                self.want(path, Hold { make, user, group, mode: *mode, ..Hold::default() }, job)?;
            }
            Action::Acl { path, bits } => {
                let acl = BTreeMap::from([(changes.user.clone(), *bits)]);
                self.want(path, Hold { acl, ..Hold::default() }, job)?;
            }
            Action::Sysctl { name, value } => {
                kernel::value(name).map_err(|reason| other(format!("kernel parameter {name}"), reason))?;
                self.sysctls.insert(name.clone(), value.clone());
            }
            Action::Module { name } if kernel::is_module(name) => drop(self.modules.insert(name.clone())),
            Action::Module { name } => return Err(other(name, "is no name of a module")),
            Action::Edit(edit) => drop(self.edits.insert(edit.clone(), configuration::look(edit)?)),
            Action::FileCapabilities { path, capabilities } => {
                self.carry(path.as_ref(), capabilities, job)?
            }
        }
        Ok(())
    }

    fn carry(
        &mut self,
        path: Option<&RawText>,
        capabilities: &BTreeSet<Capability>,
        job: &Job<'_>,
    ) -> Result<(), Error> {
        let Some(path) = path.or(job.selection.binary.as_ref()) else {
            let names: Vec<String> = capabilities.iter().map(Capability::to_string).collect();
            let names = names.join(", ");
            self.notes.push(format!(
                "{names}: the run did not tell which executable needs them: name it with --binary"
            ));
            return Ok(());
        };
        let fail = |reason: &str| Error::Path { path: path.clone(), reason: reason.into() };
        let place = self.want(path, Hold { capabilities: bits(capabilities), ..Hold::default() }, job)?;
        let node = place.node.ok_or_else(|| fail("is not there"))?;
        match node.facts().map_err(|errno| fail(&errno.to_string()))?.kind {
            Kind::Regular if node.is_script() => {
                Err(fail("is a script, on which file capabilities have no effect"))
            }
            Kind::Regular => Ok(()),
            _ => Err(fail("is not a regular file")),
        }
    }

    /// Adds what is wanted of a path, after a look at what is there.
    fn want(&mut self, path: &RawText, hold: Hold, job: &Job<'_>) -> Result<DirectoryEntry, Error> {
        let place = place::find(path)?;
        let fail = |reason: String| Error::Path { path: place.path.clone(), reason };
        let facts = match &place.node {
            Some(node) => Some(node.facts().map_err(|errno| fail(errno.to_string()))?),
            None => None,
        };
        match &facts {
            Some(facts) => {
                check(&hold, facts, place.exposed).map_err(fail)?;
                if let Some(program) = replaceable(&hold, facts, place.node.as_ref()) {
                    return Err(fail(format!(
                        "holds {program}, a program that the user could replace and others run: keep it elsewhere"
                    )));
                }
                if !hold.acl.is_empty() && place.node.as_ref().is_some_and(|node| !node.keeps_acls()) {
                    return Err(fail("its file system keeps no ACLs: let a group have the access".into()));
                }
                if let (Some(kept), Some(node)) = (job.state.paths.get(&place.path), &place.node)
                    && identify(kept, node, facts, place.exposed) == Identity::Stranger
                {
                    return Err(fail("something else than before is there now, of another user".into()));
                }
            }
            None if hold.make.is_none() && !self.paths.contains_key(&place.path) => {
                self.notes.push(format!("{} is not there: left out", place.path));
                return Ok(place);
            }
            None => self.missing.extend(place.missing.iter().cloned()),
        }
        self.missing.extend(above(&place.path).filter(|directory| {
            let kept = job.state.paths.get(directory).map(|kept| &kept.kept);
            kept.is_some_and(|kept| kept.before.is_none() && kept.holds.contains_key(&job.key))
        }));
        match self.paths.get_mut(&place.path) {
            Some((present, _)) => present.and(hold),
            None => drop(self.paths.insert(place.path.clone(), (hold, facts))),
        }
        Ok(place)
    }

    /// What others hold in another way.
    fn conflicts(&mut self, job: &Job<'_>) {
        for (path, (hold, _)) in &self.paths {
            let Some(kept) = job.state.paths.get(path) else { continue };
            let others = kept.kept.holds.iter().filter(|(key, _)| **key != job.key);
            for (key, other) in others {
                if let Some(what) = conflict(other, hold) {
                    self.problems.push(format!("{path}: is to {what} for {key:?}, which was applied here"));
                }
            }
        }
        for (name, value) in &self.sysctls {
            let Some(kept) = job.state.sysctls.get(name) else { continue };
            let others = kept.holds.iter().filter(|(key, _)| **key != job.key).map(|(_, value)| value);
            if kernel::together(name, others.chain([value])).is_none() {
                self.problems.push(format!(
                    "kernel parameter {name}: another value was applied here for another program"
                ));
            }
        }
    }

    /// What changes, a line for each, as in a difference; nothing for what is so already.
    pub fn lines(&self, job: &Job<'_>) -> Vec<String> {
        let changes = job.changes;
        let mut lines = Vec::new();
        if job.selection.part == Part::All {
            if !accounts::has_group(&changes.group) {
                lines.push(format!("+ group {}", changes.group));
            }
            if !accounts::has_user(&changes.user) {
                lines.push(format!("+ user {}", changes.user));
            }
        }
        let joins = self.joins.iter().filter(|group| !accounts::is_member(&changes.user, group));
        lines.extend(joins.map(|group| format!("+ {} in group {group}", changes.user)));
        lines.extend(self.paths.iter().filter_map(|(path, (hold, facts))| line(path, hold, facts.as_ref())));
        let edits = self.edits.iter().filter(|(_, done)| !**done);
        lines.extend(edits.map(|(edit, _)| configuration::line(edit)));
        for (name, value) in &self.sysctls {
            let now = kernel::value(name).unwrap_or_default();
            if now != kernel::plain(value) {
                lines.push(format!("~ {name}: {now} -> {value}"));
            }
        }
        let modules = self.modules.iter().filter(|name| !kernel::has_module(name));
        lines.extend(modules.map(|name| format!("+ module {name}")));
        lines.extend(self.notes.iter().map(|note| format!("({note})")));
        lines
    }
}

/// The directories above a path.
fn above(path: &RawText) -> impl Iterator<Item = RawText> {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    ends.map(|(end, _)| RawText::new(&bytes[..end]))
}

fn other(what: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Other { what: what.into(), reason: reason.into() }
}

/// How one path changes, as a person reads it: `+` for what is made, `~` for what becomes something else; nothing where all
/// is so already.
fn line(path: &RawText, hold: &Hold, facts: Option<&NodeFacts>) -> Option<String> {
    let Some(facts) = facts else { return Some(format!("+ {path}: {}", made(hold))) };
    let now = &facts.rights;
    let mut words = Vec::new();
    if let Some(user) = hold.user.as_ref().filter(|user| uid(user).ok() != Some(now.uid)) {
        words.push(format!("owner {} -> {user}", accounts::user_name(now.uid)));
    }
    if let Some(group) = hold.group.as_ref().filter(|group| accounts::gid(group) != Some(now.gid)) {
        words.push(format!("group {} -> {group}", accounts::group_name(now.gid)));
    }
    if let Some(mode) = hold.mode.filter(|mode| *mode != now.mode & 0o777) {
        words.push(format!("mode {:04o} -> {mode:04o}", now.mode & 0o777));
    }
    let has = |user: &str, bits: u32| {
        let entry = uid(user).ok().and_then(|uid| now.acl.as_ref()?.get(Tag::User(uid)));
        entry.is_some_and(|entry| u32::from(entry) & bits == bits)
    };
    let entries = hold.acl.iter().filter(|(user, bits)| !has(user, **bits));
    words.extend(entries.map(|(user, bits)| format!("ACL {user}:{}", letters(*bits))));
    if hold.capabilities != 0 && wanted(Some(facts), [hold].into_iter()).is_ok_and(|all| all != *now) {
        words.push(format!("capabilities {}", names(hold.capabilities)));
    }
    (!words.is_empty()).then(|| format!("~ {path}: {}", words.join(", ")))
}

/// What is made.
fn made(hold: &Hold) -> String {
    let mut words = Vec::new();
    if let Some(user) = &hold.user {
        let group = hold.group.as_ref().map(|group| format!(":{group}")).unwrap_or_default();
        words.push(format!("owner {user}{group}"));
    }
    words.extend(hold.mode.map(|mode| format!("mode {mode:04o}")));
    words.extend(hold.acl.iter().map(|(user, bits)| format!("ACL {user}:{}", letters(*bits))));
    if hold.capabilities != 0 {
        words.push(format!("capabilities {}", names(hold.capabilities)));
    }
    words.join(", ")
}

fn names(bits: u64) -> String {
    let held = Capability::all().filter(|capability| bits >> capability.number() & 1 == 1);
    held.map(|capability| capability.to_string()).collect::<Vec<_>>().join(", ")
}

/// A program of others in a directory that the user may change from now on.
fn replaceable(hold: &Hold, facts: &NodeFacts, node: Option<&Node>) -> Option<String> {
    if facts.kind != Kind::Directory || !hold.opens() {
        return None;
    }
    let name = hold.user.as_ref().or_else(|| hold.acl.keys().next())?;
    let user = uid(name).ok();
    if user == Some(facts.rights.uid) {
        return None;
    }
    node?.program_of_others(user).map(|name| name.to_string_lossy().into_owned())
}

/// Whether what is there can be changed so without harm to others.
pub fn check(hold: &Hold, facts: &NodeFacts, exposed: bool) -> Result<(), String> {
    if facts.kind == Kind::Link {
        return Err("is a symbolic link".into());
    }
    if hold.make.is_some_and(|kind| kind != facts.kind) {
        return Err("something else is there".into());
    }
    let runs_with_more = facts.kind == Kind::Regular
        && (facts.rights.mode & 0o6000 != 0 || facts.rights.capabilities.is_some());
    if hold.opens() && runs_with_more {
        return Err("runs with more rights than its caller has, and is not given away".into());
    }
    if exposed && facts.links > 1 && facts.kind != Kind::Directory {
        return Err(
            "has another name too (a hard link), in a place where others than root may make one".into()
        );
    }
    Ok(())
}

/// What something is to the one that was there when it was looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The same.
    Same,
    /// Put there by a user whom it was given to.
    Users,
    /// Put there by root or its owner of before, where nobody else could.
    Renewed,
    /// Put there by somebody else.
    Stranger,
}

/// Tells what is there now.
pub fn identify(kept: &KeptPath, node: &Node, facts: &NodeFacts, exposed: bool) -> Identity {
    let before = kept.kept.before.as_ref();
    let inode = kept.made.or(before.map(|before| before.inode));
    let uid = facts.rights.uid;
    // What was just made when nrtrace was killed: nobody has put anything into it yet.
    let is_new = || uid == nix::unistd::geteuid().as_raw() && node.is_empty() == Ok(true);
    if inode.map_or_else(is_new, |inode| inode == facts.inode) {
        return Identity::Same;
    }
    let holders = kept.kept.holds.values().flat_map(|hold| hold.user.iter().chain(hold.acl.keys()));
    let mut holders = holders.filter_map(|name| crate::accounts::user_by_name(name));
    let is_plain = matches!(facts.kind, Kind::Directory | Kind::Regular | Kind::Fifo)
        && (facts.kind == Kind::Directory || facts.links == 1);
    let of_kind = before.map(|before| before.kind).or(kept.kept.holds.values().find_map(|hold| hold.make));
    if !is_plain || of_kind.is_some_and(|kind| kind != facts.kind) {
        return Identity::Stranger;
    }
    if holders.any(|user| user.uid.as_raw() == uid) {
        return Identity::Users;
    }
    if !exposed && (uid == 0 || before.is_some_and(|before| before.rights.uid == uid)) {
        return Identity::Renewed;
    }
    Identity::Stranger
}
