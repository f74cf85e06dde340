//! What can go wrong between nrtrace and the kernel's BPF machine.

use std::io;

use aya::programs::ProgramError;
use aya::{BtfError, EbpfError};

use super::btf::{Damaged, VMLINUX};

/// The probe could not be loaded, attached, or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process lacks the capabilities for it.
    #[error(
        "no permission to load eBPF programs: {missing} missing; run nrtrace as root, or grant CAP_BPF and CAP_PERFMON"
    )]
    NotPermitted {
        /// The capabilities that are missing, by name.
        missing: String,
    },
    /// The process is root in a user namespace only.
    #[error(
        "no permission to load eBPF programs from inside a user namespace; run nrtrace as root of the host (a \
         rootless container or `unshare --user` does not do)"
    )]
    UserNamespace,
    /// The kernel is locked down.
    #[error(
        "the kernel is locked down for confidentiality, which forbids reading kernel memory with eBPF; boot with \
         lockdown=integrity or without lockdown"
    )]
    Lockdown,
    /// Permission was refused although nothing is missing.
    #[error(
        "the kernel forbids the probe's program {program} (EPERM), although CAP_BPF and CAP_PERFMON are there: it was \
         built without this kind of program, or a security module forbids it"
    )]
    Forbidden {
        /// Name of the program.
        program: &'static str,
    },
    /// The kernel offers no type information.
    #[error(
        "cannot read the kernel's type information at {VMLINUX}: {reason}; {advice}",
        reason = .0,
        advice = instead(.0)
    )]
    NoBtf(#[source] io::Error),
    /// The type information makes no sense.
    #[error("cannot understand the kernel's type information at {VMLINUX}: {0}")]
    Damaged(#[from] Damaged),
    /// The loader does not understand the type information.
    #[error("cannot understand the kernel's type information at {VMLINUX}: {0}")]
    Btf(#[from] BtfError),
    /// The kernel's structures are unlike all known ones.
    #[error(
        "this kernel has no member {structure}.{member}, which the probe reads; please report the kernel's version"
    )]
    MissingMember {
        /// Name of the structure.
        structure: &'static str,
        /// Name of the member.
        member: &'static str,
    },
    /// The kernel refused the maps, or the object is damaged.
    #[error("cannot set up the probe's maps: {}", whole(.0))]
    Object(#[source] Box<EbpfError>),
    /// The kernel refused a program.
    #[error("the kernel refused the probe's program {program}: {}; please report this with the kernel's version", whole(.refusal))]
    Program {
        /// Name of the program.
        program: &'static str,
        /// Why; carries the verifier's log, and so is not told as a source.
        refusal: Box<ProgramError>,
    },
    /// The kernel lacks the tracepoint that a program is for.
    #[error("this kernel has no tracepoint {0}")]
    NoTracepoint(&'static str),
    /// Neither way to see capability checks works.
    #[error(
        "this kernel lets no eBPF program see capability checks: it has no cap_capable tracepoint (Linux 6.14), and \
         attaching to the function failed, by a trampoline ({functions}) and by a kprobe ({kprobes}); use a newer \
         kernel, or one with either"
    )]
    NoHook {
        /// Why the function is not watched by a trampoline.
        functions: Box<Error>,
        /// Why not by a kprobe.
        kprobes: Box<Error>,
    },
    /// Functions cannot be watched by kprobes.
    #[error("no kprobe on capability checks: {source}; use a kernel built with CONFIG_KPROBE_EVENTS")]
    NoKprobe {
        /// Why not.
        source: io::Error,
    },
    /// The portable probe cannot tell what system call it is in.
    #[error(
        "cannot find the registers of system calls on this kernel's stacks; please report the kernel's version"
    )]
    NoRegisters,
    /// The object lacks something the loader expects.
    #[error("the probe's object has no {0}; rebuild it with `cargo xtask build-ebpf`")]
    Missing(&'static str),
    /// A map could not be used.
    #[error("cannot {action} the probe's map {map}: {source}")]
    Map {
        /// What was to be done.
        action: &'static str,
        /// Name of the map.
        map: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What to do about type information that cannot be read.
fn instead(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "boot a kernel built with CONFIG_DEBUG_INFO_BTF (of the distributions: from Debian 11, Ubuntu 20.10, RHEL 8.2 and \
         Fedora 32 on), or mount /sys where it is not; until then --backend ptrace does without"
    } else {
        "let nrtrace read it: run it as root"
    }
}

impl Error {
    /// All that the kernel's verifier said about a program it refused; the error's own text has the last line.
    pub fn verifier_log(&self) -> Option<String> {
        match self {
            Self::Program { refusal, .. } => match refusal.as_ref() {
                ProgramError::LoadError { verifier_log, .. } => Some(verifier_log.to_string()),
                _ => None,
            },
            Self::NoHook { functions, kprobes } => {
                kprobes.verifier_log().or_else(|| functions.verifier_log())
            }
            _ => None,
        }
    }
}

/// The last line of what a verifier said, which tells the reason; before it are all the steps it took.
fn last_line(text: &str) -> String {
    const MARK: &str = "Verifier output: ";
    let Some((before, log)) = text.split_once(MARK) else { return text.to_owned() };
    // The very last lines count what was processed, and what that took.
    const COUNTS: [&str; 3] = ["processed ", "stack depth ", "verification time "];
    let told = |line: &&str| !line.trim().is_empty() && !COUNTS.iter().any(|count| line.starts_with(count));
    let last = log.lines().rev().find(told).unwrap_or("nothing");
    format!("{before}{MARK}{} (all of it with --verbose)", last.trim())
}

/// An error with all its causes, in short.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = last_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn of_a_verifiers_log_the_reason_is_left() {
        let log = "returned EACCES. Verifier output: 0: R1=ctx()\n1: (79) r1\ninvalid mem access 'scalar'\n\
                   verification time 27 usec\nstack depth 0+0\nprocessed 2 insns\n\n";
        assert_eq!(
            last_line(log),
            "returned EACCES. Verifier output: invalid mem access 'scalar' (all of it with --verbose)"
        );
        assert_eq!(last_line("plain"), "plain");
    }
}
