//! What makes a result less than sure. Each is a line of its own, before all else.

use super::table::groups::few;
use crate::event::Mode;
use crate::grants::Method;
use crate::profile::Profile;
use crate::proof::ProfileProof;
use crate::requirement::{IdentityOperation, Need, Severity};

/// Something that makes the result less than sure.
pub(super) struct Doubt {
    pub(super) text: String,
    /// Whether it speaks against the result, and does not only leave it open.
    pub(super) is_grave: bool,
    /// Whether it is that the program failed.
    pub(super) is_failure: bool,
}

/// All of them, the gravest first.
pub(super) fn doubts(profile: &Profile) -> Vec<Doubt> {
    let run = &profile.run;
    let mut out: Vec<Doubt> = Vec::new();
    out.extend(failure(profile).map(|text| Doubt { text, is_grave: true, is_failure: true }));
    let mut grave = |text: String| out.push(Doubt { text, is_grave: true, is_failure: false });
    if let Some(attached) = run.attached.as_ref().filter(|attached| !attached.from_start) {
        let held = match run.mode {
            Mode::Observation => {
                "Of what it needed to start, only what processes of root's hold open is here"
            }
            Mode::Enforced | Mode::Permissive => "What it needed to start is not here",
        };
        grave(format!(
            "Its start was not seen: {} ran before it was watched. {held}; start it again while it is watched (--wait).",
            attached.target
        ));
    }
    let more = "there may be more needs";
    if run.lost > 0 {
        grave(format!("Incomplete: {} records lost; {more}.", run.lost));
    }
    if run.unjudged > 0 {
        grave(format!("Incomplete: {} accesses not judged; {more}.", run.unjudged));
    }
    if !run.complete && run.lost == 0 && run.unjudged == 0 {
        grave(format!("Incomplete: the program was cut off; {more}."));
    }
    match &profile.proof {
        // What failed is not worth a proof yet.
        None if profile.run.failure().is_some() => {}
        None => out.push(Doubt {
            text: format!(
                "Not proved: what one run of {:.1} s showed. {} proves it, and leaves out what it can live without.",
                run.duration.0 as f64 / 1e9,
                profile.unit.as_ref().map_or("--minimize".into(), |unit| format!("nrtrace service {}", unit.stem()))
            ),
            is_grave: false,
            is_failure: false,
        }),
        Some(proof) if !proof.lives => out.push(Doubt {
            text: match proof.flaked {
                0 => format!(
                    "Not proved: it did not live with these grants alone, in {}.",
                    super::table::proved::trials(proof.trials)
                ),
                flaked => format!(
                    "Not proved: it is flaky; {flaked} of {} failed with all that is granted, and others did not.",
                    super::table::proved::trials(proof.trials)
                ),
            },
            is_grave: true,
            is_failure: false,
        }),
        Some(proof) => {
            let doubts = believes(profile, proof).into_iter().chain(not_applied(proof));
            out.extend(doubts.map(|text| Doubt { text, is_grave: false, is_failure: false }));
        }
    }
    out
}

/// That the trials were not all that the files say.
fn not_applied(proof: &ProfileProof) -> Option<String> {
    let all = &proof.not_applied;
    (!all.is_empty()).then(|| format!("Not applied in the trials, and so not proved: {}.", few(all)))
}

/// That it takes itself for root: what it would do for others as root, it cannot.
fn believes(profile: &Profile, proof: &ProfileProof) -> Option<String> {
    let told = profile.requirements.iter().any(|known| {
        let root = matches!(&known.need, Need::Identity { operation: IdentityOperation::BeRoot, .. });
        // A setting of its own does without.
        root && known.severity == Severity::Required && known.way == Some(Method::Unit)
    });
    if !told || proof.exercise.is_some() {
        return None;
    }
    let known = for_checks(profile);
    let instead = if known.is_empty() { String::new() } else { format!(" Better: {}.", known.join(", or ")) };
    let tried = if proof.greetings.is_empty() {
        "whether it serves so was not tried"
    } else {
        "it answers a client as it did, and more of how it serves so was not tried"
    };
    Some(format!(
        "It is told that it is root, which it is not: {tried}; --exercise COMMAND tries it.{instead}"
    ))
}

/// What is known to do about what the program checks by itself, in words.
pub fn for_checks(profile: &Profile) -> Vec<&str> {
    let checks = profile.knowledge.iter().filter(|fact| fact.checks.is_some());
    checks.flat_map(|fact| &fact.remedies).map(|remedy| remedy.text.as_str()).collect()
}

/// How the recorded run failed, where it did. What trials lived with is not spoken against by the run that was first.
fn failure(profile: &Profile) -> Option<String> {
    if profile.proof.as_ref().is_some_and(|proof| proof.lives) {
        return None;
    }
    profile.run.failure().map(|how| format!("It failed: it {how}."))
}
