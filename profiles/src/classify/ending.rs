//! What the way a run was made and ended says about its refusals.

use std::collections::BTreeSet;

use crate::RawText;
use crate::event::Mode;
use crate::profile::Unexplained;
use crate::requirement::{Basis, Requirement, Severity};

use super::context::Context;

/// How long before a program's failure a refusal may lie and still be taken for its reason, in nanoseconds: time for a
/// message and an orderly end.
const NEAR: u64 = 2_000_000_000;

/// In an enforced run, a refusal that the program outlived is no more than a probe; and nor is, in every run, what was
/// asked about with access(2) alone, unless the program failed right after it.
pub fn weigh(requirements: &mut [Requirement], context: &Context<'_>) {
    let fatal = |requirement: &Requirement| {
        let near = requirement.evidence.last.0.saturating_add(NEAR) >= context.end.duration;
        context.end.exit.is_failure() && near
    };
    for requirement in requirements.iter_mut().filter(|requirement| !fatal(requirement)) {
        let severity = std::mem::replace(&mut requirement.severity, Severity::Probe);
        if !requirement.only_asked() || severity < Severity::Probe {
            requirement.severity = severity;
        }
    }
    if context.run.mode != Mode::Enforced {
        return;
    }
    let end = context.end;
    for requirement in requirements.iter_mut().filter(|requirement| requirement.basis == Basis::Denied) {
        let last = requirement.evidence.last.0;
        let fatal = end.exit.is_failure() && last.saturating_add(NEAR) >= end.duration;
        if !fatal {
            requirement.severity = requirement.severity.min(Severity::Probe);
        }
    }
}

/// Remarks on what such a run cannot show.
pub fn remark(
    requirements: &[Requirement],
    unexplained: &[Unexplained],
    context: &Context<'_>,
    notes: &mut BTreeSet<String>,
) {
    match context.run.mode {
        Mode::Permissive => {}
        Mode::Enforced => {
            let denied = requirements.iter().filter(|requirement| requirement.basis == Basis::Denied);
            let severest = denied.map(|requirement| requirement.severity).max();
            let hindered = !unexplained.is_empty();
            if context.end.exit.is_failure() && (severest == Some(Severity::Required) || hindered) {
                notes.insert(format!(
                    "the program failed after what it was refused, so what it does after that was not seen and more \
                     needs may follow; to see all in one run: {}",
                    permissive(context)
                ));
            } else if severest.is_some() || hindered {
                notes.insert(format!(
                    "the program went on without what it was refused, so what it does when it is allowed was not \
                     seen; to see that: {}",
                    permissive(context)
                ));
            }
        }
        Mode::Observation => {
            notes.insert(format!(
                "the program kept its own rights, and what the user may do was asked of the kernel for each file: a \
                 program that looks at its user id (geteuid) may use other paths when it is not root; a run as the \
                 user sees those: {}",
                permissive(context)
            ));
        }
    }
}

/// The command of a permissive run.
fn permissive(context: &Context<'_>) -> String {
    // What is attached to shows its arguments, which some programs overwrite, and its container was not started by them.
    match (&context.run.attached, &context.run.container) {
        (Some(_), Some(_)) => {
            let uid = context.run.identity.uid;
            return format!(
                "sudo nrtrace run -- podman run --user {uid} --cap-add=all IMAGE, or nrtrace oci-runtime"
            );
        }
        (Some(_), None) => return "sudo nrtrace run -- COMMAND, with the command that starts it".to_owned(),
        _ => {}
    }
    let words: Vec<String> = context.run.command.iter().map(word).collect();
    format!("sudo nrtrace run -- {}", words.join(" "))
}

/// A word of a command, in single quotes where a shell would not take it as it is.
fn word(word: &RawText) -> String {
    let text = word.to_text();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
