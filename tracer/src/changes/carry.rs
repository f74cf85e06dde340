//! Changes the machine.

use nrtrace_profiles::RawText;

use super::back::Held;
use super::hold::wanted;
use super::node::{Kind, Node, Rights};
use super::place::{self, DirectoryEntry};
use super::plan::{Identity, Plan, check, identify};
use super::state::{Kept, KeptPath, Present};
use super::{Error, Job, Part, accounts, kernel};

impl Job<'_> {
    /// Writes down what there was and who holds it now, and then makes it so.
    pub(super) fn carry_out(&mut self, plan: Plan) -> Result<(), Error> {
        self.notes.extend(plan.notes.iter().cloned());
        let stale = self.stale(&plan);
        self.hold(&plan)?;
        self.store.save(&self.state)?;
        // While the directories are still root's.
        for edit in plan.edits.keys() {
            self.edit(edit)?;
        }
        if self.selection.part == Part::All {
            self.accounts(&plan)?;
        }
        for path in plan.paths.keys() {
            self.establish(path)?;
        }
        for name in plan.sysctls.keys() {
            self.set_parameter(name)?;
        }
        for name in plan.modules.iter().filter(|name| !kernel::has_module(name)) {
            self.step()?;
            kernel::load(name).map_err(|reason| fail(format!("module {name}"), reason))?;
        }
        let stuck = self.release(stale)?;
        self.store.save(&self.state)?;
        if stuck.is_empty() { Ok(()) } else { Err(Error::Stuck(stuck)) }
    }

    /// Enters what the plan holds, with what there is before it.
    fn hold(&mut self, plan: &Plan) -> Result<(), Error> {
        let (key, changes) = (self.key.clone(), self.changes);
        let all = self.selection.part == Part::All;
        let groups = plan.joins.iter().chain([&changes.group].into_iter().filter(|_| all));
        for group in groups {
            let before = || Present::when(accounts::has_group(group));
            let kept = self.state.groups.entry(group.clone()).or_insert_with(|| Kept::new(before()));
            kept.holds.insert(key.clone(), ());
        }
        if all {
            let before = || Present::when(accounts::has_user(&changes.user));
            let kept = self.state.users.entry(changes.user.clone()).or_insert_with(|| Kept::new(before()));
            kept.holds.insert(key.clone(), ());
        }
        for group in &plan.joins {
            let before = || Present::when(accounts::is_member(&changes.user, group));
            let name = format!("{} {group}", changes.user);
            let kept = self.state.members.entry(name).or_insert_with(|| Kept::new(before()));
            kept.holds.insert(key.clone(), ());
        }
        for (path, (hold, facts)) in &plan.paths {
            let place = place::find(path)?;
            let fresh = || KeptPath { kept: Kept::new(facts.clone()), made: None };
            let kept = self.state.paths.entry(path.clone()).or_insert_with(fresh);
            // What had been made is gone, so what will be is told by being new, until that is written down.
            if place.node.is_none() {
                kept.made = None;
            }
            // What root has put there since is what there was before.
            if let (Some(now), Some(node)) = (facts, &place.node)
                && identify(kept, node, now, place.exposed) == Identity::Renewed
            {
                kept.kept.before.clone_from(facts);
                kept.made = None;
            }
            if all {
                kept.kept.holds.insert(key.clone(), hold.clone());
            } else {
                kept.kept.holds.entry(key.clone()).or_default().capabilities = hold.capabilities;
            }
        }
        for (edit, done) in &plan.edits {
            self.hold_edit(edit, *done);
        }
        for (name, value) in &plan.sysctls {
            let before =
                kernel::value(name).map_err(|reason| fail(format!("kernel parameter {name}"), reason))?;
            let kept = self.state.sysctls.entry(name.clone()).or_insert_with(|| Kept::new(Some(before)));
            kept.holds.insert(key.clone(), value.clone());
        }
        for name in &plan.modules {
            let before = || Present::when(kernel::has_module(name));
            let kept = self.state.modules.entry(name.clone()).or_insert_with(|| Kept::new(before()));
            kept.holds.insert(key.clone(), ());
        }
        Ok(())
    }

    fn accounts(&mut self, plan: &Plan) -> Result<(), Error> {
        let changes = self.changes;
        let own = [(&changes.group, changes.gid)].into_iter();
        for (group, gid) in own.chain(plan.joins.iter().map(|group| (group, None))) {
            if !accounts::has_group(group) {
                self.step()?;
                accounts::make_group(group, gid).map_err(|reason| fail(format!("group {group}"), reason))?;
            }
        }
        let user = &changes.user;
        if !accounts::has_user(user) {
            self.step()?;
            accounts::make_user(user, &changes.group, changes.uid, changes.home())
                .map_err(|reason| fail(format!("user {user}"), reason))?;
        }
        for group in plan.joins.iter().filter(|group| !accounts::is_member(user, group)) {
            self.step()?;
            accounts::join(user, group).map_err(|reason| fail(format!("{user} in {group}"), reason))?;
        }
        Ok(())
    }

    /// Makes a path what all who hold it want.
    pub(super) fn establish(&mut self, path: &RawText) -> Result<(), Error> {
        let fail = |reason: String| Error::Path { path: path.clone(), reason };
        let Some(kept) = self.state.paths.get(path).cloned() else { return Ok(()) };
        let place = place::find(path)?;
        if place.path != *path {
            return Err(fail(format!("is {} by now", place.path)));
        }
        let holds = kept.kept.holds.values();
        let make = holds.clone().find_map(|hold| hold.make);
        let rights = wanted(kept.kept.before.as_ref(), holds).map_err(fail)?;
        let node = match (&place.node, make) {
            (Some(_), _) => place.node.as_ref(),
            (None, None) => {
                self.tell(format!("{path} is gone: left out"));
                return Ok(());
            }
            (None, Some(kind)) => return self.make(&place, kind, &rights),
        };
        let Some(node) = node else { return Ok(()) };
        let facts = node.facts().map_err(|errno| fail(errno.to_string()))?;
        let hold = kept.kept.holds.get(&self.key).cloned().unwrap_or_default();
        check(&hold, &facts, place.exposed).map_err(fail)?;
        match identify(&kept, node, &facts, place.exposed) {
            Identity::Stranger => {
                return Err(fail("something else than before is there now, of another user".into()));
            }
            // It was made by one that was killed before that was written down, and is to be known when it is full.
            Identity::Same if kept.kept.before.is_none() && kept.made.is_none() => {
                if let Some(kept) = self.state.paths.get_mut(path) {
                    kept.made = Some(facts.inode);
                }
                self.store.save(&self.state)?;
            }
            Identity::Same | Identity::Users | Identity::Renewed => {}
        }
        if facts.rights != rights {
            self.step()?;
            node.settle(&rights).map_err(|errno| fail(errno.to_string()))?;
        }
        Ok(())
    }

    fn make(&mut self, place: &DirectoryEntry, kind: Kind, rights: &Rights) -> Result<(), Error> {
        let fail = |reason: String| Error::Path { path: place.path.clone(), reason };
        let Some((directory, name)) = &place.entry else {
            return Err(fail("its directory is not there".into()));
        };
        self.step()?;
        let node = Node::make(directory, name, kind).map_err(|errno| fail(errno.to_string()))?;
        let facts = node.facts().map_err(|errno| fail(errno.to_string()))?;
        if let Some(kept) = self.state.paths.get_mut(&place.path) {
            kept.made = Some(facts.inode);
        }
        self.store.save(&self.state)?;
        self.step()?;
        // What is made in a directory with a default ACL begins with that, and is to have what was written alone.
        node.settle(rights).map_err(|errno| fail(errno.to_string()))
    }

    fn set_parameter(&mut self, name: &str) -> Result<(), Error> {
        let value = self.state.sysctls.get(name).and_then(|kept| kernel::together(name, kept.holds.values()));
        let Some(value) = value else { return Ok(()) };
        self.step()?;
        kernel::set(name, &value).map_err(|reason| fail(format!("kernel parameter {name}"), reason))
    }

    /// Paths that an earlier profile of the same program held, and this one does not.
    pub(super) fn stale(&self, plan: &Plan) -> Held {
        let mut held = Held::of(self);
        if self.selection.part != Part::All {
            return Held::default();
        }
        held.paths.retain(|path| !plan.paths.contains_key(path));
        let joined = |member: &String| plan.joins.iter().any(|group| member.ends_with(&format!(" {group}")));
        held.members.retain(|member| !joined(member));
        held.groups.retain(|group| *group != self.changes.group && !plan.joins.contains(group));
        held.users.clear();
        held.sysctls.retain(|name| !plan.sysctls.contains_key(name));
        held.modules.retain(|name| !plan.modules.contains(name));
        held.edits.retain(|edit| !plan.edits.contains_key(edit));
        held
    }
}

pub(super) fn fail(what: String, reason: String) -> Error {
    Error::Other { what, reason }
}
