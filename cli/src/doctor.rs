//! `nrtrace doctor`: what works on this host, and what is missing for the rest.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nrtrace_profiles::emit::Style;
use nrtrace_tracer::doctor::{Finding, Verdict, examine};
use tabled::builder::Builder;
use tabled::settings::{Style as Borders, Width, object::Columns};

use crate::args::DoctorArgs;
use crate::terminal;

/// The host cannot do a permissive run.
const UNABLE: u8 = 3;

/// Examines the host and prints what it found.
pub fn doctor(args: &DoctorArgs) -> Result<ExitCode> {
    let findings = examine();
    let style = terminal::style(args.color, &std::io::stdout());
    let text = page(&findings, style, terminal::width());
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    let able = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    Ok(if able { ExitCode::SUCCESS } else { ExitCode::from(UNABLE) })
}

fn page(findings: &[Finding], style: Style, width: usize) -> String {
    let mut builder = Builder::default();
    for finding in findings {
        let (word, code) = match finding.verdict {
            Verdict::Works => ("works", "32"),
            Verdict::Optional => ("not here", "33"),
            Verdict::Missing => ("MISSING", "31"),
        };
        let word = match style {
            Style::Colour => format!("\x1b[{code}m{word}\x1b[0m"),
            Style::Plain => word.to_owned(),
        };
        builder.push_record([finding.subject.clone(), word, finding.detail.clone()]);
    }
    let mut table = builder.build();
    table.with(Borders::blank());
    // The first two columns take what they need; the rest goes to the explanation.
    let first = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    table.modify(Columns::last(), Width::wrap(width.saturating_sub(first + 16).max(30)).keep_words(true));
    let able = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    let summary = if able {
        "nrtrace run works here."
    } else {
        "nrtrace run does not work here yet: see what is MISSING above."
    };
    let rows: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{}\n\n{summary}\n", rows.join("\n"))
}
