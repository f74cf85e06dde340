//! Whether the backends work.

use nrtrace_profiles::event::Identity;

use super::{Finding, Fitness};
use crate::ebpf;
use crate::oracle::{Method, Oracle};
use crate::ptrace::{self, Installed};

/// The subject of tracing as such.
pub(super) const PTRACE: &str = "ptrace";

/// The eBPF backend. One of the two hooks for capability checks is enough.
pub(super) fn probe() -> Vec<Finding> {
    let features = ebpf::support();
    let is_hook = |name: &str| name.ends_with("/cap_capable");
    let hooked = features.iter().any(|feature| is_hook(feature.name) && feature.works.is_ok());
    let first = features.iter().find(|feature| !feature.name.contains('/') && feature.works.is_err());
    let finding = |feature: &ebpf::Feature| match &feature.works {
        Ok(()) => Finding::new(feature.name, Fitness::Works, feature.purpose),
        Err(_)
            if let Some(first) =
                first.filter(|first| first.name != feature.name && feature.name.contains('/')) =>
        {
            let detail = format!("{}: it takes {}", feature.purpose, first.name);
            Finding::new(feature.name, Fitness::Missing, detail)
        }
        Err(why) => {
            let verdict = if hooked && is_hook(feature.name) { Fitness::Optional } else { Fitness::Missing };
            Finding::new(feature.name, verdict, format!("{}: {why}", feature.purpose))
        }
    };
    features.iter().map(finding).collect()
}

/// The ptrace backend.
pub(super) fn tracer() -> Vec<Finding> {
    let ptrace::Support { tracing, filter } = ptrace::support();
    let tracing = match tracing {
        Ok(()) => Finding::new(PTRACE, Fitness::Works, "tracing without eBPF"),
        Err(why) => Finding::new(PTRACE, Fitness::Missing, format!("tracing without eBPF: {why}")),
    };
    let purpose = "so that the calls of interest alone stop";
    let filter = match filter {
        Ok(Installed::AsIs) => Finding::new("seccomp filter", Fitness::Works, purpose),
        Ok(Installed::NoNewPrivileges) => Finding::new(
            "seccomp filter",
            Fitness::Works,
            format!(
                "{purpose}; without CAP_SYS_ADMIN, set-user-ID bits and file capabilities have no effect below it"
            ),
        ),
        Err(why) => Finding::new("seccomp filter", Fitness::Missing, format!("{purpose}: {why}")),
    };
    vec![tracing, filter]
}

/// The access oracle, asked for the user that runs nrtrace, or as root for one that exists nowhere.
pub(super) fn oracle() -> Finding {
    const SUBJECT: &str = "access oracle";
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = match root {
        true => (65_519, 65_519),
        false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let groups = match root {
        true => Vec::new(),
        false => {
            nix::unistd::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect()
        }
    };
    let identity = Identity { user: String::new(), group: String::new(), uid, gid, groups, exists: false };
    match Oracle::new(&identity).map(|oracle| oracle.method()) {
        Ok(Method::Descriptor) => {
            Finding::new(SUBJECT, Fitness::Works, "the kernel is asked what a user may do, by faccessat2(2)")
        }
        Ok(Method::RealIds) => Finding::new(
            SUBJECT,
            Fitness::Works,
            "the kernel is asked what a user may do, through /proc: faccessat2(2) is missing (before Linux 5.8, or \
             forbidden by a container's seccomp profile), so processes of that user can signal nrtrace meanwhile",
        ),
        Err(error) => Finding::new(SUBJECT, Fitness::Missing, error.to_string()),
    }
}

/// The kernel's symbols tell which check consulted a capability.
pub(super) fn symbols() -> Finding {
    const SUBJECT: &str = "kernel symbols";
    let text = match std::fs::read("/proc/kallsyms") {
        Ok(text) => text,
        Err(error) => {
            return Finding::new(
                SUBJECT,
                Fitness::Optional,
                format!("/proc/kallsyms cannot be read: {error}"),
            );
        }
    };
    let hidden =
        text.split(|byte| *byte == b'\n').take(1000).all(|line| line.iter().take(16).all(|c| *c == b'0'));
    if hidden {
        let detail = "the kernel hides its addresses, so before Linux 5.13 checks are told apart by system call alone; \
                      needs CAP_SYSLOG and kernel.kptr_restrict below 2";
        return Finding::new(SUBJECT, Fitness::Optional, detail);
    }
    Finding::new(SUBJECT, Fitness::Works, "which check consulted a capability is told by the kernel stack")
}
