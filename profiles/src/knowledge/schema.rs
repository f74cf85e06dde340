//! What a knowledge file holds.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Protocol;
use crate::requirement::IdentityOperation;

/// [`Program::schema`] of the files this version reads.
pub const SCHEMA: &str = "nrtrace/knowledge/v1";

/// What is known of one program: a file `NAME.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Program {
    /// [`SCHEMA`].
    pub schema: String,
    /// Its name: that of the file.
    pub name: String,
    /// What it is, in a few words.
    pub title: String,
    /// Where its documentation is.
    pub documentation: String,
    /// How it is recognised; one of these is enough.
    pub recognise: Vec<Recognise>,
    /// Files and directories.
    #[serde(default, rename = "path")]
    pub paths: Vec<PathFact>,
    /// Ports.
    #[serde(default, rename = "port")]
    pub ports: Vec<PortFact>,
    /// Changes of identity and of owners.
    #[serde(default, rename = "identity")]
    pub identities: Vec<IdentityFact>,
    /// Other needs, by their ids.
    #[serde(default, rename = "need")]
    pub needs: Vec<NeedFact>,
    /// What the program itself insists on, without the kernel refusing anything.
    #[serde(default, rename = "check")]
    pub checks: Vec<CheckFact>,
}

/// A way to recognise a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recognise {
    /// Names of the executable, without its directory; `*` stands for any bytes (`php-fpm*`).
    pub executables: Vec<String>,
    /// Words that must all be among the arguments; `*` stands for any bytes.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// What every fact says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// What it is, as a phrase: "the pid file".
    pub is: String,
    /// Whether the program ends when it is refused; absent where that is not known.
    #[serde(default)]
    pub fatal: Option<bool>,
    /// What to do about it, best first.
    #[serde(default, rename = "remedy")]
    pub remedies: Vec<Remedy>,
    /// What else is worth knowing, as a sentence.
    #[serde(default)]
    pub note: Option<String>,
    /// Where this is written: manual pages as `name(section)`, addresses beginning with `https://`, files as absolute paths.
    pub sources: Vec<String>,
}

/// What is known of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PathFact {
    /// Where they are, see [`Pattern`](crate::glob::Pattern).
    pub patterns: Vec<String>,
    /// What is known.
    #[serde(flatten)]
    pub told: Told,
}

/// What is known of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PortFact {
    /// The ports.
    pub ports: BTreeSet<u16>,
    /// Their protocols; all where there are none.
    #[serde(default)]
    pub protocols: BTreeSet<Protocol>,
    /// What is known.
    #[serde(flatten)]
    pub told: Told,
}

/// What is known of changes of identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdentityFact {
    /// The operations.
    pub operations: BTreeSet<IdentityOperation>,
    /// Files that are given away, for `chown`; all where there are none.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// What is known.
    #[serde(flatten)]
    pub told: Told,
}

/// What is known of other needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NeedFact {
    /// Ids of needs (`sysctl:net.ipv4.*`); `*` stands for any bytes.
    pub ids: Vec<String>,
    /// What is known.
    #[serde(flatten)]
    pub told: Told,
}

/// A check that the program makes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckFact {
    /// What is checked.
    pub checks: Checked,
    /// Part of what the program says when it gives up.
    #[serde(default)]
    pub says: Vec<String>,
    /// Files that it looks at for this.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// What is known.
    #[serde(flatten)]
    pub told: Told,
}

/// What a program checks by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// Who owns a file.
    Ownership,
    /// A file's mode.
    Mode,
    /// Its own effective user id.
    Euid,
    /// Whether its change of identity had an effect.
    Identity,
    /// Something else.
    Other,
}

/// Something to do: one of `option`, `variable`, `key` and `directive` names what is set or removed; with none, `write`
/// is an instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Remedy {
    /// An option of the command line.
    #[serde(default)]
    pub option: Option<String>,
    /// A variable of the environment.
    #[serde(default)]
    pub variable: Option<String>,
    /// A key of a configuration file.
    #[serde(default)]
    pub key: Option<String>,
    /// A directive of the service's unit, systemd.exec(5).
    #[serde(default)]
    pub directive: Option<String>,
    /// The configuration file, for a key.
    #[serde(default)]
    pub file: Option<String>,
    /// What to write, for an option or a key whole (`pid /run/nginx/nginx.pid;`), for a variable or a directive its value. For a key it may be
    /// several lines, of which the first begins with the key; trials then try what the file is to hold. `{name}` stands for the service's name, `{user}`, `{group}` and `{uid}` for its identity.
    pub write: String,
    /// Whether it is to be removed instead.
    #[serde(default)]
    pub remove: bool,
    /// The value of a variable in a unit, where another one is right there than by hand.
    #[serde(default)]
    pub unit: Option<String>,
    /// The directory that things then are in; the service is given it.
    #[serde(default)]
    pub directory: Option<String>,
}

impl Program {
    /// The told parts of all facts, each with a word for where it is in the file.
    pub fn told(&self) -> impl Iterator<Item = (String, &Told)> {
        fn numbered<'a, T>(
            word: &'static str,
            facts: &'a [T],
            told: fn(&T) -> &Told,
        ) -> impl Iterator<Item = (String, &'a Told)> {
            facts.iter().enumerate().map(move |(n, fact)| (format!("{word} {}", n + 1), told(fact)))
        }
        numbered("path", &self.paths, |fact| &fact.told)
            .chain(numbered("port", &self.ports, |fact| &fact.told))
            .chain(numbered("identity", &self.identities, |fact| &fact.told))
            .chain(numbered("need", &self.needs, |fact| &fact.told))
            .chain(numbered("check", &self.checks, |fact| &fact.told))
    }
}
