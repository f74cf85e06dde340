//! What a program may need: a few lines of TOML, or the same on the command line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::emit::Level;
use crate::glob::{BadPattern, Pattern};
use crate::requirement::{Need, Requirement};
use crate::text::toml_error;
use crate::{Capability, RawText};

/// The longest policy that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 20;

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// Capabilities that nothing may need.
    pub deny_capabilities: Vec<Capability>,
    /// Paths that nothing may need: patterns as in glob(7), with `**` for any number of directories. One without
    /// wildcards stands for all that is below it, too.
    pub deny_paths: Vec<String>,
    /// The level of the Pod Security Standards that the program has to fit.
    pub max_level: Option<Level>,
    /// Whether needs count that the program lives without: those it merely tried, and those proved to be no needs.
    pub ignore_optional: bool,
    /// Whether an incomplete record, or a run that failed, is good enough.
    pub allow_incomplete: bool,
    /// Needs that are accepted, in spite of all the above but the level.
    pub accept: Vec<Accept>,
}

/// A need that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Accept {
    /// Its id; `path:` and `device:` may be followed by a pattern.
    pub need: String,
    /// Why it is accepted.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A text that is no policy.
#[derive(Debug, thiserror::Error)]
pub enum BadPolicy {
    /// It is not TOML, or has fields that a policy has not.
    #[error("cannot read the policy: {0}")]
    Malformed(String),
    /// A path in it is no pattern.
    #[error("cannot read the policy: {text:?} in {field} is no pattern of paths: {why}")]
    Pattern {
        /// Where.
        field: &'static str,
        /// What.
        text: String,
        /// Why not.
        why: BadPattern,
    },
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_toml(text: &str) -> Result<Self, BadPolicy> {
        let policy: Self =
            toml::from_str(text).map_err(|error| BadPolicy::Malformed(toml_error(text, &error)))?;
        policy.verify()?;
        Ok(policy)
    }

    /// Whether its patterns can be used.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn verify(&self) -> Result<(), BadPolicy> {
        for text in &self.deny_paths {
            pattern(text).map_err(|why| BadPolicy::Pattern {
                field: "deny-paths",
                text: text.clone(),
                why,
            })?;
        }
        for accept in &self.accept {
            let Some(path) = path_of(&accept.need) else { continue };
            pattern(path).map_err(|why| BadPolicy::Pattern {
                field: "accept",
                text: path.to_owned(),
                why,
            })?;
        }
        Ok(())
    }

    /// Both policies at once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.deny_capabilities.extend(other.deny_capabilities);
        self.deny_paths.extend(other.deny_paths);
        self.max_level = self.max_level.max(other.max_level);
        self.ignore_optional |= other.ignore_optional;
        self.allow_incomplete |= other.allow_incomplete;
        self.accept.extend(other.accept);
        self
    }

    /// Whether the need is accepted by name.
    pub fn accepts(&self, requirement: &Requirement) -> bool {
        let fits = |accept: &Accept| {
            let path = path_of(&accept.need).filter(|_| same_kind(&accept.need, &requirement.id));
            accept.need == requirement.id
                || path.and_then(|path| pattern(path).ok()).is_some_and(|pattern| {
                    subject(&requirement.need).is_some_and(|path| pattern.matches(path.as_bytes()))
                })
        };
        self.accept.iter().any(fits)
    }

    /// The denied path that a need is about: the file itself, one that a name of its may stand for, or one in a directory
    /// that is to be written.
    pub fn denied_path(&self, requirement: &Requirement) -> Option<&str> {
        let subject = subject(&requirement.need)?;
        let objects = &requirement.evidence.objects;
        let writes = crate::requirement::Access::Write;
        let is_written = matches!(&requirement.need, Need::Path { access, .. } if access.contains(&writes));
        self.deny_paths.iter().map(String::as_str).find(|text| {
            let Ok(pattern) = pattern(text) else { return false };
            let above = pattern.root().as_bytes().to_vec();
            let holds = is_written && crate::classify::files::is_below(&above, subject.as_bytes());
            holds || [subject].into_iter().chain(objects).any(|path| pattern.covers(path.as_bytes()))
        })
    }
}

fn pattern(text: &str) -> Result<Pattern, BadPattern> {
    let path = RawText::from_text(text).unwrap_or_else(|_| RawText::from(text));
    Pattern::new(&path)
}

/// The path in the id of a need for a file or device.
fn path_of(id: &str) -> Option<&str> {
    id.strip_prefix("path:").or_else(|| id.strip_prefix("device:"))
}

fn same_kind(one: &str, other: &str) -> bool {
    one.split(':').next() == other.split(':').next()
}

/// The path that a need is about.
fn subject(need: &Need) -> Option<&RawText> {
    match need {
        Need::Path { path, .. } | Need::Device { path, .. } | Need::Exec { path, .. } => Some(path),
        Need::Identity { path, .. } => path.as_ref(),
        Need::Kernel { subject, .. } => Some(subject).filter(|path| path.as_bytes().starts_with(b"/")),
        _ => None,
    }
}
