//! Each format reads back as exactly what was granted, whatever bytes are in the names.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use std::collections::BTreeSet;

use nrtrace_profiles::RawText;
use nrtrace_profiles::emit::{Emitted, Format, Style, artefacts, table};
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::grants::{Class, FileKind, Grants, grants};
use nrtrace_profiles::profile::{Profile, Written};
use nrtrace_profiles::requirement::{Access, IdentityOperation, Need};
use nrtrace_profiles::text::printable;
use nrtrace_profiles::version::ReadError;
use proptest::prelude::*;
use samples::{HOSTILE, hostile};

/// A name of any bytes a file name can have, rich in those that mean something somewhere.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b" \n\t\r\\\"'%#:;$`*?[]{}~&|<>!-=,\x1b\x7f\x80\xff".to_vec());
    let any = any::<u8>().prop_map(|b| if b == 0 || b == b'/' { b'_' } else { b });
    prop::collection::vec(prop_oneof![special, any], 1..60)
}

/// The lines that are no comments.
fn lines(emitted: &Emitted) -> Vec<&str> {
    emitted.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Which systemd reads: before 254 a backslash only makes the next character literal.
#[derive(Clone, Copy, PartialEq)]
enum Systemd {
    V252,
    V254,
}

/// Splits a line as systemd's extract_first_word() does with EXTRACT_UNQUOTE, and from 254 EXTRACT_CUNESCAPE.
fn words(line: &str, version: Systemd) -> Vec<Vec<u8>> {
    let bytes = line.as_bytes();
    let (mut words, mut word, mut quote, mut at) = (Vec::new(), None::<Vec<u8>>, None::<u8>, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, quote) {
            (b'\\', _) => {
                let (escaped, length) = match bytes[at] {
                    literal if version == Systemd::V252 => (literal, 1),
                    b'x' => (u8::from_str_radix(&line[at + 1..at + 3], 16).unwrap(), 3),
                    plain @ (b'\\' | b'"' | b'\'') => (plain, 1),
                    other => panic!("unknown escape {other:#x} in {line}"),
                };
                word.get_or_insert_default().push(escaped);
                at += length;
            }
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, Some(open)) if byte == open => quote = None,
            (b' ' | b'\t', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    assert_eq!(quote, None, "open quote in {line}");
    words.extend(word);
    words
}

/// Expands specifiers, of which only `%%` may appear.
fn specifiers(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            assert_eq!(bytes.next(), Some(&b'%'), "a specifier in {:?}", RawText::new(word));
        }
        out.push(byte);
    }
    out
}

/// The one path a glob(7) pattern matches.
fn matched(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = pattern.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.push(*bytes.next().unwrap()),
            b'*' | b'?' | b'[' | b'{' => panic!("a wildcard in {:?}", RawText::new(pattern)),
            _ => out.push(byte),
        }
    }
    out
}

/// What a tmpfiles.d line does: type and path.
fn entry(line: &str, version: Systemd) -> (String, RawText) {
    let words = words(line, version);
    let letter = String::from_utf8(words[0].clone()).unwrap();
    let path = specifiers(&words[1]);
    let path = if ["z", "Z", "a+"].contains(&letter.as_str()) { matched(&path) } else { path };
    assert_eq!(words.len(), if letter == "a+" { 7 } else { 6 }, "{line}");
    (letter, RawText::new(path))
}

/// Every version of systemd reads the same from the lines; a newer one also the rest, which is in comments.
fn check_tmpfiles(emitted: &Emitted, plan: &Grants) {
    let live: BTreeSet<_> = lines(emitted).iter().map(|line| entry(line, Systemd::V254)).collect();
    let old: BTreeSet<_> = lines(emitted).iter().map(|line| entry(line, Systemd::V252)).collect();
    assert_eq!(live, old);
    let text: Vec<&str> = emitted.text.lines().collect();
    let commented = text.windows(2).filter(|pair| pair[0].starts_with("# Only systemd 254"));
    let commented: BTreeSet<_> = commented.map(|pair| entry(&pair[1][2..], Systemd::V254)).collect();
    let plain = |(_, path): &(String, RawText)| path.as_str().is_some_and(|text| printable(text) == text);
    let (portable, other): (BTreeSet<_>, BTreeSet<_>) = intended(plan).into_iter().partition(plain);
    assert_eq!(live, portable);
    assert_eq!(commented, other);
    assert_eq!(emitted.unmet.is_empty(), other.is_empty());
}

