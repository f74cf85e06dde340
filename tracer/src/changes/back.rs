//! Restores the machine: what one profile gives up, others may still hold.

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::RawText;
use nrtrace_profiles::edit::Edit;
use rustix::fs::{AtFlags, unlinkat};

use super::carry::fail;
use super::hold::Hold;
use super::node::{Kind, Node, NodeFacts};
use super::place::{self, DirectoryEntry};
use super::plan::{Identity, identify};
use super::state::{Kept, KeptPath};
use super::{Error, Job, Part, accounts, kernel};

impl Job<'_> {
    pub(super) fn take_back(&mut self) -> Result<(), Error> {
        let stuck = self.release(Held::of(self))?;
        self.store.save(&self.state)?;
        if stuck.is_empty() { Ok(()) } else { Err(Error::Stuck(stuck)) }
    }

    /// Gives up what is held, the last first; what could not be restored, in words, stays held.
    pub(super) fn release(&mut self, held: Held) -> Result<Vec<String>, Error> {
        let mut stuck = Stuck::default();
        for name in &held.modules {
            stuck.note(self.release_module(name))?;
        }
        for name in &held.sysctls {
            stuck.note(self.release_parameter(name))?;
        }
        let mut left = false;
        for path in held.paths.iter().rev() {
            // What holds something that is still held is not removed.
            if stuck.below(path) {
                stuck.paths.insert(path.clone());
                continue;
            }
            let released = self.release_path(path);
            stuck.paths.extend(released.is_err().then(|| path.clone()));
            left |= !matches!(released, Ok(Rest::Nothing));
            stuck.note(released.map(drop))?;
        }
        // Once the directories are root's again.
        for edit in &held.edits {
            stuck.note(self.release_edit(edit))?;
        }
        for name in &held.members {
            stuck.note(self.release_member(name))?;
        }
        for name in &held.users {
            let released = self.release_user(name, left);
            left |= *released.as_ref().unwrap_or(&true);
            stuck.note(released.map(drop))?;
        }
        for name in &held.groups {
            stuck.note(self.release_group(name, left))?;
        }
        Ok(stuck.reasons)
    }

    /// What of the user's is still there. What holds data is held on to: once it is empty, it can be taken back.
    fn release_path(&mut self, path: &RawText) -> Result<Rest, Error> {
        let key = self.key.clone();
        let Some(kept) = self.state.paths.get(path).cloned() else { return Ok(Rest::Nothing) };
        let mut rest = kept.clone();
        if self.selection.part == Part::Capabilities {
            rest.kept.holds.entry(key.clone()).and_modify(|hold| hold.capabilities = 0);
            rest.kept.holds.retain(|of, hold| *of != key || *hold != Hold::default());
        } else {
            rest.kept.holds.remove(&key);
        }
        let left = if rest.kept.holds.is_empty() {
            self.restore(path, &kept)?
        } else {
            let own = self.state.paths.insert(path.clone(), rest.clone());
            let established = self.establish(path);
            if established.is_err()
                && let Some(own) = own
            {
                self.state.paths.insert(path.clone(), own);
            }
            return established.map(|()| Rest::Nothing);
        };
        if left != Rest::Data {
            self.state.paths.remove(path);
        }
        Ok(left)
    }

    /// Makes a path what it was before anybody held it.
    fn restore(&mut self, path: &RawText, kept: &KeptPath) -> Result<Rest, Error> {
        let fail = |reason: String| Error::Path { path: path.clone(), reason };
        let place = match place::find(path) {
            Ok(place) if place.path == *path => place,
            Ok(_) | Err(Error::Path { .. }) => {
                self.tell(format!("{path} is reached through a link by now: left as it is"));
                return Ok(Rest::Another);
            }
            Err(error) => return Err(error),
        };
        let before = kept.kept.before.as_ref();
        let Some(node) = &place.node else {
            if before.is_some() {
                self.tell(format!("{path} is gone"));
            }
            return Ok(Rest::Nothing);
        };
        let facts = node.facts().map_err(|errno| fail(errno.to_string()))?;
        match (identify(kept, node, &facts, place.exposed), before) {
            (Identity::Stranger, _) => {
                self.tell(format!("{path} is something else by now: left as it is"));
                Ok(Rest::Another)
            }
            (_, None) => self.remove(&place, node, &facts),
            (Identity::Renewed, Some(_)) => {
                self.tell(format!("{path} was renewed since: left as it is"));
                Ok(Rest::Nothing)
            }
            (identity, Some(before)) => {
                let mut rights = before.rights.clone();
                if identity == Identity::Users {
                    // What the user put there runs with nobody else's rights.
                    rights.mode &= 0o1777;
                    rights.capabilities = None;
                }
                if facts.rights != rights {
                    self.step()?;
                    node.settle(&rights).map_err(|errno| fail(errno.to_string()))?;
                }
                Ok(Rest::Nothing)
            }
        }
    }

    /// Removes what was made, unless it holds something: more than the number of a process that is gone.
    fn remove(&mut self, place: &DirectoryEntry, node: &Node, facts: &NodeFacts) -> Result<Rest, Error> {
        let path = &place.path;
        let fail = |reason: String| Error::Path { path: path.clone(), reason };
        let Some((directory, name)) = &place.entry else { return Ok(Rest::Nothing) };
        let spent = node.is_empty().and_then(|empty| Ok(empty || node.names_the_dead()?));
        if !spent.map_err(|errno| fail(errno.to_string()))? {
            self.tell(format!("{path} is not empty: left"));
            return Ok(Rest::Data);
        }
        let flags = if facts.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        self.step()?;
        unlinkat(directory, name, flags).map_err(|errno| fail(errno.to_string()))?;
        Ok(Rest::Nothing)
    }

    fn release_parameter(&mut self, name: &str) -> Result<(), Error> {
        let Some(kept) = self.state.sysctls.get_mut(name) else { return Ok(()) };
        let held = kernel::together(name, kept.holds.values());
        kept.holds.remove(&self.key);
        let rest = kernel::together(name, kept.holds.values());
        let back = rest.or_else(|| kept.before.clone());
        let now = kernel::value(name).ok();
        if now != held.as_deref().map(kernel::plain) {
            self.tell(format!("{name} was set to something else since: left as it is"));
        } else if let Some(back) = back {
            self.step()?;
            kernel::set(name, &back).map_err(|reason| fail(format!("kernel parameter {name}"), reason))?;
        }
        self.state.sysctls.retain(|_, kept| !kept.holds.is_empty());
        Ok(())
    }

    fn release_module(&mut self, name: &str) -> Result<(), Error> {
        let Some(kept) = self.state.modules.get_mut(name) else { return Ok(()) };
        kept.holds.remove(&self.key);
        if kept.holds.is_empty() && kept.before.is_none() && kernel::has_module(name) {
            self.step()?;
            if kernel::unload(name).is_err() {
                self.tell(format!("the module {name} is in use: left"));
            }
        }
        self.state.modules.retain(|_, kept| !kept.holds.is_empty());
        Ok(())
    }

    fn release_member(&mut self, name: &str) -> Result<(), Error> {
        let Some(kept) = self.state.members.get_mut(name) else { return Ok(()) };
        let Some((user, group)) = name.split_once(' ') else { return Ok(()) };
        if kept.holds.len() == 1 && kept.before.is_none() && accounts::is_member(user, group) {
            self.step()?;
            accounts::leave(user, group).map_err(|reason| fail(format!("{user} in {group}"), reason))?;
        }
        release(&mut self.state.members, name, &self.key);
        Ok(())
    }

    /// Whether it is left, and held on to.
    fn release_user(&mut self, name: &str, left: bool) -> Result<bool, Error> {
        let Some(kept) = self.state.users.get(name) else { return Ok(false) };
        if kept.holds.len() == 1 && kept.before.is_none() && accounts::has_user(name) {
            let owned = accounts::owned(name);
            if left || owned.is_some() {
                let owned = owned.map_or_else(|| "what is left".into(), |path| path.display().to_string());
                self.tell(format!("the user {name} is left: it owns {owned}; undone once that is gone"));
                return Ok(true);
            }
            let keep = self.state.groups.get(name).is_some_and(|group| group.before.is_some());
            self.step()?;
            accounts::remove_user(name, keep).map_err(|reason| fail(format!("user {name}"), reason))?;
        }
        release(&mut self.state.users, name, &self.key);
        Ok(false)
    }

    fn release_group(&mut self, name: &str, left: bool) -> Result<(), Error> {
        let Some(kept) = self.state.groups.get(name) else { return Ok(()) };
        let is_ours = kept.holds.len() == 1 && kept.before.is_none();
        if is_ours && left {
            return Ok(());
        }
        if is_ours && accounts::has_group(name) {
            self.step()?;
            if let Err(reason) = accounts::remove_group(name) {
                self.tell(format!("the group {name} is left: {reason}"));
            }
        }
        release(&mut self.state.groups, name, &self.key);
        Ok(())
    }
}

