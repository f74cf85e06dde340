//! What is known of the program comes first: its own options and variables, before anything is made or opened for it.

use super::place::Place;
use super::{Choices, Directory, Grants, Variable, Why};
use crate::RawText;
use crate::knowledge::{Fact, Setting};
use crate::profile::Profile;
use crate::requirement::{Need, Requirement, Severity};

/// Brings in the facts of the profile, after all needs have been met or refused.
pub(super) fn apply(profile: &Profile, grants: &mut Grants) {
    for fact in profile.knowledge.iter().filter(|fact| fact.checks.is_none()) {
        let required = profile.requirements.iter().filter(|requirement| {
            requirement.severity == Severity::Required || insists(requirement, profile)
        });
        for requirement in required.filter(|requirement| fact.needs.contains(&requirement.id)) {
            meet(requirement, fact, grants);
        }
    }
}

/// The variables that the run was given, unless something else is known to be better.
pub(super) fn give(profile: &Profile, grants: &mut Grants) {
    for (name, value) in &profile.run.given {
        let (Some(name), Some(value)) = (name.as_str(), value.as_str()) else { continue };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || !crate::emit::escape::tmpfiles::is_portable(value.as_bytes()) {
            continue;
        }
        let why = Why { reason: "as the run was given it".into(), needs: Default::default() };
        let variable = Variable { value: value.to_owned(), why };
        grants.environment.entry(name.to_owned()).or_insert(variable);
    }
}

/// Whether a need that was only asked about is known to be one that the program ends without.
pub(super) fn insists(requirement: &Requirement, profile: &Profile) -> bool {
    let known = |fact: &Fact| fact.fatal == Some(true) && fact.needs.contains(&requirement.id);
    requirement.only_asked() && profile.knowledge.iter().any(known)
}

/// Whether nothing is to be planned for a need, because the program's own configuration is preferred and known.
pub(super) fn is_left_to_configuration(
    requirement: &Requirement,
    profile: &Profile,
    choices: &Choices,
) -> bool {
    let settles = |fact: &Fact| {
        fact.checks.is_none() && fact.needs.contains(&requirement.id) && best(fact, requirement).is_some()
    };
    choices.prefers_configuration() && profile.knowledge.iter().any(settles)
}

/// What is done about one need that something is known of.
fn meet(requirement: &Requirement, fact: &Fact, grants: &mut Grants) {
    let id = requirement.id.as_str();
    let best = best(fact, requirement);
    let refused = grants.unmet.iter().any(|unmet| unmet.need == id)
        || (grants.choices.prefers_configuration() && best.is_some());
    if let (Need::Capability { capability }, Some(false), false) =
        (&requirement.need, fact.fatal, super::kernel::is_proved(requirement) || grants.choices.prove)
        && grants.withhold(
            id,
            *capability,
            &format!("{} is known to go on without it: {}", fact.program, fact.is),
        )
    {
        return;
    }
    let identity = matches!(requirement.need, Need::Identity { .. });
    let advised = identity && grants.advice.iter().any(|why| why.needs.len() == 1 && why.needs.contains(id));
    if fact.fatal == Some(false) && (refused || advised) {
        grants.unmet.retain(|unmet| unmet.need != id);
        grants.advice.retain(|why| !advised || !why.needs.contains(id));
        grants.optional.push(Why::new(
            id,
            format!("is refused, and {} is known to go on: {}", fact.program, says(fact, best)),
        ));
        return;
    }
    match best {
        Some(best) if refused || advised => {
            grants.unmet.retain(|unmet| unmet.need != id);
            grants.advice.retain(|why| why.needs.len() > 1 || !why.needs.contains(id));
            grants.advise(id, says(fact, Some(best)));
            settle(id, best, grants);
        }
        Some(best) => {
            grants.known.entry(id.to_owned()).or_default().push(best.text.clone());
        }
        None if refused && fact.note.is_some() => {
            for unmet in grants.unmet.iter_mut().filter(|unmet| unmet.need == id) {
                unmet.hint = says(fact, best);
            }
        }
        None => {}
    }
}

/// The first remedy that changes something for the need.
fn best<'a>(fact: &'a Fact, requirement: &Requirement) -> Option<&'a Setting> {
    fact.remedies.iter().find(|setting| setting.changes(&requirement.need))
}

/// The best remedy with what it is about.
fn says(fact: &Fact, best: Option<&Setting>) -> String {
    let note = fact.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    match best {
        Some(best) => format!("{}: {}{note}", best.text, fact.is),
        None => format!("{}{note}", fact.is),
    }
}

/// What follows from a remedy: a variable in the unit, a directory for what is moved.
fn settle(id: &str, setting: &Setting, grants: &mut Grants) {
    if let Some((name, value)) = &setting.variable {
        let why = Why::new(id, "moves what the service would make in a shared directory");
        let variable =
            Variable { value: value.clone(), why: Why { needs: Default::default(), ..why.clone() } };
        grants.environment.entry(name.clone()).or_insert(variable).why.also(why);
    }
    if let Some((name, value)) = &setting.directive {
        let why = Why::new(id, "what the program makes of a refusal is settled by this");
        let empty = Why { needs: Default::default(), ..why.clone() };
        grants.directives.entry((name.clone(), value.clone())).or_insert(empty).also(why);
    }
    if let Some(path) = &setting.directory {
        make(id, path, grants);
    }
}

fn make(id: &str, path: &RawText, grants: &mut Grants) {
    let Place::Private(class) = grants.world.place(path) else { return };
    if grants.world.is_common(path) {
        return;
    }
    let why = Why::new(id, "for what is moved here by the program's own option or variable");
    let directory = Directory { class, mode: 0o700, group: None, existed: false, why: why.clone() };
    grants.directories.entry(path.clone()).or_insert(directory).why.also(why);
}