fn intended(plan: &Grants) -> BTreeSet<(String, RawText)> {
    let mut out = BTreeSet::new();
    for (path, directory) in &plan.directories {
        out.insert(("d".to_owned(), path.clone()));
        if directory.contents {
            out.insert(("Z".to_owned(), path.clone()));
        }
    }
    for (path, file) in &plan.files {
        let letter = match file.kind {
            FileKind::Regular => "f",
            FileKind::Fifo => "p",
            FileKind::Existing => "z",
        };
        out.insert((letter.to_owned(), path.clone()));
    }
    out.extend(plan.acls.keys().map(|path| ("a+".to_owned(), path.clone())));
    out
}

/// Nothing in any text moves the cursor, changes colours or reverses the line.
fn check_plain(emitted: &Emitted) {
    let control = |c: char| {
        (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{200b}'..='\u{200f}')
    };
    assert!(!emitted.text.contains(control), "{}", emitted.file_name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    assert!(emitted.file_name.chars().all(plain) && !emitted.file_name.starts_with('/'));
    assert!(!emitted.file_name.split('/').any(|part| part.is_empty() || part == ".."));
}

const DIRECTIVES: &[&str] = &[
    "User",
    "Group",
    "SupplementaryGroups",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "NoNewPrivileges",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "RuntimeDirectory",
    "StateDirectoryMode",
    "StateDirectory",
    "DeviceAllow",
];

fn check_dropin(emitted: &Emitted, plan: &Grants) {
    let mut devices = BTreeSet::new();
    for line in lines(emitted).into_iter().filter(|line| *line != "[Service]") {
        let (directive, value) = line.split_once('=').unwrap();
        assert!(DIRECTIVES.contains(&directive), "{line}");
        if directive == "DeviceAllow" {
            let words = words(value, Systemd::V252);
            assert_eq!((words.len(), words[1].as_slice()), (2, b"r".as_slice()));
            devices.insert(RawText::new(specifiers(&words[0])));
        }
    }
    let plain = |path: &&RawText| path.as_str().is_some_and(|text| printable(text) == text);
    assert_eq!(devices, plan.devices.keys().filter(plain).cloned().collect());
}

fn check_kubernetes(emitted: &Emitted, profile: &Profile, plan: &Grants) {
    let pod: serde_json::Value = serde_norway::from_str(&emitted.text).expect("YAML");
    let keys =
        |value: &serde_json::Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&pod), ["apiVersion", "kind", "metadata", "spec"]);
    let container = &pod["spec"]["containers"][0];
    let allowed = ["command", "image", "name", "ports", "securityContext", "volumeMounts"];
    assert!(keys(container).iter().all(|key| allowed.contains(&key.as_str())), "{container}");
    let mounts: BTreeSet<String> = container["volumeMounts"]
        .as_array()
        .map(|mounts| mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect())
        .unwrap_or_default();
    let mountable =
        |path: &&RawText| path.as_str().is_some_and(|p| !p.contains(':') && !p.contains(char::is_control));
    let made =
        plan.directories.iter().filter(|(_, grant)| grant.class != Class::Config).map(|(path, _)| path);
    let made: BTreeSet<String> =
        made.filter(mountable).map(|path| path.as_str().unwrap().to_owned()).collect();
    assert!(mounts.is_superset(&made), "{mounts:?} without all of {made:?}");
    let holds = |mount: &&String| {
        let inside = format!("{mount}/");
        plan.files.keys().map(RawText::to_text).any(|path| path.starts_with(&inside))
            || plan.unmet.iter().any(|unmet| unmet.need.contains(&inside))
    };
    assert!(mounts.difference(&made).all(|mount| holds(&mount)), "{mounts:?} and {made:?}");
    let command: Option<Vec<String>> =
        profile.command.iter().map(|word| Some(word.as_str()?.replace("$(", "$$("))).collect();
    let written: Option<Vec<String>> = serde_json::from_value(container["command"].clone()).unwrap();
    assert_eq!(written, command);
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
}

