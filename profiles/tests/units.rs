//! A drop-in for a unit that is there: an addition to it, which neither repeats nor loosens what it says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use nrtrace_profiles::emit::{Emitted, Format};
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::unit::OfUnit;
use nrtrace_profiles::ways::plan;

fn nginx() -> Profile {
    let path = format!("{}/testdata/nginx/profile.json", env!("CARGO_MANIFEST_DIR"));
    Profile::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What is written for a unit that says this.
fn emit(format: Format, directives: &[(&str, &[&str])], start: &[&str]) -> Emitted {
    let mut profile = nginx();
    let directives: BTreeMap<String, Vec<String>> = directives
        .iter()
        .map(|(name, values)| ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect()))
        .collect();
    let start = start.iter().map(|line| (*line).to_owned()).collect();
    profile.unit = Some(OfUnit { name: "web@one.service".into(), directives, start });
    format.emit(&profile, &plan(&profile, &Choices::default()))
}

fn drop_in(directives: &[(&str, &[&str])], start: &[&str]) -> String {
    emit(Format::SystemdDropIn, directives, start).text
}

#[test]
fn it_goes_by_the_name_of_the_unit() {
    let emitted = emit(Format::SystemdDropIn, &[], &[]);
    assert_eq!(emitted.file_name, "web@one.service.d/50-nonroot.conf");
    assert!(
        emitted.text.starts_with("# Runs web@one.service as test instead of root.\n"),
        "{}",
        emitted.text
    );
    assert!(!emitted.text.contains("The run was started with these"), "the unit sets its variables");
    let script = emit(Format::Apply, &[], &[]).text;
    assert!(script.contains("/'web@one.service.d/50-nonroot.conf'"), "{script}");
    assert!(script.contains("\"Start it with: $nrtrace start '$unit'\"\n"), "{script}");
}

#[test]
fn what_the_unit_closes_stays_as_it_is() {
    let plain = drop_in(&[("ProtectHostname", &["no"])], &[]);
    assert!(
        plain.contains("\nProtectHome=read-only\n") && plain.contains("\nProtectHostname=yes\n"),
        "{plain}"
    );
    let closed = drop_in(&[("ProtectHome", &["yes"]), ("ProtectHostname", &["true"])], &[]);
    assert!(!closed.contains("ProtectHome=") && !closed.contains("ProtectHostname="), "{closed}");
}

#[test]
fn directories_keep_the_mode_that_the_unit_has_for_them() {
    let plain = drop_in(&[], &[]);
    assert!(
        plain.contains("\nStateDirectoryMode=0700\n") && plain.contains("\nStateDirectory=nginx/body\n"),
        "{plain}"
    );
    let other = drop_in(&[("StateDirectory", &["web"]), ("StateDirectoryMode", &["0750"])], &[]);
    assert!(!other.contains("StateDirectory"), "tmpfiles.d makes those of another mode: {other}");
    let same = drop_in(&[("StateDirectory", &["web"]), ("StateDirectoryMode", &["0700"])], &[]);
    assert!(same.contains("\nStateDirectory=nginx/body\n") && !same.contains("StateDirectoryMode"), "{same}");
}

#[test]
fn a_start_as_root_is_set_anew_and_what_was_kept_away_is_said() {
    assert!(!drop_in(&[], &[]).contains("ExecStart"));
    let anew = drop_in(&[("CapabilityBoundingSet", &["CAP_CHOWN"])], &["-/bin/a $X", "/bin/b\nUser=root"]);
    assert!(anew.contains("\nExecStart=\nExecStart=-/bin/a $X\n") && !anew.contains("User=root"), "{anew}");
    assert!(anew.contains("# Note: CapabilityBoundingSet= of the unit has kept it"), "{anew}");
    let had = drop_in(&[("CapabilityBoundingSet", &["CAP_NET_BIND_SERVICE"])], &[]);
    assert!(!had.contains("has kept it"), "{had}");
}
