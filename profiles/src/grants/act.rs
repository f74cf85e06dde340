//! A way to meet a need, as a value: what it does, what it opens beyond the need, and whether it is taken.

use super::grade::{Grade, Reach};
use super::parts::{
    Acl, CapabilityGrant, Credential, Device, Directory, File, LimitGrant, Membership, Sysctl, Variable,
};
use crate::edit::Edit;
use crate::method::Method;
use crate::requirement::Limit;
use crate::{Capability, RawText};

/// What is done. The pieces name no needs: those that a way serves are known where it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A directory is made, or changes its owner.
    Directory(RawText, Directory),
    /// A file is made, or changes its owner.
    File(RawText, File),
    /// The user gets an entry in an access control list.
    Acl(RawText, Acl),
    /// The user joins a group.
    Join(String, Membership),
    /// The service starts with an ambient capability.
    Capability(Capability, CapabilityGrant),
    /// The executable carries a capability.
    FileCapability(Capability, CapabilityGrant),
    /// A capability stays in the bounding set, and is nobody's until a file gives it.
    Bound(Capability),
    /// Processes of the service may gain what files give: there is no `NoNewPrivileges=`.
    Gain,
    /// systemd hands over a copy.
    Credential(String, Credential),
    /// The unit lets the service use a device.
    Device(RawText, Device),
    /// systemd listens on the port and hands over the socket.
    Listen(u16),
    /// A kernel parameter is set when the machine starts.
    Sysctl(String, Sysctl),
    /// A kernel module is loaded when the machine starts.
    Module(String),
    /// Root runs a command before the start.
    Before(Vec<String>),
    /// The service starts with a limit.
    Limit(Limit, LimitGrant),
    /// The service starts with a nice value.
    Nice(i64),
    /// The service starts with an `oom_score_adj`.
    OomScore(i64),
    /// The service starts with a variable in its environment.
    Variable(String, Variable),
    /// The unit has a further directive.
    Directive(String, String),
    /// The service manages the control groups below its own.
    Delegate,
    /// Lines of the program's own configuration are changed.
    Edit(Edit),
    /// Somebody changes the program's own configuration or start, as [`Way::because`] says.
    Setting,
    /// Nothing until a trial without the capability has failed.
    Withhold(Capability),
    /// Nothing: the program lives without.
    Nothing,
    /// Nothing: it cannot be granted safely. What to do instead.
    Refuse(String),
}

impl Act {
    /// By what it is done; `None` where it is refused.
    pub fn method(&self) -> Option<Method> {
        Some(match self {
            Self::Directory(_, Directory { existed: true, .. }) => Method::Own,
            Self::File(_, File { existed: true, .. }) => Method::Own,
            Self::Directory(..) | Self::File(..) => Method::Make,
            Self::Acl(..) => Method::Acl,
            Self::Join(..) => Method::Group,
            Self::Capability(..) => Method::Capability,
            Self::FileCapability(..) => Method::FileCapability,
            Self::Credential(..) => Method::Credential,
            Self::Listen(_) => Method::Socket,
            Self::Sysctl(name, _) if name == super::parts::PORT_SYSCTL => Method::Sysctl,
            Self::Sysctl(..) | Self::Module(_) => Method::Boot,
            Self::Before(_) => Method::Manager,
            Self::Device(..)
            | Self::Bound(_)
            | Self::Gain
            | Self::Limit(..)
            | Self::Nice(_)
            | Self::OomScore(_)
            | Self::Directive(..)
            | Self::Delegate => Method::Unit,
            Self::Variable(..) | Self::Edit(_) | Self::Setting => Method::Configure,
            Self::Withhold(_) | Self::Nothing => Method::Nothing,
            Self::Refuse(_) => return None,
        })
    }

    /// Whether it is told by what it does alone; else its words tell which it is.
    pub(super) fn is_piece(&self) -> bool {
        !matches!(self, Self::Gain | Self::Setting | Self::Withhold(_) | Self::Nothing | Self::Refuse(_))
    }
}

/// A way to meet a need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What it does.
    pub act: Act,
    /// Why it is done that way, or what is to be done. It may hold text from the tracee: escape it for where it goes.
    pub because: String,
    /// Where it is known from, when it is particular to the program.
    pub source: Option<String>,
    /// What it opens beyond what the program did.
    pub reach: Vec<Reach>,
    /// Whether the plan takes it.
    pub chosen: bool,
}

impl Way {
    pub(crate) fn new(act: Act, because: impl Into<String>) -> Self {
        Self { act, because: because.into(), source: None, reach: Vec::new(), chosen: false }
    }

    /// A refusal: why, and what to do instead.
    pub(crate) fn refuse(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal::new(reason, hint).into()
    }

    /// Something to change in the program's own configuration or start.
    pub(crate) fn setting(text: impl Into<String>) -> Self {
        Self::new(Act::Setting, text)
    }

    /// How much it opens beyond the need.
    pub fn risk(&self) -> Grade {
        self.reach.iter().map(|reach| reach.grade).max().unwrap_or(Grade::None)
    }

    /// Whether it opens more than files of the service: such a way is taken where nothing else can be.
    pub(super) fn opens_much(&self) -> bool {
        self.risk() >= Grade::Medium
    }
}

/// Why there is no way, and what to do instead.
pub(crate) struct Refusal {
    reason: String,
    hint: String,
}

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

impl From<Refusal> for Way {
    fn from(refusal: Refusal) -> Self {
        Self::new(Act::Refuse(refusal.hint), refusal.reason)
    }
}
