//! What works on this host, found by trying.

use nrtrace_profiles::event::Identity;

use crate::ebpf;
use crate::launch::privileges::Privileges;
use crate::oracle::{Method, Oracle};
use crate::ptrace::{self, Installed};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub subject: String,
    /// Whether it works.
    pub verdict: Verdict,
    /// What it is for, why it does not work, and what to do.
    pub detail: String,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Works,
    /// It does not, and something else takes its place.
    Optional,
    /// It does not, and a run needs it.
    Missing,
}

/// Looks at everything a run needs. One of the two backends is enough; what the other one lacks is then optional.
pub fn examine() -> Vec<Finding> {
    let (mut ebpf, mut ptrace) = (probe(), tracer());
    let (ebpf_works, ptrace_works) = (works(&ebpf), works(&ptrace));
    if ebpf_works {
        forgive(&mut ptrace);
    } else if ptrace_works {
        forgive(&mut ebpf);
    }
    let mut findings = vec![privileges()];
    findings.extend(ebpf);
    findings.push(symbols());
    findings.extend(ptrace);
    findings.push(choice(ebpf_works, ptrace_works));
    findings
}

fn works(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Missing)
}

fn forgive(findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Missing) {
        finding.verdict = Verdict::Optional;
    }
}

/// What `--backend auto` comes to.
fn choice(ebpf: bool, ptrace: bool) -> Finding {
    let (verdict, detail) = match (ebpf, ptrace) {
        (true, true) => (Verdict::Works, "auto takes ebpf; ptrace works as well"),
        (true, false) => (Verdict::Works, "auto takes ebpf; ptrace does not work here"),
        (false, true) => (
            Verdict::Works,
            "auto takes ptrace: needs are predicted by the access oracle, and runs are slower",
        ),
        (false, false) => {
            (Verdict::Missing, "neither eBPF nor ptrace works here; mend what is missing for one of them")
        }
    };
    Finding::new("backend", verdict, detail)
}

impl Finding {
    /// A finding in plain words.
    pub fn new(subject: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), verdict, detail: detail.into() }
    }
}

fn privileges() -> Finding {
    const SUBJECT: &str = "privileges";
    let held = match Privileges::of_self() {
        Ok(held) => held,
        Err(error) => return Finding::new(SUBJECT, Verdict::Missing, error.to_string()),
    };
    if let Err(error) = held.require_permissive() {
        return Finding::new(SUBJECT, Verdict::Missing, error.to_string());
    }
    let missing: Vec<String> = held.missing().iter().map(ToString::to_string).collect();
    let detail = if missing.is_empty() {
        "a program can be started as another user with all capabilities".to_owned()
    } else {
        format!(
            "a program can be started as another user, with all capabilities but {}: checks of these will be real \
             refusals",
            missing.join(", ")
        )
    };
    Finding::new(SUBJECT, Verdict::Works, detail)
}

/// The eBPF backend. One of the two hooks for capability checks is enough.
fn probe() -> Vec<Finding> {
    let features = ebpf::support();
    let is_hook = |name: &str| name.ends_with("/cap_capable");
    let hooked = features.iter().any(|feature| is_hook(feature.name) && feature.works.is_ok());
    let finding = |feature: &ebpf::Feature| match &feature.works {
        Ok(()) => Finding::new(feature.name, Verdict::Works, feature.purpose),
        Err(why) => {
            let verdict = if hooked && is_hook(feature.name) { Verdict::Optional } else { Verdict::Missing };
            Finding::new(feature.name, verdict, format!("{}: {why}", feature.purpose))
        }
    };
    features.iter().map(finding).collect()
}

/// The ptrace backend and its oracle.
fn tracer() -> Vec<Finding> {
    let ptrace::Support { tracing, filter, yama } = ptrace::support();
    let scope = match yama {
        None | Some(0) => String::new(),
        Some(1) => "; kernel.yama.ptrace_scope is 1, which lets a program allow it".to_owned(),
        Some(2) => "; kernel.yama.ptrace_scope is 2, which takes CAP_SYS_PTRACE".to_owned(),
        Some(_) => {
            "; kernel.yama.ptrace_scope is 3, which forbids it until the next boot: set it lower there"
                .to_owned()
        }
    };
    let tracing = match tracing {
        Ok(()) => Finding::new("ptrace", Verdict::Works, format!("tracing without eBPF{scope}")),
        Err(why) => Finding::new("ptrace", Verdict::Missing, format!("tracing without eBPF: {why}{scope}")),
    };
    let purpose = "so that the calls of interest alone stop";
    let filter = match filter {
        Ok(Installed::AsIs) => Finding::new("seccomp filter", Verdict::Works, purpose),
        Ok(Installed::NoNewPrivileges) => Finding::new(
            "seccomp filter",
            Verdict::Works,
            format!(
                "{purpose}; without CAP_SYS_ADMIN, set-user-ID bits and file capabilities have no effect below it"
            ),
        ),
        Err(why) => Finding::new("seccomp filter", Verdict::Missing, format!("{purpose}: {why}")),
    };
    vec![tracing, filter, oracle()]
}

/// The access oracle, asked for the user that runs nrtrace, or as root for one that exists nowhere.
fn oracle() -> Finding {
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
            Finding::new(SUBJECT, Verdict::Works, "the kernel is asked what a user may do, by faccessat2(2)")
        }
        Ok(Method::RealIds) => Finding::new(
            SUBJECT,
            Verdict::Works,
            "the kernel is asked what a user may do, through /proc: faccessat2(2) is missing (before Linux 5.8, or \
             forbidden by a container's seccomp profile), so processes of that user can signal nrtrace meanwhile",
        ),
        Err(error) => Finding::new(SUBJECT, Verdict::Missing, error.to_string()),
    }
}

/// The kernel's symbols tell which check consulted a capability.
fn symbols() -> Finding {
    const SUBJECT: &str = "kernel symbols";
    let text = match std::fs::read("/proc/kallsyms") {
        Ok(text) => text,
        Err(error) => {
            return Finding::new(
                SUBJECT,
                Verdict::Optional,
                format!("/proc/kallsyms cannot be read: {error}"),
            );
        }
    };
    let hidden =
        text.split(|byte| *byte == b'\n').take(1000).all(|line| line.iter().take(16).all(|c| *c == b'0'));
    if hidden {
        let detail = "the kernel hides its addresses, so checks are told apart by system call alone; needs CAP_SYSLOG \
                      and kernel.kptr_restrict below 2";
        return Finding::new(SUBJECT, Verdict::Optional, detail);
    }
    Finding::new(SUBJECT, Verdict::Works, "which check consulted a capability is told by the kernel stack")
}
