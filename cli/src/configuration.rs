//! The program's own configuration, as far as a run read it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::calls;
use nrtrace_profiles::event::{Object, Outcome, Trace};
use nrtrace_profiles::knowledge::{self, Library};
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::files::read_regular;

/// No configuration is longer.
const LONGEST: u64 = 256 << 10;
/// Files that are looked into.
const FILES: usize = 64;

/// The files below `/etc` that a run read, and those that its command names, each with its text.
pub fn files(trace: &Trace) -> Vec<(RawText, String)> {
    let opened = trace
        .events
        .iter()
        .filter(|event| calls::opens(&event.call.name) && matches!(event.outcome, Outcome::Success { .. }));
    let paths = opened.filter_map(|event| match &event.object {
        Object::Path(object) => Some(&object.path),
        _ => None,
    });
    let is_it = |path: &&RawText| path.as_bytes().starts_with(b"/etc/") || trace.run.command.contains(path);
    let known: BTreeSet<&RawText> = paths.filter(is_it).collect();
    known.into_iter().take(FILES).filter_map(|path| Some((path.clone(), text(path)?))).collect()
}

fn text(path: &RawText) -> Option<String> {
    let bytes = read_regular(Path::new(OsStr::from_bytes(path.as_bytes())), LONGEST).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Puts into the profile what is known of its program, and which lines of the configuration of this machine say so.
pub fn annotate(profile: &mut Profile, trace: &Trace, library: &Library) {
    annotate_known(profile, library);
    profile.knowledge.extend(knowledge::moved(profile, &files(trace)));
    profile.knowledge.sort();
}

/// The same, without what a run read.
pub fn annotate_known(profile: &mut Profile, library: &Library) {
    library.annotate_by(profile, &text);
}
