//! The volumes of a pod: an empty directory, writable for the service's group, wherever it makes something.
//!
//! In a container nobody else relies on `/run` or `/var/log`, so unlike on a host, they are given as a whole.

use std::collections::BTreeMap;

use crate::RawText;
use crate::grants::{Class, File, FileKind, Grants, Unmet, Why};
use crate::profile::Profile;
use crate::requirement::{Access, Need, Severity};

/// A directory to mount an empty volume on.
pub(super) struct Volume {
    /// What for.
    pub(super) why: Why,
    /// Whether it is kept in memory.
    pub(super) memory: bool,
    /// Whether the image has something there that the program uses.
    pub(super) hides: bool,
    /// A word for its name.
    pub(super) word: &'static str,
}

/// The volumes, and what they do not do.
#[derive(Default)]
pub(super) struct Volumes {
    /// By mount path.
    pub(super) mounts: BTreeMap<RawText, Volume>,
    /// Directories and files that the image itself has to hold.
    pub(super) in_the_image: Vec<RawText>,
    /// Needs that no volume can meet since no `mountPath` holds their name.
    pub(super) unnameable: Vec<Why>,
    /// Needs that cannot be granted on a host, but here.
    pub(super) met: Vec<Unmet>,
}

/// Trees that hold a service's own data, with the number of components from which on they are one service's.
const OWN: &[(&str, usize)] = &[
    ("/run", 1),
    ("/tmp", 1),
    ("/var/tmp", 2),
    ("/var/log", 2),
    ("/var/lib", 3),
    ("/var/cache", 3),
    ("/var/spool", 3),
    ("/var/opt", 3),
    ("/srv", 2),
    ("/opt", 2),
];

/// Plans the volumes for what is to be made, and for what only a host has to refuse.
pub(super) fn plan(profile: &Profile, grants: &Grants) -> Volumes {
    let mut volumes = Volumes::default();
    for (path, directory) in &grants.directories {
        if directory.class == Class::Config {
            volumes.in_the_image.push(path.clone());
        } else {
            volumes.add(path.clone(), directory.why.clone(), directory.class, directory.contents);
        }
    }
    for (path, file) in &grants.files {
        let holder = mounted(&parent(path));
        let needed = |other: &RawText| is_below(other, &holder) && other != path;
        let hides = grants.acls.keys().any(needed)
            || grants.files.iter().any(|(other, file)| has_contents(other, file) && needed(other));
        let is_mounted = volumes.mounts.contains_key(&holder);
        if has_contents(path, file) || !(is_mounted || is_own(&holder)) || (hides && !is_mounted) {
            volumes.in_the_image.push(path.clone());
        } else {
            volumes.add(holder, file.why.clone(), class_of(path), false);
        }
    }
    for unmet in &grants.unmet {
        if let Some(holder) = only_made(profile, &unmet.need).filter(is_own) {
            let why =
                Why { needs: [unmet.need.clone()].into(), reason: "empty for the service alone".into() };
            let class = class_of(&holder);
            volumes.add(holder, why, class, false);
            volumes.met.push(unmet.clone());
        }
    }
    volumes
}

impl Volumes {
    fn add(&mut self, path: RawText, why: Why, class: Class, hides: bool) {
        if !is_mountable(&path) {
            return self.unnameable.push(why);
        }
        let volume = self.mounts.entry(path).or_insert_with(|| Volume {
            why: Why { needs: Default::default(), ..why.clone() },
            memory: class == Class::Runtime,
            hides: false,
            word: word(class),
        });
        volume.why.needs.extend(why.needs);
        volume.hides |= hides;
    }
}

/// The directory in which a need makes and removes entries, if it does nothing else.
fn only_made(profile: &Profile, id: &str) -> Option<RawText> {
    let requirement = profile.requirements.iter().find(|requirement| requirement.id == id)?;
    match &requirement.need {
        Need::Path { path, access, .. } if requirement.severity == Severity::Required => {
            let makes = access.iter().all(|access| matches!(access, Access::Create | Access::Delete));
            let varies = path.as_bytes().iter().filter(|byte| **byte == b'*').count();
            let in_name = parent(path).as_bytes().iter().all(|byte| !matches!(byte, b'*' | b'?' | b'['));
            (makes && !access.is_empty() && varies <= 1 && in_name).then(|| mounted(&parent(path)))
        }
        _ => None,
    }
}

/// Whether a file was there and what was in it may matter: a log or a pid file starts anew.
fn has_contents(path: &RawText, file: &File) -> bool {
    let anew = file.kind == FileKind::Regular && matches!(class_of(path), Class::Logs | Class::Runtime);
    file.existed && !anew
}

/// Where a directory really is: `/var/run` is `/run`.
fn mounted(directory: &RawText) -> RawText {
    match directory.as_bytes().strip_prefix(b"/var") {
        Some(rest) if rest == b"/run" || rest.starts_with(b"/run/") => RawText::from(rest),
        _ => directory.clone(),
    }
}

fn is_own(directory: &RawText) -> bool {
    let components = directory.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
    OWN.iter().any(|(tree, least)| {
        let tree = RawText::from(*tree);
        (*directory == tree || is_below(directory, &tree)) && components >= *least
    })
}

fn is_below(path: &RawText, directory: &RawText) -> bool {
    path.as_bytes().strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
}

fn parent(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    RawText::from(&bytes[..end.max(1).min(bytes.len())])
}

fn class_of(path: &RawText) -> Class {
    let is_in = |tree: &str| *path == RawText::from(tree) || is_below(path, &RawText::from(tree));
    [
        ("/run", Class::Runtime),
        ("/var/run", Class::Runtime),
        ("/var/log", Class::Logs),
        ("/var/lib", Class::State),
        ("/var/cache", Class::Cache),
    ]
    .into_iter()
    .find(|(tree, _)| is_in(tree))
    .map_or(Class::Other, |(_, class)| class)
}

/// Whether a path can be a `mountPath`: text without a colon.
fn is_mountable(path: &RawText) -> bool {
    path.as_str().is_some_and(|path| !path.contains(':') && !path.chars().any(char::is_control))
}

fn word(class: Class) -> &'static str {
    match class {
        Class::State => "state",
        Class::Runtime => "runtime",
        Class::Cache => "cache",
        Class::Logs => "logs",
        Class::Config => "config",
        Class::Other => "data",
    }
}
