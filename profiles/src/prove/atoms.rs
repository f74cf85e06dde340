//! What can be left out of a plan by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::grants::{Choices, Grants, Why};
use crate::profile::Profile;
use crate::requirement::Severity;
use crate::ways::plan;

/// Needs that are granted together, so that they can only be left out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// Their ids.
    pub needs: BTreeSet<String>,
    /// How much is given with it: the highest is tried first.
    pub risk: Risk,
    /// What is granted, in a few words.
    pub words: String,
}

/// What kind of grant it is, the riskiest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// A variable or a directive of the unit, which opens nothing.
    Setting,
    /// A limit or a priority.
    Limit,
    /// A directory or file made for the service alone, or given to it.
    Own,
    /// A file opened by an ACL entry.
    Acl,
    /// What is set for the whole machine at boot.
    Machine,
    /// A device node.
    Device,
    /// A group.
    Group,
    /// A capability.
    Capability,
    /// A capability that amounts to more than its name says.
    Dangerous,
}

/// A profile in which these needs are not granted.
pub fn without(profile: &Profile, removed: &BTreeSet<String>) -> Profile {
    let mut profile = profile.clone();
    for requirement in profile.requirements.iter_mut().filter(|found| removed.contains(&found.id)) {
        requirement.severity = Severity::Tolerated;
    }
    profile
}

/// All atoms of a profile's plan, the riskiest first.
///
/// A need may be in several: a capability serves all ports, a directory all files in it.
pub fn atoms(profile: &Profile) -> Vec<Atom> {
    let grants = plan(profile, &Choices { prove: true, ..Choices::default() });
    let mut atoms: BTreeMap<BTreeSet<String>, (Risk, Vec<String>)> = BTreeMap::new();
    for (why, risk, words) in items(&grants) {
        if why.needs.is_empty() {
            continue;
        }
        let (known, all) = atoms.entry(why.needs.clone()).or_insert((risk, Vec::new()));
        *known = (*known).max(risk);
        all.push(words);
    }
    let mut atoms: Vec<Atom> = atoms
        .into_iter()
        .map(|(needs, (risk, words))| Atom { needs, risk, words: words.join(", ") })
        .collect();
    atoms.sort_by(|a, b| b.risk.cmp(&a.risk).then_with(|| a.needs.cmp(&b.needs)));
    atoms
}

/// Everything that is granted, with the needs it serves.
fn items(grants: &Grants) -> Vec<(&Why, Risk, String)> {
    let mut items = Vec::new();
    for (capability, grant) in &grants.capabilities {
        let risk = if grant.danger.is_some() { Risk::Dangerous } else { Risk::Capability };
        items.push((&grant.why, risk, capability.to_string()));
    }
    let kept = |(capability, why)| (why, Risk::Setting, format!("CapabilityBoundingSet={capability}"));
    items.extend(grants.kept().map(kept));
    let gains = grants.executes.gains.iter();
    items.extend(gains.map(|why| (why, Risk::Dangerous, "NoNewPrivileges=no".to_owned())));
    items
        .extend(grants.groups.iter().map(|(name, group)| (&group.why, Risk::Group, format!("group {name}"))));
    items.extend(grants.devices.iter().map(|(path, device)| (&device.why, Risk::Device, path.to_text())));
    items.extend(grants.acls.iter().map(|(path, acl)| (&acl.why, Risk::Acl, format!("ACL on {path}"))));
    items.extend(grants.directories.iter().map(|(path, made)| (&made.why, Risk::Own, path.to_text())));
    items.extend(grants.files.iter().map(|(path, file)| (&file.why, Risk::Own, path.to_text())));
    items.extend(grants.sysctls.iter().map(|(name, set)| (&set.why, Risk::Machine, name.clone())));
    items.extend(grants.modules.iter().map(|(name, why)| (why, Risk::Machine, name.clone())));
    items.extend(grants.delegate.iter().map(|why| (why, Risk::Machine, "Delegate=yes".to_owned())));
    items.extend(grants.limits.iter().map(|(limit, grant)| {
        (&grant.why, Risk::Limit, format!("limit {}", crate::requirement::word(limit)))
    }));
    items.extend(grants.environment.iter().map(|(name, variable)| {
        (&variable.why, Risk::Setting, format!("Environment={name}={}", variable.value))
    }));
    items.extend(grants.directives.iter().map(|((name, _), why)| (why, Risk::Setting, format!("{name}="))));
    items.extend(grants.edits.iter().map(|(edit, why)| (why, Risk::Setting, edit.text())));
    items.extend(grants.nice.iter().map(|(_, why)| (why, Risk::Limit, "Nice=".to_owned())));
    items.extend(grants.oom_score.iter().map(|(_, why)| (why, Risk::Limit, "OOMScoreAdjust=".to_owned())));
    items
}
