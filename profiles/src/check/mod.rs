//! The gate for continuous integration: what a program needs beyond what was agreed on.

pub mod policy;
pub mod report;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::Capability;
use crate::describe;
use crate::diff::{Change, diff};
use crate::emit::escape::shell;
use crate::emit::pod_security;
use crate::event::Exit;
use crate::grants::Grants;
use crate::merge::runs;
use crate::profile::{Profile, Unexplained};
use crate::requirement::{IdentityOperation, Need, Requirement, Severity, word};
use crate::ways::grants;

pub use policy::{Accept, BadPolicy, Policy};

/// What is checked, against what.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// The name of its file.
    pub profile_path: &'a str,
    /// The profile that was agreed on, and the name of its file.
    pub baseline: Option<(&'a Profile, &'a str)>,
    /// What a program may need at all.
    pub policy: &'a Policy,
    /// The name of the policy's file.
    pub policy_path: Option<&'a str>,
}

/// What the check comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckResult {
    /// [`CheckResult::SCHEMA`].
    pub schema: String,
    /// The program.
    pub name: String,
    /// The file that was checked.
    pub profile: String,
    /// The baseline's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// Whether there is no finding that fails.
    pub passed: bool,
    /// The ids of all needs that were checked.
    pub checked: Vec<String>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What makes the comparison doubtful.
    pub cautions: Vec<String>,
}

/// Something that was not agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// What kind of thing.
    pub rule: Rule,
    /// Whether it makes the check fail; else it is worth a look.
    pub fails: bool,
    /// The need's id; absent where it is about the profile as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need: Option<String>,
    /// What appeared.
    pub message: String,
    /// Which call of which executable caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How to accept it.
    pub accept: String,
    /// All that is known about the need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requirement: Option<Requirement>,
}

/// A kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A need that the baseline has not.
    NewNeed,
    /// A need that takes more than it does in the baseline.
    WiderNeed,
    /// A capability that the policy denies.
    DeniedCapability,
    /// A path that the policy denies.
    DeniedPath,
    /// The level of the Pod Security Standards is not reached.
    Level,
    /// Records were lost.
    Incomplete,
    /// The program failed or was never ready, so that not all of it was seen.
    FailedRun,
    /// Something was refused or asked for that could not be placed.
    Unexplained,
}

impl Rule {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::NewNeed,
        Self::WiderNeed,
        Self::DeniedCapability,
        Self::DeniedPath,
        Self::Level,
        Self::Incomplete,
        Self::FailedRun,
        Self::Unexplained,
    ];

    /// In a sentence.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::NewNeed => "The program needs something that the baseline has not.",
            Self::WiderNeed => "The program needs more of something than the baseline grants.",
            Self::DeniedCapability => "The program needs a capability that the policy denies.",
            Self::DeniedPath => "The program needs a path that the policy denies.",
            Self::Level => {
                "The program does not fit the level of the Pod Security Standards that the policy asks for."
            }
            Self::Incomplete => "Records were lost, so there may be needs that are not listed.",
            Self::FailedRun => {
                "The program failed in the run or was never ready, so what it needs after that was not seen."
            }
            Self::Unexplained => "Something was refused or asked for that could not be placed.",
        }
    }
}

impl CheckResult {
    /// [`CheckResult::schema`] of what this version writes.
    pub const SCHEMA: &str = "nrtrace/check/v1";
}

/// Checks a profile.
pub fn check(input: &Input<'_>) -> CheckResult {
    let profile = input.profile;
    let grants = grants(profile);
    let mut checker = Checker { input, findings: Vec::new() };
    let needs: Vec<&Requirement> = profile.requirements.iter().filter(|need| checker.counts(need)).collect();
    let cautions = checker.compare();
    for need in &needs {
        checker.policy(need, &grants);
    }
    checker.level(&grants);
    checker.run();
    let mut findings = checker.findings;
    findings.sort_by(|a, b| (!a.fails, a.rule, &a.need).cmp(&(!b.fails, b.rule, &b.need)));
    CheckResult {
        schema: CheckResult::SCHEMA.to_owned(),
        name: profile.name.clone(),
        profile: input.profile_path.to_owned(),
        baseline: input.baseline.map(|(_, path)| path.to_owned()),
        passed: !findings.iter().any(|finding| finding.fails),
        checked: needs.iter().map(|need| need.id.clone()).collect(),
        findings,
        cautions,
    }
}