fn check_all(name: &[u8]) {
    let profile = hostile(name);
    let plan = grants(&profile);
    for format in Format::ALL {
        let emitted = format.emit(&profile, &plan);
        // JSON escapes control characters itself and is otherwise the text as it is.
        if format != Format::Json {
            check_plain(&emitted);
        }
        match format {
            Format::Tmpfiles => check_tmpfiles(&emitted, &plan),
            Format::SystemdDropIn => check_dropin(&emitted, &plan),
            Format::Kubernetes => check_kubernetes(&emitted, &profile, &plan),
            Format::Sysusers => {
                let expected = ["g hostiled -", "u hostiled -:hostiled \"hostiled without root\" -"];
                assert_eq!(lines(&emitted), expected);
            }
            Format::Sysctl => assert!(lines(&emitted).len() <= 1),
            Format::ModulesLoad => assert!(lines(&emitted).len() <= 1),
            Format::Json => assert_eq!(Profile::from_json(&emitted.text).unwrap(), profile),
            Format::Setcap | Format::Table => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_name_reads_back_from_every_format(name in name()) {
        check_all(&name);
    }

    #[test]
    fn a_table_fits_its_width(name in name(), width in 60_usize..200) {
        let profile = hostile(&name);
        let text = table(&profile, &grants(&profile), Style::Plain, width);
        for line in text.lines() {
            prop_assert!(tabled::grid::util::string::get_line_width(line) <= width, "{line}");
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
fn unmet_needs_are_comments_in_every_artefact() {
    let profile = samples::everything();
    for emitted in artefacts(&profile) {
        for unmet in grants(&profile).unmet {
            let comment =
                emitted.text.lines().find(|line| line.starts_with('#') && line.contains(&unmet.reason));
            // A directory of a pod is given whole, where one of a host is not.
            let volume = |line: &str| line.starts_with("        # ") && line.contains(&unmet.need);
            assert!(
                comment.is_some() || emitted.text.lines().any(volume),
                "{}: {}",
                emitted.file_name,
                unmet.need
            );
        }
    }
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
    assert!(!table(&profile, &plan, Style::Plain, 80).contains('\x1b'));
    assert!(table(&profile, &plan, Style::Colour, 80).contains("\x1b[1m"));
}

#[test]
fn the_table_tells_the_essentials() {
    let profile = samples::nginx();
    let text = table(&profile, &grants(&profile), Style::Plain, 80);
    for essential in
        ["/run/nginx.pid", "tcp 0.0.0.0:80", "CAP_NET_BIND_SERVICE", "10 needs: 10 granted", "uid 61184"]
    {
        assert!(text.contains(essential), "{essential} in\n{text}");
    }
}

#[test]
fn many_files_dealt_with_alike_are_one_row() {
    let state = |n: usize| {
        let path = format!("/var/lib/thing/{n}.tab");
        let refused = samples::inode(FileType::File, ("thing", 120), ("thing", 120), 0o660);
        samples::path(&path, FileType::File, &[Access::Read], (&path, refused))
    };
    let text = |count: usize| {
        let profile = samples::profile("thing", &["/usr/bin/thing"], (0..count).map(state).collect());
        table(&profile, &grants(&profile), Style::Plain, 80)
    };
    assert!(text(4).contains("3.tab"));
    let many = text(40);
    assert!(
        many.contains("(40 files") && many.contains("40 needs: 40 granted") && !many.contains("39.tab"),
        "{many}"
    );
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
    let text = table(&profile, &grants(&profile), Style::Plain, 120);
    for words in ["become user 0 ", "become group 33 ", "leave all groups ", "give /srv/x to -:4 "] {
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
    assert_eq!(volume("/var/lib/nginx/body")["emptyDir"], serde_json::json!({}));
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
