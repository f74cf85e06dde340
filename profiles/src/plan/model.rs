//! What an arrangement is made from, and what it says.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::accesses::FileAccess;
use crate::event::{FileType, Inode};
use crate::glob::Pattern;
use crate::grants::Executes;
use crate::{Capability, RawText};

/// One of the components, with all its runs taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// The user it has already, when it keeps that.
    pub user: Option<User>,
    /// Whom it runs as today; root where nothing else is known.
    pub today: Reader,
    /// What it does with files.
    pub files: Vec<FileAccess>,
    /// Capabilities it needs besides.
    pub capabilities: BTreeSet<Capability>,
    /// What programs take that it runs, and whose files give rights.
    pub executes: Executes,
}

/// A user and its primary group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name of the user.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Name of the primary group.
    pub group: String,
    /// Primary group id.
    pub gid: u32,
    /// Whether it is there already.
    pub exists: bool,
}

/// A group that is made for what several components share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name, after what it opens.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// The components, by index.
    pub members: BTreeSet<usize>,
}

/// How the plan is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What names of users and groups begin with.
    pub prefix: String,
    /// Ids to choose users from: `SYS_UID_MIN` to `SYS_UID_MAX` of login.defs(5).
    pub uids: RangeInclusive<u32>,
    /// Ids to choose groups from: `SYS_GID_MIN` to `SYS_GID_MAX`.
    pub gids: RangeInclusive<u32>,
    /// Ids of users that are taken.
    pub taken_uids: BTreeSet<u32>,
    /// Ids of groups that are taken.
    pub taken_gids: BTreeSet<u32>,
    /// Ids that are given, user and group, by component.
    pub given: BTreeMap<String, (u32, u32)>,
    /// Who owns what one component alone reads.
    pub owners: Owners,
    /// What groups are made for.
    pub grouping: Grouping,
    /// What becomes of what everybody may use.
    pub public: Public,
    /// The files that are arranged.
    pub paths: Vec<Pattern>,
}

/// Who owns what one component alone uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The component, with 0600: it could then also write what it only reads.
    #[default]
    Component,
    /// Root, and the component reads through its own group, with 0640: exact to the last bit.
    Root,
}

/// What groups are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// One for each set of components that share something: as few as possible.
    #[default]
    Set,
    /// One for each file that is shared.
    File,
}

/// What becomes of files that everybody may read today, as certificates, and directories that everybody may pass through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Public {
    /// They are closed to all but the components that use them.
    #[default]
    Close,
    /// They are left as they are, and no group is made for them.
    Leave,
}

/// Who owns something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Root.
    Root,
    /// A component, by index.
    Component(usize),
}

/// The group of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupOf {
    /// Root's.
    Root,
    /// The primary group of a component, by index.
    Component(usize),
    /// One of [`Arrangement::groups`], by index.
    Shared(usize),
}

/// What becomes of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub file_type: FileType,
    /// Its owner.
    pub owner: Owner,
    /// Its group.
    pub group: GroupOf,
    /// Its mode, with sticky and set-group-ID bit.
    pub mode: u32,
    /// The permission bits of the group; its digit in the mode is the mask where there are ACL entries.
    pub group_bits: u32,
    /// ACL entries for components, as the permission bits 4, 2 and 1, where owner and group cannot express it.
    pub acl: BTreeMap<usize, u32>,
    /// What each component does with it, as permission bits.
    pub uses: BTreeMap<usize, u32>,
    /// Whether a component makes it, so that it need not be there.
    pub made: bool,
    /// Whether it is left as it is, since everybody may use it so.
    pub left: bool,
    /// What it was like.
    pub before: Option<Inode>,
}

/// The arrangement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// Names of the components.
    pub components: Vec<String>,
    /// Capabilities of each.
    pub capabilities: Vec<BTreeSet<Capability>>,
    /// What programs take that each runs, and whose files give rights.
    pub executes: Vec<Executes>,
    /// The user of each.
    pub users: Vec<User>,
    /// Groups made for sharing.
    pub groups: Vec<Group>,
    /// What becomes of each file and directory.
    pub entries: BTreeMap<RawText, Entry>,
    /// Wishes that contradict each other or cannot be met as they are.
    pub conflicts: Vec<Remark>,
    /// What the arrangement allows beyond what was done, since it cannot be kept away.
    pub surplus: Vec<Surplus>,
    /// What has to be seen to besides.
    pub notes: Vec<Remark>,
    /// What today's owners and modes allow beyond what is done.
    pub today: Vec<Excess>,
}

/// A remark on a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// The path.
    pub path: RawText,
    /// In a sentence.
    pub text: String,
}

/// Access that a component has although it does not use it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Surplus {
    /// The component, by index.
    pub component: usize,
    /// The file or directory.
    pub path: RawText,
    /// The permission bits too much; 0 for the removal of what others have in a directory.
    pub bits: u32,
    /// Why, in a few words.
    pub why: String,
}

/// A plan that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There are not enough free ids.
    #[error("there are not enough free {kind} ids from {first} to {last} for {wanted}")]
    Ids {
        /// `user` or `group`.
        kind: &'static str,
        /// First of the range.
        first: u32,
        /// Last of the range.
        last: u32,
        /// Whose turn it was.
        wanted: String,
    },
    /// An id is given twice, or a component is given one that has its own user.
    #[error("the id {id} is given to {first} and to {second}: each needs its own")]
    Twice {
        /// The id.
        id: u32,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
}

impl Arrangement {
    /// Name of an entry's owner.
    pub fn owner(&self, entry: &Entry) -> Cow<'_, str> {
        match (&entry.before, entry.owner) {
            (Some(inode), _) if entry.left => present(inode.user.as_deref(), inode.uid),
            (_, Owner::Root) => "root".into(),
            (_, Owner::Component(index)) => {
                self.users.get(index).map_or("root", |user| user.name.as_str()).into()
            }
        }
    }

    /// Name of an entry's group.
    pub fn group(&self, entry: &Entry) -> Cow<'_, str> {
        match (&entry.before, entry.group) {
            (Some(inode), _) if entry.left => present(inode.group.as_deref(), inode.gid),
            (_, GroupOf::Root) => "root".into(),
            (_, GroupOf::Component(index)) => {
                self.users.get(index).map_or("root", |user| user.group.as_str()).into()
            }
            (_, GroupOf::Shared(index)) => {
                self.groups.get(index).map_or("root", |group| group.name.as_str()).into()
            }
        }
    }

    /// The shared groups that a component is in.
    pub fn groups_of(&self, component: usize) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.members.contains(&component))
    }
}

/// The name of a user or group that is there, else its number.
fn present(name: Option<&str>, id: u32) -> Cow<'static, str> {
    Cow::Owned(name.map_or_else(|| id.to_string(), str::to_owned))
}

/// Whom a component runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// User id.
    pub uid: u32,
    /// Group ids.
    pub gids: BTreeSet<u32>,
}

/// Access that is there today and that nobody makes use of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excess {
    /// The component; `None` for every user of the machine.
    pub component: Option<usize>,
    /// Whether it can write, not only read.
    pub writes: bool,
    /// Why it can.
    pub because: String,
    /// The files.
    pub paths: BTreeSet<RawText>,
}
