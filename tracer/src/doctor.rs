//! What works on this host, found by trying.

use crate::ebpf;
use crate::launch::privileges::Privileges;

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

/// Looks at everything a run needs.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![privileges()];
    findings.extend(probe());
    findings.push(symbols());
    findings
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
