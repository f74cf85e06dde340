//! Everything that reads what somebody else may have written, each as a function of bytes that must not panic. The fuzz
//! targets in `fuzz/` call these, and `tests/corpus.rs` runs them over the corpus that fuzzing has left.

use nrtrace_profiles::check::report::Format;
use nrtrace_profiles::check::{Input, Policy, check};
use nrtrace_profiles::classify;
use nrtrace_profiles::diff::diff;
use nrtrace_profiles::emit::escape::tmpfiles;
use nrtrace_profiles::emit::{self, Style, Target, View, patch};
use nrtrace_profiles::event::{Backend, Identity, Mode, Record};
use nrtrace_profiles::explain::explain;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::merge::merge;
use nrtrace_profiles::plan::{Component, Grouping, Options, Owners, Public, plan};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::trace::SavedTrace;
use nrtrace_profiles::ways::grants;
use nrtrace_tracer::apply::{Unit, words};
use nrtrace_tracer::collect::{Collector, Config};

/// A reader.
#[derive(Clone, Copy)]
pub struct Reader {
    /// Its name, that of the fuzz target and of the directory of its corpus.
    pub name: &'static str,
    /// Reads.
    pub read: fn(&[u8]),
}

/// All of them.
pub const ALL: [Reader; 7] = [
    Reader { name: "records", read: records },
    Reader { name: "trace", read: trace },
    Reader { name: "profile", read: profile },
    Reader { name: "knowledge", read: knowledge },
    Reader { name: "policy", read: policy },
    Reader { name: "manifest", read: manifest },
    Reader { name: "artefacts", read: artefacts },
];

/// Records as the kernel writes them, each behind its length in two bytes.
pub fn records(bytes: &[u8]) {
    let identity = Identity {
        user: "x".into(),
        group: "x".into(),
        uid: 61_184,
        gid: 61_184,
        groups: Vec::new(),
        exists: false,
    };
    let config = Config {
        identity,
        mode: Mode::Permissive,
        backend: Backend::Ebpf,
        record: Record::Calls,
        max_events: 100,
        paths: Default::default(),
        within: Default::default(),
    };
    let mut collector = Collector::new(config);
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (record, tail) = tail.split_at(usize::from(u16::from_le_bytes(*length)).min(tail.len()));
        collector.record(record);
        rest = tail;
    }
    collector.finish();
}

/// A recording, and all that is made of it.
pub fn trace(bytes: &[u8]) {
    let Some(saved) = text(bytes).and_then(|text| SavedTrace::from_json(text).ok()) else { return };
    use_profile(&classify::profile(&saved.trace, &saved.name));
}

/// A profile, and all that is made of it.
pub fn profile(bytes: &[u8]) {
    let Some(profile) = text(bytes).and_then(|text| Profile::from_json(text).ok()) else { return };
    use_profile(&profile);
}

fn use_profile(profile: &Profile) {
    let json = profile.to_json();
    let read = Profile::from_json(&json).map(|read| read.to_json()).unwrap_or_default();
    assert_eq!(read, json, "what is written is read");
    emit::artefacts(profile);
    emit::table(profile, &grants(profile), &View { style: Style::Colour, width: Some(80), all: true });
    if let Ok(merged) = merge([profile, profile]) {
        assert_eq!(merge([&merged]).ok().as_ref(), Some(&merged), "merging is idempotent");
    }
    assert!(diff(profile, profile).is_empty(), "nothing changes from a profile to itself");
    for requirement in profile.requirements.iter().take(10) {
        explain(profile, requirement).lines();
    }
    plan_for(profile);
}

/// The plan for two components that both do what the profile tells of files.
fn plan_for(profile: &Profile) {
    let Some(accesses) = &profile.accesses else { return };
    let component =
        |name: &str| Component { name: name.into(), files: accesses.files.clone(), ..Component::default() };
    let options = Options {
        prefix: String::new(),
        uids: 100..=999,
        gids: 100..=999,
        taken_uids: Default::default(),
        taken_gids: Default::default(),
        given: Default::default(),
        owners: Owners::default(),
        grouping: Grouping::default(),
        public: Public::default(),
        paths: accesses.paths.iter().filter_map(|text| Pattern::new(text).ok()).collect(),
    };
    // Whether there is one does not matter here.
    let _ = plan(&[component("a"), component("b")], &options);
}

/// A file of facts, and what it says of a profile.
pub fn knowledge(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    // A file has the name that it tells.
    let name = toml::from_str::<toml::Table>(text)
        .ok()
        .and_then(|table| Some(table.get("name")?.as_str()?.to_owned()));
    let mut library = Library::default();
    if library.add("fuzz", name.as_deref().unwrap_or("fuzz"), text).is_err() {
        return;
    }
    let Ok(mut profile) = Profile::from_json(include_str!("../gate/nrtrace/baseline.json")) else { return };
    library.annotate(&mut profile);
    emit::artefacts(&profile);
}

/// A policy, and what it says of a profile.
pub fn policy(bytes: &[u8]) {
    let Some(policy) = text(bytes).and_then(|text| Policy::from_toml(text).ok()) else { return };
    let profile = include_str!("../gate/nrtrace/baseline.json");
    let Ok(profile) = Profile::from_json(profile) else { return };
    let input = Input {
        profile: &profile,
        profile_path: "x",
        baseline: None,
        policy: &policy,
        policy_path: Some("x"),
    };
    let verdict = check(&input);
    for format in Format::ALL {
        format.write(&verdict, Style::Plain, "2026-01-31T12:00:00");
    }
}

/// A manifest that is patched.
pub fn manifest(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let Ok(profile) = Profile::from_json(include_str!("../gate/nrtrace/baseline.json")) else { return };
    for kustomize in [None, Some("x.yaml")] {
        let target = Target { manifest: text, container: None, kustomize, looked_at: &[] };
        // Whether it can be patched does not matter here.
        let _ = patch(&profile, &grants(&profile), &target);
    }
}

/// The files that a trial applies by itself where systemd is not installed, and the escapes in them.
pub fn artefacts(bytes: &[u8]) {
    let name = tmpfiles::field(bytes);
    let read = words::split(&format!("d {name} 0750")).and_then(|words| words.into_iter().nth(1));
    if !bytes.is_empty() {
        assert_eq!(read.as_deref(), Some(bytes), "a name comes back from {name}");
    }
    let Some(text) = text(bytes) else { return };
    Unit::parse(text);
    for line in text.lines() {
        for word in words::split(line).unwrap_or_default() {
            words::literal(&word);
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
