//! `nrtrace knowledge`, and the files that it is about.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::knowledge::schema::{Program, Remedy, Told};
use nrtrace_profiles::knowledge::{self, Library};
use nrtrace_profiles::requirement::word;
use nrtrace_profiles::text::printable;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::args::{KnowledgeArgs, KnowledgeCommand, KnowledgeDirs};
use crate::failure::BadInput;
use crate::{input, terminal};

/// A file that is checked is not sound.
const FOUND: u8 = 1;

/// What is known of programs: nrtrace's own files and those of the directories given.
pub fn library(more: &KnowledgeDirs) -> Result<Library> {
    let mut library = Library::built_in();
    for directory in &more.directories {
        for path in files(directory)? {
            let (name, text) = (name_of(&path), input::found(&path, knowledge::LARGEST as u64)?);
            library
                .add(&path.display().to_string(), &name, &text)
                .map_err(|error| BadInput(error.to_string()))?;
        }
    }
    Ok(library)
}

/// The knowledge files of a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let bad = |error: std::io::Error| {
        BadInput(format!("cannot list the knowledge directory {}: {error}", directory.display()))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(BadInput(format!("there is no file NAME.toml in {}", directory.display())).into());
    }
    paths.sort();
    Ok(paths)
}

/// The name that a file is about.
fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists, shows or checks.
pub fn run(args: &KnowledgeArgs) -> Result<ExitCode> {
    match &args.command {
        KnowledgeCommand::List { more } => list(&library(more)?),
        KnowledgeCommand::Show { name, toml, more } => show(&library(more)?, name, *toml),
        KnowledgeCommand::Check { files } => check(files),
    }
}

fn list(library: &Library) -> Result<ExitCode> {
    let mut builder = Builder::default();
    builder.push_record(["NAME", "FACTS", "WHAT"]);
    for program in library.programs() {
        let facts = program.told().count().to_string();
        builder.push_record([program.name.clone(), facts, printable(&program.title).into_owned()]);
    }
    let mut table = builder.build();
    table.with(Style::blank());
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim().to_owned() + "\n").collect();
    terminal::print(&lines.concat())?;
    Ok(ExitCode::SUCCESS)
}

fn show(library: &Library, name: &str, toml: bool) -> Result<ExitCode> {
    let Some((text, origin)) = library.text(name) else {
        let message =
            format!("nothing is known of {name:?}; `nrtrace knowledge list` tells of what there is");
        return Err(BadInput(message).into());
    };
    if toml {
        terminal::print(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(program) = library.programs().find(|program| program.name == name) {
        terminal::print(&page(program, origin))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of a program, for people. Writing to a string cannot fail.
fn page(program: &Program, origin: &str) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}\n{}\nfrom {origin}\n", program.name, program.title, program.documentation);
    for way in &program.recognise {
        let arguments = way.arguments.iter().map(|word| format!(" with {word}")).collect::<Vec<_>>().concat();
        let _ = writeln!(out, "recognised by {}{arguments}", way.executables.join(", "));
    }
    for fact in &program.paths {
        told(&mut out, &fact.patterns.join(", "), &fact.told);
    }
    for fact in &program.ports {
        let ports: Vec<String> = fact.ports.iter().map(ToString::to_string).collect();
        told(&mut out, &format!("port {}", ports.join(", ")), &fact.told);
    }
    for fact in &program.identities {
        let operations: Vec<String> = fact.operations.iter().map(word).collect();
        let of = if fact.patterns.is_empty() { "" } else { " of " };
        told(&mut out, &format!("{}{of}{}", operations.join(", "), fact.patterns.join(", ")), &fact.told);
    }
    for fact in &program.needs {
        told(&mut out, &fact.ids.join(", "), &fact.told);
    }
    for fact in &program.checks {
        told(&mut out, &format!("checks {} itself", word(&fact.checks)), &fact.told);
    }
    // A file of somebody else's may hold anything.
    out.lines().map(|line| printable(line).into_owned() + "\n").collect()
}

fn told(out: &mut String, subject: &str, told: &Told) {
    let fatal = match told.fatal {
        Some(true) => " (fatal when refused)",
        Some(false) => " (goes on when refused)",
        None => "",
    };
    let _ = writeln!(out, "\n{subject}\n  is      {}{fatal}", told.is);
    for remedy in &told.remedies {
        let _ = writeln!(out, "  remedy  {}", brief(remedy));
    }
    if let Some(note) = &told.note {
        let _ = writeln!(out, "  note    {note}");
    }
    for source in &told.sources {
        let _ = writeln!(out, "  source  {source}");
    }
}

fn brief(remedy: &Remedy) -> String {
    let what = match &remedy.variable {
        Some(name) => format!("{name}={}", remedy.write),
        None => remedy.write.clone(),
    };
    let file = remedy.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
    let verb = if remedy.remove { "without " } else { "" };
    format!("{verb}{what}{file}")
}

fn check(files: &[PathBuf]) -> Result<ExitCode> {
    let mut sound = true;
    for path in files {
        let (name, text) = (name_of(path), input::text(path, knowledge::LARGEST as u64)?);
        match knowledge::check(&name, &text) {
            Ok(program) => {
                terminal::print(&format!("{}: sound, {} facts\n", path.display(), program.told().count()))?
            }
            Err(flaws) => {
                sound = false;
                for flaw in flaws {
                    let lines: Vec<String> = flaw.lines().map(|line| printable(line).into_owned()).collect();
                    terminal::print(&format!("{}: {}\n", path.display(), lines.join("\n  ")))?;
                }
            }
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}
