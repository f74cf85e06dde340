//! Runs of an image in containers of its own: refused nothing, or confined as `kubernetes.yaml` says.
//!
//! Each run is one `podman run` with other options. What a run makes has a name that begins with [`PREFIX`] and the number
//! of the nrtrace that made it, and is taken away when the run is over; what an interrupted or killed nrtrace leaves is
//! swept up by a process that outlives it (`sweep.rs`), and by the next one.

mod inspect;
mod options;
mod podman;
mod spec;
mod start;
mod sweep;
mod told;
mod trial;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

pub use podman::{Options, Podman};
pub use spec::{Spec, Volume};
pub use trial::{Request, Rights};

use inspect::Inspected;
use sweep::Sweeper;

/// What the names of all that trials make begin with; the process that made it follows.
pub const PREFIX: &str = "nrtrace-trial-";
/// Where the volumes of trials are.
const DIRECTORY: &str = "/var/lib/nrtrace-trials";
/// What all containers of trials carry: a container of somebody else may have such a name, too.
const LABEL: &str = "nrtrace.trial=1";

/// Why an image cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// podman did not do what it was asked for.
    #[error("podman {what}: {said}")]
    Podman {
        /// What it was asked for.
        what: String,
        /// The last line that it said.
        said: String,
    },
    /// What was asked for cannot be tried.
    #[error("{0}")]
    Input(String),
    /// The kernel refused something.
    #[error("{what}: {error}")]
    System {
        /// What for.
        what: String,
        /// What it said.
        error: std::io::Error,
    },
}

fn system(what: &Path) -> impl Fn(std::io::Error) -> Error {
    let what = what.display().to_string();
    move |error| Error::System { what: what.clone(), error }
}

/// An image that is run again and again. Dropped, all that its runs made is gone.
#[derive(Debug)]
pub struct Image {
    spec: Spec,
    inspected: Inspected,
    /// Options of `podman run` that this podman has.
    known: Options,
    prefix: String,
    directory: PathBuf,
    /// Where the image's files are to be seen.
    root: PathBuf,
    runs: AtomicU32,
    /// Images that hold what the lines of a Containerfile say, by these lines.
    built: Mutex<BTreeMap<String, String>>,
    /// Whether every trial is of such an image.
    as_built: AtomicBool,
    /// Held for what it does when it is dropped.
    _sweeper: Sweeper,
}

impl Image {
    /// Looks at the image, and sees to it that nothing stays.
    ///
    /// # Errors
    /// When podman or the image is not there.
    pub fn open(spec: Spec) -> Result<Self, Error> {
        let podman = &spec.podman;
        volumes::is_there(Path::new(DIRECTORY))?;
        sweep::leftovers(podman, Path::new(DIRECTORY));
        let inspected = Inspected::of(podman, &spec.image)?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = Path::new(DIRECTORY).join(std::process::id().to_string());
        let sweeper = Sweeper::start(podman, &prefix, &directory)?;
        volumes::make(Path::new(DIRECTORY), &directory)?;
        let name = format!("{prefix}root");
        podman.ask(&[
            "create",
            &format!("--name={name}"),
            &format!("--label={LABEL}"),
            "--pull=never",
            "--network=none",
            &inspected.id,
            "/",
        ])?;
        let root = PathBuf::from(podman.ask(&["mount", &name])?.trim_end());
        let known = Options::of_help(&podman.ask(&["run", "--help"])?);
        Ok(Self {
            inspected,
            known,
            prefix,
            directory,
            root,
            runs: AtomicU32::new(0),
            built: Mutex::default(),
            as_built: AtomicBool::new(false),
            _sweeper: sweeper,
            spec,
        })
    }

    /// What is asked for.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where the files of the image are to be seen.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The command of its container: what was asked for, else the image's own.
    pub fn command(&self) -> Vec<String> {
        let own = &self.inspected;
        let arguments = match (&self.spec.entrypoint, self.spec.arguments.as_slice()) {
            (None, []) => &own.arguments,
            _ => &self.spec.arguments,
        };
        self.spec.entrypoint.as_ref().unwrap_or(&own.entrypoint).iter().chain(arguments).cloned().collect()
    }

    /// Whom it runs as: who was asked for, else the image's own user; `None` where that is root.
    ///
    /// # Errors
    /// When the image has no such user.
    pub fn user(&self) -> Result<Option<(u32, u32)>, Error> {
        let text = self.spec.user.as_deref().unwrap_or(&self.inspected.user);
        let found = inspect::user(&self.root, text);
        let found = found.ok_or_else(|| Error::Input(format!("the image has no user {text}")))?;
        Ok(Some(found).filter(|(uid, _)| *uid != 0))
    }

    /// A user of the image, with the group of its account.
    pub fn account(&self, uid: u32) -> Option<(u32, u32)> {
        inspect::user(&self.root, &uid.to_string())
    }

    /// Shell text that asks whether it is healthy, as the image has it.
    pub fn health(&self) -> Option<&str> {
        self.inspected.health.as_deref()
    }

    /// From now on its user has an account, and trials are of an image that holds what the lines of the Containerfile say;
    /// false if they were before.
    pub fn build(&self) -> bool {
        !self.as_built.swap(true, Ordering::Relaxed)
    }

    /// That was of no use: trials are of the image as it is.
    pub fn leave(&self) {
        self.as_built.store(false, Ordering::Relaxed);
    }

    /// Whether trials were made with such an image.
    pub fn is_built(&self) -> bool {
        !self.built.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn next(&self) -> u32 {
        self.runs.fetch_add(1, Ordering::Relaxed)
    }

    /// The image with what the lines of a Containerfile say.
    fn with(&self, lines: &str) -> Result<String, Error> {
        let lines: String =
            lines.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = built.get(&lines) {
            return Ok(tag.clone());
        }
        let tag = format!("localhost/{}image:{}", self.prefix, self.next());
        let context = self.directory.join(format!("context-{}", built.len()));
        fs::create_dir_all(&context).map_err(system(&context))?;
        let file = context.join("Containerfile");
        fs::write(&file, format!("FROM {}\n{lines}", self.inspected.id)).map_err(system(&file))?;
        let (file, context) = (file.display().to_string(), context.display().to_string());
        let build = |isolation: &str, network: &str| {
            self.spec.podman.ask(&[
                "build",
                "--quiet",
                "--layers=false",
                "--pull=never",
                &format!("--isolation={isolation}"),
                &format!("--network={network}"),
                &format!("--tag={tag}"),
                &format!("--file={file}"),
                &context,
            ])
        };
        // In a container of its own where that can be had, as whoever builds the image does it; the other one is the host's.
        build("oci", "none").or_else(|_| build("chroot", "host"))?;
        built.insert(lines, tag.clone());
        Ok(tag)
    }
}
