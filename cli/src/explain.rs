//! `nrtrace explain`

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::Style;
use nrtrace_profiles::explain::{Explanation, explain as explanation, find};
use nrtrace_profiles::text::{indented_json, printable};

use crate::args::{DiffFormat, ExplainArgs};
use crate::failure::BadInput;
use crate::{show, terminal};

/// Shows everything that is known about one need.
pub fn explain(args: &ExplainArgs) -> Result<ExitCode> {
    let profile = show::load(&args.profile, &args.more)?;
    let need = find(&profile, &args.need).map_err(|error| BadInput(error.to_string()))?;
    let found = explanation(&profile, need);
    let text = match args.format {
        DiffFormat::Text => page(&found, terminal::style(args.color, &std::io::stdout())),
        DiffFormat::Json => indented_json(&found),
    };
    terminal::print(&text)?;
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
