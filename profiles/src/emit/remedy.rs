//! The ways to meet a need, in words: one list, from which tables, pages and explanations are made.

use schemars::JsonSchema;
use serde::Serialize;

use super::{systemd, tmpfiles};
use crate::RawText;
use crate::grants::{Act, FileKind, Grade, Grants, Method, Reach, Way};
use crate::place::Setting;
use crate::requirement::{Need, Requirement};

/// What is done about a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is granted.
    Granted,
    /// It is granted, but a file for systemd cannot hold it: not before some version, or not at all.
    Partly,
    /// Something in the program's own configuration is to be changed.
    Advice,
    /// It is not granted, and the program lives.
    Optional,
    /// It is granted once a trial without it has failed.
    Withheld,
    /// It cannot be granted safely.
    Unmet,
}

/// A way to meet a need. Every text may hold text from the tracee: escape it for where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remedy {
    /// What comes of it.
    pub verdict: Verdict,
    /// By what, where something is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// What is done, in a few words. What the need is itself about is called "it".
    pub text: String,
    /// Why it is done that way, where that is more.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// How much it opens beyond what the program did.
    pub risk: Grade,
    /// What it opens beyond what the program did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<String>,
    /// Where it is known from, when it is particular to the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether the plan takes it.
    pub chosen: bool,
}

/// All ways to meet a need, least first.
pub fn remedies(grants: &Grants, requirement: &Requirement) -> Vec<Remedy> {
    let ways = grants.ways.get(&requirement.id).into_iter().flatten();
    ways.map(|way| remedy(way, grants, requirement)).collect()
}

/// What is done about a need.
pub fn done(grants: &Grants, requirement: &Requirement) -> Vec<Remedy> {
    remedies(grants, requirement).into_iter().filter(|remedy| remedy.chosen).collect()
}

/// What comes of all that is done about a need.
pub fn verdict(grants: &Grants, requirement: &Requirement) -> Verdict {
    done(grants, requirement).into_iter().map(|remedy| remedy.verdict).max().unwrap_or(Verdict::Unmet)
}

fn remedy(way: &Way, grants: &Grants, requirement: &Requirement) -> Remedy {
    let (verdict, text) = words(way, grants, requirement);
    // Where the words are the reason, it is not said twice.
    let because = if text.contains(&way.because) { String::new() } else { way.because.clone() };
    Remedy {
        verdict,
        method: way.act.method(),
        text,
        because,
        risk: way.risk(),
        opens: way.reach.iter().map(Reach::text).collect(),
        source: way.source.clone(),
        chosen: way.chosen,
    }
}

/// The words for a way.
fn words(way: &Way, grants: &Grants, requirement: &Requirement) -> (Verdict, String) {
    let subject = match &requirement.need {
        Need::Path { path, .. } | Need::Device { path, .. } | Need::Exec { path, .. } => Some(path),
        _ => None,
    };
    let name = |path: &RawText| if subject == Some(path) { "it".into() } else { path.to_text() };
    // Only on a machine is there a unit to write in.
    let unit = if grants.world.setting == Setting::Host { "drop-in: " } else { "" };
    let granted = |text: String| (Verdict::Granted, text);
    let by_unit = |text: String| (Verdict::Granted, format!("{unit}{text}"));
    match &way.act {
        Act::Directory(path, _) | Act::File(path, _) | Act::Acl(path, _) => {
            on_files(path, &object(&way.act, grants, &name(path)), grants)
        }
        Act::Join(group, membership) => {
            let caution = membership.caution.map(|caution| format!(" (note: {caution})")).unwrap_or_default();
            granted(format!("join group {group}{caution}"))
        }
        Act::Capability(capability, grant) | Act::FileCapability(capability, grant) => {
            let danger = grant.danger.map(|danger| format!(" (danger: {danger})")).unwrap_or_default();
            let on = if matches!(way.act, Act::FileCapability(..)) { " on the file" } else { "" };
            granted(format!("{capability}{on}{danger}"))
        }
        Act::Bound(capability) => by_unit(format!("CapabilityBoundingSet={capability}")),
        Act::Gain => by_unit("no NoNewPrivileges=".into()),
        Act::Credential(name, credential) => {
            (unit_holds(systemd::can_load(&credential.path)), format!("drop-in: LoadCredential={name}"))
        }
        Act::Device(path, _) => (unit_holds(systemd::can_allow(path)), "drop-in: DeviceAllow=".into()),
        Act::Listen(port) => granted(format!("socket unit: systemd listens on port {port}")),
        Act::Sysctl(name, sysctl) => granted(format!("sysctl.d: {name} = {}", sysctl.value)),
        Act::Module(name) => granted(format!("modules-load.d: {name}")),
        Act::Before(words) => by_unit(format!("ExecStartPre=+{}", words.join(" "))),
        Act::Limit(_, limit) => {
            let value = limit.value.map_or_else(|| "no limit".into(), |value| format!("limit {value}"));
            by_unit(value)
        }
        Act::Nice(value) => by_unit(format!("Nice={value}")),
        Act::OomScore(value) => by_unit(format!("OOMScoreAdjust={value}")),
        Act::Variable(name, variable) => by_unit(format!("Environment={name}={}", variable.value)),
        Act::Directive(name, value) => by_unit(format!("{name}={value}")),
        Act::Delegate => by_unit("Delegate=yes".into()),
        Act::Setting => (Verdict::Advice, way.because.clone()),
        Act::Withhold(_) => (Verdict::Withheld, format!("nothing yet: {}", way.because)),
        Act::Nothing => (Verdict::Optional, format!("nothing: it {}", way.because)),
        Act::Refuse(hint) => (Verdict::Unmet, format!("cannot be granted: {}. Instead: {hint}", way.because)),
    }
}

/// What is done to a file or directory; its mode is the one that it has in the end.
fn object(act: &Act, grants: &Grants, name: &str) -> String {
    match act {
        Act::Directory(path, directory) => {
            let verb = if directory.existed { "own" } else { "make" };
            let mode = grants.directories.get(path).map_or(directory.mode, |planned| planned.mode);
            format!("{verb} {name}, {mode:04o}")
        }
        Act::File(_, file) => {
            let verb = match (file.existed, file.kind) {
                (_, FileKind::Attribute) => "open to its group",
                (true, _) => "own",
                (false, FileKind::Fifo) => "make pipe",
                (false, _) => "make",
            };
            let mode = file.mode.map(|mode| format!(", {mode:04o}")).unwrap_or_default();
            format!("{verb} {name}{mode}")
        }
        Act::Acl(path, acl) => {
            let all = grants.acls.get(path).unwrap_or(acl);
            format!("ACL {} on {name}", all.text())
        }
        _ => String::new(),
    }
}

/// By what files are granted where the program runs.
fn on_files(path: &RawText, text: &str, grants: &Grants) -> (Verdict, String) {
    match (grants.world.setting, tmpfiles::misfit(path)) {
        (Setting::Host, Some(misfit)) => (misfit.verdict, format!("{}: {text}", misfit.instead)),
        (Setting::Host, None) => (Verdict::Granted, format!("tmpfiles.d: {text}")),
        (Setting::Container, _) => (Verdict::Granted, format!("image or volume: {text}")),
        (Setting::Pod, _) => (Verdict::Granted, format!("volume or image: {text}")),
    }
}

/// Whether a unit can hold it.
fn unit_holds(can: bool) -> Verdict {
    if can { Verdict::Granted } else { Verdict::Partly }
}
