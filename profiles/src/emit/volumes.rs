//! The volumes of a container: a writable directory wherever the program makes or writes something, so that the rest
//! can be read-only.
//!
//! In a container nobody else relies on `/run` or `/var/log`, so unlike on a host, they are given as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::writable::{self, where_it_is};
use crate::RawText;
use crate::container::{Place, Placement};
use crate::event::FileType;
use crate::grants::{File, FileKind, Grants, Unmet, Why};
use crate::paths::{is_at_or_below, is_below, parent};
use crate::place::{self, Class, World};
use crate::profile::Profile;
use crate::requirement::{Access, Need, Requirement, Severity};

/// A directory to mount a volume on.
pub(super) struct Volume {
    /// What for.
    pub(super) why: Why,
    /// Whether it is kept in memory.
    pub(super) memory: bool,
    /// Whether the image may have something there that the program uses, so that it has to be copied.
    pub(super) copied: bool,
    /// Whether the program demands to be its owner, which it is only of a directory that it made itself.
    pub(super) owned: bool,
    /// Whether it was there before the run, so that the program does not make it.
    pub(super) existed: bool,
    /// Whether what is written is worth keeping.
    pub(super) kept: bool,
    /// A word for its name.
    pub(super) word: &'static str,
}

/// The volumes, and what they do not do.
#[derive(Default)]
pub(super) struct Volumes {
    /// By mount path.
    pub(super) mounts: BTreeMap<RawText, Volume>,
    /// Directories and files that the image itself has to hold.
    pub(super) in_the_image: BTreeSet<RawText>,
    /// What is on a mount of the container already, by path.
    pub(super) mounted: BTreeMap<RawText, (Placement, Why)>,
    /// Needs that no volume can meet since no `mountPath` holds their name.
    pub(super) unnameable: Vec<Why>,
    /// Needs that cannot be granted on a host, but here.
    pub(super) met: Vec<Unmet>,
    /// Why the root file system cannot be read-only; empty when it can.
    pub(super) not_read_only: Vec<String>,
    /// Directories in which the image holds what a volume would hide.
    held: BTreeSet<RawText>,
}

/// Trees that hold a service's own data, with the number of components from which on they are one service's.
const OWN: &[(&str, usize)] = &[
    ("/run", 1),
    // Where it is no link to /run.
    ("/var/run", 2),
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

/// Plans the volumes for what is to be made, for what only a host has to refuse, and for what the run wrote anyway.
pub(super) fn plan(profile: &Profile, grants: &Grants) -> Volumes {
    let held = profile.container.as_ref().map(|container| container.holds.clone()).unwrap_or_default();
    let mut volumes = Volumes { held, ..Volumes::default() };
    volumes.not_read_only.extend(writable::doubt(profile).map(str::to_owned));
    for (path, directory) in &grants.directories {
        if volumes.is_mounted(profile, path, &directory.why) {
            continue;
        }
        let class = if directory.class == Class::Config && !directory.existed {
            Class::Other
        } else {
            directory.class
        };
        if class == Class::Config {
            volumes.image(path, "an empty volume would hide the configuration beside it");
        } else {
            let owned = demands_ownership(profile, path);
            let copied = directory.existed && has_contents_of(class);
            volumes.add(path.clone(), directory.why.clone(), class, copied, owned);
            if let Some(volume) = volumes.mounts.get_mut(path) {
                volume.existed |= directory.existed;
            }
        }
    }
    for (path, file) in grants.files.iter().filter(|(_, file)| file.kind != FileKind::Attribute) {
        if !volumes.is_mounted(profile, path, &file.why) {
            volumes.file(profile, path, file, grants);
        }
    }
    for (path, acl) in grants.acls.iter().filter(|(path, _)| !path.as_bytes().starts_with(b"/dev/")) {
        volumes.is_mounted(profile, path, &acl.why);
    }
    for unmet in &grants.unmet {
        if let Some(holder) = only_made(profile, &unmet.need).filter(is_own) {
            let why =
                Why { needs: [unmet.need.clone()].into(), reason: "empty for the service alone".into() };
            let class = class_of(&holder);
            volumes.add(holder, why, class, false, false);
            volumes.met.push(unmet.clone());
        }
    }
    for (path, place) in writable::places(profile, grants) {
        volumes.written(profile, grants, &path, &place);
    }
    volumes.settle();
    volumes
}

/// What is given away on the host where a container has something of it.
const INSTEAD: &str = "mount a directory of the service's own instead";

/// What is to be done on the host about a path that it mounts into a container, or why nothing is to be done there: whose it is,
/// is told by where it lies on the host.
pub(super) fn on_host<'a>(
    profile: &Profile,
    path: &RawText,
    placement: &'a Placement,
    grants: &Grants,
) -> Result<&'a RawText, String> {
    let refused = |why: &str| Err(format!("it cannot be granted there: {why}; {INSTEAD}"));
    let Some(host) = &placement.host else { return refused("where it is on the host is not known") };
    let foreign = |known: &Requirement| {
        let owner = known.refused().filter(|(at, _)| *at == path).and_then(|(_, inode)| Some(inode?.uid));
        owner.is_some_and(|uid| uid != 0 && uid != grants.account.run_uid)
    };
    if profile.requirements.iter().any(foreign) {
        return refused("it is another user's");
    }
    given_on_host(host, grants.directories.contains_key(path)).map(|()| host).or_else(refused)
}

