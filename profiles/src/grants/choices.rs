//! What is preferred where there are several ways.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::method::Method;

/// What the plan is to take where there are several ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choices {
    /// Methods to take before all others, most wanted first.
    pub prefer: Vec<Method>,
    /// Whether a container is to run as any user id with group 0, as OpenShift has it.
    pub arbitrary_uid: bool,
    /// Where nrtrace is, for scripts that call it; found by its name unless given.
    #[serde(default)]
    pub program: Option<String>,
    /// Whether what is withheld until it is proved is granted: for the trials that are to prove it.
    #[serde(default)]
    pub prove: bool,
    /// Directives of [`hardening`](crate::emit::hardening) that the unit is to hold, besides those that are proved: what
    /// is being tried.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub harden: BTreeSet<String>,
}

impl Choices {
    /// The method to take, of those that can be: the one that trials chose, the most wanted, else the first.
    pub(crate) fn pick(&self, tried: Option<Method>, feasible: &[Method]) -> Option<Method> {
        let mut wanted = tried.iter().chain(&self.prefer);
        wanted.find(|method| feasible.contains(method)).or(feasible.first()).copied()
    }

    /// Whether the program's own configuration comes before what nrtrace can write.
    pub(crate) fn prefers_configuration(&self) -> bool {
        self.prefer.contains(&Method::Configure)
    }
}