fn release<B>(of: &mut BTreeMap<String, Kept<B, ()>>, name: &str, key: &str) {
    if let Some(kept) = of.get_mut(name) {
        kept.holds.remove(key);
    }
    of.retain(|_, kept| !kept.holds.is_empty());
}

/// What of a path is still there once it has been given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing of the user's.
    Nothing,
    /// Something else, that is not nrtrace's to touch.
    Another,
    /// What the program wrote.
    Data,
}

/// What could not be restored.
#[derive(Default)]
struct Stuck {
    reasons: Vec<String>,
    paths: BTreeSet<RawText>,
}

impl Stuck {
    fn note(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => self.reasons.push(error.to_string()),
            Ok(()) => {}
        }
        Ok(())
    }

    fn below(&self, directory: &RawText) -> bool {
        let start = RawText::new([directory.as_bytes(), b"/"].concat());
        self.paths.range(&start..).next().is_some_and(|path| path.as_bytes().starts_with(start.as_bytes()))
    }
}

/// The names of what a profile holds.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Held {
    pub paths: BTreeSet<RawText>,
    pub groups: BTreeSet<String>,
    pub users: BTreeSet<String>,
    pub members: BTreeSet<String>,
    pub sysctls: BTreeSet<String>,
    pub modules: BTreeSet<String>,
    pub edits: BTreeSet<Edit>,
}

