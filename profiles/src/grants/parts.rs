//! What is granted, piece by piece, each with the needs that it serves.

use std::collections::{BTreeMap, BTreeSet};

use super::grade::Grade;
use super::why::Why;
use crate::place::Class;
use crate::text::letters;
use crate::{Capability, RawText};

/// A group the user joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's number on the machine of the run.
    pub gid: u32,
    /// What else the group opens, where that is worth a thought.
    pub caution: Option<&'static str>,
    /// How much that is.
    pub grade: Grade,
    /// Why.
    pub why: Why,
}

/// A directory to make or to own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub class: Class,
    /// Permission bits.
    pub mode: u32,
    /// The group it keeps; `None` for the user's own.
    pub group: Option<String>,
    /// Whether it was there during the run.
    pub existed: bool,
    /// Why.
    pub why: Why,
}

/// A file to make or to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What kind of file.
    pub kind: FileKind,
    /// Permission bits; `None` leaves those of the existing file alone.
    pub mode: Option<u32>,
    /// The group it keeps; `None` for the user's own, or for the present one of a given file of unknown group.
    pub group: Option<String>,
    /// Whether it was there during the run.
    pub existed: bool,
    /// Why.
    pub why: Why,
}

/// How a file comes to belong to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file, made empty if it is not there.
    Regular,
    /// A named pipe, made if it is not there.
    Fifo,
    /// Something else that is there already and only changes its owner.
    Existing,
    /// An attribute of the kernel, which stays root's and is opened to the user's group by its mode.
    Attribute,
}

/// An ACL entry for the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Read, write and execute (or search), as the permission bits 4, 2 and 1.
    pub bits: u32,
    /// What it opens that is worth a thought.
    pub caution: Option<&'static str>,
    /// Why.
    pub why: Why,
}

impl Acl {
    /// The permissions as in `setfacl`: `r--`, `rw-`, `r-x`.
    pub fn text(&self) -> String {
        letters(self.bits)
    }
}

/// A capability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityGrant {
    /// What it amounts to, where that is more than its name says.
    pub danger: Option<&'static str>,
    /// Why.
    pub why: Why,
}

/// A secret that systemd hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The file.
    pub path: RawText,
    /// Why.
    pub why: Why,
}

/// A resource limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitGrant {
    /// The limit in the unit of setrlimit(2); `None` is no limit.
    pub value: Option<u64>,
    /// Why.
    pub why: Why,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Whether it is a block device.
    pub block: bool,
    /// Read and write, as the permission bits 4 and 2.
    pub bits: u32,
    /// Why.
    pub why: Why,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its value in a unit.
    pub value: String,
    /// Why.
    pub why: Why,
}

/// The sysctl that says which ports take a capability.
pub(crate) const PORT_SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// A kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// The value written.
    pub value: String,
    /// Why.
    pub why: Why,
}

/// What a package's own tmpfiles.d(5) file makes at each start of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// The file's name.
    pub file: String,
    /// Permission bits.
    pub mode: u32,
    /// The owner's name.
    pub user: String,
    /// The group's name.
    pub group: String,
}

/// A user that owns something today that the program's user is to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentOwner {
    /// What changes hands.
    pub paths: BTreeSet<RawText>,
    /// The needs behind that.
    pub needs: BTreeSet<String>,
}

impl PresentOwner {
    /// A tip for the reader. It holds text from the tracee: escape it for where it goes.
    pub fn tip(&self, owner: &str, user_option: &str) -> String {
        const SHOWN: usize = 4;
        let mut paths: Vec<String> = self.paths.iter().take(SHOWN).map(RawText::to_string).collect();
        if self.paths.len() > SHOWN {
            paths.push(format!("{} more", self.paths.len() - SHOWN));
        }
        format!(
            "{owner} owns {} today: traced again with {user_option} {owner}, it needs less",
            paths.join(", ")
        )
    }
}

/// What the execution of programs takes whose files give rights to whoever executes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executes {
    /// Capabilities that stay in the bounding set, and are nobody's until a file gives them.
    pub kept: BTreeMap<Capability, Why>,
    /// Why processes of the service may gain what files give; without one they may not.
    pub gains: Vec<Why>,
}

impl Executes {
    /// Adds what another run takes.
    pub fn extend(&mut self, other: Self) {
        for (capability, why) in other.kept {
            self.kept.entry(capability).or_insert_with(|| why.clone()).also(why);
        }
        self.gains.extend(other.gains);
        self.gains.sort();
        self.gains.dedup();
    }
}

/// A piece that several needs may have in common: they are served by one that does for all.
pub(super) trait Piece {
    /// Which needs it serves.
    fn why(&mut self) -> &mut Why;
    /// Takes in what another one gives beyond this one.
    fn widen(&mut self, _other: &Self) {}
}

macro_rules! pieces {
    ($($piece:ty $(, $widen:expr)?;)*) => {
        $(impl Piece for $piece {
            fn why(&mut self) -> &mut Why {
                &mut self.why
            }
            $(fn widen(&mut self, other: &Self) {
                let widen: fn(&mut Self, &Self) = $widen;
                widen(self, other);
            })?
        })*
    };
}

pieces! {
    Membership;
    Directory, |directory, other| directory.group = directory.group.take().or_else(|| other.group.clone());
    File, |file, other| file.group = file.group.take().or_else(|| other.group.clone());
    Acl, |acl, other| {
        acl.bits |= other.bits;
        acl.caution = acl.caution.or(other.caution);
    };
    CapabilityGrant;
    Credential;
    LimitGrant, |limit, other| limit.value = limit.value.zip(other.value).map(|(a, b)| a.max(b));
    Device, |device, other| device.bits |= other.bits;
    Variable;
    Sysctl;
}

impl Piece for Why {
    fn why(&mut self) -> &mut Why {
        self
    }
}
