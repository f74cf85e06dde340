//! What is known by hand about a program: one file in `truth/` for each.
//!
//! The files are the standard that runs of nrtrace are compared with, so nothing in them comes from nrtrace: each need
//! was found with strace on refusals, and `tests/truths.rs` proves it by removal, every time it runs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::unistd::{Group, User};
use nrtrace_profiles::event::FileType;
use nrtrace_profiles::requirement::{Access, Severity};
use serde::Deserialize;

/// A program, how to try it, and what it needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Truth {
    /// Name of the file, without its ending.
    #[serde(skip)]
    pub name: String,
    /// The command, which stays in the foreground.
    pub command: Vec<String>,
    /// Further options for `nrtrace run`.
    #[serde(default)]
    pub options: Vec<String>,
    /// How long a run lasts, in seconds.
    #[serde(default = "five")]
    pub seconds: u64,
    /// Bash, as root, before the program starts: brings files into the state of a fresh installation.
    #[serde(default)]
    pub prepare: String,
    /// Bash, as root, that succeeds once the program serves. It is tried until it does; a program that gives up has none.
    #[serde(default = "never")]
    pub exercise: String,
    /// Bash words: the files, besides libraries, that an image of it holds.
    #[serde(default)]
    pub image: String,
    /// What an administrator changes besides granting access, so that the program can start as the user.
    #[serde(default)]
    pub advice: Advice,
    /// Set when the program cannot live as another user at all, by its own decision.
    pub gives_up: Option<GivesUp>,
    /// Everything a permissive run must report, and nothing else with the severity `required`.
    #[serde(default, rename = "need")]
    pub needs: Vec<KnownNeed>,
}

/// What an administrator changes besides granting access.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Advice {
    /// The command to use instead, for example without `-u USER`.
    pub command: Option<Vec<String>>,
    /// Bash, as root, after [`Truth::prepare`]: for example removes a `user` directive from the configuration.
    #[serde(default)]
    pub prepare: String,
}

/// A program that ends by itself without a refusal of the kernel.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GivesUp {
    /// Its exit status.
    pub status: i32,
    /// Part of what it says on standard error; empty when it says nothing there.
    #[serde(default)]
    pub says: String,
    /// A file it looks at just before.
    pub looks_at: Option<String>,
    /// Whether it does so in the run alone, and with what it needs serves.
    #[serde(default)]
    pub mended: bool,
}

/// Something the program needs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownNeed {
    /// The stable id, as `Need::id` makes it.
    pub id: String,
    /// For a file: what it is.
    #[serde(rename = "type")]
    pub file_type: Option<FileType>,
    /// For a file: what the program does with it.
    #[serde(default)]
    pub access: BTreeSet<Access>,
    /// What a permissive run must say about it.
    #[serde(default = "required")]
    pub severity: Severity,
    /// Whether the program does not serve without. A permissive run cannot tell; removal can.
    pub fatal: bool,
    /// What gives it in the trials. Several needs may share a grant, and are then removed together.
    pub grant: Grant,
    /// What was seen without it, in a few words.
    pub without: String,
}

/// What gives the user a need, in the trials by hand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Grant {
    /// A line of tmpfiles.d(5), with `USER` for the user.
    Tmpfiles(String),
    /// A capability, in the ambient set.
    Capability(String),
    /// A supplementary group.
    Group(String),
    /// [`Advice`] makes the need disappear.
    Advice,
    /// Nothing has to be given: the program lives without.
    Nothing,
}

fn never() -> String {
    "false".into()
}

fn five() -> u64 {
    5
}

fn required() -> Severity {
    Severity::Required
}

/// Replaces `{uid:NAME}` and `{gid:NAME}` by the numbers that the names have on this machine.
fn with_ids(text: &str) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (reference, tail) =
            after.split_once('}').with_context(|| format!("{text}: a brace is not closed"))?;
        let id = match reference.split_once(':') {
            Some(("uid", name)) => User::from_name(name)?.map(|user| user.uid.as_raw()),
            Some(("gid", name)) => Group::from_name(name)?.map(|group| group.gid.as_raw()),
            _ => None,
        };
        let id = id.with_context(|| format!("{text}: {reference} is not known on this machine"))?;
        out.push_str(before);
        out.push_str(&id.to_string());
        rest = tail;
    }
    Ok(out + rest)
}

impl Truth {
    /// Reads `truth/NAME.toml` of this package.
    ///
    /// # Errors
    /// When there is no such file or it is malformed.
    pub fn load(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("truth").join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let mut truth: Self =
            toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
        ensure!(!truth.command.is_empty(), "{}: the command is empty", path.display());
        for need in &mut truth.needs {
            need.id = with_ids(&need.id)?;
            let harmless = matches!(need.grant, Grant::Nothing);
            ensure!(!(need.fatal && harmless), "{name}: {} is fatal and has no grant", need.id);
        }
        Ok(Self { name: name.to_owned(), ..truth })
    }

    /// The command as an administrator who follows the advice starts it.
    pub fn advised_command(&self) -> &[String] {
        self.advice.command.as_deref().unwrap_or(&self.command)
    }

    /// Whether it serves when it has all it needs.
    pub fn can_serve(&self) -> bool {
        self.gives_up.as_ref().is_none_or(|known| known.mended)
    }

    /// All distinct grants, in order.
    pub fn grants(&self) -> BTreeSet<&Grant> {
        self.needs.iter().map(|need| &need.grant).filter(|grant| **grant != Grant::Nothing).collect()
    }
}

/// Gives all truths to a macro, each as the name of a test and that of its file.
#[macro_export]
macro_rules! each_truth {
    ($each:ident) => {
        $crate::each_serving_truth! { $each postgres = "postgres", vsftpd = "vsftpd", }
    };
}

/// The same, without those of programs that cannot serve from another user's files (and with what else is named).
#[macro_export]
macro_rules! each_serving_truth {
    ($each:ident $($more:tt)*) => {
        $each! {
            apache2 = "apache2",
            dnsmasq = "dnsmasq",
            etcd_server = "etcd-server",
            haproxy = "haproxy",
            knot = "knot",
            lighttpd = "lighttpd",
            mosquitto = "mosquitto",
            nginx = "nginx",
            redis_server = "redis-server",
            unbound = "unbound",
            $($more)*
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers() {
        assert_eq!(with_ids("set:{uid:root},{gid:root}:x").unwrap(), "set:0,0:x");
        assert!(with_ids("{uid:nobody-of-that-name}").is_err());
        assert!(with_ids("{uid:root").is_err());
    }
}
