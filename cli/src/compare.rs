//! `nrtrace diff`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::describe;
use nrtrace_profiles::diff::{Diff, diff as compare};
use nrtrace_profiles::emit::Style;
use nrtrace_profiles::requirement::word;
use nrtrace_profiles::text::{indented_json, printable};

use crate::args::{DiffArgs, DiffFormat};
use crate::{input, terminal};

/// The profiles differ.
const DIFFERENT: u8 = 1;

/// Shows what changes from one profile to another.
pub fn diff(args: &DiffArgs) -> Result<ExitCode> {
    let found = compare(&input::profile(&args.old)?, &input::profile(&args.new)?);
    let text = match args.format {
        DiffFormat::Text => page(&found, terminal::style(args.color, &std::io::stdout())),
        DiffFormat::Json => indented_json(&found),
    };
    terminal::print(&text)?;
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

fn page(found: &Diff, style: Style) -> String {
    let mut out = String::new();
    let mut line = |code: &str, mark: char, text: String| {
        let text = printable(&text);
        out.push_str(&match style {
            Style::Colour => format!("\x1b[{code}m{mark} {text}\x1b[0m\n"),
            Style::Plain => format!("{mark} {text}\n"),
        });
    };
    for (needs, code, mark) in [(&found.added, "32", '+'), (&found.gone, "31", '-')] {
        for need in needs {
            line(code, mark, format!("{}: {}", need.id, describe::need(&need.need)));
            line("2", ' ', format!("  {}, {}", describe::cause(need), word(&need.severity)));
        }
    }
    for change in &found.changed {
        line("33", '~', change.id.clone());
        for aspect in &change.aspects {
            line("2", ' ', format!("  {}: {} -> {}", aspect.field, aspect.old, aspect.new));
        }
    }
    for (listens, code, mark) in [(&found.listens_added, "32", '+'), (&found.listens_gone, "31", '-')] {
        for listen in listens {
            let port = listen.port.map(|port| format!(" port {port}")).unwrap_or_default();
            line(
                code,
                mark,
                format!("listens on {} {}{port}", word(&listen.protocol), listen.address.to_text()),
            );
        }
    }
    for (entries, code, mark) in [(&found.unexplained_added, "32", '+'), (&found.unexplained_gone, "31", '-')]
    {
        for entry in entries {
            let object = entry.object.to_text();
            line(code, mark, format!("not explained: {} {object} ({})", entry.call, entry.outcome));
        }
    }
    for caution in &found.cautions {
        line("33", '!', caution.clone());
    }
    if found.is_empty() {
        out.push_str("The two need the same.\n");
    }
    out
}
