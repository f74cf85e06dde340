//! `nrtrace doctor`: what works on this host, and what is missing for the rest.

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::Style;
use nrtrace_tracer::doctor::{Fitness, Mode, Report, Way, examine};
use tabled::Table;
use tabled::builder::Builder;
use tabled::settings::{Style as Borders, Width, object::Columns};

use crate::args::DoctorArgs;
use crate::terminal;

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
    format!("{}\n\n{}\n\n{}\n", modes(report, style, width), findings(report, style, width), summary(report))
}

fn paint(word: &str, code: &str, style: Style) -> String {
    match style {
        Style::Colour => format!("\x1b[{code}m{word}\x1b[0m"),
        Style::Plain => word.to_owned(),
    }
}

/// A line for each mode, a column for each backend.
fn modes(report: &Report, style: Style, width: usize) -> String {
    let way = |way: &Way| match way {
        Way::Works("") => paint("works", "32", style),
        Way::Works(remark) => format!("{}, {remark}", paint("works", "32", style)),
        Way::Lacks(subjects) => format!("{}: {}", paint("lacks", "33", style), subjects.join(", ")),
    };
    let mut builder = Builder::default();
    builder.push_record(["MODE", "COMMAND", "WITH EBPF", "WITH PTRACE"]);
    for mode in &report.modes {
        builder.push_record([
            mode.name.to_owned(),
            mode.command.to_owned(),
            way(&mode.ebpf),
            way(&mode.ptrace),
        ]);
    }
    let mut table = builder.build();
    table.with(Borders::blank());
    // Of the rest, each backend gets half.
    let half = width.saturating_sub(42) / 2;
    table.modify(Columns::new(2..), Width::wrap(half.max(18)).keep_words(true));
    trimmed(&table)
}

fn findings(report: &Report, style: Style, width: usize) -> String {
    let mut builder = Builder::default();
    for finding in &report.findings {
        let (word, code) = match finding.verdict {
            Fitness::Works => ("works", "32"),
            Fitness::Note => ("note", "36"),
            Fitness::Optional => ("not here", "33"),
            Fitness::Missing => ("MISSING", "31"),
        };
        builder.push_record([finding.subject.clone(), paint(word, code, style), finding.detail.clone()]);
    }
    let mut table = builder.build();
    table.with(Borders::blank());
    // The first two columns take what they need; the rest goes to the explanation.
    let first = report.findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    table.modify(Columns::last(), Width::wrap(width.saturating_sub(first + 16).max(30)).keep_words(true));
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let rows: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    rows.join("\n")
}

/// What to type here, and by what it is done then.
fn summary(report: &Report) -> String {
    let by = |mode: &Mode| match (&mode.ebpf, &mode.ptrace) {
        (Way::Works(_), _) => "by eBPF".to_owned(),
        (_, Way::Works("")) => "by ptrace".to_owned(),
        (_, Way::Works(remark)) => format!("by ptrace ({remark})"),
        _ => String::new(),
    };
    let mut works = String::new();
    for mode in report.modes.iter().filter(|mode| mode.works()) {
        let between = if works.is_empty() { "" } else { ",\n  " };
        works.push_str(&format!("{between}{} {}", mode.command, by(mode)));
    }
    match (works.is_empty(), report.able()) {
        (true, _) => "What works for you: nothing yet; see what is MISSING above.".to_owned(),
        (false, true) => format!("What works for you:\n  {works}."),
        (false, false) => {
            format!("What works for you:\n  {works};\n  not yet nrtrace run: see what is MISSING above.")
        }
    }
}
