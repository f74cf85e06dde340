//! The ways to meet a need, in words: one list, from which tables, pages and explanations are made.

use schemars::JsonSchema;
use serde::Serialize;

use super::treatment::Treatment;
use super::{systemd, tmpfiles};
use crate::RawText;
use crate::grants::{Act, FileKind, Grade, Grants, Method, Reach, Way};
use crate::place::Setting;
use crate::requirement::{Need, Requirement};

/// A way to meet a need. Every text may hold text from the tracee: escape it for where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remedy {
    /// What comes of it.
    pub verdict: Treatment,
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
pub fn verdict(grants: &Grants, requirement: &Requirement) -> Treatment {
    done(grants, requirement).into_iter().map(|remedy| remedy.verdict).max().unwrap_or(Treatment::Unmet)
}

fn remedy(way: &Way, grants: &Grants, requirement: &Requirement) -> Remedy {
    let words = words(way, grants, requirement);
    let text = words.text();
    // Where the words are the reason, it is not said twice.
    let because = if text.contains(&way.because) { String::new() } else { way.because.clone() };
    Remedy {
        verdict: words.verdict,
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Words {
    pub(super) verdict: Treatment,
    /// Which of the files does it; empty where none does.
    pub(super) place: &'static str,
    /// What is done.
    pub(super) what: String,
    /// Whether what is done tells nothing without its place.
    begins_with_place: bool,
}

impl Words {
    fn granted(place: &'static str, what: String) -> Self {
        Self { verdict: Treatment::Granted, place, what, begins_with_place: !place.is_empty() }
    }

    fn without(verdict: Treatment, what: String) -> Self {
        Self { verdict, place: "", what, begins_with_place: false }
    }

    fn text(&self) -> String {
        if self.begins_with_place { format!("{}: {}", self.place, self.what) } else { self.what.clone() }
    }
}

/// The words for what the plan takes.
pub(super) fn chosen<'a>(
    grants: &'a Grants,
    requirement: &'a Requirement,
) -> impl Iterator<Item = (&'a Way, Words)> {
    let ways = grants.ways.get(&requirement.id).into_iter().flatten().filter(|way| way.chosen);
    ways.map(|way| (way, words(way, grants, requirement)))
}

fn words(way: &Way, grants: &Grants, requirement: &Requirement) -> Words {
    let subject = match &requirement.need {
        Need::Path { path, .. } | Need::Device { path, .. } | Need::Exec { path, .. } => Some(path),
        _ => None,
    };
    let name = |path: &RawText| if subject == Some(path) { "it".into() } else { path.to_text() };
    // Only on a machine is there a unit to write in.
    let on_host = |place| if grants.world.setting == Setting::Host { place } else { "" };
    let by_unit = |what: String| Words::granted(on_host("drop-in"), what);
    match &way.act {
        Act::Directory(path, _) | Act::File(path, _) | Act::Acl(path, _) => {
            on_files(path, object(&way.act, grants, &name(path)), grants)
        }
        Act::Join(group, membership) => {
            let caution = membership.caution.map(|caution| format!(" (note: {caution})")).unwrap_or_default();
            let what = format!("join group {group}{caution}");
            Words { begins_with_place: false, ..Words::granted(on_host("sysusers.d"), what) }
        }
        Act::Capability(capability, grant) | Act::FileCapability(capability, grant) => {
            let danger = grant.danger.map(|danger| format!(" (danger: {danger})")).unwrap_or_default();
            let on_file = matches!(way.act, Act::FileCapability(..));
            let on = if on_file { " on the file" } else { "" };
            let place = on_host(if on_file { "setcap.sh" } else { "drop-in" });
            Words { begins_with_place: false, ..Words::granted(place, format!("{capability}{on}{danger}")) }
        }
        Act::Bound(capability) => by_unit(format!("CapabilityBoundingSet={capability}")),
        Act::Gain => by_unit("no NoNewPrivileges=".into()),
        Act::Credential(name, credential) => Words {
            verdict: unit_holds(systemd::can_load(&credential.path)),
            ..Words::granted("drop-in", format!("LoadCredential={name}"))
        },
        Act::Device(path, _) => Words {
            verdict: unit_holds(systemd::can_allow(path)),
            ..Words::granted("drop-in", "DeviceAllow=".into())
        },
        Act::Listen(port) => Words::granted("socket unit", format!("systemd listens on port {port}")),
        Act::Sysctl(name, sysctl) => Words::granted("sysctl.d", format!("{name} = {}", sysctl.value)),
        Act::Module(name) => Words::granted("modules-load.d", name.clone()),
        Act::Before(words) => by_unit(format!("ExecStartPre=+{}", words.join(" "))),
        Act::Limit(_, limit) => {
            by_unit(limit.value.map_or_else(|| "no limit".into(), |value| format!("limit {value}")))
        }
        Act::Nice(value) => by_unit(format!("Nice={value}")),
        Act::OomScore(value) => by_unit(format!("OOMScoreAdjust={value}")),
        Act::Variable(name, variable) => by_unit(format!("Environment={name}={}", variable.value)),
        Act::Directive(name, value) => by_unit(format!("{name}={value}")),
        Act::Delegate => by_unit("Delegate=yes".into()),
        Act::Edit(edit) => {
            Words { begins_with_place: false, ..Words::granted(on_host("its configuration"), edit.text()) }
        }
        Act::Setting => Words::without(Treatment::Advice, way.because.clone()),
        Act::Withhold(_) => Words::without(Treatment::Withheld, format!("nothing yet: {}", way.because)),
        Act::Nothing => Words::without(Treatment::Optional, format!("nothing: it {}", way.because)),
        Act::Refuse(hint) => {
            let what = format!("cannot be granted: {}. Instead: {hint}", way.because);
            Words::without(Treatment::Unmet, what)
        }
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
fn on_files(path: &RawText, what: String, grants: &Grants) -> Words {
    match (grants.world.setting, tmpfiles::misfit(path)) {
        (Setting::Host, Some(misfit)) => {
            Words { verdict: misfit.verdict, ..Words::granted(misfit.instead, what) }
        }
        (Setting::Host, None) => Words::granted("tmpfiles.d", what),
        (Setting::Container, _) => Words::granted("image or volume", what),
        (Setting::Pod, _) => Words::granted("volume or image", what),
    }
}

/// Whether a unit can hold it.
fn unit_holds(can: bool) -> Treatment {
    if can { Treatment::Granted } else { Treatment::Partly }
}
