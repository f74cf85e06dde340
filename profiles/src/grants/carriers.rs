//! Which executables have to carry file capabilities: those that made the calls. A command such as
//! `sh -c '…; exec httpd'` starts with another one, and a capability on the shell would be everybody's.

use std::collections::{BTreeMap, BTreeSet};

use super::Grants;
use super::why::Why;
use crate::interpreter::is_interpreter;
use crate::profile::Profile;
use crate::requirement::Evidence;
use crate::{Capability, RawText};

/// What is to carry which capabilities.
#[derive(Default)]
pub(crate) struct Carriers<'a> {
    /// By executable.
    pub(crate) files: BTreeMap<&'a RawText, BTreeSet<Capability>>,
    /// Interpreters that would have to carry some, each with a capability's reason.
    pub(crate) interpreters: BTreeMap<&'a RawText, &'a Why>,
    /// Capabilities of an executable that the run did not tell.
    pub(crate) unknown: BTreeSet<Capability>,
    /// Capabilities of so many executables that not all are told.
    pub(crate) too_many: BTreeSet<Capability>,
}

/// The executables that have to carry those capabilities that `wanted` accepts.
pub(crate) fn carriers<'a>(
    profile: &'a Profile,
    grants: &'a Grants,
    wanted: impl Fn(Capability) -> bool,
) -> Carriers<'a> {
    let mut carriers = Carriers::default();
    for (capability, grant) in grants.capabilities.iter().filter(|(capability, _)| wanted(**capability)) {
        let needs = profile.requirements.iter().filter(|r| grant.why.needs.contains(&r.id));
        let of_each: Vec<BTreeSet<&RawText>> = needs.map(|need| need.evidence.executables()).collect();
        if of_each.iter().any(|executables| executables.len() >= Evidence::EXECUTABLES) {
            carriers.too_many.insert(*capability);
        }
        let mut callers: BTreeSet<&RawText> = of_each.into_iter().flatten().collect();
        if callers.is_empty() {
            callers.extend(&profile.executable);
        }
        callers.retain(|path| path.as_bytes().starts_with(b"/") && !path.as_bytes().contains(&0));
        if callers.is_empty() {
            carriers.unknown.insert(*capability);
        }
        for path in callers {
            if is_interpreter(path) {
                carriers.interpreters.entry(path).or_insert(&grant.why);
            } else {
                carriers.files.entry(path).or_default().insert(*capability);
            }
        }
    }
    carriers
}

/// Why capabilities of too many executables do not reach all of them.
pub(crate) fn too_many_executables() -> String {
    format!("{} executables or more used it, and not all are told", Evidence::EXECUTABLES)
}

/// As setcap(8) takes them: `cap_kill,cap_sys_time=ep`.
pub(crate) fn capability_text(capabilities: &BTreeSet<Capability>) -> String {
    let names: Vec<String> = capabilities.iter().map(|c| c.to_string().to_lowercase()).collect();
    format!("{}=ep", names.join(","))
}
