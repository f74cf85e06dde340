//! Writes what was proved into the profile.

use std::collections::BTreeSet;

use super::atoms::atoms;
use super::judge::{Trial, add_tolerated};
use super::search::SearchResult;
use crate::profile::Profile;
use crate::proof::{Finding, Proof};
use crate::requirement::{Access, Requirement, Severity};

fn proof(finding: Finding) -> Proof {
    Proof {
        finding,
        failed: 0,
        lived: 0,
        without: None,
        together: BTreeSet::new(),
        tolerated: BTreeSet::new(),
    }
}

/// The program lived in a trial: what it was refused all the same, it tolerates.
pub fn lived(profile: &mut Profile, trial: &Trial) {
    let granted: BTreeSet<String> = atoms(profile).into_iter().flat_map(|atom| atom.needs).collect();
    for refused in &trial.missing {
        add_tolerated(profile, refused);
    }
    let missing: BTreeSet<&str> = trial.missing.iter().map(|refused| refused.id.as_str()).collect();
    let tried = |requirement: &&mut Requirement| !trial.untried.contains(&requirement.id);
    for requirement in profile.requirements.iter_mut().filter(tried) {
        let id = &requirement.id;
        let given = trial.by_volume.contains(id) || (granted.contains(id) && !trial.withheld.contains(id));
        if requirement.severity == Severity::Required && given {
            requirement.proof.get_or_insert(proof(Finding::Granted));
        } else if requirement.severity != Severity::Probe || missing.contains(requirement.id.as_str()) {
            // Not granted, by choice or because it cannot be.
            tolerate(requirement);
        }
    }
    let refused = trial.insufficient.iter().chain(&trial.at_the_end);
    for (id, access) in refused.filter(|(id, _)| !trial.untried.contains(id)) {
        note_tolerated(profile, id, access);
    }
}

/// What no refusal told of, and a program lives with that did not live before.
pub fn tried(profile: &mut Profile, ids: &BTreeSet<String>) {
    for requirement in profile.requirements.iter_mut().filter(|known| ids.contains(&known.id)) {
        if let Some(proof) = requirement.proof.as_mut().filter(|proof| proof.finding == Finding::Granted) {
            proof.finding = Finding::Tried;
        }
    }
}

fn tolerate(requirement: &mut Requirement) {
    requirement.severity = Severity::Tolerated;
    let proof = requirement.proof.get_or_insert(proof(Finding::Tolerated));
    proof.finding = Finding::Tolerated;
    proof.lived = proof.lived.max(1);
}

fn note_tolerated(profile: &mut Profile, id: &str, access: &BTreeSet<Access>) {
    let known = profile.requirements.iter_mut().find(|known| known.id == id);
    if let Some(proof) =
        known.and_then(|known| known.proof.as_mut()).filter(|p| p.finding != Finding::Tolerated)
    {
        proof.tolerated.extend(access);
    }
}

/// A search has ended: each need is required, proved by removal, or tolerated.
pub fn minimized(profile: &mut Profile, found: &SearchResult) {
    let removed = found.removed();
    for requirement in &mut profile.requirements {
        if removed.contains(&requirement.id) {
            tolerate(requirement);
            continue;
        }
        // A need may be in several atoms that stay; one of its own tells most, and else the one that was tried most.
        let of_it =
            found.fates.iter().filter(|fate| fate.atom.needs.contains(&requirement.id) && fate.deaths() > 0);
        let Some(fate) = of_it.max_by_key(|fate| (fate.atom.needs.len() == 1, fate.deaths())) else {
            continue;
        };
        let proof = requirement.proof.get_or_insert(proof(Finding::Removal));
        proof.finding = Finding::Removal;
        proof.failed = fate.deaths();
        let others =
            fate.atom.needs.iter().filter(|need| **need != requirement.id && !removed.contains(*need));
        proof.together = others.cloned().collect();
        proof.without = Some(fate.how.clone()).filter(|how| !how.is_empty());
    }
}
