//! Proving an image: its container is started again for each trial, as its artefacts say.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::classify;
use nrtrace_profiles::container::Place as At;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::judge;
use nrtrace_profiles::prove::users::{becomes, owners};
use nrtrace_tracer::attach::engine::Kind;
use nrtrace_tracer::backend::Choice;
use nrtrace_tracer::course::{Capture, Course, Failure, Verdict};
use nrtrace_tracer::image::{Error, Image, Options, Podman, Request, Rights, Spec, Volume};
use nrtrace_tracer::launch::{IdentityPolicy, identity};
use nrtrace_tracer::trial::Report;

use super::choose::{Chosen, Tried, best, without_trial};
use super::run::{self, Wanted};
use super::verify::{self, Hints, Verified};
use super::{Prover, ready_timeout};
use crate::args::{CourseArgs, ProveArgs, RunArgs, SandboxArgs};
use crate::engine;
use crate::failure::BadInput;
use crate::progress::Trials;
use crate::{knowledge, results};

/// A user whom no image knows, of the numbers above those of accounts.
const NEW: (u32, u32) = (10_001, 10_001);
/// So many users are tried at the most.
const MOST: usize = 3;
/// The first port that the kernel chooses by itself.
const FIRST_CHOSEN: u16 = 32_768;

/// A user and group of an image, and why they come into question.
type Candidate = ((u32, u32), String);

/// Whether a command runs an image that can be run again.
pub fn is_of(command: &[OsString]) -> bool {
    engine::client(command).is_some_and(|(kind, name)| kind == Kind::Starts && name == "podman")
}

/// `run --verify` and `run --minimize` of a `podman run`.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    refuse(&args.sandbox)?;
    let library = knowledge::library(&args.results.more)?;
    let output = results::open(args.results.output.as_deref(), &args.results.files)?;
    let mut spec = spec(&args.command)?;
    spec.environment.extend(args.variables.env.iter().map(|(name, value)| (text(name), text(value))));
    if let Some(user) = &args.subject.user {
        spec.user = Some(user.clone());
    }
    let base = args.name.clone().unwrap_or_else(|| short(&spec.image).to_owned());
    let image = open(spec, args.watch.backend.choice())?;
    run::run(&Wanted {
        args,
        name: identity::name_for(&base),
        identity: identity::resolve(None, &[], "nobody")?,
        policy: IdentityPolicy::Switch,
        library,
        output,
        unit: None,
        image: Some(image),
    })
}

/// The image that a saved profile was made of, or that is given in the place of its command.
pub fn of_saved(args: &ProveArgs, profile: &Profile) -> Result<Option<Arc<Image>>> {
    let name = profile.container.as_ref().and_then(|container| container.image.clone());
    let mut spec = match (is_of(&args.command), name) {
        (true, _) => spec(&args.command)?,
        (false, Some(name)) if args.command.is_empty() => of_profile(profile, name),
        _ => return Ok(None),
    };
    refuse(&args.sandbox)?;
    spec.environment.extend(args.variables.env.iter().map(|(name, value)| (text(name), text(value))));
    open(spec, args.watch.backend.choice()).map(Some)
}

/// The command of its container.
pub fn command(image: &Image) -> Vec<OsString> {
    image.command().into_iter().map(OsString::from).collect()
}

/// The course of a trial; where nothing is said of readiness, the image's own check tells it.
pub fn course(args: &CourseArgs, profile: &Profile, image: Option<&Image>) -> Course {
    let mut course = super::course(args, profile);
    if course.readiness.is_empty() {
        course.readiness.command = image.and_then(Image::health).map(OsString::from);
    }
    course
}

fn open(spec: Spec, choice: Choice) -> Result<Arc<Image>> {
    if choice == Choice::Ptrace {
        let message = "what is started in a container can be watched by eBPF alone: leave --backend out";
        return Err(BadInput(message.into()).into());
    }
    match Image::open(spec) {
        Err(Error::Input(message)) => Err(BadInput(message).into()),
        opened => Ok(Arc::new(opened?)),
    }
}

/// Options that are about sandboxes of this machine.
fn refuse(args: &SandboxArgs) -> Result<(), BadInput> {
    let of_machine = [
        (!args.share.is_empty(), "--share", "mount it into the container: podman run -v"),
        (args.file_capabilities, "--file-capabilities", "the lines of Containerfile set them"),
        (args.with.is_some(), "--with", "no service manager starts a container"),
    ];
    match of_machine.iter().find(|(given, ..)| *given) {
        Some((_, option, instead)) => Err(BadInput(format!(
            "{option} is about trials on this machine, and these are of an image: {instead}"
        ))),
        None => Ok(()),
    }
}

