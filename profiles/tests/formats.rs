//! Each format reads back as exactly what was granted, whatever bytes are in the names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod readers;
mod samples;

use std::collections::BTreeSet;

use nrtrace_profiles::changes::Changes;
use nrtrace_profiles::emit::{Emitted, Format, Platform, Style, View, artefacts, files, table};
use nrtrace_profiles::event::{Exit, FileType};
use nrtrace_profiles::profile::{GaveUp, LookedAt, Profile, Written};
use nrtrace_profiles::requirement::{Access, IdentityOperation, Need};
use nrtrace_profiles::version::ReadError;
use nrtrace_profiles::ways::grants;
use proptest::prelude::*;
use readers::*;
use samples::{HOSTILE, hostile};

/// A name of any bytes a file name can have, rich in those that mean something somewhere.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b" \n\t\r\\\"'%#:;$`*?[]{}~&|<>!-=,\x1b\x7f\x80\xff".to_vec());
    let any = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'_' } else { b });
    prop::collection::vec(prop_oneof![special, any], 1..60)
}

/// What a terminal of so many columns shows.
fn columns(width: usize) -> View {
    View { width: Some(width), ..View::PLAIN }
}

fn check_all(name: &[u8]) {
    let profile = hostile(name);
    let plan = grants(&profile);
    for format in Format::ALL {
        let emitted = format.emit(&profile, &plan);
        check_plain(&emitted);
        match format {
            Format::Tmpfiles => check_tmpfiles(&emitted, &plan),
            Format::SystemdDropIn | Format::SystemdUnit => check_service(&emitted, &profile, &plan),
            Format::SystemdSocket => {
                let ours = [
                    "[Unit]",
                    "Description=Sockets of hostiled",
                    "[Socket]",
                    "[Install]",
                    "WantedBy=sockets.target",
                ];
                let other = lines(&emitted).into_iter().filter(|line| !ours.contains(line));
                assert!(
                    other.clone().count() <= 1 && other.clone().all(|line| line.starts_with("ListenStream="))
                );
            }
            Format::Changes => {
                let changes = Changes::from_json(&emitted.text).unwrap();
                assert_eq!(changes, Changes::of(&profile, &plan));
            }
            Format::Compose => check_compose(&emitted, &profile, &plan),
            Format::Containerfile => check_containerfile(&emitted),
            Format::Markdown => check_markdown(&emitted, &plan),
            Format::Html => check_html(&emitted, &profile),
            Format::Kubernetes => check_kubernetes(&emitted, &profile, &plan),
            Format::Sysusers => {
                let expected = ["g hostiled -", "u hostiled -:hostiled \"hostiled without root\" -"];
                assert_eq!(lines(&emitted), expected);
            }
            Format::Sysctl => assert!(lines(&emitted).len() <= 1),
            Format::ModulesLoad => assert!(lines(&emitted).len() <= 1),
            Format::Json => assert_eq!(Profile::from_json(&emitted.text).unwrap(), profile),
            Format::Setcap | Format::Apply | Format::Undo | Format::Table => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_name_reads_back_from_every_format(name in name()) {
        check_all(&name);
    }

    #[test]
    fn a_table_fits_its_width_or_keeps_what_is_to_be_pasted_whole(name in name(), width in 60_usize..200, all: bool) {
        let profile = hostile(&name);
        let text = table(&profile, &grants(&profile), &View { all, ..columns(width) });
        let whole = table(&profile, &grants(&profile), &View { all, ..View::PLAIN });
        for line in text.lines() {
            let wide = tabled::grid::util::string::get_line_width(line) > width;
            // Only a word that is too long, or a subject that is not to be broken, stands over the edge.
            let words = line.split_whitespace().filter(|word| word.len() > 8).count();
            prop_assert!(!wide || words <= 3 || whole.contains(line.trim()), "{line}");
        }
    }

    #[test]
    fn a_profile_of_any_bytes_is_read_or_refused(text in "\\PC{0,200}") {
        prop_assert!(Profile::from_json(&text).is_err());
    }
}

#[test]
fn the_worst_names_read_back_from_every_format() {
    HOSTILE.iter().for_each(|name| check_all(name));
}

#[test]
fn formats_differ_in_name_and_file() {
    let profile = samples::everything();
    let plan = grants(&profile);
    let names: BTreeSet<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    let files: BTreeSet<String> =
        Format::ALL.iter().map(|format| format.emit(&profile, &plan).file_name).collect();
    assert_eq!((names.len(), files.len()), (Format::ALL.len(), Format::ALL.len()));
}

#[test]
fn each_granting_line_follows_a_comment() {
    for profile in samples::all() {
        for emitted in
            artefacts(&profile).iter().filter(|emitted| emitted.file_name.starts_with("tmpfiles.d/"))
        {
            let lines: Vec<&str> = emitted.text.lines().collect();
            for pair in lines.windows(2) {
                let grants = !pair[1].is_empty() && !pair[1].starts_with('#');
                assert!(!grants || pair[0].starts_with("# "), "{pair:?}");
            }
        }
    }
}

#[test]
fn equal_profiles_emit_equal_files() {
    for profile in samples::all() {
        let again = Profile::from_json(&profile.to_json()).unwrap();
        assert_eq!(artefacts(&again), artefacts(&profile));
    }
}

#[test]
fn what_cannot_be_granted_is_said_once_for_each_platform() {
    let profile = samples::everything();
    let grants = grants(&profile);
    for (platform, name) in [
        (Platform::Systemd, "everyd.service.d/50-nonroot.conf"),
        (Platform::Kubernetes, "kubernetes.yaml"),
        (Platform::Container, "compose.yaml"),
    ] {
        let emitted = files(&profile, &grants, &[platform]);
        for unmet in &grants.unmet {
            let says = |emitted: &&Emitted| {
                let comment = |line: &str| line.starts_with('#') && line.contains(&unmet.reason);
                // A directory of a pod is given whole, where one of a host is not.
                let volume = |line: &str| line.starts_with("      ") && line.contains(&unmet.need);
                emitted.text.lines().any(|line| comment(line) || volume(line))
            };
            let pages = ["report.html", "changes.json"];
            let all =
                emitted.iter().filter(|emitted| !pages.contains(&emitted.file_name.as_str())).filter(says);
            let names: Vec<&str> = all.map(|emitted| emitted.file_name.as_str()).collect();
            assert_eq!(names, [name], "{}", unmet.need);
        }
    }
}

#[test]
fn a_platform_gets_its_own_files() {
    let profile = samples::nginx();
    let names = |platforms: &[Platform]| {
        let files = files(&profile, &grants(&profile), platforms);
        files.into_iter().map(|file| file.file_name).collect::<Vec<_>>()
    };
    assert_eq!(names(&[Platform::Kubernetes]), ["kubernetes.yaml", "Containerfile", "report.html"]);
    assert_eq!(names(&[Platform::Container]), ["Containerfile", "compose.yaml", "report.html"]);
    let systemd = [
        "tmpfiles.d/nrtrace-nginx.conf",
        "sysusers.d/nrtrace-nginx.conf",
        "nginx.service.d/50-nonroot.conf",
        "setcap.sh",
        "apply.sh",
        "undo.sh",
        "changes.json",
        "report.html",
    ];
    assert_eq!(names(&[Platform::Systemd]), systemd);
    assert_eq!(Platform::of(&grants(&profile)), Platform::Systemd);
    assert_eq!(names(&Platform::ALL).len(), 12);
}

#[test]
fn another_schema_is_refused_by_its_name() {
    let text = samples::nginx().to_json().replace("nrtrace/profile/v1", "nrtrace/profile/v9");
    let error = Profile::from_json(&text).unwrap_err();
    assert!(matches!(&error, ReadError::Schema { found, .. } if found == "nrtrace/profile/v9"));
    assert!(error.to_string().contains("nrtrace/profile/v1"));
    assert!(Profile::from_json("{\"schema\": 3}").is_err());
}

#[test]
fn colour_is_only_where_it_is_asked_for() {
    let profile = samples::everything();
    let plan = grants(&profile);
    assert!(!table(&profile, &plan, &columns(80)).contains('\x1b'));
    assert!(table(&profile, &plan, &View { style: Style::Colour, ..columns(80) }).contains("\x1b[1m"));
}

#[test]
fn the_table_tells_the_essentials() {
    let profile = samples::nginx();
    let text = table(&profile, &grants(&profile), &columns(80));
    for essential in [
        "/run/nginx.pid",
        "tcp 80",
        "CAP_NET_BIND_SERVICE",
        "nginx needs 9 grants to run as nginx",
        "uid 61184",
    ] {
        assert!(text.contains(essential), "{essential} in\n{text}");
    }
}

/// As monit, postgres and their kind, which look at a file's owner themselves and end.
#[test]
fn a_file_that_the_program_may_insist_on_owning_is_told() {
    let hint = |user: (&str, u32), mode, words: &str| {
        let mut profile = samples::profile("watch", &["watch"], Vec::new());
        let inode = samples::inode(FileType::File, user, ("root", 0), mode);
        let looked = LookedAt {
            call: "stat".into(),
            path: "/etc/watchrc".into(),
            outcome: "ok".into(),
            inode: Some(inode),
        };
        let exit = Exit::Exited { status: 1 };
        profile.gave_up = Some(GaveUp { exit, stderr: vec![words.into()], looked_at: vec![looked] });
        let text = table(&profile, &grants(&profile), &columns(300));
        text.lines().find(|line| line.contains("insist on owning")).map(str::to_owned)
    };
    let told = hint(("root", 0), 0o600, "no").unwrap();
    assert!(told.contains("/etc/watchrc (root:root 0600)") && !told.contains("--as"), "{told}");
    assert!(hint(("data", 26), 0o700, "no").unwrap().contains("or run it as data (--as data)"));
    assert!(hint(("root", 0), 0o644, "must be owned by you").is_some());
    assert_eq!(hint(("root", 0), 0o644, "down"), None);
    assert_eq!(hint(("watch", 61184), 0o600, "must be owned"), None, "it is the user's");
}

#[test]
fn what_a_file_for_systemd_cannot_hold_is_not_counted_as_granted_by_it() {
    let long = format!("/srv/{}", "x".repeat(256));
    let names = ["/srv/plain", "/srv/line\nend", "/srv/rtl\u{202e}", &long];
    let refused = || ("/srv", samples::root_directory(0o755));
    let needs = names.map(|name| samples::path(name, FileType::File, &[Access::Create], refused())).to_vec();
    let profile = samples::profile("partlyd", &["/usr/bin/true"], needs);
    let grants = grants(&profile);
    let text = table(&profile, &grants, &columns(140));
    for part in [
        "That the files for systemd cannot hold: apply.sh does it, see their comments (2)",
        "Cannot be granted safely (1)",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let tmpfiles = Format::Tmpfiles.emit(&profile, &grants);
    assert_eq!(tmpfiles.text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count(), 1);
    for page in [Format::Markdown, Format::Html] {
        let text = page.emit(&profile, &grants).text;
        assert!(text.contains("systemd cannot hold") || text.contains("not held by each file"), "{text}");
    }
}

/// What four times as much takes, as a multiple of the time for once as much.
fn growth(profile: impl Fn(usize) -> Profile, size: usize) -> f64 {
    let time = |profile: Profile| {
        let once = || {
            let start = std::time::Instant::now();
            let grants = grants(&profile);
            for format in Format::ALL {
                format.emit(&profile, &grants);
            }
            start.elapsed().as_secs_f64()
        };
        (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
    };
    let small = time(profile(size));
    time(profile(4 * size)) / small
}

#[test]
fn the_time_grows_as_a_profile_does() {
    let named = |path: String| {
        let need =
            samples::path(&path, FileType::File, &[Access::Create], ("/", samples::root_directory(0o755)));
        samples::profile("long", &["/usr/bin/true"], vec![need])
    };
    let in_groups = |count: usize| {
        let mut profile = samples::nginx();
        profile.identity.groups = (1..u32::try_from(count).unwrap()).collect();
        profile
    };
    for (what, growth) in [
        ("a long name", growth(|size| named(format!("/{}", "b".repeat(size))), 50_000)),
        ("a deep path", growth(|size| named("/a".repeat(size / 2)), 50_000)),
        ("groups", growth(in_groups, 2_000)),
    ] {
        // Four times the work; sixteen times would be the square.
        assert!(growth < 9.0, "{what}: {growth:.1} times the time for four times as much");
    }
}

#[test]
fn changes_of_identity_are_told_in_words() {
    let change = |operation, ids: &[u32], path| samples::identity(operation, ids, path);
    let needs = vec![
        change(IdentityOperation::SetUser, &[u32::MAX, 0, u32::MAX], None),
        change(IdentityOperation::SetGroup, &[33, 33, 33], None),
        change(IdentityOperation::SetGroups, &[], None),
        change(IdentityOperation::Chown, &[u32::MAX, 4], Some("/srv/x")),
    ];
    let profile = samples::profile("thing", &["/usr/bin/thing"], needs);
    let text = table(&profile, &grants(&profile), &columns(120));
    for words in ["become user 0 ", "become group 33, leave all groups", "give /srv/x to -:4"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn low_ports_in_kubernetes_are_restricted_and_other_capabilities_are_not() {
    let level = |profile: &Profile| {
        let text = Format::Kubernetes.emit(profile, &grants(profile)).text;
        text.lines().find(|line| line.contains("Pod Security Standards")).unwrap().to_owned()
    };
    assert!(level(&samples::nginx()).contains("restricted"));
    assert!(level(&samples::everything()).contains("privileged"));
}

#[test]
fn what_is_made_in_shared_directories_gets_a_volume_in_kubernetes() {
    let text = Format::Kubernetes.emit(&samples::nginx(), &grants(&samples::nginx())).text;
    let pod: serde_json::Value = serde_norway::from_str(&text).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = |path: &str| {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts
            .iter()
            .find(|mount| mount["mountPath"] == path)
            .unwrap_or_else(|| panic!("{path} in {text}"));
        volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap().clone()
    };
    assert_eq!(volume("/run")["emptyDir"], serde_json::json!({"medium": "Memory"}));
    // Several directories side by side get one together, and what the image has there is copied.
    assert_eq!(volume("/var/lib/nginx")["emptyDir"], serde_json::json!({}));
    assert_eq!(pod["spec"]["initContainers"][0]["command"][4], "/var/lib/nginx");
    // Logs start anew, whatever was there.
    assert_eq!(volume("/var/log/nginx")["emptyDir"], serde_json::json!({}));
    assert!(!text.contains("cannot express"), "{text}");
    assert!(!text.contains("[path:/run/nginx.pid] a pod"), "{text}");
    // A socket in /run itself, which no host gives away.
    let text = Format::Kubernetes.emit(&samples::everything(), &grants(&samples::everything())).text;
    assert!(
        text.contains("mountPath: \"/run\"") && !text.contains("[path:/run/everyd.sock] a socket"),
        "{text}"
    );
}

const DOCUMENT: &str = include_str!("../../docs/profile.md");

/// The blocks of a language in the page about the profile.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    DOCUMENT.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_documented_examples_are_profiles_as_they_are_written() {
    let [profile, writes, unexplained, gave_up] = blocks("json")[..] else { panic!("four examples") };
    let written: Written = serde_json::from_str(writes).unwrap();
    let mut profile = Profile::from_json(profile).unwrap();
    profile.writes.push(written);
    profile.unexplained.push(serde_json::from_str(unexplained).unwrap());
    profile.gave_up = Some(serde_json::from_str(gave_up).unwrap());
    assert_eq!(Profile::from_json(&profile.to_json()).unwrap(), profile);
    for line in blocks("jsonl").into_iter().flat_map(str::lines) {
        let need: Need = serde_json::from_str(line).unwrap();
        let (shown, written): (serde_json::Value, _) =
            (serde_json::from_str(line).unwrap(), serde_json::to_value(&need).unwrap());
        assert_eq!(shown, written);
    }
}

/// Every key of an object, and of those in it.
fn keys(value: &serde_json::Value, out: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                out.insert(key.clone());
                keys(value, out);
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, out)),
        _ => {}
    }
}

#[test]
fn every_field_is_documented() {
    let mut profiles = samples::all();
    let [_, writes, unexplained, gave_up] = blocks("json")[..] else { panic!("four examples") };
    profiles[0].writes.push(serde_json::from_str(writes).unwrap());
    profiles[0].run.daemon = true;
    profiles[0].unexplained.push(serde_json::from_str(unexplained).unwrap());
    profiles[0].gave_up = Some(serde_json::from_str(gave_up).unwrap());
    let mut found = BTreeSet::new();
    for profile in &profiles {
        keys(&serde_json::from_str(&profile.to_json()).unwrap(), &mut found);
    }
    // The keys of `outcomes` are values.
    found.remove("ok");
    for key in found {
        assert!(DOCUMENT.contains(&format!("`{key}`")), "`{key}` is not documented");
    }
}

/// A program that looks for its home finds the one that it was proved with, however its user is made.
#[test]
fn the_user_has_the_same_home_however_it_is_made() {
    let mut homes = 0;
    for profile in samples::all() {
        let plan = grants(&profile);
        let lines = Format::Sysusers.emit(&profile, &plan).text;
        let line = lines.lines().find(|line| line.starts_with("u ")).unwrap();
        let written = line.rsplit(' ').next().unwrap();
        let home = Changes::of(&profile, &plan).home().to_owned();
        assert_eq!(home, if written == "-" { "/" } else { written }, "{lines}");
        homes += u32::from(home != "/");
    }
    assert!(homes > 1, "{homes}");
}
