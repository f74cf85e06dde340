//! What this machine offers to the probe, and what is missing: for `nrtrace doctor`.

use std::fs;

use nrtrace_profiles::Capability;

use super::Error;
use super::btf::VMLINUX;
use super::load::{Loaded, Purpose, Variant};
use crate::status::Status;

/// Something the probe needs or can use.
#[derive(Debug)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether it works here; if not, why, and what to do.
    pub works: Result<(), String>,
}

/// Tries one hook.
type Attach = fn(&mut Loaded) -> Result<(), Error>;

/// Tries everything the probe needs or can use, in the order it is needed.
///
/// One of the two hooks for capability checks is enough.
pub fn support() -> Vec<Feature> {
    let mut features = vec![
        Feature {
            name: "BTF",
            purpose: "the kernel's structures",
            works: fs::metadata(VMLINUX).map(drop).map_err(|error| Error::NoBtf(error).to_string()),
        },
        capability(Capability::BPF, "load eBPF programs"),
        capability(Capability::PERFMON, "attach them, and read kernel memory"),
    ];
    let hooks: [(&str, &str, Attach); 5] = [
        ("tp_btf/cap_capable", "capability checks (Linux 6.14)", |probe| probe.tracepoint("cap_capable")),
        ("fexit/cap_capable", "capability checks where the tracepoint is missing", Loaded::functions),
        ("kprobe/cap_capable", "the same where there are no BPF trampolines", Loaded::kprobes),
        ("tp_btf/sys_exit", "calls and their results (--record calls)", |probe| probe.tracepoint("sys_exit")),
        ("tp_btf/task_newtask", "following children and threads", |probe| probe.tracepoint("task_newtask")),
    ];
    match best() {
        Ok(mut probe) => features.extend(hooks.map(|(name, purpose, attach)| Feature {
            name,
            purpose,
            works: attach(&mut probe).map_err(|error| error.to_string()),
        })),
        Err(error) => features.extend(hooks.map(|(name, purpose, _)| Feature {
            name,
            purpose,
            works: Err(error.to_string()),
        })),
    }
    features
}

/// The variant of the probe that works here, with its maps made.
fn best() -> Result<Loaded, Error> {
    let mut best = Err(Error::Missing("variant"));
    for variant in Variant::ALL {
        best = Loaded::new(1 << 16, Purpose::Try, variant);
        let mut tried = Loaded::new(1 << 16, Purpose::Try, variant);
        if tried.as_mut().is_ok_and(|probe| probe.tracepoint("sys_exit").is_ok()) {
            return best;
        }
    }
    best
}

/// Whether this process has a capability, or CAP_SYS_ADMIN, which stands for both that the probe needs.
fn capability(capability: Capability, purpose: &'static str) -> Feature {
    let name = if capability == Capability::BPF { "CAP_BPF" } else { "CAP_PERFMON" };
    let works = match effective() {
        Some(held) if holds(held, capability) => Ok(()),
        Some(_) => Err(format!("{name} is missing; run nrtrace as root, or grant CAP_BPF and CAP_PERFMON")),
        None => Err("cannot read /proc/self/status; mount /proc".to_owned()),
    };
    Feature { name, purpose, works }
}

fn holds(held: u64, capability: Capability) -> bool {
    let has = |capability: Capability| held >> capability.number() & 1 != 0;
    has(capability) || has(Capability::SYS_ADMIN)
}

/// This process's effective capabilities, as bits.
fn effective() -> Option<u64> {
    Status::of("self").map(|own| own.capabilities("CapEff"))
}

/// Why the kernel says EPERM, as far as this process's state tells.
pub(super) fn why_not_permitted() -> Option<Error> {
    let held = effective()?;
    let missing: Vec<String> = [Capability::BPF, Capability::PERFMON]
        .into_iter()
        .filter(|capability| !holds(held, *capability))
        .map(|capability| capability.to_string())
        .collect();
    if !missing.is_empty() {
        return Some(Error::NotPermitted { missing: missing.join(" and ") });
    }
    if fs::read_to_string("/sys/kernel/security/lockdown")
        .is_ok_and(|text| text.contains("[confidentiality]"))
    {
        return Some(Error::Lockdown);
    }
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    (fields != ["0", "0", "4294967295"]).then_some(Error::UserNamespace)
}
