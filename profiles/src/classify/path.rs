//! Needs on files and directories (DESIGN.md §3).

use std::collections::BTreeSet;

use crate::event::{Check, Event, FileType, PathObject};
use crate::requirement::{Access, Need, Requirement};
use crate::{Capability, RawText};

use super::context::Context;
use super::files;
use super::finding::{Finding, Judged, Source, best};
use super::noise::{self, Relevance};
use super::pattern;
use super::site::{self, CheckSite};

/// Finds the need on a file behind a check; false where its path is not known.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let findings = match source.site {
        CheckSite::Search => search(source).map(|finding| vec![finding]),
        CheckSite::CreateIn if is_moot(source) => Some(Vec::new()),
        CheckSite::CreateIn | CheckSite::DeleteIn if files::is_rename(source.event) => rename(source),
        CheckSite::CreateIn => create(source).map(|finding| vec![finding]),
        CheckSite::DeleteIn => delete(source).map(|finding| vec![finding]),
        CheckSite::EntryIn => file(source, Some(Access::Write)).map(|finding| vec![finding]),
        CheckSite::Touch => file(source, Some(Access::Write)).map(|finding| vec![finding]),
        CheckSite::Sticky | CheckSite::Own | CheckSite::Chown => own(source).map(|finding| vec![finding]),
        _ => file(source, None).map(|finding| vec![finding]),
    };
    let Some(findings) = findings else { return false };
    // What is below a directory that the run made is the user's.
    out.findings.extend(findings.into_iter().filter(|finding| match &finding.need {
        Need::Path { path, .. } => !source.context.is_inside_made(path),
        _ => true,
    }));
    true
}

/// The directory that a search check was about: the component, else the directory that holds the object.
pub fn searched(source: &Source<'_>) -> Option<RawText> {
    if let Some(component) = source.component() {
        return Some(component.path.clone());
    }
    let (first, second) = files::of(&source.event.object);
    let path = first.or(second)?;
    (path.resolved && files::is_known(&path.path)).then(|| files::parent(&path.path))
}

fn search(source: &Source<'_>) -> Option<Finding> {
    let directory = searched(source).filter(files::is_known)?;
    let (first, second) = files::of(&source.event.object);
    let wanted: Vec<RawText> = [first, second]
        .into_iter()
        .flatten()
        .map(best)
        .filter(|path| files::is_at_or_below(path.as_bytes(), directory.as_bytes()))
        .collect();
    let mut finding = need(source, &directory, FileType::Directory, [Access::Search]);
    finding.objects.extend(wanted.into_iter().filter(|path| *path != directory));
    Some(finding)
}

/// Access to the file itself, as the call says or as given.
fn file(source: &Source<'_>, access: Option<Access>) -> Option<Finding> {
    let (subject, file_type) = itself(source)?;
    let access = match access {
        Some(access) => BTreeSet::from([access]),
        None => files::access(source.event, file_type, is_pure_read(source)),
    };
    if matches!(file_type, FileType::CharDevice | FileType::BlockDevice) {
        return Some(source.finding(Need::Device { path: subject, file_type, access }));
    }
    let mut finding = need(source, &subject, file_type, access);
    let object = files::of(&source.event.object).0.map(best);
    // Through a symbolic link, or a script's interpreter.
    finding.objects.extend(object.filter(|path| *path != subject && files::is_known(path)));
    Some(finding)
}

/// The file the call is about: what the kernel judged, else the object.
fn itself(source: &Source<'_>) -> Option<(RawText, FileType)> {
    if let Some(component) = source.component()
        && files::is_known(&component.path)
        && source.site != CheckSite::Sticky
    {
        return Some((component.path.clone(), component.inode.file_type));
    }
    let (path, _) = files::of(&source.event.object);
    known(path?).map(|path| (path.path.clone(), files::file_type(source.event, path)))
}

/// Whether the file was to be read only: CAP_DAC_READ_SEARCH is asked for then, and first.
fn is_pure_read(source: &Source<'_>) -> bool {
    let Some(check) = source.check else { return true };
    source.event.checks.iter().any(|other| {
        other.capability == Capability::DAC_READ_SEARCH
            && other.component == check.component
            && other.frames == check.frames
    })
}

fn own(source: &Source<'_>) -> Option<Finding> {
    let (subject, file_type) = itself(source)?;
    if matches!(file_type, FileType::CharDevice | FileType::BlockDevice) {
        let access = BTreeSet::from([Access::Own]);
        return Some(source.finding(Need::Device { path: subject, file_type, access }));
    }
    Some(need(source, &subject, file_type, [Access::Own]))
}

fn create(source: &Source<'_>) -> Option<Finding> {
    let path = known(files::made(source.event)?)?;
    Some(entry(source, path, files::made_type(source.event), Access::Create))
}

fn delete(source: &Source<'_>) -> Option<Finding> {
    let path = known(files::of(&source.event.object).0?)?;
    Some(entry(source, path, files::removed_type(source.event), Access::Delete))
}

