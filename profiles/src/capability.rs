//! Linux capabilities, by number and name (`include/uapi/linux/capability.h`, capabilities(7)).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A capability, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

macro_rules! capabilities {
    ($($name:ident = $number:literal),* $(,)?) => {
        impl Capability {
            $(#[doc = concat!("`CAP_", stringify!($name), "`, see capabilities(7).")] pub const $name: Self = Self($number);)*
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6, SETUID = 7,
    SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10, NET_ADMIN = 12, NET_RAW = 13, IPC_LOCK = 14,
    SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_ADMIN = 21, SYS_BOOT = 22,
    SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25, MKNOD = 27, SETFCAP = 31, SYSLOG = 34, PERFMON = 38, BPF = 39,
}

impl Capability {
    /// The capability of that number, known to this table or not.
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number, as in the bits of `/proc/PID/status`.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// All capabilities this table has names for.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..NAMES.len() as u8).map(Self)
    }

    /// Whether it overrides discretionary access control on files; such a capability never stands in
    /// for a grant on the path.
    pub const fn is_dac(self) -> bool {
        matches!(self, Self::DAC_OVERRIDE | Self::DAC_READ_SEARCH)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.pad(name),
            None => f.pad(&format!("CAP_{}", self.0)),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a capability; they are named like CAP_NET_BIND_SERVICE, see capabilities(7)")]
pub struct UnknownCapability(String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let upper = text.to_ascii_uppercase();
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let number = NAMES.iter().position(|n| *n == name).map(|n| n as u8);
        number
            .or_else(|| name["CAP_".len()..].parse().ok().filter(|n| (41..64).contains(n)))
            .map(Self)
            .ok_or_else(|| UnknownCapability(text.to_owned()))
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Capability {
    fn schema_name() -> Cow<'static, str> {
        "Capability".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A capability by its name in capabilities(7), or by its number where that page has no name for it.",
            "pattern": "^CAP_[A-Z0-9_]+$",
            "examples": ["CAP_NET_BIND_SERVICE"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        for capability in (0..64).map(Capability::from_number) {
            assert_eq!(capability.to_string().parse(), Ok(capability));
        }
        assert_eq!(Capability::NET_BIND_SERVICE.to_string(), "CAP_NET_BIND_SERVICE");
        assert_eq!(Capability::BPF.to_string(), "CAP_BPF");
        assert_eq!(Capability::SYS_TIME.to_string(), "CAP_SYS_TIME");
        assert_eq!("net_raw".parse(), Ok(Capability::NET_RAW));
        assert!("CAP_NONSENSE".parse::<Capability>().is_err());
    }
}
