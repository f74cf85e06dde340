//! What is known of programs: how they are recognised, what their files are, and what moves them.
//!
//! One TOML file for each program ([`schema`]), those in `profiles/knowledge/` are part of nrtrace. [`Library::annotate`]
//! finds what is known of the needs of a profile; [`check`] finds what is wrong with a file.

mod check;
mod configured;
mod consult;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RawText;
use crate::edit::Edit;
use crate::requirement::Need;
pub use check::{LARGEST, check};
pub use configured::moved;
use schema::{Checked, Program};

/// The files that are part of nrtrace, by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("apache2", include_str!("../../knowledge/apache2.toml")),
    ("containerd", include_str!("../../knowledge/containerd.toml")),
    ("dnsmasq", include_str!("../../knowledge/dnsmasq.toml")),
    ("dovecot", include_str!("../../knowledge/dovecot.toml")),
    ("etcd", include_str!("../../knowledge/etcd.toml")),
    ("haproxy", include_str!("../../knowledge/haproxy.toml")),
    ("k0s", include_str!("../../knowledge/k0s.toml")),
    ("kube-apiserver", include_str!("../../knowledge/kube-apiserver.toml")),
    ("kube-controller-manager", include_str!("../../knowledge/kube-controller-manager.toml")),
    ("kube-scheduler", include_str!("../../knowledge/kube-scheduler.toml")),
    ("kubelet", include_str!("../../knowledge/kubelet.toml")),
    ("named", include_str!("../../knowledge/named.toml")),
    ("nginx", include_str!("../../knowledge/nginx.toml")),
    ("postgresql", include_str!("../../knowledge/postgresql.toml")),
    ("redis", include_str!("../../knowledge/redis.toml")),
    ("squid", include_str!("../../knowledge/squid.toml")),
    ("sshd", include_str!("../../knowledge/sshd.toml")),
    ("unbound", include_str!("../../knowledge/unbound.toml")),
    ("vsftpd", include_str!("../../knowledge/vsftpd.toml")),
];

/// What is known of several programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Library {
    programs: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    program: Program,
    text: String,
    origin: String,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}", flaws.join("; "))]
pub struct BadKnowledge {
    /// Where it came from.
    pub origin: String,
    /// What is wrong with it.
    pub flaws: Vec<String>,
}

impl Library {
    /// The files that are part of nrtrace.
    pub fn built_in() -> Self {
        let mut library = Self::default();
        for (name, text) in BUILT_IN {
            // A test proves that each of them can be read.
            let read = library.add("part of nrtrace", name, text);
            debug_assert!(read.is_ok(), "{read:?}");
        }
        library
    }

    /// Adds a file `NAME.toml`, in place of one of the same name.
    ///
    /// # Errors
    /// With all that is wrong with it.
    pub fn add(&mut self, origin: &str, name: &str, text: &str) -> Result<(), BadKnowledge> {
        let program = check(name, text).map_err(|flaws| BadKnowledge { origin: origin.to_owned(), flaws })?;
        let entry = Entry { program, text: text.to_owned(), origin: origin.to_owned() };
        self.programs.insert(name.to_owned(), entry);
        Ok(())
    }

    /// All programs in order of their names.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.programs.values().map(|entry| &entry.program)
    }

    /// The text of a program's file, and where it came from.
    pub fn text(&self, name: &str) -> Option<(&str, &str)> {
        self.programs.get(name).map(|entry| (entry.text.as_str(), entry.origin.as_str()))
    }
}

/// What is known of needs of a profile, or of what made the program give up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Fact {
    /// The program it is known of: the name of a knowledge file.
    pub program: String,
    /// Ids of the requirements; empty for a check of the program's own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub needs: BTreeSet<String>,
    /// Set when the program itself insists on something, and the kernel has refused nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub checks: Option<Checked>,
    /// What it is, as a phrase.
    pub is: String,
    /// Whether the program ends when it is refused; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fatal: Option<bool>,
    /// What to do about it, best first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub remedies: Vec<Setting>,
    /// What else is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
    /// Where this is written.
    pub sources: Vec<String>,
}

/// What to set in a program's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// As a sentence, without a full stop.
    pub text: String,
    /// For a variable of the environment: its name and the value that is right in a unit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variable: Option<(String, String)>,
    /// For a directive of the unit: its name and value.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub directive: Option<(String, String)>,
    /// The directory that things are in then, which the service has to be given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub directory: Option<RawText>,
    /// What that changes in the configuration of the machine of the run, where it was looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edit: Option<Edit>,
}

impl Setting {
    /// Whether it changes anything for a need: what leads to the very place that was refused does not.
    pub fn changes(&self, need: &Need) -> bool {
        let Need::Path { path, .. } = need else { return true };
        let named = paths(&self.text).into_iter().map(str::as_bytes);
        let holds = |at: &[u8]| {
            let rest = path.as_bytes().strip_prefix(at.strip_suffix(b"/").unwrap_or(at));
            at.len() > 1 && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let mut leads = named.chain(self.directory.as_ref().map(RawText::as_bytes));
        // The file that it is written into, the last word, is no place that it leads to.
        let file = self.text.rsplit_once(" into ").map(|(_, file)| file.as_bytes());
        !leads.any(|at| Some(at) != file && holds(at))
    }
}

/// The absolute paths that a text holds.
pub(crate) fn paths(text: &str) -> Vec<&str> {
    let is_end = |c: char| c.is_whitespace() || "'\"`;,=:|".contains(c);
    text.split(is_end).filter(|word| word.len() > 1 && word.starts_with('/')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_that_is_part_of_nrtrace_is_sound() {
        for (name, text) in BUILT_IN {
            if let Err(flaws) = check(name, text) {
                panic!("{name}: {flaws:#?}");
            }
        }
        assert_eq!(Library::built_in().programs().count(), BUILT_IN.len());
    }

    #[test]
    fn what_leads_to_the_place_that_was_refused_changes_nothing() {
        let need = |path: &str| Need::Path {
            path: path.into(),
            file_type: crate::event::FileType::Directory,
            access: BTreeSet::new(),
            pattern: false,
        };
        let setting = |text: &str| Setting {
            text: text.into(),
            variable: None,
            directive: None,
            directory: None,
            edit: None,
        };
        let body = setting("put `client_body_temp_path /var/lib/nginx/body;` into /etc/nginx/nginx.conf");
        assert!(!body.changes(&need("/var/lib/nginx/body")));
        assert!(
            body.changes(&need("/var/cache/nginx/client_temp"))
                && body.changes(&need("/etc/nginx/nginx.conf"))
        );
        assert!(
            !setting("put `access_log stdio:/var/log/squid/access.log` into x")
                .changes(&need("/var/log/squid/access.log"))
        );
        let moved =
            Setting { directory: Some("/var/lib/etcd".into()), ..setting("start it with `--data-dir …`") };
        assert!(!moved.changes(&need("/var/lib/etcd/member")) && moved.changes(&need("/default.etcd")));
    }

    #[test]
    fn no_file_is_left_out() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/knowledge");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, names);
    }
}
