//! What watches a program: it is prepared, and people are told which it is.

use anyhow::Result;
use nrtrace_profiles::text::printable;
use nrtrace_tracer::backend::{self, Choice, Ready, Wanted};
use nrtrace_tracer::ebpf;

use crate::args::Talk;
use crate::terminal;

/// What watches a program, for people.
pub struct Watcher {
    /// What it is, in a few words.
    pub description: String,
    /// Why it is not the first choice.
    pub fallback: Option<String>,
    /// What the kernel's verifier said of the first choice.
    pub verifier: Option<String>,
}

/// Prepares what watches the program, and says which it is where that was left to nrtrace.
pub fn prepare(choice: Choice, wanted: &Wanted<'_>, talk: &Talk) -> Result<Ready> {
    let prepared = backend::prepare(choice, wanted);
    let refusal = match &prepared {
        Ok(ready) => ready.fallback.as_ref(),
        Err(error) => error.ebpf(),
    };
    let verifier = refusal.and_then(ebpf::Error::verifier_log);
    let fallback = refusal.map(ToString::to_string);
    if prepared.is_err() {
        say_verifier(verifier.as_deref(), talk);
    }
    let ready = prepared?;
    announce(choice, &Watcher { description: ready.description.clone(), fallback, verifier }, talk);
    Ok(ready)
}

/// Says what watches the program, where that was left to nrtrace.
pub fn announce(choice: Choice, watcher: &Watcher, talk: &Talk) {
    say_verifier(watcher.verifier.as_deref(), talk);
    let description = &watcher.description;
    match &watcher.fallback {
        Some(why) => terminal::tell(format_args!(
            "nrtrace: backend: {description}, because eBPF does not work here: {why}"
        )),
        None if choice == Choice::Auto && !talk.quiet => {
            terminal::tell(format_args!(
                "nrtrace: backend: {description}, the first choice, which works here"
            ));
        }
        None if talk.verbose => terminal::tell(format_args!("nrtrace: backend: {description}")),
        None => {}
    }
}

fn say_verifier(log: Option<&str>, talk: &Talk) {
    for line in log.filter(|_| talk.verbose).unwrap_or_default().lines() {
        terminal::tell(format_args!("{}", printable(line)));
    }
}
