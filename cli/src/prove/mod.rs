//! Proving a profile: `nrtrace verify`, `nrtrace minimize`, and both after a run.

mod bench;
mod choose;
mod containers;
mod given;
mod greeted;
mod harden;
mod image;
mod journal;
mod manager;
mod minimize;
mod patience;
mod prover;
mod run;
mod share;
mod task;
mod tell;
mod units;
mod users;
mod verify;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::profile::Profile;

use crate::args::{MinimizeArgs, ProveArgs, VerifyArgs};
use crate::artefacts::{self, Guard};
use crate::client;
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir, Target};
use crate::results::Artefacts;
use crate::there::found_from_everywhere;
use crate::{input, results, service, show};

use given::{check, choices, is_private, watching};
use prover::{Prover, TrialPlace};
use tell::{NOT_PROVED, proved};
use verify::took;

pub use image::{is_of as is_of_image, run as run_image};
pub use run::run;
pub use share::shared;
pub use task::ProofTask;

/// What makes the trials of a saved profile.
fn prover_of(args: &ProveArgs, profile: &Profile, private: bool, proves: bool) -> Result<Prover> {
    let image = image::of_saved(args, profile)?;
    let command = if let Some(image) = &image {
        containers::command(image)
    } else if args.command.is_empty() {
        profile.command.iter().map(|word| std::ffi::OsStr::from_bytes(word.as_bytes()).to_owned()).collect()
    } else {
        found_from_everywhere(&args.command)
    };
    if command.is_empty() {
        return Err(BadInput("the profile names no command: give it after --".into()).into());
    }
    client::must_work_itself(&command)?;
    check(&args.course)?;
    let is_image = image.is_some();
    manager::check(args.sandbox.with)?;
    let cwd = profile.run.cwd.as_bytes();
    // A unit may say more by now than it did.
    let unit = profile.unit.as_ref().filter(|_| args.command.is_empty());
    let service =
        unit.map(|unit| Ok::<_, anyhow::Error>(service::started::read(&unit.name)?.around)).transpose()?;
    Ok(Prover {
        command,
        cwd: PathBuf::from(std::ffi::OsStr::from_bytes(if cwd.is_empty() { b"/" } else { cwd })),
        service,
        learns_ports: false,
        proves,
        keep_env: args.variables.keep_env,
        env: args.variables.env.clone(),
        course: given::course(&args.course, profile, image.as_deref()),
        grace: args.grace,
        watch: watching(&args.watch),
        private_network: is_image || is_private(&args.sandbox, private),
        shared: shared(&args.sandbox)?,
        choices: choices(&args.results, &args.sandbox),
        with: args.sandbox.with,
        settles: args.course.settle.is_some(),
        patience: Arc::default(),
        lasts: Duration::ZERO,
        as_root: Vec::new(),
        place: image.map_or_else(|| TrialPlace::Machine(Arc::default()), TrialPlace::Image),
    })
}

/// The trials' variables are the artefacts', which set no others.
fn give(profile: &mut Profile, env: &[(OsString, OsString)]) {
    for (name, value) in env {
        let raw = |text: &OsString| RawText::new(text.as_bytes());
        profile.run.given.retain(|(known, _)| *known != raw(name));
        profile.run.given.push((raw(name), raw(value)));
    }
}

/// What an earlier proof took away, or could not try, is tried again.
fn forget_hardening(profile: &mut Profile) {
    if let Some(proof) = &mut profile.proof {
        proof.hardening.clear();
        proof.not_applied.clear();
    }
}

/// `nrtrace verify`
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let destination = Destination::open(prove, args.update)?;
    let prover = prover_of(prove, &profile, false, false)?;
    give(&mut profile, &prover.env);
    if destination.is_some() {
        forget_hardening(&mut profile);
    }
    let made = || if prover.place.image().is_some() { Vec::new() } else { users::made(&profile) };
    let hints = args.update.then(|| verify::Hints { made: made(), suspected: Vec::new() });
    let mut verified = verify::verify(&prover, &mut profile, hints.as_ref(), &prove.results.talk)?;
    if verified.lives() && destination.is_some() {
        harden::harden(&prover, &mut profile, &prove.results.talk)?;
    }
    if verified.lives() {
        verified.failure = manager::try_with(&prover, &mut profile, &prove.results.talk)?;
    }
    took(&mut profile, started);
    let mut losses = Losses::default();
    write(destination.as_ref(), prove, &prover, &profile, &mut losses);
    losses.unless(tell::verified(&verified, &profile, &prover, &prove.results));
    Ok(losses.status(proved(verified.is_proved())))
}

