//! What was granted for one need, in a few words.

use super::{systemd, tmpfiles};
use crate::RawText;
use crate::grants::{FileKind, Grants, Method, PORT_SYSCTL, Why};
use crate::requirement::{Need, Requirement};

/// What is done about a need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A remedy: the verdict, and the words for it. They may hold text from the tracee.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remedy {
    /// What is done about the need.
    pub verdict: Verdict,
    /// By what, where something is done.
    pub method: Option<Method>,
    /// In a few words.
    pub text: String,
}

/// Everything that is done about a need. What it is itself about is called "it".
pub fn remedies(grants: &Grants, requirement: &Requirement) -> Vec<Remedy> {
    let id = requirement.id.as_str();
    let subject = match &requirement.need {
        Need::Path { path, .. } | Need::Device { path, .. } | Need::Exec { path, .. } => Some(path),
        _ => None,
    };
    let name = |path: &RawText| if subject == Some(path) { "it".into() } else { path.to_text() };
    let mut out = Vec::new();
    let serves = |why: &Why| why.needs.contains(id);
    use Method::{Acl, Capability, Configure, FileCapability, Group, Make, Own};
    for text in grants.known.get(id).into_iter().flatten() {
        let text = format!("{text}; or, as written:");
        out.push(Remedy { verdict: Verdict::Granted, method: None, text });
    }
    let mut line = |path: &RawText, method, text: String| {
        let (verdict, text) = match tmpfiles::misfit(path) {
            None => (Verdict::Granted, format!("tmpfiles.d: {text}")),
            Some(misfit) => (misfit.verdict, format!("{}: {text}", misfit.instead)),
        };
        out.push(Remedy { verdict, method: Some(method), text });
    };
    for (path, d) in grants.directories.iter().filter(|(_, d)| serves(&d.why)) {
        let (verb, method) = if d.existed { ("own", Own) } else { ("make", Make) };
        line(path, method, format!("{verb} {}, {:04o}", name(path), d.mode));
    }
    for (path, file) in grants.files.iter().filter(|(_, file)| serves(&file.why)) {
        let verb = match (file.existed, file.kind) {
            (true, _) => "own",
            (false, FileKind::Fifo) => "make pipe",
            (false, _) => "make",
        };
        let method = if file.existed { Own } else { Make };
        let mode = file.mode.map(|mode| format!(", {mode:04o}")).unwrap_or_default();
        line(path, method, format!("{verb} {}{mode}", name(path)));
    }
    for (path, acl) in grants.acls.iter().filter(|(_, acl)| serves(&acl.why)) {
        line(path, Acl, format!("ACL {} on {}", acl.text(), name(path)));
    }
    let mut say = |verdict, method, text: String| out.push(Remedy { verdict, method, text });
    for (group, m) in grants.groups.iter().filter(|(_, m)| serves(&m.why)) {
        let caution = m.caution.map(|caution| format!(" (note: {caution})")).unwrap_or_default();
        say(Verdict::Granted, Some(Group), format!("join group {group}{caution}"));
    }
    for (capability, grant) in grants.capabilities.iter().filter(|(_, grant)| serves(&grant.why)) {
        let danger = grant.danger.map(|danger| format!(" (danger: {danger})")).unwrap_or_default();
        let (method, on) = if grants.on_file { (FileCapability, " on the file") } else { (Capability, "") };
        say(Verdict::Granted, Some(method), format!("{capability}{on}{danger}"));
    }
    for (capability, _) in grants.kept().filter(|(_, why)| serves(why)) {
        say(Verdict::Granted, Some(Method::Unit), format!("drop-in: CapabilityBoundingSet={capability}"));
    }
    for _ in grants.executes.gains.iter().filter(|why| serves(why)).take(1) {
        say(Verdict::Granted, Some(Method::Unit), "drop-in: no NoNewPrivileges=".into());
    }
    settings(grants, id, &mut say);
    for why in grants.advice.iter().filter(|why| serves(why)) {
        say(Verdict::Advice, Some(Configure), why.reason.clone());
    }
    for why in grants.withheld.iter().filter(|why| serves(why)) {
        say(Verdict::Withheld, Some(Method::Nothing), format!("nothing yet: {}", why.reason));
    }
    for why in grants.optional.iter().filter(|why| serves(why)) {
        say(Verdict::Optional, Some(Method::Nothing), format!("nothing: it {}", why.reason));
    }
    for unmet in grants.unmet.iter().filter(|unmet| unmet.need == id) {
        say(Verdict::Unmet, None, format!("cannot be granted: {}. Instead: {}", unmet.reason, unmet.hint));
    }
    out
}

fn settings(grants: &Grants, id: &str, tell: &mut impl FnMut(Verdict, Option<Method>, String)) {
    let serves = |why: &Why| why.needs.contains(id);
    for (name, credential) in grants.credentials.iter().filter(|(_, credential)| serves(&credential.why)) {
        let verdict = by_unit(systemd::can_load(&credential.path));
        tell(verdict, Some(Method::Credential), format!("drop-in: LoadCredential={name}"));
    }
    for (path, _) in grants.devices.iter().filter(|(_, device)| serves(&device.why)) {
        tell(by_unit(systemd::can_allow(path)), Some(Method::Unit), "drop-in: DeviceAllow=".into());
    }
    let mut say = |method, text: String| tell(Verdict::Granted, Some(method), text);
    for port in grants.ports.iter().filter(|(_, why)| grants.port_method == Method::Socket && serves(why)) {
        say(Method::Socket, format!("socket unit: systemd listens on port {}", port.0));
    }
    for (name, variable) in grants.environment.iter().filter(|(_, variable)| serves(&variable.why)) {
        say(Method::Configure, format!("drop-in: Environment={name}={}", variable.value));
    }
    for (words, _) in grants.before_start.iter().filter(|(_, why)| serves(why)) {
        say(Method::Manager, format!("drop-in: ExecStartPre=+{}", words.join(" ")));
    }
    for limit in grants.limits.values().filter(|limit| serves(&limit.why)) {
        let value = limit.value.map_or_else(|| "no limit".into(), |value| format!("limit {value}"));
        say(Method::Unit, format!("drop-in: {value}"));
    }
    for (name, setting) in [("Nice", &grants.nice), ("OOMScoreAdjust", &grants.oom_score)] {
        for (value, _) in setting.iter().filter(|(_, why)| serves(why)) {
            say(Method::Unit, format!("drop-in: {name}={value}"));
        }
    }
    for (name, sysctl) in grants.sysctls.iter().filter(|(_, sysctl)| serves(&sysctl.why)) {
        let method = if name == PORT_SYSCTL { Method::Sysctl } else { Method::Boot };
        say(method, format!("sysctl.d: {name} = {}", sysctl.value));
    }
    for (name, _) in grants.modules.iter().filter(|(_, why)| serves(why)) {
        say(Method::Boot, format!("modules-load.d: {name}"));
    }
    for _ in grants.delegate.iter().filter(|why| serves(why)) {
        say(Method::Unit, "drop-in: Delegate=yes".into());
    }
}

/// Whether a unit can hold it.
fn by_unit(can: bool) -> Verdict {
    if can { Verdict::Granted } else { Verdict::Partly }
}
