//! What is known of the program comes first: its own options and variables, before anything is made or opened for it.

use super::capability::{is_proved, withhold};
use super::make::new_directory;
use crate::grants::{Act, Choices, Grants, Method, Variable, Way, Why};
use crate::knowledge::{Fact, Setting};
use crate::place::{self, Whose};
use crate::profile::Profile;
use crate::requirement::{Need, Requirement, Severity};
use crate::text::printable;

/// Lists what the program's own settings can do, before all else.
pub(super) fn offer(profile: &Profile, grants: &mut Grants) {
    for (requirement, fact) in told(profile) {
        let settings = fact.remedies.iter().filter(|setting| setting.changes(&requirement.need));
        let ways: Vec<Way> = settings.map(|setting| way(fact, setting, false, grants)).collect();
        grants.offer(&requirement.id, ways);
    }
}

/// Takes it for what nothing else meets, after all needs have been met or refused.
pub(super) fn apply(profile: &Profile, grants: &mut Grants) {
    for (requirement, fact) in told(profile) {
        if requirement.severity == Severity::Required || insists(requirement, profile) {
            meet(requirement, fact, grants);
        }
    }
}

/// Each fact with the needs that it is about.
fn told(profile: &Profile) -> impl Iterator<Item = (&Requirement, &Fact)> {
    let facts = profile.knowledge.iter().filter(|fact| fact.checks.is_none());
    facts.flat_map(|fact| {
        let about = profile.requirements.iter().filter(|need| fact.needs.contains(&need.id));
        about.map(move |requirement| (requirement, fact))
    })
}

fn way(fact: &Fact, setting: &Setting, tried: bool, grants: &Grants) -> Way {
    let source = fact.sources.first().cloned();
    // What the unit says by itself is not to be changed by hand.
    let directive = setting.directive.as_ref().filter(|_| grants.world.setting == place::Setting::Host);
    let act = match (directive, &setting.edit) {
        (Some((name, value)), _) => Act::Directive(name.clone(), value.clone()),
        // A line that nobody has tried is told, and not written.
        (None, Some(edit)) if tried => Act::Edit(edit.clone()),
        (None, _) => Act::Setting,
    };
    Way { source, ..Way::new(act, format!("{}: {}", setting.text, fact.is)) }
}

/// The variables that the run was given, unless something else is known to be better.
pub(super) fn give(profile: &Profile, grants: &mut Grants) {
    for (name, value) in &profile.run.given {
        let (Some(name), Some(value)) = (name.as_str(), value.as_str()) else { continue };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || printable(value) != value {
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
    // What a trial without it has shown outweighs what is known.
    requirement.severity != Severity::Tolerated
        && requirement.only_asked()
        && profile.knowledge.iter().any(known)
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
    (choices.prefers_configuration() || is_configured(requirement)) && profile.knowledge.iter().any(settles)
}

/// What is done about one need that something is known of.
fn meet(requirement: &Requirement, fact: &Fact, grants: &mut Grants) {
    let id = requirement.id.as_str();
    if goes_on_without(requirement, fact, grants) || is_settled(id, grants) {
        return;
    }
    let best = best(fact, requirement);
    let tried = is_configured(requirement);
    let refused =
        grants.is_refused(id) || ((tried || grants.choices.prefers_configuration()) && best.is_some());
    let advised = matches!(requirement.need, Need::Identity { .. });
    let open = |act: &Act| matches!(act, Act::Refuse(_) | Act::Setting);
    match best {
        _ if fact.fatal == Some(false) && !tried && (refused || advised) => {
            let note = fact.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
            let is = best.map_or_else(|| fact.is.clone(), |best| way(fact, best, tried, grants).because);
            let because = format!("is refused, and {} is known to go on: {is}{note}", fact.program);
            grants.replace(id, open, Way::new(Act::Nothing, because));
        }
        Some(best) if refused || advised => {
            grants.replace(id, open, way(fact, best, tried, grants));
            settle(id, best, grants);
        }
        None if refused => {
            if let Some(note) = &fact.note {
                let reasons = grants.ways.get(id).into_iter().flatten();
                let reason = reasons.filter(|way| way.chosen).map(|way| way.because.clone()).next();
                let hint = format!("{}; {note}", fact.is);
                grants.replace(id, open, Way::refuse(reason.unwrap_or_default(), hint));
            }
        }
        _ => {}
    }
}

/// Whether a line of the configuration is changed for it already.
fn is_settled(id: &str, grants: &Grants) -> bool {
    let mut ways = grants.ways.get(id).into_iter().flatten();
    ways.any(|way| way.chosen && matches!(way.act, Act::Edit(_)))
}

/// Takes back a capability that serves this need alone and that the program is known to go on without.
fn goes_on_without(requirement: &Requirement, fact: &Fact, grants: &mut Grants) -> bool {
    let Need::Capability { capability } = requirement.need else { return false };
    let alone = |why: &Why| why.needs.iter().eq([&requirement.id]);
    if fact.fatal != Some(false)
        || is_proved(requirement)
        || grants.choices.prove
        || !grants.capabilities.get(&capability).is_some_and(|grant| alone(&grant.why))
    {
        return false;
    }
    grants.capabilities.remove(&capability);
    let is_it = |act: &Act| matches!(act, Act::Capability(..) | Act::FileCapability(..));
    let because = format!("{} is known to go on without it: {}", fact.program, fact.is);
    grants.replace(&requirement.id, is_it, withhold(capability, &because));
    true
}

/// The remedy that trials took, else the first that changes something for the need.
fn best<'a>(fact: &'a Fact, requirement: &Requirement) -> Option<&'a Setting> {
    let mut settings = fact.remedies.iter().filter(|setting| setting.changes(&requirement.need));
    if is_configured(requirement) {
        return settings.find(|setting| setting.edit.is_some());
    }
    settings.next()
}

/// Whether trials chose a line of the program's own configuration.
fn is_configured(requirement: &Requirement) -> bool {
    requirement.way == Some(Method::Configure)
}

/// What follows from a remedy: a variable in the unit, a directory for what is moved.
fn settle(id: &str, setting: &Setting, grants: &mut Grants) {
    if let Some((name, value)) = &setting.variable {
        let variable = Variable { value: value.clone(), why: Why::default() };
        let because = "moves what the service would make in a shared directory";
        grants.take(id, Way::new(Act::Variable(name.clone(), variable), because));
    }
    if let Some((name, value)) = &setting.directive {
        let because = "what the program makes of a refusal is settled by this";
        grants.take(id, Way::new(Act::Directive(name.clone(), value.clone()), because));
    }
    if let Some(path) = &setting.directory
        && let Whose::Private(class) = grants.world.place(path)
        && !grants.world.is_common(path)
    {
        let because = "for what is moved here by the program's own option or variable";
        grants.take(id, Way::new(Act::Directory(path.clone(), new_directory(class)), because));
    }
}
