//! A recording judged anew for another user, from owner, group and mode of the files as they were recorded.
//!
//! What the run's own user made belongs to the new one, too. ACLs and security modules are in no recording, so every
//! access to a file that is judged here becomes a prediction.

use crate::calls::Want;
use crate::event::mode_allows;
use crate::event::{
    Asked, Check, Component, Credentials, Event, FileType, Identity, Inode, Object, Outcome, PathObject,
    Trace,
};
use crate::requirement::{Access, IdentityOperation};
use crate::{Capability, RawText};

use super::context::Context;
use super::files;
use super::noise::{self, Relevance};
use super::site::{self, CheckSite};

const READ: u32 = 4;
const WRITE: u32 = 2;
const PASS: u32 = 1;

/// The recording as if the program had run as `identity`.
pub fn rejudge(trace: &Trace, identity: &Identity) -> Trace {
    let mut out = trace.clone();
    let judge = Rejudgement { old: &trace.run.identity, new: identity, context: Context::new(trace) };
    for event in &mut out.events {
        judge.event(event);
    }
    out.run.identity = identity.clone();
    out.end.notes.push(format!(
        "judged anew for {} (uid {}) from a recording of {}: by owner, group and mode of the files as they were then, \
         without ACLs and security modules",
        identity.user, identity.uid, trace.run.identity.user
    ));
    out
}

struct Rejudgement<'a> {
    old: &'a Identity,
    new: &'a Identity,
    context: Context<'a>,
}

