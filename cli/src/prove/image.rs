//! Proving an image: its container is started again for each trial, as its artefacts say.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use nrtrace_profiles::RawText;
use nrtrace_profiles::container::Place as At;
use nrtrace_profiles::profile::Profile;
use nrtrace_tracer::attach::engine::Kind;
use nrtrace_tracer::backend::Choice;
use nrtrace_tracer::image::{Error, Image, Options, Podman, Spec, Volume};
use nrtrace_tracer::launch::{IdentityPolicy, identity};

use super::task::ProofTask;
use crate::args::{ProveArgs, RunArgs, SandboxArgs};
use crate::client;
use crate::failure::BadInput;
use crate::{knowledge, results};

/// Whether a command runs an image that can be run again.
pub fn is_of(command: &[OsString]) -> bool {
    client::client(command).is_some_and(|(kind, name)| kind == Kind::Starts && name == "podman")
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
    super::run::run(&ProofTask {
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
