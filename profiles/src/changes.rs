//! What is done to a host so that the program runs as its user: `changes.json`, which `nrtrace apply` carries out and
//! `nrtrace undo` takes back.
//!
//! It holds what tmpfiles.d(5), sysusers.d(5), sysctl.d(5), modules-load.d(5) and setcap(8) are told, as data: whoever
//! carries it out decides by values, and parses no text that a program had a hand in.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::edit::Edit;
use crate::grants::{FileKind, Grants, Why, carriers};
use crate::interpreter::is_interpreter;
use crate::profile::Profile;
use crate::version::{Format, ReadError};
use crate::{Capability, RawText, text};

/// The value of [`Changes::schema`].
pub const SCHEMA: &str = "nrtrace/changes/v1";

/// The name of the file.
pub const FILE: &str = "changes.json";

/// How `changes.json` is read.
pub const FORMAT: Format = Format {
    name: "list of changes",
    schema: SCHEMA,
    upgrades: &[],
    max_bytes: 64 << 20,
    max_values: 4_000_000,
};

/// What is done to a host for one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// Kind and version of this file.
    pub schema: String,
    /// The name that everything goes under.
    pub name: String,
    /// The program: its executable, and what an interpreter was given to run. Together with the name and the user it
    /// tells whose changes these are.
    pub program: RawText,
    /// Name of the user; it is made where it is not there.
    pub user: String,
    /// User id, where it is known beforehand.
    pub uid: Option<u32>,
    /// Name of the user's primary group.
    pub group: String,
    /// Group id, where it is known beforehand.
    pub gid: Option<u32>,
    /// What is done, in this order.
    pub changes: Vec<Change>,
    /// What gives executables capabilities; for starts without the unit, whose ambient ones reach one service alone.
    pub file_capabilities: Vec<Change>,
    /// Whether those are done with all else, and not only when they alone are asked for.
    pub on_file: bool,
}

/// One change, and why it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The ids of the needs that it serves.
    pub needs: BTreeSet<String>,
    /// One short sentence.
    pub reason: String,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// The user joins a group, which is made where it is not there.
    Join {
        /// The group's name, or its number where it has no name.
        group: String,
    },
    /// A directory is made, and belongs to the user.
    Directory {
        /// Where.
        path: RawText,
        /// Permission bits.
        mode: u32,
        /// The group it belongs to; `None` for the user's own.
        group: Option<String>,
    },
    /// A file belongs to the user, or to a group that the user is in.
    File {
        /// Where.
        path: RawText,
        /// What is made where nothing is there.
        make: Make,
        /// Permission bits; `None` leaves those of the file alone.
        mode: Option<u32>,
        /// The group it belongs to; `None` for the user's own.
        group: Option<String>,
        /// Whether it was there during the run: then its group stays where none is named.
        existed: bool,
        /// Whether the user becomes its owner.
        owned: bool,
    },
    /// An entry for the user in the access control list of what is there.
    Acl {
        /// Of which file or directory.
        path: RawText,
        /// Read, write and execute (or search), as the permission bits 4, 2 and 1.
        bits: u32,
    },
    /// A kernel parameter is set.
    Sysctl {
        /// Its name, with dots.
        name: String,
        /// Its value.
        value: String,
    },
    /// A kernel module is loaded.
    Module {
        /// Its name.
        name: String,
    },
    /// Lines of a configuration file are changed.
    Edit(Edit),
    /// An executable file carries capabilities beside those it has.
    FileCapabilities {
        /// The executable; `None` where the run did not tell which it was.
        path: Option<RawText>,
        /// The capabilities: permitted and effective.
        capabilities: BTreeSet<Capability>,
    },
}

/// What is made where nothing is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Make {
    /// An empty regular file.
    Regular,
    /// A named pipe.
    Fifo,
    /// Nothing.
    Nothing,
}

impl Changes {
    /// What is done to a host for these grants.
    pub fn of(profile: &Profile, grants: &Grants) -> Self {
        let account = &grants.account;
        Self {
            schema: SCHEMA.into(),
            name: grants.name.clone(),
            program: program(profile),
            user: account.user.clone(),
            uid: account.uid,
            group: account.group.clone(),
            gid: account.gid,
            changes: changes(grants),
            file_capabilities: file_capabilities(profile, grants),
            on_file: grants.on_file,
        }
    }