/// A rename within a directory is a matter of the directory; between two, of the one that refused.
fn rename(source: &Source<'_>) -> Option<Vec<Finding>> {
    let (Some(from), Some(to)) = files::of(&source.event.object) else { return None };
    let (from, to) = (known(from)?, known(to)?);
    let (old, new) = (files::parent(&from.path), files::parent(&to.path));
    if old == new {
        return Some(vec![directory(source, &from.path), directory(source, &to.path)]);
    }
    let file_type = files::made_type(source.event);
    let (directory, mut finding) = match is_about_new(source, &new) {
        true => (new, entry(source, to, file_type, Access::Create)),
        false => (old, entry(source, from, file_type, Access::Delete)),
    };
    // Where the kernel does not say which of the two it judged, the component may be the other one.
    finding.refused = finding.refused.filter(|component| component.path == directory);
    Some(vec![finding])
}

/// Whether a check in a rename between two directories was about the new one. The old one is asked first; the new one
/// in the same way when there is something to be replaced.
fn is_about_new(source: &Source<'_>, new: &RawText) -> bool {
    let event = source.event;
    let deletions = event.checks.iter().filter(|check| {
        check.capability.is_dac() && site::site(event, check) == CheckSite::DeleteIn && !check.foreign
    });
    let is_later = |check: &Check| deletions.into_iter().skip(1).any(|other| std::ptr::eq(other, check));
    source.site == CheckSite::CreateIn
        || source.component().is_some_and(|component| component.path == *new)
        || source.check.is_some_and(is_later)
}

/// A name made or removed; where it is one of those that are renamed, this belongs to the directory.
fn entry(source: &Source<'_>, path: &PathObject, file_type: FileType, access: Access) -> Finding {
    match source.context.is_renamed(&path.path) {
        true => directory(source, &path.path),
        false => need(source, &path.path, file_type, [access]),
    }
}

/// Write access to the directory that holds `path`.
fn directory(source: &Source<'_>, path: &RawText) -> Finding {
    let mut finding = need(source, &files::parent(path), FileType::Directory, [Access::Write]);
    let general = generalise(source, path);
    finding.objects.insert(general.unwrap_or_else(|| path.clone()));
    finding
}

fn need(
    source: &Source<'_>,
    path: &RawText,
    file_type: FileType,
    access: impl IntoIterator<Item = Access>,
) -> Finding {
    let access: BTreeSet<Access> = access.into_iter().collect();
    let general = generalise(source, path);
    let pattern = general.is_some();
    let mut finding = source.finding(Need::Path {
        path: general.unwrap_or_else(|| path.clone()),
        file_type,
        access,
        pattern,
    });
    if pattern {
        finding.objects.insert(path.clone());
    }
    finding
}

/// The pattern of a path with random parts in names that the run made or wanted to make; nothing when there are
/// none. Names that were there before are what they are.
pub fn generalise(source: &Source<'_>, path: &RawText) -> Option<RawText> {
    let context = source.context;
    let wanted = matches!(source.site, CheckSite::CreateIn | CheckSite::Other)
        .then(|| files::made(source.event).map(|object| &object.path))
        .flatten();
    let is_new = |prefix: &RawText| context.has_made(prefix) || wanted == Some(prefix);
    pattern::generalise(path, is_new, |digits| is_own(source, digits))
}

/// The same, whoever made the names: for what is never granted by its name.
pub fn generalise_all(source: &Source<'_>, path: &RawText) -> Option<RawText> {
    pattern::generalise(path, |_| true, |digits| is_own(source, digits))
}

/// Whether the digits are the number of a process of the run.
fn is_own(source: &Source<'_>, digits: &[u8]) -> bool {
    let own = source.event.process.pid;
    digits == own.to_string().as_bytes() || (digits.len() >= 3 && source.context.is_own_pid(digits))
}

/// Whether the file was there, so that the check on its directory decided nothing.
fn is_moot(source: &Source<'_>) -> bool {
    let event: &Event = source.event;
    let has_file_check = event.checks.iter().any(|check| {
        let site = site::site(event, check);
        site == CheckSite::File && noise::noise(event, check, site) == Relevance::Real
    });
    noise::is_moot_create(event, has_file_check)
}

fn known(path: &PathObject) -> Option<&PathObject> {
    (path.resolved && files::is_known(&path.path)).then_some(path)
}

/// Remarks on the needs as a whole.
pub fn remark(requirements: &[Requirement], context: &Context<'_>, notes: &mut BTreeSet<String>) {
    let variable = |name: &str| {
        let found = context.run.environment.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
        found.map(|(_, value)| value)
    };
    let made = requirements.iter().filter_map(|requirement| match &requirement.need {
        Need::Path { path, access, .. } if access.contains(&Access::Create) => Some(path),
        _ => None,
    });
    if variable("HOME").is_some_and(|home| home.as_bytes() == b"/") {
        let hidden = made.filter(|path| {
            path.as_bytes().starts_with(b"/.") && files::name(path).len() + 1 == path.as_bytes().len()
        });
        let hidden: Vec<String> = hidden.map(RawText::to_string).collect();
        if !hidden.is_empty() {
            notes.insert(format!(
                "made in / since its user has no home: {}; trace it again with --env HOME=DIRECTORY, and set \
                 Environment=HOME=DIRECTORY in the unit, to have them in a directory of its own",
                hidden.join(", ")
            ));
        }
    }
}
