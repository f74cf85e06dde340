//! Directives that take away what the run did not use: everything is read-only but what it writes.

use std::collections::BTreeMap;

use super::hardening;
use crate::emit::escape::tmpfiles::is_portable;
use crate::emit::escape::unit::word;
use crate::emit::{Page, writable};
use crate::grants::{Grants, Why};
use crate::paths::{is_below, parent};
use crate::place::Place;
use crate::profile::Profile;
use crate::requirement::Need;
use crate::{Capability, RawText};

/// Writes them. `own` tells of a directory that systemd itself makes writable.
pub(super) fn emit(page: &mut Page, profile: &Profile, grants: &Grants, own: &dyn Fn(&RawText) -> bool) {
    page.blank();
    match writable::doubt(profile) {
        Some(doubt) => page.comment(&format!("ProtectSystem=strict is left out: {doubt}.")),
        None => {
            page.comment("Everything is read-only but what the run wrote to; other paths another day take a line here.");
            page.line("ProtectSystem=strict");
            writable_paths(page, profile, grants, own);
        }
    }
    if grants.may_gain() {
        page.comment("What systemd enforces by filters of calls is left out: before version 255 it takes file capabilities and");
        page.comment("set-id bits away.");
    }
    let (always, proved) = hardening::lines(profile, grants, !grants.may_gain());
    always.iter().for_each(|line| page.line(line));
    if !proved.is_empty() {
        page.comment(
            "It lived with these too when it was tried; what it does another day may take one of them out.",
        );
    }
    proved.iter().for_each(|line| page.line(line));
    low_ports(page, profile, grants);
}

fn writable_paths(page: &mut Page, profile: &Profile, grants: &Grants, own: &dyn Fn(&RawText) -> bool) {
    let mut paths: BTreeMap<RawText, Why> = BTreeMap::new();
    for (path, place) in writable::places(profile, grants) {
        // A file by itself cannot be rotated; its directory, where that is the service's own, stays closed by its mode.
        let holder = parent(&path);
        let whole = !place.directory && matches!(grants.world.place(&holder), Place::Private(_));
        let path = if whole { holder } else { path };
        let mut why = place.why;
        if whole {
            why.reason = "files in it are written; its mode says who may do more".into();
        }
        paths.entry(path).or_insert_with(|| why.clone()).needs.extend(why.needs);
    }
    let all: Vec<RawText> = paths.keys().cloned().collect();
    for (path, why) in paths {
        let inner = all.iter().any(|other| is_below(path.as_bytes(), other.as_bytes()));
        if inner || path.as_bytes().starts_with(b"/dev/") || covering(&path, own) {
            continue;
        }
        page.why(&why);
        if is_portable(path.as_bytes()) {
            // Without the minus, a path that is not there keeps the service from starting.
            let mut value = b"-".to_vec();
            value.extend(path.as_bytes());
            page.line(&format!("ReadWritePaths={}", word(&value)));
        } else {
            page.comment("ReadWritePaths= cannot name this path.");
            let hint = "have the program use another name, or take ProtectSystem=strict away";
            page.cannot(&why, "ReadWritePaths= takes printable names only", hint);
        }
    }
}

fn covering(path: &RawText, own: &dyn Fn(&RawText) -> bool) -> bool {
    let mut at = path.clone();
    while at.as_bytes().len() > 1 {
        if own(&at) {
            return true;
        }
        at = parent(&at);
    }
    false
}

const DENY: &str = "SocketBindDeny=";

/// CAP_NET_BIND_SERVICE opens all low ports; the service is held to its own.
fn low_ports(page: &mut Page, profile: &Profile, grants: &Grants) {
    if !grants.capabilities.contains_key(&Capability::NET_BIND_SERVICE) || grants.ports.is_empty() {
        return;
    }
    let proof = profile.proof.as_ref().filter(|proof| proof.lives);
    if proof.is_some_and(|proof| proof.not_applied.iter().any(|what| what.starts_with(DENY))) {
        page.comment(
            "SocketBindDeny= is left out, which would keep the capability to these ports: it could not be tried where the",
        );
        page.comment("rest was proved.");
        return;
    }
    page.comment(
        "The capability opens every low port; of these, the service keeps its own (systemd 249 or later).",
    );
    let mut rules = std::collections::BTreeSet::new();
    for requirement in &profile.requirements {
        if let Need::Port { protocol, port, .. } = &requirement.need {
            let protocol = crate::requirement::word(protocol);
            if matches!(protocol.as_str(), "tcp" | "udp") {
                rules.insert((protocol, *port));
            }
        }
    }
    for (protocol, port) in rules {
        page.line(&format!("SocketBindAllow={protocol}:{port}"));
    }
    page.line(&format!("{DENY}1-{}", profile.run.unprivileged_port_start.max(2) - 1));
}

#[cfg(test)]
mod tests {
    use crate::emit::Format;
    use crate::grants::Choices;
    use crate::profile::Profile;
    use crate::proof::ProfileProof;
    use crate::requirement::Seconds;
    use crate::ways::plan;

    #[test]
    fn what_could_not_be_tried_is_not_written_as_proved() {
        let path = format!("{}/testdata/nginx/profile.json", env!("CARGO_MANIFEST_DIR"));
        let mut profile = Profile::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut proof = ProfileProof {
            lives: true,
            minimal: false,
            readiness: None,
            exercise: None,
            greetings: Vec::new(),
            settled: Seconds(0),
            trials: 1,
            took: None,
            flaked: 0,
            hardening: [].into(),
            image: None,
            not_applied: Vec::new(),
        };
        let mut denies = |not_applied: &[&str], lives| {
            proof.not_applied = not_applied.iter().map(|text| (*text).to_owned()).collect();
            profile.proof = Some(ProfileProof { lives, ..proof.clone() });
            let text = Format::SystemdDropIn.emit(&profile, &plan(&profile, &Choices::default())).text;
            assert_eq!(
                text.contains("\nSocketBindAllow=tcp:80\n"),
                text.contains("\nSocketBindDeny=1-1023\n")
            );
            text.contains("\nSocketBindDeny=")
        };
        assert!(denies(&["Delegate= of the unit: x"], true));
        assert!(!denies(&["SocketBindDeny= of the unit: x"], true));
        assert!(denies(&["SocketBindDeny= of the unit: x"], false));
    }
}