impl Rejudgement<'_> {
    fn event(&self, event: &mut Event) {
        self.give_identity(event);
        let before = event.clone();
        self.give_files(event);
        let kept: Vec<Check> =
            before.checks.iter().filter_map(|check| self.check(check, &before, event)).collect();
        let judged = kept.len() == before.checks.len() && before.checks.iter().any(is_of_files);
        event.checks = kept;
        if !judged && matches!(event.outcome, Outcome::Success { .. }) {
            let more = self.foretell(event);
            event.checks.extend(more);
        }
    }

    /// Taking the user's own identity, or giving it a file that is its own, takes no rights.
    fn give_identity(&self, event: &mut Event) {
        let credentials = &mut event.credentials;
        if credentials.uid == self.old.uid {
            *credentials = Credentials { uid: self.new.uid, gid: self.new.gid };
        }
        let own = match &event.object {
            Object::Ids { ids } => {
                let all = |own: u32| ids.iter().all(|asked| [own, u32::MAX].contains(asked));
                match event.call.operation().identity() {
                    Some(IdentityOperation::SetUser) => all(self.new.uid),
                    Some(IdentityOperation::SetGroup) => all(self.new.gid),
                    Some(IdentityOperation::SetGroups) => ids.iter().all(|id| *id == self.new.gid),
                    Some(IdentityOperation::Chown | IdentityOperation::BeRoot) | None => false,
                }
            }
            Object::Gift { path, uid, gid } => {
                let is_own = path.inode.as_ref().is_some_and(|inode| self.owns(&path.path, inode));
                is_own
                    && [self.new.uid, u32::MAX].contains(uid)
                    && (*gid == u32::MAX || self.new.has_group(*gid))
            }
            _ => false,
        };
        let root = self.new.uid == 0;
        if (own || root) && event.outcome == Outcome::Answered {
            event.outcome = Outcome::Success { value: 0 };
        }
        if own || root {
            let taken = [Capability::SETUID, Capability::SETGID, Capability::CHOWN];
            event.checks.retain(|check| !taken.contains(&check.capability));
        }
    }

    /// What the old user had made is the new one's.
    fn give_files(&self, event: &mut Event) {
        match &mut event.object {
            Object::Path(path) | Object::Program { path, .. } | Object::Gift { path, .. } => self.give(path),
            Object::TwoPaths { from, to } => {
                self.give(from);
                self.give(to);
            }
            Object::Socket(socket) => socket.path.iter_mut().for_each(|path| self.give(path)),
            Object::Nothing | Object::Ids { .. } => {}
        }
    }

    fn give(&self, path: &mut PathObject) {
        let directory = files::parent(&path.path);
        for (inode, name) in [(&mut path.inode, &path.path), (&mut path.parent, &directory)] {
            if let Some(inode) = inode.as_mut().filter(|inode| self.is_made(name, inode)) {
                inode.uid = self.new.uid;
                inode.gid = self.new.gid;
                inode.user = Some(self.new.user.clone());
                inode.group = Some(self.new.group.clone());
            }
        }
    }

    /// Whether the run's user had made it. A user that existed before may have owned it before, too.
    fn is_made(&self, path: &RawText, inode: &Inode) -> bool {
        let made = || self.context.has_made(path) || self.context.is_inside_made(path);
        inode.uid == self.old.uid && (!self.old.exists || made())
    }

    fn owns(&self, path: &RawText, inode: &Inode) -> bool {
        inode.uid == self.new.uid || self.is_made(path, inode)
    }

    /// Whether the new user has these permissions, as generic_permission() decides it without ACLs.
    fn may(&self, path: &RawText, inode: &Inode, bits: u32) -> bool {
        self.new.uid == 0
            || mode_allows(inode.mode, bits, self.owns(path, inode), self.new.has_group(inode.gid))
    }

    /// The check as the new user would meet it: not at all, as it was, or as a prediction.
    fn check(&self, check: &Check, before: &Event, now: &Event) -> Option<Check> {
        let site = site::site(before, check);
        if !is_of_files(check) || noise::noise(before, check, site) != Relevance::Real {
            return Some(check.clone());
        }
        let (asked, bits) = self.question(check, before, site)?;
        let component = check.component.clone().or_else(|| implied(now, asked));
        let Some(component) = component else { return Some(check.clone()) };
        let owns = self.new.uid == 0 || self.owns(&component.path, &component.inode);
        let allowed = match site {
            CheckSite::Own | CheckSite::Chown | CheckSite::Sticky => owns,
            CheckSite::Touch => owns || self.may(&component.path, &component.inode, WRITE),
            _ => self.may(&component.path, &component.inode, bits),
        };
        let foretold = Check { predicted: Some(asked), frames: Vec::new().into(), ..check.clone() };
        (!allowed).then_some(Check { component: Some(component), ..foretold })
    }

    /// What a check asks for, and which permissions answer it.
    fn question(&self, check: &Check, event: &Event, site: CheckSite) -> Option<(Asked, u32)> {
        Some(match site {
            CheckSite::Search => (Asked::Search, PASS),
            CheckSite::CreateIn => (Asked::Create, WRITE | PASS),
            CheckSite::DeleteIn => (Asked::Delete, WRITE | PASS),
            CheckSite::EntryIn => (Asked::Entry, WRITE | PASS),
            CheckSite::Sticky => (Asked::Sticky, 0),
            CheckSite::File => {
                let file_type =
                    check.component.as_ref().map_or(FileType::File, |found| found.inode.file_type);
                let pure = check.capability == Capability::DAC_READ_SEARCH;
                (Asked::File, permissions(event, file_type, pure))
            }
            _ => (Asked::Other, READ | WRITE),
        })
    }

    /// The checks that a call would meet which the old user was free to make.
    fn foretell(&self, event: &Event) -> Vec<Check> {
        event
            .call
            .wants()
            .into_iter()
            .flatten()
            .flat_map(|(part, want)| {
                let object =
                    part.of(&event.object).filter(|path| path.resolved && files::is_known(&path.path));
                object.map(|object| self.refusals(event, object, want)).unwrap_or_default()
            })
            .collect()
    }

    /// What owner and mode have against this being done with one file.
    fn refusals(&self, event: &Event, object: &PathObject, want: Want) -> Vec<Check> {
        let parent =
            object.parent.clone().map(|inode| Component { path: files::parent(&object.path), inode: *inode });
        let itself = object.inode.clone().map(|inode| Component { path: object.path.clone(), inode: *inode });
        let may = |at: &Component, bits: u32| self.may(&at.path, &at.inode, bits);
        let owns = |at: &Component| self.new.uid == 0 || self.owns(&at.path, &at.inode);
        let unless = |at: &Option<Component>, asked: Asked, holds: &dyn Fn(&Component) -> bool| {
            at.clone().filter(|at| !holds(at)).map(|at| predicted(asked, at))
        };
        let entry = |asked| unless(&parent, asked, &|at| may(at, WRITE | PASS));
        let bits = |bits: u32| unless(&itself, Asked::File, &move |at| may(at, bits));
        let owner = |asked, at: &Option<Component>, holds: &dyn Fn(&Component) -> bool| {
            unless(at, asked, holds).map(|check| Check { capability: Capability::FOWNER, ..check })
        };
        // A file that was opened before is passed no way to.
        let search =
            unless(&parent, Asked::Search, &|at| object.given.as_bytes().is_empty() || may(at, PASS));
        // Who owns the directory, or what lies there, removes it from a sticky one.
        let sticky = || {
            let keeps = |at: &Component| at.inode.mode & 0o1000 != 0 && !owns(at);
            let others = itself.as_ref().is_some_and(|at| !owns(at));
            owner(Asked::Sticky, &parent, &|at| !(others && keeps(at)))
        };
        let made = self.context.has_made(&object.path);
        let file_type = files::file_type(event, object);
        match want {
            Want::Create { .. } => vec![entry(Asked::Create)],
            Want::Delete(_) => vec![entry(Asked::Delete), sticky()],
            Want::Replace(_) => vec![entry(Asked::Create), if made { None } else { sticky() }],
            Want::Open(_) if made && files::may_create(event) => vec![entry(Asked::Create)],
            Want::Open(flags) if files::is_temporary(flags as u64) => {
                vec![search, unless(&itself, Asked::Entry, &|at| may(at, WRITE | PASS))]
            }
            Want::Open(_)
            | Want::Access(_)
            | Want::Execute
            | Want::Search
            | Want::Connect
            | Want::Truncate => {
                vec![search, bits(permissions(event, file_type, true))]
            }
            Want::Link => vec![search, unless(&itself, Asked::File, &|at| owns(at) || may(at, READ | WRITE))],
            Want::Own => vec![search, owner(Asked::Other, &itself, &owns)],
            Want::Touch => vec![search, owner(Asked::Other, &itself, &|at| owns(at) || may(at, WRITE))],
            Want::Reach => vec![search],
        }
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Whether a check is decided by owner and mode.
fn is_of_files(check: &Check) -> bool {
    let of_owner = [Capability::FOWNER, Capability::CHOWN].contains(&check.capability);
    (check.capability.is_dac() || of_owner) && !check.foreign && !check.child_namespace
}

/// The permission bits that a call asks of the file itself.
fn permissions(event: &Event, file_type: FileType, pure_read: bool) -> u32 {
    files::access(event, file_type, pure_read).into_iter().fold(0, |bits, access| {
        bits | match access {
            Access::Read => READ,
            Access::Execute | Access::Search => PASS,
            _ => WRITE,
        }
    })
}

/// The file that a question without a component is about.
fn implied(event: &Event, asked: Asked) -> Option<Component> {
    let path = match asked {
        Asked::Create => files::made(event),
        _ => files::of(&event.object).0,
    };
    let path = path.filter(|path| path.resolved && files::is_known(&path.path))?;
    match asked {
        Asked::Search | Asked::Create | Asked::Delete => {
            let inode = path.parent.clone()?;
            Some(Component { path: files::parent(&path.path), inode: *inode })
        }
        _ => Some(Component { path: path.path.clone(), inode: *path.inode.clone()? }),
    }
}

fn predicted(asked: Asked, component: Component) -> Check {
    Check {
        capability: Capability::DAC_OVERRIDE,
        granted: true,
        frames: Vec::new().into(),
        component: Some(component),
        foreign: false,
        not_audited: false,
        child_namespace: false,
        predicted: Some(asked),
    }
}
