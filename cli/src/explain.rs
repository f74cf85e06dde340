//! `nrtrace explain`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::Style;
use nrtrace_profiles::explain::{Explanation, explain as explanation, find, takes_no_right};
use nrtrace_profiles::text::{indented_json, printable};

use crate::args::{DiffFormat, ExplainArgs};
use crate::failure::BadInput;
use crate::{show, terminal};

/// Shows everything that is known about a need, or about each need of a row.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let profile = show::load(&args.profile, &args.more)?;
    let needs = match find(&profile, &args.need) {
        Ok(needs) => needs,
        Err(error) => {
            let free = takes_no_right(&profile, &args.need);
            if free.is_empty() || args.format == DiffFormat::Json {
                return Err(BadInput(error.to_string()).into());
            }
            free.iter().try_for_each(|line| terminal::print(&format!("{}\n", printable(line))))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let style = terminal::style(args.color, &std::io::stdout());
    for (place, need) in needs.into_iter().enumerate() {
        let found = explanation(&profile, need);
        let text = match args.format {
            DiffFormat::Text if place > 0 => format!("\n{}", page(&found, style)),
            DiffFormat::Text => page(&found, style),
            DiffFormat::Json => indented_json(&found),
        };
        terminal::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(found: &Explanation, style: Style) -> String {
    let id = printable(&found.requirement.id).into_owned();
    let mut out = match style {
        Style::Colour => format!("\x1b[1m{id}\x1b[0m\n"),
        Style::Plain => format!("{id}\n"),
    };
    let mut before = "";
    for (name, text) in found.lines() {
        let shown = if name == before { "" } else { name };
        before = if name.is_empty() { before } else { name };
        out.push_str(&format!("  {shown:<12}{}\n", printable(&text)));
    }
    out
}
