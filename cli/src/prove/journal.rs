//! What trials showed, kept beside the result so that a search that was interrupted goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Once;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::Tried;
use nrtrace_profiles::text::{json, printable};
use nrtrace_tracer::files::read_regular;
use nrtrace_tracer::image::Image;
use serde::{Deserialize, Serialize};

use super::prover::Prover;
use crate::output::OutputDir;
use crate::progress::Trials;
use crate::terminal;

/// The largest journal that is read: far more trials than a search makes.
const LARGEST: u64 = 64 << 20;

/// The file.
pub struct Journal {
    file: Option<(OutputDir, String)>,
    text: Text,
}

#[derive(Default, Serialize, Deserialize)]
struct Text {
    /// What the trials are about; those of something else are of no use.
    subject: String,
    trials: BTreeMap<String, Vec<Entry>>,
}

/// A trial.
#[derive(Clone, Serialize, Deserialize)]
pub struct Entry {
    lived: bool,
    how: String,
    telling: bool,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

impl Entry {
    pub fn new(tried: &Tried, milliseconds: u64) -> Self {
        Self { lived: tried.lived, how: tried.how.clone(), telling: tried.telling, milliseconds }
    }

    pub fn tried(&self) -> Tried {
        Tried { lived: self.lived, how: self.how.clone(), telling: self.telling }
    }
}

impl Journal {
    /// Opens the journal of these trials: what is in it is kept unless it is about something else, or `restart`.
    pub fn open(
        path: Option<&Path>,
        prover: &Prover,
        profile: &Profile,
        restart: bool,
        shown: &Trials,
    ) -> Self {
        let subject = subject(prover, profile);
        let text = path
            .and_then(|path| read_regular(path, LARGEST).ok())
            .and_then(|text| serde_json::from_slice::<Text>(&text).ok());
        let text = text.filter(|text| text.subject == subject && !restart);
        let text = text.unwrap_or_else(|| Text { subject, trials: BTreeMap::new() });
        let file = path.map(|path| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            OutputDir::open(parent.unwrap_or(Path::new("."))).map(|directory| (directory, name))
        });
        let file = file.transpose().unwrap_or_else(|error| {
            shown.note(&without(&error));
            None
        });
        if let Some(path) = path.filter(|_| file.is_some()) {
            tell_when_interrupted(path);
        }
        Self { file, text }
    }

    /// Trials there are already.
    pub fn len(&self) -> usize {
        self.text.trials.values().map(Vec::len).sum()
    }

    /// The trials of a set, in the order they were made in.
    pub fn of(&self, set: &str) -> &[Entry] {
        self.text.trials.get(set).map_or(&[], Vec::as_slice)
    }

    /// Adds trials, and writes the file whole. Where that fails, the search goes on without, which is said once.
    pub fn add(&mut self, entries: Vec<(String, Entry)>, shown: &Trials) {
        for (set, entry) in entries {
            self.text.trials.entry(set).or_default().push(entry);
        }
        let Some((directory, name)) = &self.file else { return };
        if let Err(error) = directory.write(name, &json(&self.text), false) {
            shown.note(&without(&error));
            self.file = None;
        }
    }

    /// The search is done: nothing is to be gone on with.
    pub fn remove(self) {
        if let Some((directory, name)) = self.file {
            directory.remove(&name);
        }
    }
}

/// Ctrl-C ends the search, with a word on where it goes on.
fn tell_when_interrupted(path: &Path) {
    static ONCE: Once = Once::new();
    let path = path.to_owned();
    ONCE.call_once(|| {
        let told = ctrlc::try_set_handler(move || {
            let word = match path.exists() {
                true => format!(
                    "what trials showed is kept in {}; the same command goes on there",
                    path.display()
                ),
                false => "no trial had ended".to_owned(),
            };
            terminal::tell(format_args!("nrtrace: interrupted: {}", printable(&word)));
            std::process::exit(INTERRUPTED);
        });
        // Where it is ignored it stays so, and else it ends the search all the same.
        told.unwrap_or_default();
    });
}

/// As a shell tells of SIGINT.
const INTERRUPTED: i32 = 130;

/// What a search without a journal lacks.
fn without(error: &anyhow::Error) -> String {
    format!("{error:#}: should this search be interrupted, it begins anew")
}

/// A set of needs, and how long the program had to live, as a key.
pub fn key(removed: &BTreeSet<String>, prover: &Prover) -> String {
    let ids: Vec<&str> = removed.iter().map(String::as_str).collect();
    format!("{} ms: {}", prover.course.settle.as_millis(), ids.join("\n"))
}

/// What the trials depend on, but for how long the program has to live.
fn subject(prover: &Prover, profile: &Profile) -> String {
    let mut hasher = DefaultHasher::new();
    for requirement in &profile.requirements {
        (&requirement.id, format!("{:?}{:?}{:?}", requirement.need, requirement.severity, requirement.way))
            .hash(&mut hasher);
    }
    (&profile.name, &profile.identity.user, &prover.command, &prover.env, prover.keep_env).hash(&mut hasher);
    (prover.private_network, &prover.choices, format!("{:?}", prover.shared)).hash(&mut hasher);
    format!("{:?}{:?}", prover.course.readiness, prover.course.exercise).hash(&mut hasher);
    prover.place.image().map(Image::spec).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
