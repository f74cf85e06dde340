//! The ways to meet a requirement, best first, each with what it costs and what it risks.
//!
//! Ways that are known from the program's own documentation come first, then those of least privilege. Which of them
//! the plan takes is marked; it is not always the first, since the plan takes what works without changing the program.

mod files;
mod system;

use schemars::JsonSchema;
use serde::Serialize;

use crate::emit;
use crate::grants::{Grants, Method};
use crate::profile::Profile;
use crate::requirement::{Need, Requirement, Severity};

/// A way to meet a requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remedy {
    /// What does it.
    pub method: Method,
    /// Where it can be used.
    pub scope: Scope,
    /// What to do. Like every text here it may hold text from the tracee: escape it for where it goes.
    pub text: String,
    /// How much work it is, and how much it changes.
    pub cost: Grade,
    /// How much it opens beyond the need.
    pub risk: Grade,
    /// What the cost and the risk are.
    pub because: String,
    /// Where it is known from, when it is particular to the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether the plan takes it.
    pub chosen: bool,
}

/// Where a remedy can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everywhere.
    Anywhere,
    /// On a machine of its own.
    Host,
    /// Where systemd starts the service.
    Systemd,
    /// In a container.
    Container,
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Nothing worth a thought.
    None,
    /// A little.
    Low,
    /// Enough to think about.
    Medium,
    /// Much: root in all but name, or a change to the program.
    High,
}

/// All ways to meet a requirement, best first. At least one is marked as chosen, unless none can be taken.
pub fn ranked(profile: &Profile, grants: &Grants, requirement: &Requirement) -> Vec<Remedy> {
    let mut list = List { grants, out: Vec::new() };
    let facts = profile.knowledge.iter().filter(|fact| fact.needs.contains(&requirement.id));
    let settings = facts.flat_map(|fact| fact.remedies.iter().map(move |setting| (fact, setting)));
    for (fact, setting) in settings.filter(|(_, setting)| setting.changes(&requirement.need)) {
        list.add(
            Method::Configure,
            Scope::Anywhere,
            (Grade::Low, Grade::None),
            setting.text.clone(),
            format!("known of {}: it is {}; nothing is opened", fact.program, fact.is),
        );
        list.out.iter_mut().rev().take(1).for_each(|remedy| remedy.source = fact.sources.first().cloned());
    }
    if requirement.severity != Severity::Required {
        let because = "it was refused, or only tried, and the program went on";
        list.add(Method::Nothing, Scope::Anywhere, (Grade::None, Grade::None), "grant nothing", because);
    }
    match &requirement.need {
        Need::Path { .. } => files::path(requirement, &mut list),
        Need::Device { path, .. } => files::device(path, requirement, &mut list),
        _ => system::add(requirement, &mut list),
    }
    list.mark(requirement)
}

/// A list in the making.
struct List<'a> {
    grants: &'a Grants,
    out: Vec<Remedy>,
}

impl List<'_> {
    fn add(
        &mut self,
        method: Method,
        scope: Scope,
        (cost, risk): (Grade, Grade),
        text: impl Into<String>,
        because: impl Into<String>,
    ) {
        let (text, because) = (text.into(), because.into());
        self.out.push(Remedy { method, scope, text, cost, risk, because, source: None, chosen: false });
    }

    /// Marks what the plan takes, in the plan's own words.
    fn mark(mut self, requirement: &Requirement) -> Vec<Remedy> {
        for taken in emit::remedies(self.grants, requirement) {
            let Some(method) = taken.method else { continue };
            let is_it = |remedy: &Remedy| remedy.method == method;
            if let Some(remedy) = self.out.iter_mut().find(|remedy| is_it(remedy) && !remedy.chosen) {
                remedy.chosen = true;
                if remedy.source.is_none() && method != Method::Nothing {
                    remedy.text = taken.text;
                }
            } else if !self.out.iter().any(is_it) {
                self.add(method, Scope::Host, (Grade::Low, Grade::Low), taken.text, "what the plan does");
                self.out.iter_mut().rev().take(1).for_each(|remedy| remedy.chosen = true);
            }
        }
        self.out
    }
}
