//! By what a need is met.

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
        crate::text::word(&self)
    }
}
