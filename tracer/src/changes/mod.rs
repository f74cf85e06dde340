//! Carries out on this machine what `changes.json` says, and takes it back.
//!
//! What was there before is kept by path, with who holds it since (`state`); each path is found by descriptors at the
//! moment it is changed (`place`); what it is to be follows from what was before and all who hold it (`hold`).

mod accounts;
mod back;
mod carry;
mod configuration;
mod hold;
mod kernel;
pub(crate) mod node;
mod place;
mod plan;
mod state;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nrtrace_profiles::RawText;
use nrtrace_profiles::changes::Changes;

use back::Held;
use plan::Plan;
use state::{State, Store};

/// Where the state is kept.
pub const STATE: &str = "/var/lib/nrtrace";

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state cannot be used.
    #[error("{}: {reason}", path.display())]
    State {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A path cannot be changed.
    #[error("{path}: {reason}")]
    Path {
        /// The path.
        path: RawText,
        /// Why.
        reason: String,
    },
    /// Something else cannot be changed.
    #[error("{what}: {reason}")]
    Other {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
    /// Nothing was changed, for these reasons.
    #[error("nothing was changed: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Some of it could not be taken back, for these reasons; the rest was.
    #[error("not all could be taken back; do it again once that is mended: {}", .0.join("; "))]
    Stuck(Vec<String>),
    /// Nothing is held for this profile, but perhaps for others.
    #[error("nothing to undo: what {name} needs was not applied here{}", others(.applied))]
    NothingToUndo {
        /// The name of the profile.
        name: String,
        /// Whose needs are held.
        applied: BTreeSet<String>,
    },
    /// It was interrupted.
    #[error("interrupted; do it again, or take it back with undo")]
    Interrupted,
}

fn others(applied: &BTreeSet<String>) -> String {
    let list = applied.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    if applied.is_empty() { String::new() } else { format!(" (what was: {list})") }
}

/// Whose needs were applied, as [`Changes::key`] has it, by the state in `directory` ([`STATE`]); nothing where that cannot
/// be read.
pub fn applied(directory: &Path) -> BTreeSet<String> {
    State::read(directory).map(|state| state.keys()).unwrap_or_default()
}

/// Which kinds of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of them; file capabilities only where they are to be done with all else.
    #[default]
    All,
    /// File capabilities alone.
    Capabilities,
    /// Lines of the program's configuration alone.
    Configuration,
}

/// Which of the changes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Which kinds of them.
    pub part: Part,
    /// The executable to carry capabilities, where the run did not tell which it was.
    pub binary: Option<RawText>,
}

/// Changes that are about to be carried out or taken back. Nobody else can do so meanwhile.
pub struct Job<'a> {
    changes: &'a Changes,
    selection: Selection,
    key: String,
    store: Store,
    state: State,
    step: &'a mut dyn FnMut() -> Result<(), Error>,
    notes: Vec<String>,
}

impl<'a> Job<'a> {
    /// Reads the state in `directory` ([`STATE`]). `step` is called before each thing that is changed.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub fn open(
        changes: &'a Changes,
        selection: Selection,
        directory: &Path,
        step: &'a mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let store = Store::open(directory)?;
        let state = store.load()?;
        Ok(Self { changes, selection, key: changes.key(), store, state, step, notes: Vec::new() })
    }

    /// What would be changed now, a line each.
    ///
    /// # Errors
    /// [`Error::Refused`], with all reasons.
    pub fn preview(&self) -> Result<Vec<String>, Error> {
        let plan = Plan::make(self)?;
        let mut lines = plan.lines(self);
        lines.extend(back::lines(self, &self.stale(&plan)));
        Ok(lines)
    }

    /// Carries it out. What cannot be done without harm is not begun.
    ///
    /// # Errors
    /// [`Error::Refused`] when nothing was done; else what stopped it, and it can be done again or taken back.
    pub fn apply(mut self) -> Result<Vec<String>, Error> {
        let plan = Plan::make(&self)?;
        self.carry_out(plan)?;
        Ok(self.notes)
    }

    /// What would be taken back, a line each.
    ///
    /// # Errors
    /// [`Error::NothingToUndo`].
    pub fn held(&self) -> Result<Vec<String>, Error> {
        let held = Held::of(self);
        if held == Held::default() {
            let (name, applied) = (self.changes.name.clone(), self.state.keys());
            return Err(Error::NothingToUndo { name, applied });
        }
        Ok(back::lines(self, &held))
    }

    /// Takes it back, in so far as nobody else holds it.
    ///
    /// # Errors
    /// When nothing is held, or something cannot be restored; that stays held, and can be tried again.
    pub fn undo(mut self) -> Result<Vec<String>, Error> {
        self.held()?;
        self.take_back()?;
        Ok(self.notes)
    }

    fn step(&mut self) -> Result<(), Error> {
        (self.step)()
    }

    fn tell(&mut self, note: String) {
        self.notes.push(note);
    }
}
