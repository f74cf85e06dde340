//! What has to stay writable where everything else is made read-only: what is granted for writing, and where the run
//! wrote by the user's own rights.

use std::collections::BTreeMap;

use crate::RawText;
use crate::calls::{self, File};
use crate::event::{FileType, Mode, Record};
use crate::grants::{self, FileKind, Grants, Why};
use crate::paths::{is_at_or_below, is_below, parent};
use crate::place::real;
use crate::profile::Profile;
use crate::requirement::{Access, Need, Requirement, Severity};

/// Why the run does not tell all places it writes to, where it does not.
pub(super) fn doubt(profile: &Profile) -> Option<&'static str> {
    let run = &profile.run;
    if run.record != Record::Calls {
        return Some("calls were not recorded, so it is not known where else it writes");
    }
    if !run.complete {
        return Some("the record is not complete, so it is not known where else it writes");
    }
    if profile.gave_up.is_some() || (run.mode == Mode::Enforced && !profile.requirements.is_empty()) {
        return Some("the program did not get far, so it is not known where else it writes");
    }
    None
}

/// A place that has to stay writable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WritablePath {
    /// Whether entries are made in it, or it is written in place.
    pub(super) directory: bool,
    /// Whether the run made it.
    pub(super) made: bool,
    /// Why.
    pub(super) why: Why,
}

/// Where a path of the program really is: in its container, what is a link elsewhere may be a directory of its own.
pub(super) fn where_it_is(profile: &Profile, path: &RawText) -> RawText {
    let apart = profile.container.iter().flat_map(|container| &container.apart);
    match apart.into_iter().any(|own| is_at_or_below(path.as_bytes(), own.as_bytes())) {
        true => path.clone(),
        false => real(path),
    }
}

/// The places, none inside another one.
pub(super) fn places(profile: &Profile, grants: &Grants) -> BTreeMap<RawText, WritablePath> {
    let mut all: BTreeMap<RawText, WritablePath> = BTreeMap::new();
    let mut add = |path: &RawText, directory: bool, made: bool, why: Why| {
        let place = all.entry(where_it_is(profile, path)).or_insert(WritablePath {
            directory,
            made,
            why: why.clone(),
        });
        place.directory |= directory;
        place.why.needs.extend(why.needs);
    };
    for (path, directory) in &grants.directories {
        add(path, true, !directory.existed, directory.why.clone());
    }
    let changed =
        |file: &grants::File| file.kind != FileKind::Attribute && !is_only_looked_at(profile, &file.why);
    for (path, file) in grants.files.iter().filter(|(_, file)| changed(file)) {
        add(path, false, !file.existed, file.why.clone());
    }
    for requirement in profile.requirements.iter().filter(|r| r.severity == Severity::Required) {
        if let Some((path, directory)) = by_group_or_acl(requirement, grants) {
            add(&path, directory, false, Why::new(&requirement.id, "the service writes here"));
        }
    }
    for written in &profile.writes {
        let reason = "the run wrote here by the user's own rights".into();
        let directory = written.file_type == FileType::Directory;
        add(&written.path, directory, written.made, Why { needs: Default::default(), reason });
    }
    outermost(all)
}

/// Whether a file is given away for nothing but its owner, at whom the program looks: that takes no write.
fn is_only_looked_at(profile: &Profile, why: &Why) -> bool {
    let looked_at = |id: &String| {
        profile.requirements.iter().any(|known| {
            let owned = matches!(&known.need, Need::Path { access, .. } if access.iter().eq([&Access::Own]));
            let calls = &known.evidence.calls;
            known.id == *id && owned && calls.iter().all(|call| calls::operation(call).is(File::Look))
        })
    };
    !why.needs.is_empty() && why.needs.iter().all(looked_at)
}

/// Where a need that is met by a group or an ACL entry writes.
fn by_group_or_acl(requirement: &Requirement, grants: &Grants) -> Option<(RawText, bool)> {
    let Need::Path { path, access, pattern, file_type } = &requirement.need else { return None };
    let serves = |why: &Why| why.needs.contains(&requirement.id);
    let met = grants.groups.values().any(|group| serves(&group.why))
        || grants.acls.values().any(|acl| acl.bits & 2 != 0 && serves(&acl.why));
    let changes_parent = *pattern || access.contains(&Access::Create) || access.contains(&Access::Delete);
    let writes = access.iter().any(|access| matches!(access, Access::Write | Access::Append | Access::Own));
    match (met, changes_parent, writes) {
        (true, true, _) => {
            Some((requirement.evidence.refused_at.clone().unwrap_or_else(|| parent(path)), true))
        }
        (true, false, true) => Some((path.clone(), *file_type == FileType::Directory)),
        _ => None,
    }
}

fn outermost(all: BTreeMap<RawText, WritablePath>) -> BTreeMap<RawText, WritablePath> {
    let mut out: BTreeMap<RawText, WritablePath> = BTreeMap::new();
    for (path, place) in all {
        let outer = out
            .iter_mut()
            .find(|(other, outer)| outer.directory && is_below(path.as_bytes(), other.as_bytes()));
        match outer {
            Some((_, outer)) => outer.why.needs.extend(place.why.needs),
            None => {
                out.insert(path, place);
            }
        }
    }
    out
}