fn text(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

fn spec(command: &[OsString]) -> Result<Spec> {
    let words: Option<Vec<String>> = command.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    let words = words.ok_or_else(|| BadInput("the command of a container is text".into()))?;
    let mut missing = None;
    let spec = Spec::parse(&words, &mut |podman, run| {
        let arguments: &[&str] = if run { &["run", "--help"] } else { &["--help"] };
        Podman::new(podman.to_vec()).ask(arguments).map_or_else(
            |error| {
                missing = Some(error);
                Options::default()
            },
            |help| Options::of_help(&help),
        )
    });
    match (missing, spec) {
        (Some(error), _) => Err(error.into()),
        (None, Err(message)) => Err(BadInput(message).into()),
        (None, Ok(spec)) => Ok(spec),
    }
}

/// The container of a profile, as far as that tells of it.
fn of_profile(profile: &Profile, image: String) -> Spec {
    let words: Vec<String> = profile.command.iter().map(RawText::to_text).collect();
    let mounts = profile.container.iter().flat_map(|container| &container.mounts);
    let volumes = mounts.filter_map(|mounted| {
        let source = match mounted.place {
            At::Bind => mounted.host.as_ref().map(RawText::to_text),
            At::Volume => mounted.volume.clone(),
            _ => None,
        };
        Some(Volume { source: source?, target: mounted.at.to_text(), read_only: mounted.read_only })
    });
    Spec {
        podman: Podman::new(vec!["podman".into()]),
        kept: Vec::new(),
        volumes: volumes.collect(),
        environment: profile
            .run
            .given
            .iter()
            .map(|(name, value)| (name.to_text(), value.to_text()))
            .collect(),
        user: Some(format!("{}:{}", profile.identity.uid, profile.identity.gid)),
        entrypoint: words.first().map(|first| vec![first.clone()]),
        image,
        arguments: words.into_iter().skip(1).collect(),
    }
}

/// The last part of an image's name, without tag and digest.
fn short(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(':').next().filter(|name| !name.is_empty()).unwrap_or("image")
}

/// Tries the users that come into question, and takes the one as whom the program lives with the fewest needs: who was asked
/// for or the image's own, else a new one, and then those whose files it uses.
pub fn choose(wanted: &Wanted<'_>, prover: &Prover, image: &Image) -> Result<Chosen> {
    let shown = Trials::new(&wanted.name, &wanted.args.results.talk);
    let given = image.user()?;
    let whose = given.map_or_else(|| "a new user".to_owned(), |(uid, gid)| format!("{uid}:{gid}"));
    let mut waiting = vec![(given.unwrap_or(NEW), whose)];
    let mut known = Vec::new();
    let mut tried = Vec::new();
    while let Some((user, whose)) = (!waiting.is_empty()).then(|| waiting.remove(0)) {
        if known.contains(&user) || known.len() == MOST {
            continue;
        }
        let capture = if known.is_empty() { Capture::Pass } else { Capture::Keep };
        known.push(user);
        shown.say(&format!("running as {whose}, refused nothing"));
        let (chosen, others) = live(wanted, prover, image, user, capture)?;
        let (lives, cost) = (chosen.verified.lives(), nrtrace_profiles::prove::users::cost(&chosen.profile));
        tried.push(Tried { who: whose, is_weak: false, chosen });
        if given.is_some() || (lives && cost == 0) {
            break;
        }
        waiting.extend(others);
    }
    Ok(best(tried, &shown))
}

/// A run as a user, and the trials that follow; with the users that it points to.
fn live(
    wanted: &Wanted<'_>,
    prover: &Prover,
    image: &Image,
    user: (u32, u32),
    capture: Capture,
) -> Result<(Chosen, Vec<Candidate>)> {
    let mut prover = prover.clone();
    let mut recorded = record(wanted, &prover, image, user, capture)?;
    let ended = |recorded: &Recorded| matches!(recorded.failure, Some(Failure::Ended { .. }));
    if ended(&recorded) && !judge::gives_more(&recorded.profile, &prover.choices) && image.build() {
        // It may look its user up, which the image does not know.
        let again = record(wanted, &prover, image, user, Capture::Keep)?;
        match ended(&again) {
            true => image.leave(),
            false => recorded = again,
        }
    }
    let Recorded { mut profile, report, failure } = recorded;
    let others = others(&profile, image);
    let recorded_well = failure.is_none();
    if let Some(verified) = failure.and_then(|failure| without_trial(&prover, &mut profile, failure, report))
    {
        return Ok((Chosen { prover, profile, verified }, others));
    }
    prover.course = course(&wanted.args.course, &profile, Some(image));
    if recorded_well {
        if prover.course.readiness.is_empty() {
            prover.course.readiness.ports = ports(&profile);
        }
        prover.course.ready_timeout = ready_timeout(&prover, &profile, None);
    }
    let verified = prove(wanted, &prover, image, &mut profile)?;
    Ok((Chosen { prover, profile, verified }, others))
}

/// Trials with the image as it is; where it does not live and nothing tells why, of one that holds what the lines of the
/// Containerfile say.
fn prove(wanted: &Wanted<'_>, prover: &Prover, image: &Image, profile: &mut Profile) -> Result<Verified> {
    let talk = &wanted.args.results.talk;
    let before = profile.clone();
    let verified = verify::verify(prover, profile, Some(&Hints::default()), talk)?;
    if verified.lives() || !matches!(verified.failure, Some(Failure::Ended { .. })) || !image.build() {
        return Ok(verified);
    }
    Trials::new(&wanted.name, talk)
        .note("not in the image as it is: trying one with the lines of Containerfile");
    *profile = before;
    verify::verify(prover, profile, Some(&Hints::default()), talk)
}

/// A run that is refused nothing.
struct Recorded {
    profile: Profile,
    report: Report,
    failure: Option<Failure>,
}

fn record(
    wanted: &Wanted<'_>,
    prover: &Prover,
    image: &Image,
    user: (u32, u32),
    capture: Capture,
) -> Result<Recorded> {
    let mut course = prover.course.clone();
    if course.readiness.is_empty() {
        course.readiness.command = image.health().map(OsString::from);
    }
    let mut report = image.run(&Request {
        rights: Rights::Recorded(user),
        course,
        watch: Some(prover.watch),
        grace: prover.grace,
        capture,
    })?;
    if matches!(capture, Capture::Pass) {
        report.output =
            report.trace.end.stderr.iter().map(RawText::as_bytes).collect::<Vec<_>>().join(&b'\n');
    }
    let mut profile = classify::profile(&report.trace, &wanted.name);
    let program = report.program.as_encoded_bytes();
    profile.executable = (!program.is_empty()).then(|| RawText::new(program));
    wanted.library.annotate(&mut profile);
    let failure = match report.verdict.clone() {
        Some(Verdict::Failed(failure)) => Some(failure),
        _ => None,
    };
    Ok(Recorded { profile, report, failure })
}

/// The TCP ports that it chose itself: a service that goes on without them does not serve.
fn ports(profile: &Profile) -> Vec<u16> {
    use nrtrace_profiles::event::Protocol;
    let tcp = profile.listens.iter().filter(|listen| listen.protocol == Protocol::Tcp);
    let mut ports: Vec<u16> =
        tcp.filter_map(|listen| listen.port).filter(|port| (1..FIRST_CHOSEN).contains(port)).collect();
    ports.extend(super::choose::ports(profile));
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Users of the image that a run points to.
fn others(profile: &Profile, image: &Image) -> Vec<Candidate> {
    let hints = becomes(profile).into_iter().chain(owners(profile));
    hints
        .filter_map(|hint| {
            let (uid, gid) = image.account(hint.uid)?;
            Some(((uid, hint.gid.unwrap_or(gid)), format!("{uid}, {}", hint.why)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_podman_runs_can_be_run_again() {
        assert!(is_of(&words("podman run web")) && is_of(&words("/usr/bin/podman run web")));
        for other in ["docker run web", "runc run x", "nginx", "systemctl start x"] {
            assert!(!is_of(&words(other)), "{other}");
        }
    }

    #[test]
    fn images_are_called_by_the_last_part_of_their_name() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("registry.example:5000/library/nginx:1.2", "nginx"),
            ("web@sha256:0123", "web"),
            ("localhost/web:latest", "web"),
            (":", "image"),
        ] {
            assert_eq!(short(image), name, "{image}");
        }
    }

    #[test]
    fn what_is_about_this_machine_is_refused_with_a_way_out() {
        let none = SandboxArgs { network: None, share: Vec::new(), file_capabilities: false, with: None };
        assert!(refuse(&none).is_ok());
        let share = SandboxArgs { share: vec!["/srv".into()], ..none.clone() };
        assert!(refuse(&share).unwrap_err().0.contains("podman run -v"));
        let file = SandboxArgs { file_capabilities: true, ..none };
        assert!(refuse(&file).unwrap_err().0.contains("Containerfile"));
    }
}
