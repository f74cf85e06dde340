//! Everything that reads what somebody else may have written, each as a function of bytes that must not panic. The fuzz
//! targets in `fuzz/` call these, and `tests/corpus.rs` runs them over the corpus that fuzzing has left.

use nrtrace_profiles::check::report::Format;
use nrtrace_profiles::check::{Input, Policy, check};
use nrtrace_profiles::classify;
use nrtrace_profiles::emit::{self, Style};
use nrtrace_profiles::event::{Backend, Identity, Mode, Record};
use nrtrace_profiles::grants::grants;
use nrtrace_profiles::knowledge::{self, Library};
use nrtrace_profiles::merge::merge;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::trace::SavedTrace;
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
pub const ALL: [Reader; 5] = [
    Reader { name: "records", read: records },
    Reader { name: "trace", read: trace },
    Reader { name: "profile", read: profile },
    Reader { name: "knowledge", read: knowledge },
    Reader { name: "policy", read: policy },
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
    emit::table(profile, &grants(profile), Style::Colour, 80);
    if let Ok(merged) = merge([profile, profile]) {
        assert_eq!(merge([&merged]).ok().as_ref(), Some(&merged), "merging is idempotent");
    }
}

/// A file of facts.
pub fn knowledge(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    // Whether it is one does not matter here.
    let _ = knowledge::check("fuzz", text);
    let _ = Library::built_in().add("fuzz", "fuzz", text);
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

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