/// Whether a path of the host may be given to the user of a container, or why not.
pub(super) fn given_on_host(host: &RawText, directory: bool) -> Result<(), &'static str> {
    if !host.as_bytes().starts_with(b"/")
        || host.as_bytes().split(|byte| *byte == b'/').any(|name| name == b"..")
    {
        return Err("its path does not tell whose it is");
    }
    let world = World::around();
    // A file among those of others has nothing around it that is the service's own.
    let holder = (!directory).then(|| parent(host));
    for path in holder.iter().chain([host]) {
        match world.place(path) {
            place::Whose::Private(_) => {}
            place::Whose::Shared(_) => return Err("others use what is there, too"),
            place::Whose::System(why) => return Err(why),
        }
    }
    Ok(())
}

/// What the host mounts, and the program needs: paths of the host.
pub(super) fn host_paths(profile: &Profile, volumes: &Volumes) -> BTreeSet<RawText> {
    let placed = |path: &RawText| profile.container.as_ref().and_then(|container| container.placement(path));
    let needed = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    let needed = needed.filter_map(|known| match &known.need {
        Need::Path { path, .. } => placed(path),
        _ => None,
    });
    let all = volumes.mounted.values().map(|(placement, _)| placement.clone()).chain(needed);
    all.filter(|placement| placement.place == Place::Bind)
        .map(|placement| placement.host.unwrap_or(placement.mount))
        .collect()
}

/// The image, and what is to be said of it: that of the container that was traced, or one of this name.
pub(super) fn image(profile: &Profile, name: &str) -> (String, &'static str) {
    match profile.container.as_ref().and_then(|container| container.image.clone()) {
        Some(image) => {
            (image, "The image of the run, which has to hold what the lines of Containerfile say.")
        }
        None => (format!("{name}:latest"), "Put your image here."),
    }
}

impl Volumes {
    fn add(&mut self, path: RawText, why: Why, class: Class, copied: bool, owned: bool) {
        if !is_mountable(&path) {
            self.not_read_only.push(format!("no volume can be mounted on {path}"));
            return self.unnameable.push(why);
        }
        let copied = copied || self.held.contains(&path);
        let volume = self.mounts.entry(path).or_insert_with(|| Volume {
            why: Why { needs: Default::default(), ..why.clone() },
            memory: class == Class::Runtime,
            copied: false,
            owned: false,
            existed: false,
            kept: class == Class::State,
            word: word(class),
        });
        volume.why.needs.extend(why.needs);
        volume.copied |= copied;
        volume.owned |= owned;
    }

    fn file(&mut self, profile: &Profile, path: &RawText, file: &File, grants: &Grants) {
        let holder = where_it_is(profile, &parent(path));
        let needed = |other: &RawText| is_below(other.as_bytes(), holder.as_bytes()) && other != path;
        let hides = grants.acls.keys().any(needed)
            || grants.files.iter().any(|(other, file)| has_contents(other, file) && needed(other));
        let is_mounted = self.mounts.contains_key(&holder);
        if has_contents(path, file) || !(is_mounted || is_own(&holder)) || (hides && !is_mounted) {
            self.image(path, "it is written in place");
        } else {
            self.add(holder, file.why.clone(), class_of(path), false, false);
        }
    }

    /// What the image holds with the right owner, and is written there.
    fn image(&mut self, path: &RawText, why: &str) {
        self.in_the_image.insert(path.clone());
        self.not_read_only.push(format!("{path} is the image's own: {why}"));
    }

    /// Whether a path is on a mount of the container already, whose owner is not the image's matter.
    fn is_mounted(&mut self, profile: &Profile, path: &RawText, why: &Why) -> bool {
        let placement = profile.container.as_ref().and_then(|container| container.placement(path));
        let own =
            |placement: &Placement| !matches!(placement.place, Place::Image | Place::Engine | Place::Other);
        match placement.filter(own) {
            Some(placement) => {
                self.mounted.insert(path.clone(), (placement, why.clone()));
                true
            }
            None => false,
        }
    }

