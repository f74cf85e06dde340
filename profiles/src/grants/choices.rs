//! How a need can be met, and what is preferred where there are several ways.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A way to meet a need, by what does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The program's own option, variable or configuration key.
    Configure,
    /// A file or directory made beforehand for the user (tmpfiles.d `d`, `f`; `StateDirectory=` and its kind).
    Make,
    /// A group that has the access already.
    Group,
    /// What is there changes its owner (tmpfiles.d `z`, `Z`).
    Own,
    /// An entry for the user in an access control list (tmpfiles.d `a+`).
    Acl,
    /// systemd reads a secret and hands over a copy (`LoadCredential=`).
    Credential,
    /// systemd listens and hands over the socket.
    Socket,
    /// The first port that needs no privilege is set lower (`net.ipv4.ip_unprivileged_port_start`).
    Sysctl,
    /// An ambient capability.
    Capability,
    /// A capability on the executable file: setcap(8).
    FileCapability,
    /// A directive of the unit (`LimitNOFILE=`, `Nice=`, `DeviceAllow=`, `Delegate=`).
    Unit,
    /// Set for the whole machine when it starts (sysctl.d, modules-load.d).
    Boot,
    /// systemd does it as root before the start (`ExecStartPre=+`).
    Manager,
    /// The image holds it with the right owner (`COPY --chown`).
    Image,
    /// A volume that is the user's (`emptyDir`, `fsGroup`, `tmpfs`).
    Volume,
    /// Nothing: the program lives without.
    Nothing,
}

impl Method {
    /// The methods that a preference can change the plan to.
    pub const CHOOSABLE: [Self; 11] = [
        Self::Configure,
        Self::Make,
        Self::Group,
        Self::Own,
        Self::Acl,
        Self::Credential,
        Self::Socket,
        Self::Sysctl,
        Self::Capability,
        Self::FileCapability,
        Self::Manager,
    ];

    /// Its name on a command line.
    pub fn name(self) -> String {
        crate::requirement::word(&self)
    }
}

/// What the plan is to take where there are several ways.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choices {
    /// Methods to take before all others, most wanted first.
    pub prefer: Vec<Method>,
    /// Whether a container is to run as any user id with group 0, as OpenShift has it.
    pub arbitrary_uid: bool,
    /// Where nrtrace is, for scripts that call it; found by its name unless given.
    #[serde(default)]
    pub program: Option<String>,
    /// Whether what is withheld until it is proved is granted: for the trials that are to prove it.
    #[serde(default)]
    pub prove: bool,
    /// Directives of [`hardening`](crate::emit::hardening) that the unit is to hold, besides those that are proved: what
    /// is being tried.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub harden: BTreeSet<String>,
}

impl Choices {
    /// The method to take, of those that can be: the most wanted, else the first.
    pub(super) fn pick(&self, feasible: &[Method]) -> Option<Method> {
        let wanted = self.prefer.iter().find(|method| feasible.contains(method));
        wanted.or(feasible.first()).copied()
    }

    /// Whether the program's own configuration comes before what nrtrace can write.
    pub(super) fn prefers_configuration(&self) -> bool {
        self.prefer.contains(&Method::Configure)
    }
}