/// `nrtrace minimize`
pub fn minimize(args: &MinimizeArgs) -> Result<ExitCode> {
    let started = Instant::now();
    let prove = &args.prove;
    let mut profile = show::load(&prove.profile, &prove.results.more)?;
    let destination = Destination::open(prove, args.update)?;
    let prover = prover_of(prove, &profile, true, true)?;
    give(&mut profile, &prover.env);
    let talk = &prove.results.talk;
    forget_hardening(&mut profile);
    let verified = verify::verify(&prover, &mut profile, None, talk)?;
    if !verified.lives() {
        tell::verified(&verified, &profile, &prover, &prove.results)?;
        return Ok(ExitCode::from(NOT_PROVED));
    }
    let beside = match prove.results.output.as_deref() {
        Some(directory) => directory.join("minimize.journal"),
        None => beside(&input::in_directory(&prove.profile)),
    };
    let wanted = minimize::Minimization {
        prover: &prover,
        search: &args.search,
        verified: &verified,
        journal: Some(&beside),
        talk,
    };
    let mut lives = minimize::minimize(&wanted, &mut profile)?;
    lives = lives && manager::try_with(&prover, &mut profile, talk)?.is_none();
    took(&mut profile, started);
    let mut losses = Losses::default();
    write(destination.as_ref(), prove, &prover, &profile, &mut losses);
    let written = match &destination {
        Some(Destination::Directory(output, _)) if losses.is_empty() => Some(output.path()),
        _ => None,
    };
    losses.unless(results::show(&prove.results, &profile, &prover.choices, written));
    Ok(losses.status(proved(lives)))
}

/// A file beside a profile.
fn beside(profile: &Path) -> PathBuf {
    let mut name = profile.file_name().unwrap_or_default().to_owned();
    name.push(".journal");
    profile.with_file_name(name)
}

/// Where the profile goes.
enum Destination {
    /// The output directory, with the artefacts, and whether the profile came from there.
    Directory(OutputDir, bool),
    /// Back to the file that it came from.
    File(Target),
}

impl Destination {
    /// The output directory, or with `update` where the profile came from; artefacts that lie beside it go with it.
    fn open(args: &ProveArgs, update: bool) -> Result<Option<Self>> {
        let from = &input::in_directory(&args.profile);
        if let Some(directory) = &args.results.output {
            let output = OutputDir::open(directory)?;
            let is_source = artefacts::is_of(directory, from);
            if !is_source {
                Guard::of(&output, args.results.files.force)
                    .check(artefacts::PROFILE, None)
                    .map_err(|error| BadInput(error.to_string()))?;
            }
            return Ok(Some(Self::Directory(output, is_source)));
        }
        let directory =
            from.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_whole = from.file_name().is_some_and(|name| name == artefacts::PROFILE);
        Ok(match update {
            false => None,
            true if from.as_os_str() == "-" => Some(Self::File(Target::Standard)),
            true if is_whole && directory.join("tmpfiles.d").is_dir() => {
                Some(Self::Directory(OutputDir::open(directory)?, true))
            }
            true => Some(Self::File(Target::open(Some(from))?)),
        })
    }
}

fn write(
    destination: Option<&Destination>,
    args: &ProveArgs,
    prover: &Prover,
    profile: &Profile,
    losses: &mut Losses,
) {
    match destination {
        Some(Destination::Directory(output, is_source)) => {
            let files = &args.results.files;
            let guard = Guard::of(output, files.force).with_source(*is_source);
            let artefacts = Artefacts { files, unit: args.whole.unit };
            results::write(&guard, artefacts, profile, &prover.choices, losses);
        }
        Some(Destination::File(target)) => {
            losses.unless(target.write(&profile.to_json()));
        }
        None => {}
    }
}
