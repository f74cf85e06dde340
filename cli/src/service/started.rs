//! What a unit comes to on this machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nrtrace_profiles::unit::{Kind, OfUnit, Service, variables};
use nrtrace_tracer::files::read_regular;
use nrtrace_tracer::trial::{self, Step};

use super::find::{self, FoundUnit};
use crate::failure::BadInput;

/// No file of variables is longer.
const MOST: u64 = 1 << 20;

/// What a unit comes to on this machine.
pub struct Started {
    /// What it says.
    pub service: Service,
    /// What a profile keeps of it.
    pub kept: OfUnit,
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What surrounds its start in a trial.
    pub around: trial::Service,
    /// What was read.
    pub files: Vec<PathBuf>,
    /// What to tell of it.
    pub notes: Vec<String>,
}

/// Reads a unit, by its name or the path of its file.
///
/// # Errors
/// When there is none, it starts nothing, or a file that it takes is not there.
pub fn read(unit: &str) -> Result<Started> {
    let found = find::find(unit)?;
    let file = found.files.first().cloned().unwrap_or_default();
    let host = find::host(&file);
    let service =
        Service::of(&found.unit, &found.name, &host).map_err(|error| BadInput(error.to_string()))?;
    let mut env: BTreeMap<String, String> = service.environment.iter().cloned().collect();
    for (pattern, optional) in &service.environment_files {
        for path in matching(pattern) {
            match read_regular(&path, MOST) {
                Ok(text) => env.extend(variables(&String::from_utf8_lossy(&text))),
                Err(_) if *optional => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{}: EnvironmentFile={pattern}", service.name));
                }
            }
        }
    }
    let known: BTreeMap<String, String> = directories(&service).into_iter().chain(env.clone()).collect();
    let start = service.start.resolved(&known);
    let kept = service.kept(&found.unit);
    let before = service.before.iter().map(|step| Step {
        command: step.resolved(&known).into_iter().map(OsString::from).collect(),
        may_fail: step.prefix.may_fail,
        full: step.prefix.is_privileged(),
    });
    let around = trial::Service {
        directives: service.text(),
        before: before.collect(),
        env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    };
    Ok(Started {
        kept,
        command: start.into_iter().map(OsString::from).collect(),
        cwd: working_directory(&service)?,
        around,
        notes: notes(&service, &found),
        files: found.files,
        service,
    })
}

/// The files that a pattern names, in order of their names; where there are none, or it is no pattern, itself.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let found: Vec<PathBuf> = glob::glob(pattern).map(|paths| paths.flatten().collect()).unwrap_or_default();
    if found.is_empty() { vec![pattern.into()] } else { found }
}

/// The variables by which systemd tells of directories: commands may name them.
fn directories(service: &Service) -> BTreeMap<String, String> {
    let kinds = [("Runtime", "/run"), ("State", "/var/lib"), ("Cache", "/var/cache"), ("Logs", "/var/log")];
    let of_kind = |(kind, base): &(&str, &str)| {
        let directive = format!("{kind}Directory");
        let of_it = service.directives.iter().filter(|(name, _)| *name == directive);
        let paths: Vec<String> = of_it.map(|(_, value)| format!("{base}/{value}")).collect();
        (!paths.is_empty()).then(|| (format!("{}_DIRECTORY", kind.to_uppercase()), paths.join(":")))
    };
    kinds.iter().filter_map(of_kind).collect()
}

fn working_directory(service: &Service) -> Result<PathBuf> {
    let Some((path, optional)) = &service.directory else { return Ok("/".into()) };
    let path = match (path.as_str(), &service.user) {
        ("~", Some(user)) => {
            let account = nrtrace_tracer::accounts::user_by_name(user);
            let account = account.with_context(|| format!("{}: there is no user {user}", service.name))?;
            account.dir
        }
        ("~", None) => PathBuf::from("/root"),
        _ => PathBuf::from(path),
    };
    let made =
        service.directives.iter().any(|(name, value)| name.ends_with("Directory") && path.ends_with(value));
    Ok(if *optional && !path.is_dir() && !made { "/".into() } else { path })
}

/// What of a unit is not as it would be under systemd, in words.
fn notes(service: &Service, found: &FoundUnit) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &service.name;
    if let Some(own) = &found.own {
        notes.push(format!(
            "{} is left out: what nrtrace wrote earlier is found anew (nrtrace undo takes back what was applied with it)",
            own.display()
        ));
    }
    let name_of = |path: &&PathBuf| path.file_name().is_some_and(|name| name > OsStr::new(find::OWN));
    let later: Vec<String> =
        found.files.iter().skip(1).filter(name_of).map(|path| path.display().to_string()).collect();
    if !later.is_empty() {
        notes.push(format!(
            "{} is read after {} and wins where both say something, User= perhaps: install the drop-in as zz-nonroot.conf",
            later.join(", "),
            find::OWN
        ));
    }
    if service.dynamic_user {
        notes.push(
            "DynamicUser=: it does not run as root; the drop-in has it run as a user that stays".into(),
        );
    }
    if let Some(called) = &service.start.called {
        notes.push(format!("ExecStart=@: it is started by its own name here, and not as {called}"));
    }
    if service.start.prefix.is_privileged() {
        notes.push("ExecStart=+ or ExecStart=!: it starts as root whatever User= says; the drop-in sets it anew without".into());
    }
    if service.kind == Kind::Dbus {
        notes.push("Type=dbus: when it has its name on the bus is not seen; --ready tells when it is ready, and --share /run/dbus shows it the bus of this machine".into());
    }
    let own = format!("{}.socket", name.stem());
    let beside = find::trees().iter().any(|tree| tree.join(&own).is_file());
    let sockets: Vec<String> = service.sockets.iter().cloned().chain(beside.then_some(own)).collect();
    if !sockets.is_empty() {
        notes.push(format!(
            "{} hands it sockets under systemd, and nobody does here: it listens by itself, if it can",
            sockets.join(", ")
        ));
    }
    if !service.otherwise.is_empty() {
        notes.push(format!(
            "{}: not tried; what has no + there runs as the service's user, too",
            service.otherwise.iter().map(|key| format!("{key}=")).collect::<Vec<_>>().join(", ")
        ));
    }
    notes
}