    /// The home of the user where it is made: the directory with the service's state, as in the lines for systemd-sysusers and
    /// so in what was proved; without one the root directory, which systemd-sysusers takes.
    pub fn home(&self) -> &str {
        let plain = |path: &str| {
            path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'.'))
        };
        let directories = self.changes.iter().filter_map(|change| match &change.action {
            Action::Directory { path, .. } => path.as_str(),
            _ => None,
        });
        directories
            .filter(|path| path.starts_with("/var/lib/"))
            .min()
            .filter(|path| plain(path))
            .unwrap_or("/")
    }

    /// Reads what [`Changes::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no such file, or one of another version.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        FORMAT.read(text)
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        text::indented_json(self)
    }

    /// Whose changes these are: profiles of one program for one user follow one another, all others stand beside.
    pub fn key(&self) -> String {
        format!("{} as {}: {}", self.name, self.user, self.program.to_text())
    }
}

/// The longest part of a command that names a program.
const LONGEST: usize = 4096;

fn program(profile: &Profile) -> RawText {
    let Some(executable) = profile.executable.as_ref().or(profile.command.first()) else {
        return RawText::default();
    };
    let script = profile.command.iter().skip(1).find(|word| !word.as_bytes().starts_with(b"-"));
    match script.filter(|_| is_interpreter(executable)) {
        None => executable.clone(),
        Some(script) => {
            let mut both = [executable.as_bytes(), b" ", script.as_bytes()].concat();
            both.truncate(LONGEST);
            RawText::new(both)
        }
    }
}

fn changes(grants: &Grants) -> Vec<Change> {
    let mut out = Vec::new();
    let mut add = |why: &Why, action| {
        out.push(Change { needs: why.needs.clone(), reason: why.reason.clone(), action });
    };
    for (group, membership) in &grants.groups {
        add(&membership.why, Action::Join { group: group.clone() });
    }
    for (path, directory) in &grants.directories {
        let (path, group) = (path.clone(), directory.group.clone());
        add(&directory.why, Action::Directory { path, mode: directory.mode, group });
    }
    for (path, file) in &grants.files {
        let make = match file.kind {
            FileKind::Regular => Make::Regular,
            FileKind::Fifo => Make::Fifo,
            FileKind::Existing | FileKind::Attribute => Make::Nothing,
        };
        let (mode, group, existed) = (file.mode, file.group.clone(), file.existed);
        let owned = file.kind != FileKind::Attribute;
        add(&file.why, Action::File { path: path.clone(), make, mode, group, existed, owned });
    }
    for (path, acl) in &grants.acls {
        add(&acl.why, Action::Acl { path: path.clone(), bits: acl.bits });
    }
    for (edit, why) in &grants.edits {
        add(why, Action::Edit(edit.clone()));
    }
    for (name, sysctl) in &grants.sysctls {
        add(&sysctl.why, Action::Sysctl { name: name.clone(), value: sysctl.value.clone() });
    }
    for (name, why) in &grants.modules {
        add(why, Action::Module { name: name.clone() });
    }
    out
}

fn file_capabilities(profile: &Profile, grants: &Grants) -> Vec<Change> {
    let carriers = carriers(profile, grants, |_| true);
    let known = carriers.files.into_iter().map(|(path, capabilities)| (Some(path.clone()), capabilities));
    let unknown = Some((None, carriers.unknown)).filter(|(_, capabilities)| !capabilities.is_empty());
    let change = |(path, capabilities): (Option<RawText>, BTreeSet<Capability>)| {
        let of = grants.capabilities.iter().filter(|(capability, _)| capabilities.contains(capability));
        let mut why = Why::default();
        for (_, grant) in of {
            why.needs.extend(grant.why.needs.iter().cloned());
            why.reason.clone_from(&grant.why.reason);
        }
        let action = Action::FileCapabilities { path, capabilities };
        Change { needs: why.needs, reason: why.reason, action }
    };
    known.chain(unknown).map(change).collect()
}
