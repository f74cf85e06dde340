//! Programs whose files give rights: what a plan makes of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use std::collections::BTreeSet;

use nrtrace_profiles::emit::Format;
use nrtrace_profiles::grants::{Grants, reach};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::atoms;
use nrtrace_profiles::ways::grants;
use nrtrace_profiles::{Capability, diff};
use samples::*;

const PING: &str = "/usr/bin/ping";

fn only(requirements: Vec<nrtrace_profiles::requirement::Requirement>) -> (Profile, Grants) {
    let profile = profile("app", &["/usr/bin/app"], requirements);
    let grants = grants(&profile);
    (profile, grants)
}

fn text(format: Format, (profile, grants): &(Profile, Grants)) -> String {
    format.emit(profile, grants).text
}

fn kept(grants: &Grants) -> Vec<Capability> {
    grants.kept().map(|(capability, _)| capability).collect()
}

#[test]
fn what_a_file_insists_on_stays_within_bounds_and_nobody_gains_it() {
    let made = only(vec![exec(PING, &[Capability::NET_RAW], ROOT, ROOT, 0o755)]);
    assert_eq!(kept(&made.1), [Capability::NET_RAW]);
    assert!(made.1.capabilities.is_empty() && !made.1.may_gain() && reach(&made.0, &made.1).is_empty());
    let unit = text(Format::SystemdDropIn, &made);
    assert!(unit.contains("\nCapabilityBoundingSet=CAP_NET_RAW\nNoNewPrivileges=yes\n"), "{unit}");
    assert!(!unit.contains("\nAmbientCapabilities=CAP"), "{unit}");
    let pod = text(Format::Kubernetes, &made);
    assert!(pod.contains("allowPrivilegeEscalation: false") && pod.contains("- \"NET_RAW\""), "{pod}");
    let compose = text(Format::Compose, &made);
    assert!(compose.contains("no-new-privileges:true") && compose.contains("- \"NET_RAW\""), "{compose}");
    assert!(
        text(Format::Apply, &made)
            .contains("--no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all,+net_raw")
    );
}

#[test]
fn what_a_file_gives_and_its_program_uses_is_not_given_to_the_service() {
    let made = only(vec![
        exec(PING, &[Capability::NET_RAW], ROOT, ROOT, 0o755),
        capability_of(PING, Capability::NET_RAW),
    ]);
    assert!(made.1.capabilities.is_empty() && made.1.may_gain(), "{:#?}", made.1);
    assert!(!reach(&made.0, &made.1).is_empty());
    let unit = text(Format::SystemdDropIn, &made);
    assert!(
        unit.contains("\nCapabilityBoundingSet=CAP_NET_RAW\n") && unit.contains("\nNoNewPrivileges=no\n")
    );
    // systemd would set it for these.
    assert!(!unit.contains("ProtectKernelModules="), "{unit}");
    assert!(text(Format::Kubernetes, &made).contains("allowPrivilegeEscalation: true"));
    assert!(!text(Format::Compose, &made).contains("no-new-privileges"));
    assert!(!text(Format::Apply, &made).contains("--no-new-privs"));
}

#[test]
fn a_capability_that_another_program_uses_too_is_given() {
    let made = only(vec![
        exec(PING, &[Capability::NET_RAW], ROOT, ROOT, 0o755),
        capability_of(PING, Capability::NET_RAW),
        {
            let mut other = capability_of("/usr/bin/app", Capability::NET_RAW);
            other.evidence.callers.extend(capability_of(PING, Capability::NET_RAW).evidence.callers);
            other
        },
    ]);
    assert!(made.1.capabilities.contains_key(&Capability::NET_RAW));
}

#[test]
fn a_capability_that_amounts_to_root_is_not_gained_from_a_file() {
    let tool = "/usr/bin/newuidmap";
    let made = only(vec![
        exec(tool, &[Capability::SYS_ADMIN], ROOT, ROOT, 0o755),
        capability_of(tool, Capability::SYS_ADMIN),
    ]);
    assert_eq!(kept(&made.1), [Capability::SYS_ADMIN], "it is executed");
    assert!(!made.1.may_gain() && !made.1.withheld.is_empty(), "{:#?}", made.1);
}

#[test]
fn a_group_is_joined_where_it_opens_no_more_than_the_program() {
    let joined = only(vec![exec("/usr/sbin/postdrop", &[], ROOT, ("postdrop", 109), 0o2555)]);
    assert!(joined.1.groups.contains_key("postdrop") && !joined.1.may_gain());
    for group in [("shadow", 42), ("disk", 6), ROOT] {
        let gained = only(vec![exec("/usr/bin/chage", &[], ROOT, group, 0o2755)]);
        assert!(gained.1.groups.is_empty() && gained.1.may_gain(), "{group:?}");
    }
}

#[test]
fn a_program_of_roots_is_not_let_become_root() {
    let made = only(vec![exec("/usr/bin/sudo", &[], ROOT, ROOT, 0o4755)]);
    assert!(!made.1.may_gain());
    let unit = text(Format::SystemdDropIn, &made);
    assert!(unit.contains("amounts to root") && unit.contains("\nNoNewPrivileges=yes\n"), "{unit}");
    let other = only(vec![exec("/usr/bin/man", &[], ("man", 6), ROOT, 0o4755)]);
    assert!(other.1.may_gain());
    assert!(text(Format::SystemdDropIn, &other).contains("runs as user man"));
}

#[test]
fn each_can_be_left_out_and_a_file_that_gives_more_is_news() {
    let found: BTreeSet<String> = atoms(&caller()).into_iter().flat_map(|atom| atom.needs).collect();
    for id in ["exec:/usr/bin/ping", "exec:/usr/bin/dumpcap", "exec:/usr/sbin/postdrop", "exec:/usr/bin/man"]
    {
        assert!(found.contains(id), "{id} in {found:?}");
    }
    let [old, new] = [vec![], vec![Capability::NET_RAW]]
        .map(|capabilities| only(vec![exec(PING, &capabilities, ROOT, ("games", 60), 0o2755)]).0);
    let changes = diff::diff(&old, &new);
    assert!(changes.changed[0].aspects[0].wider, "{changes:#?}");
}
