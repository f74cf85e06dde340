//! `nrtrace doctor`: what works on this host, and what is missing for the rest.

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::Style;
use nrtrace_tracer::doctor::{Fitness, Mode, Report, Way, examine};

use crate::args::DoctorArgs;
use crate::terminal;

/// Between two columns.
const BETWEEN: &str = "  ";
/// The longest word for whether something works.
const WORD: usize = "not here".len();
const HEADING: &str = "WHAT FOR; WHERE MISSING, WHAT TO DO";
/// The host cannot do a permissive run.
const UNABLE: u8 = 3;

/// Examines the host and prints what it found.
pub fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let report = examine();
    let style = terminal::style(args.color, &std::io::stdout());
    let text = page(&report, style, terminal::width(&console::Term::stdout()).clamp(60, 140));
    terminal::print(&text)?;
    Ok(if report.able() { ExitCode::SUCCESS } else { ExitCode::from(UNABLE) })
}

fn page(report: &Report, style: Style, width: usize) -> String {
    let summary = wrapped(&summary(report), width).join("\n");
    format!("{}\n\n{summary}\n", table(report, style, width))
}

fn paint(word: &str, code: &str, style: Style) -> String {
    match style {
        Style::Colour => format!("\x1b[{code}m{word}\x1b[0m"),
        Style::Plain => word.to_owned(),
    }
}

/// A row for each mode, then one for each thing that they rest on.
fn table(report: &Report, style: Style, width: usize) -> String {
    let modes = report.modes.iter().map(|mode| {
        let verdict = if mode.works() { Fitness::Works } else { Fitness::Missing };
        (mode.command, verdict, format!("{}: {}", mode.purpose, ways(mode)))
    });
    let findings = report.findings.iter();
    let findings =
        findings.map(|finding| (finding.subject.as_str(), finding.verdict, finding.detail.clone()));
    let rows: Vec<_> = modes.chain(findings).collect();
    // The first two columns take what they need; the rest goes to the explanation.
    let first = rows.iter().map(|(subject, ..)| subject.chars().count()).max().unwrap_or(0);
    let rest = width.saturating_sub(first + BETWEEN.len() * 2 + WORD).max(30);
    let mut lines = vec![format!("{:first$}{BETWEEN}{:WORD$}{BETWEEN}{HEADING}", "", "HERE")];
    for (subject, verdict, detail) in &rows {
        let (word, code) = match verdict {
            Fitness::Works => ("works", "32"),
            Fitness::Note => ("note", "36"),
            Fitness::Optional => ("not here", "33"),
            Fitness::Missing => ("MISSING", "31"),
        };
        let mut start = format!("{subject:first$}{BETWEEN}{}", paint(&format!("{word:WORD$}"), code, style));
        for line in wrapped(detail, rest) {
            lines.push(format!("{start}{BETWEEN}{line}"));
            start = " ".repeat(first + BETWEEN.len() + WORD);
        }
    }
    lines.join("\n")
}

/// Lines of whole words; one that is longer than a line has its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// By which backends a mode works, and what the others lack for it.
fn ways(mode: &Mode) -> String {
    let mut parts = [String::new(), String::new()];
    for (backend, way) in [("eBPF", &mode.ebpf), ("ptrace", &mode.ptrace)] {
        let (part, text) = match way {
            Way::Works("") => (0, format!("by {backend}")),
            Way::Works(remark) => (0, format!("by {backend} ({remark})")),
            Way::Lacks(subjects) => (1, format!("{backend} lacks {}", listed(subjects))),
        };
        let between = match (parts[part].is_empty(), part) {
            (true, _) => "",
            (false, 0) => " or ",
            (false, _) => "; ",
        };
        parts[part].push_str(&format!("{between}{text}"));
    }
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The first of them; the rows below have all.
fn listed(subjects: &[String]) -> String {
    const MOST: usize = 3;
    match subjects.get(MOST..) {
        None | Some([]) => subjects.join(", "),
        Some(more) => format!("{} and {} more", subjects[..MOST].join(", "), more.len()),
    }
}

/// What to type here, and by what it is done then.
fn summary(report: &Report) -> String {
    let by = |mode: &Mode| match (&mode.ebpf, &mode.ptrace) {
        (Way::Works(_), _) => Some(("by eBPF", "")),
        (_, Way::Works(remark)) => Some(("by ptrace", *remark)),
        _ => None,
    };
    let works: Vec<_> = report.modes.iter().filter_map(|mode| Some((mode.command, by(mode)?))).collect();
    let say = |(way, remark): (&str, &str)| match remark {
        "" => way.to_owned(),
        remark => format!("{way} ({remark})"),
    };
    let said = match works.as_slice() {
        [] => "nothing yet; see what is MISSING above".to_owned(),
        [(_, first), rest @ ..]
            if works.len() == report.modes.len() && rest.iter().all(|(_, by)| by.0 == first.0) =>
        {
            format!("all of it, {}", say(*first))
        }
        works => {
            let each = works.iter().map(|(command, by)| format!("{command} {}", say(*by)));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let more = if report.able() || works.is_empty() { "" } else { "; for the rest, see above" };
    format!("What works for you: {said}{more}.")
}
