//! What becomes of a profile: it is written, and shown.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::changes;
use nrtrace_profiles::emit::escape::shell;
use nrtrace_profiles::emit::{self, Format, View};
use nrtrace_profiles::grants::{Choices, Grants};
use nrtrace_profiles::place::Setting;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;

use crate::args::{Files, ReportFormat, Results, Showing};
use crate::artefacts::{Guard, PROFILE};
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir};
use crate::terminal::ColourArg;
use crate::{shipped, terminal};

/// What is written of a profile.
#[derive(Clone, Copy)]
pub struct Artefacts<'a> {
    /// For which platforms, and over what.
    pub files: &'a Files,
    /// Whether a whole unit is written, too.
    pub unit: bool,
}

/// Opens the directory that results go to, before the work begins.
///
/// # Errors
/// When nothing can be written there, or the profile would be written over a file that nrtrace did not write.
pub fn open(output: Option<&Path>, files: &Files) -> Result<Option<OutputDir>> {
    let Some(path) = output else { return Ok(None) };
    if let Some(place) = obeyed(path) {
        let message = format!(
            "{}: what is written to {place} is obeyed as it is, before anybody has read it: name a directory of your own",
            path.display()
        );
        return Err(BadInput(message).into());
    }
    let output = OutputDir::open(path)?;
    Guard::of(&output, files.force).check(PROFILE, None).map_err(|error| BadInput(error.to_string()))?;
    Ok(Some(output))
}

/// Where the tools of systemd look for `tmpfiles.d`, `sysusers.d` and drop-ins.
const OBEYED: [&str; 12] = [
    "/",
    "/etc",
    "/run",
    "/usr/lib",
    "/usr/local/lib",
    "/lib",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/systemd",
];

/// That one of these places is meant, if one is.
fn obeyed(path: &Path) -> Option<&'static str> {
    let real = path.canonicalize().ok()?;
    OBEYED.into_iter().find(|place| Path::new(place).canonicalize().is_ok_and(|place| place == real))
}

/// Writes the profile and the files that grant what it needs, by what was preferred.
pub fn write(
    guard: &Guard<'_>,
    artefacts: Artefacts<'_>,
    profile: &Profile,
    choices: &Choices,
    losses: &mut Losses,
) {
    let mut grants = plan(profile, choices);
    if profile.container.is_none() {
        grants.shipped = shipped::lines();
    }
    let mut files = vec![Format::Json.emit(profile, &grants)];
    files.extend(emit::files(profile, &grants, &artefacts.files.platforms(profile, &grants)));
    files.extend(artefacts.unit.then(|| Format::SystemdUnit.emit(profile, &grants)));
    guard.write(&files, losses);
}

/// Writes what was asked for, and shows it whatever became of the files.
pub fn conclude(
    results: &Results,
    unit: bool,
    profile: &Profile,
    output: Option<&OutputDir>,
    losses: &mut Losses,
) {
    let choices = results.shape.choices();
    if let Some(output) = output {
        let artefacts = Artefacts { files: &results.files, unit };
        write(&Guard::of(output, results.files.force), artefacts, profile, &choices, losses);
    }
    let written = output.filter(|_| losses.is_empty()).map(OutputDir::path);
    losses.unless(show(results, profile, &choices, written));
}

/// Shows the result of work that may have written to standard output itself: this is why the table goes elsewhere.
pub fn show(results: &Results, profile: &Profile, choices: &Choices, written: Option<&Path>) -> Result<()> {
    let grants = plan(profile, choices);
    let showing = &results.showing;
    if showing.format != ReportFormat::Table {
        return terminal::print(&page(showing, profile, &grants, &View::PLAIN));
    }
    if !results.talk.quiet {
        let view = terminal::view(results.talk.color, true, showing.all);
        let table = page(showing, profile, &grants, &view);
        let next = emit::pairs(&next(profile, &grants, written), &view);
        terminal::tell(format_args!("{}", format!("{table}{next}").trim_end_matches('\n')));
    }
    Ok(())
}

/// Prints a profile that was saved.
pub fn print(showing: &Showing, color: ColourArg, profile: &Profile, grants: &Grants) -> Result<()> {
    terminal::print(&page(showing, profile, grants, &terminal::view(color, false, showing.all)))
}

/// The profile as it was asked for.
fn page(showing: &Showing, profile: &Profile, grants: &Grants, view: &View) -> String {
    match showing.format {
        ReportFormat::Table => emit::table(profile, grants, view),
        ReportFormat::Json => profile.to_json(),
        ReportFormat::Markdown => Format::Markdown.emit(profile, grants).text,
        ReportFormat::Html => Format::Html.emit(profile, grants).text,
    }
}

/// The next commands, and where to read on.
fn next(profile: &Profile, grants: &Grants, written: Option<&Path>) -> Vec<(&'static str, String)> {
    let Some(directory) = written else {
        return vec![("keep", "-o DIR writes the profile and the files that grant this".into())];
    };
    let directory = format!("{}/", directory.display().to_string().trim_end_matches('/'));
    let file = |name: &str| shell::readable(&format!("{directory}{name}"));
    let out = shell::readable(&directory);
    let is_written = |name: &str| Path::new(&directory).join(name).exists();
    let on_host = grants.world.setting == Setting::Host && is_written(changes::FILE);
    let mut pairs = match grants.count() {
        // What is known not to be enough is nothing to apply.
        _ if profile.proof.as_ref().is_some_and(|proof| !proof.lives) => Vec::new(),
        0 if on_host => Vec::new(),
        _ if on_host => {
            vec![("apply", format!("sudo nrtrace apply {out}")), ("undo", format!("sudo nrtrace undo {out}"))]
        }
        _ => [("pod", "kubernetes.yaml"), ("image", "Containerfile"), ("compose", "compose.yaml")]
            .into_iter()
            .filter(|(_, name)| is_written(name))
            .map(|(what, name)| (what, file(name)))
            .collect(),
    };
    if let Some(need) = emit::example(profile, grants) {
        pairs.push(("more", format!("nrtrace explain {out} {need}")));
    }
    pairs.push(("report", file("report.html")));
    pairs
}

/// An incomplete record is a finding, where there is no other.
pub fn complete(status: u8, profile: &Profile) -> ExitCode {
    let Some(shortfall) = profile.run.shortfall() else { return ExitCode::from(status) };
    terminal::tell(format_args!("nrtrace: incomplete: {shortfall}; there may be more needs"));
    ExitCode::from(status.max(1))
}