impl Held {
    pub fn of(job: &Job<'_>) -> Self {
        let (state, key) = (&job.state, &job.key);
        let held = |path: &KeptPath| {
            let hold = path.kept.holds.get(key);
            hold.is_some_and(|hold| job.selection.part != Part::Capabilities || hold.capabilities != 0)
        };
        let paths = state.paths.iter().filter(|(_, path)| held(path)).map(|(path, _)| path.clone()).collect();
        let of_key = state.edits.iter().filter(|kept| kept.kept.holds.contains_key(key));
        let edits = of_key.map(|kept| kept.edit.clone()).collect();
        match job.selection.part {
            Part::All => {}
            Part::Capabilities => return Self { paths, ..Self::default() },
            Part::Configuration => return Self { edits, ..Self::default() },
        }
        Self {
            paths,
            groups: names(&state.groups, key),
            users: names(&state.users, key),
            members: names(&state.members, key),
            sysctls: names(&state.sysctls, key),
            modules: names(&state.modules, key),
            edits,
        }
    }
}

fn names<B, H>(of: &BTreeMap<String, Kept<B, H>>, key: &str) -> BTreeSet<String> {
    of.iter().filter(|(_, kept)| kept.holds.contains_key(key)).map(|(name, _)| name.clone()).collect()
}

/// What giving that up changes, a line each; nothing for what was there before and stays.
pub(super) fn lines(job: &Job<'_>, held: &Held) -> Vec<String> {
    let before = |path: &RawText| match job.state.paths.get(path).and_then(|path| path.kept.before.as_ref()) {
        Some(NodeFacts { rights, .. }) => {
            let (user, group) = (accounts::user_name(rights.uid), accounts::group_name(rights.gid));
            format!("~ {path}: as before, owner {user}:{group}, mode {:04o}", rights.mode)
        }
        None => format!("- {path}: removed, unless it holds data"),
    };
    let state = &job.state;
    let paths = held.paths.iter().map(before);
    let edits = held.edits.iter().map(|edit| format!("~ {}: `{}` as before", edit.file, edit.first_line()));
    let sysctls = held.sysctls.iter().map(|name| format!("~ {name}: as before"));
    let modules = gone("module", &held.modules, &state.modules);
    let members = gone("membership", &held.members, &state.members);
    let users = gone("user", &held.users, &state.users);
    let groups = gone("group", &held.groups, &state.groups);
    paths.chain(edits).chain(sysctls).chain(modules).chain(members).chain(users).chain(groups).collect()
}

/// What was not there before anybody held it, and is held by nobody else.
fn gone<'a, B>(
    what: &'a str,
    names: &'a BTreeSet<String>,
    of: &'a BTreeMap<String, Kept<B, ()>>,
) -> impl Iterator<Item = String> + 'a {
    let goes =
        |name: &&String| of.get(*name).is_some_and(|kept| kept.before.is_none() && kept.holds.len() == 1);
    names.iter().filter(goes).map(move |name| format!("- {what} {name}"))
}
