//! What a component's pod mounts of the host, and the capabilities that it keeps.

use std::collections::{BTreeMap, BTreeSet};

use super::super::matrix::WRITE;
use super::super::model::Arrangement;
use crate::RawText;
use crate::event::FileType;
use crate::grants::Why;
use crate::paths::parent;

/// What is mounted from the host.
pub struct Mount {
    /// Whether nothing of it is changed.
    pub read_only: bool,
    /// The `type` of a hostPath volume.
    pub kind: &'static str,
}

/// What the component mounts: a directory that it changes, or of which it uses several files, and single files elsewhere.
/// Nothing is mounted twice.
pub fn mounts_of(arrangement: &Arrangement, component: usize) -> BTreeMap<RawText, Mount> {
    let uses = |path: &RawText| {
        let entry = arrangement.entries.get(path)?;
        entry.uses.get(&component).map(|bits| (entry, *bits))
    };
    let mut wanted: BTreeMap<RawText, Mount> = BTreeMap::new();
    let mut in_directory: BTreeMap<RawText, usize> = BTreeMap::new();
    for (path, entry) in &arrangement.entries {
        if entry.file_type != FileType::Directory && entry.uses.contains_key(&component) {
            *in_directory.entry(parent(path)).or_default() += 1;
        }
    }
    for (path, entry) in &arrangement.entries {
        let Some(bits) = entry.uses.get(&component) else { continue };
        let writes = bits & WRITE != 0;
        let directory = parent(path);
        let together =
            uses(&directory).is_some() && in_directory.get(&directory).is_some_and(|count| *count > 1);
        let socket = entry.file_type == FileType::Socket || entry.made;
        let (at, kind, read_only) = match entry.file_type {
            // One that it makes is in a directory that is there.
            FileType::Directory if entry.made => (directory, "Directory", false),
            FileType::Directory if writes => (path.clone(), "Directory", false),
            // A directory passed through is mounted for what is in it; one that is listed, as a whole.
            FileType::Directory if bits & 4 != 0 => (path.clone(), "Directory", true),
            FileType::Directory => continue,
            _ if socket => (directory, "Directory", false),
            _ if together && !writes => (directory, "Directory", true),
            _ => (path.clone(), "File", !writes),
        };
        let mount = wanted.entry(at).or_insert(Mount { read_only, kind });
        mount.read_only &= read_only;
    }
    let covered = |path: &RawText| {
        let mut at = parent(path);
        while at.as_bytes().len() > 1 {
            let above = wanted.get(&at).filter(|mount| mount.kind == "Directory");
            if above
                .is_some_and(|mount| !mount.read_only || wanted.get(path).is_some_and(|own| own.read_only))
            {
                return true;
            }
            at = parent(&at);
        }
        false
    };
    let hidden: Vec<RawText> = wanted.keys().filter(|path| covered(path)).cloned().collect();
    hidden.iter().for_each(|path| {
        wanted.remove(path);
    });
    wanted
}

/// Programs that the component runs, and whose files give rights.
pub fn gains(arrangement: &Arrangement, component: usize) -> &[Why] {
    arrangement.executes.get(component).map_or(&[], |executes| &executes.gains)
}

/// Names of the capabilities that it keeps, as Kubernetes has them.
pub fn capabilities_of(arrangement: &Arrangement, component: usize) -> Vec<String> {
    let wanted = arrangement.capabilities.get(component).into_iter().flatten();
    let kept = arrangement.executes.get(component).into_iter().flat_map(|executes| executes.kept.keys());
    let wanted: BTreeSet<_> = wanted.chain(kept).collect();
    wanted.into_iter().map(|name| name.to_string().trim_start_matches("CAP_").to_owned()).collect()
}

/// A path as a mount may be called: Kubernetes refuses a colon.
pub fn mountable(path: &RawText) -> Option<&str> {
    path.as_str().filter(|path| !path.contains(':'))
}