struct Checker<'a> {
    input: &'a Input<'a>,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn counts(&self, need: &Requirement) -> bool {
        let optional = need.severity != Severity::Required && self.input.policy.ignore_optional;
        !optional && !self.input.policy.accepts(need)
    }

    fn need(&mut self, rule: Rule, need: &Requirement, message: String, accept: String) {
        self.findings.push(Finding {
            rule,
            fails: true,
            need: Some(need.id.clone()),
            message,
            cause: Some(describe::cause(need)),
            accept,
            requirement: Some(need.clone()),
        });
    }

    fn whole(&mut self, rule: Rule, fails: bool, message: String, accept: &str) {
        let accept = accept.to_owned();
        self.findings.push(Finding {
            rule,
            fails,
            need: None,
            message,
            cause: None,
            accept,
            requirement: None,
        });
    }

    /// What the baseline has not.
    fn compare(&mut self) -> Vec<String> {
        let Some((baseline, path)) = self.input.baseline else { return Vec::new() };
        let changes = diff(baseline, self.input.profile);
        let (base, new) = (shell::readable(path), shell::readable(self.input.profile_path));
        let accept = |id: &str| {
            let id = toml_string(id);
            format!("nrtrace merge {base} {new} -o {base}; or in the policy: [[accept]] need = {id}")
        };
        for need in &changes.added {
            if self.counts(need) {
                let message = format!("new: {}", describe::need(&need.need));
                self.need(Rule::NewNeed, need, message, accept(&need.id));
            }
        }
        for change in changes.changed.iter().filter(|change| change.is_wider()) {
            if self.counts(&change.new) {
                let message =
                    format!("more than before: {} ({})", describe::need(&change.new.need), wider(change));
                self.need(Rule::WiderNeed, &change.new, message, accept(&change.id));
            }
        }
        for entry in &changes.unexplained_added {
            self.whole(
                Rule::Unexplained,
                false,
                unexplained(entry),
                "nothing is granted for it, so nothing has to be",
            );
        }
        changes.cautions
    }

    /// What the policy denies.
    fn policy(&mut self, need: &Requirement, grants: &Grants) {
        let policy = self.input.policy;
        let file = self.input.policy_path.map_or_else(|| "a policy file".into(), shell::readable);
        let accept = format!("in {file}: [[accept]] need = {}", toml_string(&need.id));
        for capability in capabilities(need, grants) {
            if policy.deny_capabilities.contains(&capability) {
                let message = format!("{capability} is denied: {}", describe::need(&need.need));
                self.need(Rule::DeniedCapability, need, message, accept.clone());
            }
        }
        if let Some(denied) = policy.denied_path(need) {
            let message = format!("{denied} is denied: {}", describe::need(&need.need));
            self.need(Rule::DeniedPath, need, message, accept);
        }
    }

    /// Whether a pod of it fits the level that is asked for.
    fn level(&mut self, grants: &Grants) {
        let Some(asked) = self.input.policy.max_level else { return };
        let (reached, obstacles) = pod_security(self.input.profile, grants);
        if reached < asked {
            let message =
                format!("the level {asked} is asked for, and {reached} is reached: {}", obstacles.join("; "));
            self.whole(
                Rule::Level,
                true,
                message,
                "set max-level lower in the policy, or on the command line",
            );
        }
    }

    /// What makes the run no measure.
    fn run(&mut self) {
        let profile = self.input.profile;
        let run = &profile.run;
        let fails = !self.input.policy.allow_incomplete;
        if let Some(shortfall) = run.shortfall() {
            let message = format!("the record is incomplete: {shortfall}");
            let accept = "trace it again, with a larger --buffer; or --allow-incomplete";
            self.whole(Rule::Incomplete, fails, message, accept);
        }
        let known: Vec<Exit> = self
            .input
            .baseline
            .iter()
            .flat_map(|(baseline, _)| runs(baseline))
            .map(|run| run.run.exit)
            .collect();
        let all = runs(profile);
        for (place, one) in all.iter().enumerate() {
            let Some(how) = one.run.failure() else { continue };
            // One that always ends like that is seen whole.
            if one.run.exit.is_failure() && known.contains(&one.run.exit) {
                continue;
            }
            let which = match all.len() {
                1 => "the program".to_owned(),
                _ => format!("run {} of {}", place + 1, self.input.profile_path),
            };
            let said = one.run.said.last().map(|line| format!("; it said last: \"{}\"", line.to_text()));
            let message = format!(
                "{which} {how}, so what it needs after that was not seen{}",
                said.unwrap_or_default()
            );
            self.whole(
                Rule::FailedRun,
                fails,
                message,
                "make it run, and trace it again; or --allow-incomplete",
            );
        }
    }
}

/// The capabilities that meeting a need takes. A path takes none: it is granted itself.
fn capabilities(need: &Requirement, grants: &Grants) -> BTreeSet<Capability> {
    let granted = grants.capabilities.iter().filter(|(_, grant)| grant.why.needs.contains(&need.id));
    let mut all: BTreeSet<Capability> = granted.map(|(capability, _)| *capability).collect();
    match &need.need {
        Need::Path { .. } | Need::Device { .. } => {}
        Need::Exec { capabilities, .. } => all.extend(capabilities),
        Need::Capability { capability } | Need::Kernel { capability, .. } => {
            all.insert(*capability);
        }
        Need::Port { .. } => {
            all.insert(Capability::NET_BIND_SERVICE);
        }
        Need::Identity { operation, .. } => {
            all.extend(match operation {
                IdentityOperation::SetUser => Some(Capability::SETUID),
                IdentityOperation::SetGroup | IdentityOperation::SetGroups => Some(Capability::SETGID),
                IdentityOperation::Chown => Some(Capability::CHOWN),
                IdentityOperation::BeRoot => None,
            });
        }
        Need::Sysctl { .. } | Need::Limit { .. } => {
            all.extend(need.evidence.checks.iter().filter(|capability| !capability.is_dac()));
        }
    }
    all
}

fn wider(change: &Change) -> String {
    let aspects = change.aspects.iter().filter(|aspect| aspect.wider);
    let texts: Vec<String> =
        aspects.map(|aspect| format!("{} was {}, is {}", aspect.field, aspect.old, aspect.new)).collect();
    texts.join("; ")
}

fn unexplained(entry: &Unexplained) -> String {
    let capability =
        entry.capability.map(|capability| format!(" consulted {capability}")).unwrap_or_default();
    let why = entry.obstacle.as_ref().map(|obstacle| format!(", {}", word(&obstacle.cause)));
    format!(
        "not explained: {} {} by {}{capability} ({}){}",
        entry.call,
        entry.object.to_text(),
        entry.process.to_text(),
        entry.outcome,
        why.unwrap_or_default()
    )
}

/// A basic string of TOML: as in JSON, with one control character more that is escaped.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
