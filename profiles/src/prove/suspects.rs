//! What a program may have missed that nobody refused it: it looked at something, and ended by itself.
//!
//! Each is no more than a suspicion, which a trial confirms or refutes.

use std::collections::BTreeSet;

use super::judge;
use crate::RawText;
use crate::event::FileType;
use crate::grants::{Choices, Method};
use crate::profile::{LookedAt, Profile};
use crate::requirement::{Access, Basis, Evidence, IdentityOperation, Need, Requirement, Severity};
use crate::ways::plan;

/// How many of the last things that it looked at are suspected.
const LAST: usize = 4;

/// Calls that tell what is at a path.
const LOOKS: [&str; 7] = ["access", "faccessat", "faccessat2", "lstat", "newfstatat", "stat", "statx"];

/// What may be missing, of which `tried` is known not to be it: the profile's plan grants each of them.
///
/// `seen` is what the run showed that failed, `profile` what it was granted, and `made` are directories that the
/// program's packages would have made.
pub fn suspects(
    profile: &Profile,
    seen: &Profile,
    made: &[RawText],
    tried: &BTreeSet<String>,
) -> Vec<Requirement> {
    let mut found: Vec<Requirement> = Vec::new();
    let missing = seen.requirements.iter().filter(|known| is_missing_directory(known));
    let looked_at = seen.gave_up.iter().flat_map(|gave_up| gave_up.looked_at.iter().rev().take(LAST));
    let looked_at = looked_at.flat_map(|looked| suspect(looked, profile.identity.uid));
    let made = made.iter().map(|path| directory(path, None));
    for suspect in missing.cloned().chain(looked_at).chain(made) {
        let granted = |known: &Requirement| {
            known.id == suspect.id
                && known.severity == Severity::Required
                && access(known).is_superset(&access(&suspect))
        };
        if !tried.contains(&suspect.id)
            && !profile.requirements.iter().any(granted)
            && found.iter().all(|known| known.id != suspect.id)
            && is_granted(profile, &suspect)
        {
            found.push(Requirement { severity: Severity::Required, ..suspect });
        }
    }
    found
}

/// That a program ends because it is not root, without anything that it could not do: the unit tells it that it is.
pub fn root() -> Requirement {
    let need = Need::Identity { operation: IdentityOperation::BeRoot, ids: vec![0], path: None };
    Requirement { way: Some(Method::Unit), ..requirement(need, Evidence::default()) }
}

/// In a few words, what is suspected.
pub fn words(suspect: &Requirement) -> String {
    match &suspect.need {
        Need::Path { path, access, .. } if access.contains(&Access::Own) => format!("owning {path}"),
        Need::Path { path, .. } => format!("{path}, which is not there"),
        _ => suspect.id.clone(),
    }
}

/// A directory that was not there, although the run did not end for it as far as could be seen.
fn is_missing_directory(requirement: &Requirement) -> bool {
    let directory = matches!(requirement.need, Need::Path { file_type: FileType::Directory, .. });
    directory
        && requirement.severity == Severity::Probe
        && requirement.evidence.outcomes.keys().eq(["ENOENT"])
}

/// What a look at a file may say: it is somebody else's, or it is not there.
fn suspect(looked: &LookedAt, uid: u32) -> Vec<Requirement> {
    match (&looked.inode, looked.outcome.as_str()) {
        (Some(inode), outcome) if outcome == "ok" && inode.uid != uid => {
            let file = matches!(inode.file_type, FileType::File | FileType::Directory);
            file.then(|| own(looked)).into_iter().collect()
        }
        (None, "ENOENT") => {
            let parent = crate::place::parent(&looked.path);
            let enters = ["chdir", "opendir"].contains(&looked.call.as_str());
            // What is looked for by its name alone may be a directory, too, where it bears no ending.
            let name = looked.path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let looks = LOOKS.contains(&looked.call.as_str()) && !name.contains(&b'.');
            let above = (!enters).then_some(&parent);
            let paths = above.into_iter().chain((enters || looks).then_some(&looked.path));
            paths.map(|path| directory(path, Some(looked))).collect()
        }
        _ => Vec::new(),
    }
}

fn own(looked: &LookedAt) -> Requirement {
    let inode = looked.inode.clone();
    let need = Need::Path {
        path: looked.path.clone(),
        file_type: inode.as_ref().map_or(FileType::Unknown, |inode| inode.file_type),
        access: BTreeSet::from([Access::Own]),
        pattern: false,
    };
    let evidence =
        Evidence { refused_at: Some(looked.path.clone()), refused_inode: inode, ..evidence(Some(looked)) };
    requirement(need, evidence)
}

fn directory(path: &RawText, looked: Option<&LookedAt>) -> Requirement {
    let need = Need::Path {
        path: path.clone(),
        file_type: FileType::Directory,
        access: BTreeSet::from([Access::Create]),
        pattern: false,
    };
    requirement(need, evidence(looked))
}

fn evidence(looked: Option<&LookedAt>) -> Evidence {
    let Some(looked) = looked else { return Evidence::default() };
    Evidence {
        count: 1,
        calls: BTreeSet::from([looked.call.clone()]),
        outcomes: [(looked.outcome.clone(), 1)].into(),
        ..Evidence::default()
    }
}

fn requirement(need: Need, evidence: Evidence) -> Requirement {
    Requirement {
        id: need.id(),
        need,
        severity: Severity::Required,
        basis: Basis::Predicted,
        phase: crate::event::Phase::Startup,
        evidence,
        proof: None,
        way: None,
    }
}

fn access(requirement: &Requirement) -> BTreeSet<Access> {
    match &requirement.need {
        Need::Path { access, .. } => access.clone(),
        _ => BTreeSet::new(),
    }
}

/// Whether the plan would do something about it.
fn is_granted(profile: &Profile, suspect: &Requirement) -> bool {
    let mut with = profile.clone();
    judge::add(&mut with, suspect);
    let plan = plan(&with, &Choices::default());
    let of_it = |needs: &BTreeSet<String>| needs.contains(&suspect.id);
    plan.unmet.iter().all(|unmet| unmet.need != suspect.id)
        && (plan.directories.values().any(|made| of_it(&made.why.needs))
            || plan.files.values().any(|file| of_it(&file.why.needs)))
}