    /// A place where the run wrote.
    fn written(
        &mut self,
        profile: &Profile,
        grants: &Grants,
        path: &RawText,
        place: &writable::WritablePath,
    ) {
        let covered = self.mounts.keys().any(|mount| is_at_or_below(path.as_bytes(), mount.as_bytes()));
        let known = self.in_the_image.contains(path) || self.mounted.contains_key(path);
        if covered
            || known
            || path.as_bytes().starts_with(b"/dev/")
            || self.is_mounted(profile, path, &place.why)
        {
            return;
        }
        let directory = if place.directory { path.clone() } else { parent(path) };
        let private = matches!(grants.world.place(&directory), crate::place::Whose::Private(class) if class != Class::Config);
        let class = class_of(&directory);
        if is_own(&directory) || private {
            let copied = !place.made && has_contents_of(class);
            self.add(directory, place.why.clone(), class, copied, false);
        } else {
            self.not_read_only.push(format!("it writes to {path}, which no volume can stand in for"));
        }
    }

    /// What lies in another volume and is made by the program itself needs none of its own; and several directories
    /// side by side get one together.
    fn settle(&mut self) {
        const MANY: usize = 3;
        let mut siblings: BTreeMap<RawText, usize> = BTreeMap::new();
        let made = |volume: &Volume| !volume.owned && !volume.existed;
        for (path, _) in self.mounts.iter().filter(|(_, volume)| made(volume)) {
            *siblings.entry(parent(path)).or_default() += 1;
        }
        for (holder, _) in siblings.into_iter().filter(|(holder, count)| *count >= MANY && is_own(holder)) {
            let why =
                Why { needs: BTreeSet::new(), reason: "the service makes several directories in it".into() };
            let class = class_of(&holder);
            self.add(holder, why, class, has_contents_of(class), false);
        }
        let paths: Vec<RawText> = self.mounts.keys().cloned().collect();
        for path in &paths {
            let inner = self.mounts.get(path).is_some_and(made);
            let Some(outer) = paths.iter().find(|other| inner && is_below(path.as_bytes(), other.as_bytes()))
            else {
                continue;
            };
            if let Some(inner) = self.mounts.remove(path)
                && let Some(outer) = self.mounts.get_mut(outer)
            {
                outer.why.needs.extend(inner.why.needs);
            }
        }
        self.not_read_only.sort();
        self.not_read_only.dedup();
    }
}

/// Whether the program changes the directory's own mode or owner.
fn demands_ownership(profile: &Profile, directory: &RawText) -> bool {
    profile.requirements.iter().any(|requirement| match &requirement.need {
        Need::Path { path, access, .. } => path == directory && access.contains(&Access::Own),
        _ => false,
    })
}

/// Whether what the image has in a directory of this class may matter: what is in `/run`, `/tmp` and logs start anew.
fn has_contents_of(class: Class) -> bool {
    matches!(class, Class::State | Class::Cache | Class::Other | Class::Config)
}

/// The directory in which a need makes and removes entries, if it does nothing else.
fn only_made(profile: &Profile, id: &str) -> Option<RawText> {
    let requirement = profile.requirements.iter().find(|requirement| requirement.id == id)?;
    match &requirement.need {
        // Names that vary: entries of the directory itself.
        Need::Path { path, access, file_type: FileType::Directory, .. }
            if requirement.severity == Severity::Required && access.iter().eq([&Access::Write]) =>
        {
            Some(where_it_is(profile, path))
        }
        Need::Path { path, access, .. } if requirement.severity == Severity::Required => {
            let makes = access.iter().all(|access| matches!(access, Access::Create | Access::Delete));
            let varies = path.as_bytes().iter().filter(|byte| **byte == b'*').count();
            let in_name = parent(path).as_bytes().iter().all(|byte| !matches!(byte, b'*' | b'?' | b'['));
            (makes && !access.is_empty() && varies <= 1 && in_name)
                .then(|| where_it_is(profile, &parent(path)))
        }
        _ => None,
    }
}

/// Whether a file was there and what was in it may matter: a log or a pid file starts anew.
fn has_contents(path: &RawText, file: &File) -> bool {
    let anew = file.kind == FileKind::Regular && matches!(class_of(path), Class::Logs | Class::Runtime);
    file.existed && !anew
}

fn is_own(directory: &RawText) -> bool {
    let components = directory.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
    OWN.iter().any(|(tree, least)| {
        let tree = RawText::from(*tree);
        is_at_or_below(directory.as_bytes(), tree.as_bytes()) && components >= *least
    })
}

fn class_of(path: &RawText) -> Class {
    let is_in = |tree: &str| is_at_or_below(path.as_bytes(), tree.as_bytes());
    [
        ("/run", Class::Runtime),
        ("/var/run", Class::Runtime),
        ("/tmp", Class::Runtime),
        ("/var/tmp", Class::Runtime),
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
