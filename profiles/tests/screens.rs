//! What people see of real services, on a terminal of 80 and one of 120 columns. `UPDATE=1` writes the screens anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod samples;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nrtrace_profiles::emit::{Style, View, table};
use nrtrace_profiles::event::{Attached, Exit, FileType};
use nrtrace_profiles::profile::{Listen, Profile};
use nrtrace_profiles::proof::ProfileProof;
use nrtrace_profiles::requirement::{Access, IdentityOperation, Seconds};
use nrtrace_profiles::ways::grants;

/// What a terminal of so many columns shows.
fn columns(width: usize) -> View {
    View { width: Some(width), ..View::PLAIN }
}

/// Programs, and how many lines the answer may take on 80 columns.
const SERVICES: [(&str, usize); 6] =
    [("nginx", 15), ("lighttpd", 15), ("bind9", 15), ("tomcat", 40), ("rabbitmq", 40), ("k0s", 40)];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens")
}

fn profile(name: &str) -> Profile {
    let text = std::fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
    Profile::from_json(&text).unwrap()
}

#[test]
fn the_screens_are_as_they_were() {
    for (name, most) in SERVICES {
        let profile = profile(name);
        let grants = grants(&profile);
        for width in [80, 120] {
            let text = table(&profile, &grants, &columns(width));
            let path = directory().join(format!("{name}.{width}.txt"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let known = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(text, known, "{name} at {width} columns: UPDATE=1 writes it anew");
            assert!(text.lines().count() <= most, "{name} takes more than {most} lines:\n{text}");
        }
    }
}

/// Whatever is to be pasted stands in one piece on the narrowest screen: each word is one of the lines that are not broken.
#[test]
fn nothing_that_is_to_be_pasted_is_broken() {
    for (name, _) in SERVICES {
        let profile = profile(name);
        let grants = grants(&profile);
        for all in [false, true] {
            let words = |width| -> Vec<String> {
                let text = table(&profile, &grants, &View { width, all, ..View::PLAIN });
                text.split_whitespace().map(str::to_owned).collect()
            };
            let whole = words(None);
            for word in words(Some(60)) {
                assert!(whole.contains(&word), "{name}: {word} is a piece of something");
            }
        }
    }
}

#[test]
fn needs_dealt_with_alike_are_one_row() {
    let state = |n: usize| {
        let path = format!("/var/lib/thing/{n}.tab");
        let refused = samples::inode(FileType::File, ("thing", 120), ("thing", 120), 0o660);
        samples::path(&path, FileType::File, &[Access::Read], (&path, refused))
    };
    let text = |count: usize| {
        let profile = samples::profile("thing", &["/usr/bin/thing"], (0..count).map(state).collect());
        table(&profile, &grants(&profile), &columns(80))
    };
    let few = text(4);
    assert!(few.contains("/var/lib/thing/{0.tab,1.tab,2.tab,3.tab}"), "{few}");
    let many = text(40);
    assert!(many.contains("/var/lib/thing/ (40 files)") && !many.contains("39.tab"), "{many}");
    assert!(many.contains("join group thing") && many.lines().count() < 6, "{many}");
}

#[test]
fn files_given_away_below_one_tree_are_one_row() {
    let give = |n: usize| {
        let path = format!("/var/lib/k0s/pki/{}/{n}.key", n % 2);
        samples::identity(IdentityOperation::Chown, &[0, u32::MAX], Some(&path))
    };
    let profile = samples::profile("k0s", &["/usr/bin/k0s"], (0..27).map(give).collect());
    let text = table(&profile, &grants(&profile), &columns(120));
    assert!(text.contains("give /var/lib/k0s/pki/ (27 files) to 0:-"), "{text}");
    assert!(!text.contains("9.key") && text.lines().count() < 6, "{text}");
}

/// On which address a port is bound does not matter: what opens it opens it on all. What is bound in passing is no service.
#[test]
fn a_port_is_one_row_and_passing_ports_are_counted() {
    use nrtrace_profiles::event::Protocol::{Tcp, Udp};
    let port = |address, port| samples::port(Tcp, address, port);
    let needs = vec![port("0.0.0.0", 80), port("::", 80), port("127.0.0.1", 443)];
    let mut profile = samples::profile("web", &["/usr/bin/web"], needs);
    let listen =
        |protocol, port| Listen { protocol, address: "0.0.0.0".into(), port: Some(port), processes: vec![] };
    profile.listens = vec![listen(Tcp, 80), listen(Udp, 53), listen(Tcp, 40000)];
    profile.listens.extend((0..25).map(|n| listen(Udp, 33000 + 7 * n)));
    let text = table(&profile, &grants(&profile), &columns(80));
    assert!(text.contains("  tcp 80, 443  CAP_NET_BIND_SERVICE  drop-in\n"), "{text}");
    assert!(text.contains("listens tcp 80, 40000; udp 53, 25 ephemeral ports\n"), "{text}");
}

/// Each thing that makes a result less than sure is a line of its own before it, and then nothing is green.
#[test]
fn what_is_not_sure_is_said_first_and_is_not_green() {
    const GREEN: &str = "\x1b[1;32m";
    type Change = fn(&mut Profile);
    let sure = || {
        let mut profile = samples::nginx();
        profile.proof = Some(ProfileProof {
            lives: true,
            minimal: true,
            readiness: None,
            exercise: None,
            greetings: Vec::new(),
            settled: Seconds(0),
            trials: 16,
            took: Some(Seconds(31_000_000_000)),
            flaked: 0,
            hardening: BTreeSet::new(),
            image: None,
            not_applied: Vec::new(),
        });
        profile
    };
    let text =
        |profile: &Profile| table(profile, &grants(profile), &View { style: Style::Colour, ..columns(120) });
    let first = "nginx runs as nginx with 9 grants, proved in 16 trials (31 s)";
    assert!(text(&sure()).starts_with(&format!("{GREEN}{first}")), "{}", text(&sure()));
    let doubts: [(&str, Change); 7] = [
        ("Not proved: what one run", |profile| profile.proof = None),
        ("Not proved: it did not live", |profile| profile.proof.as_mut().unwrap().lives = false),
        ("Its start was not seen: unit web ran before", |profile| {
            let target = "unit web".into();
            profile.run.attached = Some(Attached { target, from_start: false, own_refusals: false });
        }),
        ("Incomplete: 3 records lost", |profile| (profile.run.lost, profile.run.complete) = (3, false)),
        ("Incomplete: 2 accesses not judged", |profile| {
            (profile.run.unjudged, profile.run.complete) = (2, false)
        }),
        ("Incomplete: the program was cut off", |profile| profile.run.complete = false),
        ("It failed: it exited with status 1", |profile| {
            (profile.proof, profile.run.exit) = (None, Exit::Exited { status: 1 });
        }),
    ];
    for (words, doubt) in doubts {
        let mut profile = sure();
        doubt(&mut profile);
        let shown = text(&profile);
        let line = shown.lines().next().unwrap();
        assert!(line.contains(words) && !shown.contains(GREEN), "{words}: {shown}");
    }
}
