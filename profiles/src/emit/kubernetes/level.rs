//! The level of the Pod Security Standards that a pod reaches, and what stands in the way of the next.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Capability;
use crate::grants::Grants;

/// A level of the Pod Security Standards, strictest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Anything goes.
    Privileged,
    /// No known privilege escalation.
    Baseline,
    /// Hardened.
    Restricted,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// Capabilities that the level "baseline" allows to add.
const BASELINE: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Parameters a pod may set at the level "baseline".
pub(super) const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// Something that keeps a pod from a level, and the highest level it leaves.
#[derive(Clone)]
pub(super) struct Obstacle {
    pub(super) leaves: Level,
    pub(super) text: String,
}

/// The level reached, and what stands in the way of the next one.
pub(super) fn level(
    capabilities: &BTreeSet<Capability>,
    grants: &Grants,
    more: &[Obstacle],
) -> (Level, Vec<String>) {
    let mut obstacles: Vec<(Level, String)> =
        more.iter().map(|obstacle| (obstacle.leaves, obstacle.text.clone())).collect();
    if grants.account.run_uid == 0 && !grants.choices.arbitrary_uid {
        obstacles.push((Level::Baseline, "it runs as uid 0".into()));
    }
    for capability in capabilities {
        let within = BASELINE.contains(&capability.to_string().as_str());
        let leaves = if within { Level::Baseline } else { Level::Privileged };
        obstacles.push((leaves, format!("it needs {capability} through the file in the image")));
    }
    if grants.may_gain() {
        obstacles.push((Level::Baseline, "it needs what the files of programs give".into()));
    }
    let reached = obstacles.iter().map(|(level, _)| *level).min().unwrap_or(Level::Restricted);
    let texts = obstacles.into_iter().filter(|(level, _)| *level == reached).map(|(_, text)| text).collect();
    (reached, texts)
}
