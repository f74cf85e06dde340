//! The work on one pod, and what is meant.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;
use nrtrace_profiles::knowledge::Library;

use super::kubectl::Kubectl;
use super::made::Made;
use super::manifest::Workload;
use super::storage::Storage;
use crate::args::PodArgs;
use crate::failure::BadInput;
use crate::terminal;

/// The work on one pod.
pub(super) struct Work<'a> {
    pub(super) args: &'a PodArgs,
    pub(super) kubectl: &'a Kubectl,
    /// The recorder's.
    pub(super) image: &'a str,
    pub(super) workload: Workload,
    pub(super) containers: Vec<String>,
    pub(super) namespace: String,
    /// Where recorders run.
    pub(super) recorders: String,
    /// What copies have an empty directory in the place of.
    pub(super) without: BTreeSet<Storage>,
    /// Whether the pod as it is may not be in its own namespace.
    pub(super) away: bool,
    pub(super) library: Library,
    /// Copies that were started.
    pub(super) copies: u32,
    pub(super) made: Made,
}

impl Work<'_> {
    pub(super) fn tell(&self, text: &str) {
        tell(self.args, text);
    }
}

/// Whether a file is meant, and not an object of the cluster.
pub fn is_file(object: &str) -> Result<bool> {
    let ending = Path::new(object).extension().and_then(OsStr::to_str).unwrap_or_default();
    if object == "-" || Path::new(object).exists() || ["yaml", "yml", "json"].contains(&ending) {
        return Ok(true);
    }
    match object.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => Ok(false),
        _ => {
            Err(BadInput(format!("{object} is neither a file nor an object of a cluster: TYPE/NAME")).into())
        }
    }
}

/// Reads what is meant.
pub(super) fn workload(args: &PodArgs, kubectl: &Kubectl) -> Result<Workload> {
    if is_file(&args.object)? {
        return Workload::of_file(Path::new(&args.object), args.container.as_deref());
    }
    let mut words = vec!["get", args.object.as_str()];
    if let Some(namespace) = &args.namespace {
        words.extend(["--namespace", namespace]);
    }
    match kubectl.object(&words) {
        Err(error) if error.is_not_found() => Err(BadInput(error.to_string()).into()),
        object => Workload::of_object(object?),
    }
}

/// Tells what is done.
pub fn tell(args: &PodArgs, text: &str) {
    if !args.results.talk.quiet {
        terminal::note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_objects_are_told_apart() {
        for file in ["-", "no-such.yaml", "./web.yml", "x.json"] {
            assert!(is_file(file).unwrap(), "{file}");
        }
        for object in ["deployment/web", "statefulsets.apps/db"] {
            assert!(!is_file(object).unwrap(), "{object}");
        }
        for neither in ["web", "/web", "web/", "a/b/c"] {
            assert!(is_file(neither).is_err(), "{neither}");
        }
    }
}
