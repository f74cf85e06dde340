//! What was granted for one need, in a few words.

use crate::RawText;
use crate::grants::{FileKind, Grants, Why};
use crate::requirement::{Need, Requirement};

/// What is done about a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is granted.
    Granted,
    /// Something in the program's own configuration is to be changed.
    Advice,
    /// It is not granted, and the program lives.
    Optional,
    /// It cannot be granted safely.
    Unmet,
}

/// A remedy: the verdict, and the words for it. They may hold text from the tracee.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remedy {
    /// What is done about the need.
    pub verdict: Verdict,
    /// In a few words.
    pub text: String,
}

/// Everything that is done about a need. What it is itself about is called "it".
pub fn remedies(grants: &Grants, requirement: &Requirement) -> Vec<Remedy> {
    let id = requirement.id.as_str();
    let subject = match &requirement.need {
        Need::Path { path, .. } | Need::Device { path, .. } => Some(path),
        _ => None,
    };
    let name = |path: &RawText| if subject == Some(path) { "it".into() } else { path.to_text() };
    let mut out = Vec::new();
    let serves = |why: &Why| why.needs.contains(id);
    let mut say = |verdict, text: String| out.push(Remedy { verdict, text });
    for text in grants.known.get(id).into_iter().flatten() {
        say(Verdict::Granted, format!("{text}; or, as written:"));
    }
    for (path, d) in grants.directories.iter().filter(|(_, d)| serves(&d.why)) {
        let verb = if d.existed { "own" } else { "make" };
        let more = if d.contents { " and its contents" } else { "" };
        say(Verdict::Granted, format!("tmpfiles.d: {verb} {}{more}, {:04o}", name(path), d.mode));
    }
    for (path, file) in grants.files.iter().filter(|(_, file)| serves(&file.why)) {
        let verb = match (file.existed, file.kind) {
            (true, _) => "own",
            (false, FileKind::Fifo) => "make pipe",
            (false, _) => "make",
        };
        let mode = file.mode.map(|mode| format!(", {mode:04o}")).unwrap_or_default();
        say(Verdict::Granted, format!("tmpfiles.d: {verb} {}{mode}", name(path)));
    }
    for (path, acl) in grants.acls.iter().filter(|(_, acl)| serves(&acl.why)) {
        say(Verdict::Granted, format!("tmpfiles.d: ACL {} on {}", acl.text(), name(path)));
    }
    for (group, m) in grants.groups.iter().filter(|(_, m)| serves(&m.why)) {
        let caution = m.caution.map(|caution| format!(" (note: {caution})")).unwrap_or_default();
        say(Verdict::Granted, format!("join group {group}{caution}"));
    }
    for (capability, grant) in grants.capabilities.iter().filter(|(_, grant)| serves(&grant.why)) {
        let danger = grant.danger.map(|danger| format!(" (danger: {danger})")).unwrap_or_default();
        say(Verdict::Granted, format!("{capability}{danger}"));
    }
    settings(grants, id, &mut say);
    for why in grants.advice.iter().filter(|why| serves(why)) {
        say(Verdict::Advice, why.reason.clone());
    }
    for why in grants.optional.iter().filter(|why| serves(why)) {
        say(Verdict::Optional, format!("nothing: it {}", why.reason));
    }
    for unmet in grants.unmet.iter().filter(|unmet| unmet.need == id) {
        say(Verdict::Unmet, format!("cannot be granted: {}. Instead: {}", unmet.reason, unmet.hint));
    }
    out
}

fn settings(grants: &Grants, id: &str, say: &mut impl FnMut(Verdict, String)) {
    let serves = |why: &Why| why.needs.contains(id);
    for limit in grants.limits.values().filter(|limit| serves(&limit.why)) {
        let value = limit.value.map_or_else(|| "no limit".into(), |value| format!("limit {value}"));
        say(Verdict::Granted, format!("drop-in: {value}"));
    }
    for (name, setting) in [("Nice", &grants.nice), ("OOMScoreAdjust", &grants.oom_score)] {
        for (value, _) in setting.iter().filter(|(_, why)| serves(why)) {
            say(Verdict::Granted, format!("drop-in: {name}={value}"));
        }
    }
    for _ in grants.devices.values().filter(|device| serves(&device.why)) {
        say(Verdict::Granted, "drop-in: DeviceAllow=".into());
    }
    for (name, sysctl) in grants.sysctls.iter().filter(|(_, sysctl)| serves(&sysctl.why)) {
        say(Verdict::Granted, format!("sysctl.d: {name} = {}", sysctl.value));
    }
    for (name, _) in grants.modules.iter().filter(|(_, why)| serves(why)) {
        say(Verdict::Granted, format!("modules-load.d: {name}"));
    }
    for _ in grants.delegate.iter().filter(|why| serves(why)) {
        say(Verdict::Granted, "drop-in: Delegate=yes".into());
    }
}
