//! What trials have proved, in the table.

use crate::profile::Profile;
use crate::proof::ProfileProof;
use crate::requirement::{Access, Requirement, word};

/// What is proved of one need, in a few words.
pub(in crate::emit) fn of_need(requirement: &Requirement) -> Vec<String> {
    let Some(proof) = &requirement.proof else { return Vec::new() };
    let mut out = vec![proof.words()];
    if !proof.tolerated.is_empty() {
        let access: Vec<String> = proof.tolerated.iter().map(|access: &Access| word(access)).collect();
        out.push(format!("{} tolerated", access.join(", ")));
    }
    out
}

/// What is proved of the profile, in a sentence.
pub(super) fn of_profile(profile: &Profile) -> Option<String> {
    let proof = profile.proof.as_ref()?;
    if !proof.lives {
        let how = match proof.flaked {
            0 => "it did not live with these grants alone".to_owned(),
            flaked => {
                format!("it is flaky: {flaked} trials failed with all that is granted, and others did not")
            }
        };
        return Some(format!("NOT proved: {how}, in {}", trials(proof.trials)));
    }
    let what =
        if proof.minimal { "lives with these grants, and with none less" } else { "lives with these grants" };
    let ready = proof.readiness.as_ref().map(|words| format!(": {words}")).unwrap_or_default();
    let exercised = if proof.exercise.is_some() { ", exercised" } else { "" };
    let settled = proof.settled.0 as f64 / 1e9;
    let tried = trials(proof.trials);
    Some(format!("{what}{ready}{exercised}, and still after {settled:.1} s, in {tried}{}", in_image(proof)))
}

/// Where the trials were made, where that was not this machine.
pub(in crate::emit) fn in_image(proof: &ProfileProof) -> &'static str {
    match &proof.image {
        None => "",
        Some(image) if image.namespace.is_some() => ", as a pod of the cluster",
        Some(image) if image.built => ", in its image with the lines of Containerfile",
        Some(_) => ", in its image",
    }
}

pub(in crate::emit) fn trials(number: u32) -> String {
    if number == 1 { "1 trial".into() } else { format!("{number} trials") }
}
