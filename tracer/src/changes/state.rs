//! What was there before, and who holds what: one file for the machine.
//!
//! It is written before anything is changed and once all is done, whole or not at all, so whatever was interrupted can be
//! done again or taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nrtrace_profiles::RawText;
use nrtrace_profiles::edit::Edit;
use nrtrace_profiles::version::Format;
use serde::{Deserialize, Serialize};

use super::Error;
use super::hold::Hold;
use super::node::NodeFacts;

const FORMAT: Format = Format {
    name: "state of what was applied",
    schema: "nrtrace/state/v1",
    upgrades: &[],
    max_bytes: 256 << 20,
    max_values: 16_000_000,
};

/// Something that is held, and what it was before the first who holds it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept<B, H> {
    /// What was there; `None` for nothing.
    pub before: Option<B>,
    /// By whom it is held, and what that profile wants.
    pub holds: BTreeMap<String, H>,
}

impl<B, H> Kept<B, H> {
    /// Held by nobody yet.
    pub const fn new(before: Option<B>) -> Self {
        Self { before, holds: BTreeMap::new() }
    }
}

/// It was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Present {
    /// It was.
    Present,
}

impl Present {
    /// What is kept of something that is there, or is not.
    pub fn when(there: bool) -> Option<Self> {
        there.then_some(Self::Present)
    }
}

/// A path that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPath {
    /// What was there, and what is wanted.
    #[serde(flatten)]
    pub kept: Kept<NodeFacts, Hold>,
    /// The inode of what was made.
    pub made: Option<(u64, u64)>,
}

/// A line of a configuration file that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEdit {
    /// What is changed.
    pub edit: Edit,
    /// Whether it was so before, and who wants it.
    #[serde(flatten)]
    pub kept: Kept<Present, ()>,
}

/// Everything that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    schema: String,
    /// By path, which holds no links.
    pub paths: BTreeMap<RawText, KeptPath>,
    /// Groups, by name.
    pub groups: BTreeMap<String, Kept<Present, ()>>,
    /// Users, by name.
    pub users: BTreeMap<String, Kept<Present, ()>>,
    /// Memberships, as `USER GROUP`, neither of which holds a space.
    pub members: BTreeMap<String, Kept<Present, ()>>,
    /// Values of kernel parameters, by name.
    pub sysctls: BTreeMap<String, Kept<String, String>>,
    /// Modules, by name.
    pub modules: BTreeMap<String, Kept<Present, ()>>,
    /// Lines of configuration files.
    #[serde(default)]
    pub edits: Vec<KeptEdit>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            schema: FORMAT.schema.into(),
            paths: BTreeMap::new(),
            groups: BTreeMap::new(),
            users: BTreeMap::new(),
            members: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            modules: BTreeMap::new(),
            edits: Vec::new(),
        }
    }
}

impl State {
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the state in a directory.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer version.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let fail = |reason: String| Error::State { path: path.clone(), reason };
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(fail(error.to_string())),
        };
        if !file.metadata().is_ok_and(|facts| facts.is_file() && facts.len() <= FORMAT.max_bytes) {
            return Err(fail("it is no file that nrtrace wrote".into()));
        }
        let mut text = String::new();
        file.take(FORMAT.max_bytes).read_to_string(&mut text).map_err(|error| fail(error.to_string()))?;
        FORMAT.read(&text).map_err(|error| fail(error.to_string()))
    }

    /// Whose needs are held.
    pub fn keys(&self) -> BTreeSet<String> {
        fn of<B, H>(kept: &Kept<B, H>) -> impl Iterator<Item = &String> {
            kept.holds.keys()
        }
        let paths = self.paths.values().flat_map(|path| of(&path.kept));
        let accounts = self.groups.values().chain(self.users.values()).chain(self.members.values());
        let edits = self.edits.iter().map(|kept| &kept.kept);
        let others = accounts.chain(self.modules.values()).chain(edits).flat_map(of);
        paths.chain(others).chain(self.sysctls.values().flat_map(of)).cloned().collect()
    }
}

/// The directory that holds the state, locked.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: Flock<File>,
}

const FILE: &str = "state.json";
const NEW: &str = "state.json.new";

impl Store {
    /// Opens the directory, making it where it is missing, and waits for whoever has it open.
    ///
    /// # Errors
    /// When others than root may write there, or an older nrtrace has left something in it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::State { path: directory.into(), reason };
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|error| fail(error.to_string()))?;
            let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
            let opened = OpenOptions::new().read(true).custom_flags(flags).open(directory);
            let opened = opened.map_err(|error| fail(error.to_string()))?;
            let lock = Flock::lock(opened, FlockArg::LockExclusive);
            let lock = lock.map_err(|(_, errno): (File, Errno)| fail(errno.to_string()))?;
            let facts = lock.metadata().map_err(|error| fail(error.to_string()))?;
            // Removed by the one before, who left nothing in it.
            if facts.nlink() == 0 {
                continue;
            }
            if facts.uid() != nix::unistd::geteuid().as_raw() || facts.mode() & 0o022 != 0 {
                return Err(fail("it is not root's alone, so what it holds cannot be trusted".into()));
            }
            let store = Self { directory: directory.into(), _lock: lock };
            // Left by one that was killed.
            let _ = std::fs::remove_file(store.directory.join(NEW));
            return store.without_older().map(|()| store);
        }
    }

    /// Older versions kept a directory for each name, which does not tell the paths.
    fn without_older(&self) -> Result<(), Error> {
        let fail = |reason: String| Error::State { path: self.directory.clone(), reason };
        let entries = std::fs::read_dir(&self.directory).map_err(|error| fail(error.to_string()))?;
        for entry in entries {
            let entry = entry.map_err(|error| fail(error.to_string()))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                return Err(fail(format!(
                    "an apply.sh or setcap.sh of an older nrtrace kept {} there: take that back with its own undo.sh \
                     (setcap.sh --undo) first",
                    entry.file_name().display()
                )));
            }
        }
        Ok(())
    }

    /// Reads the state.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer version.
    pub fn load(&self) -> Result<State, Error> {
        State::read(&self.directory)
    }

    /// Writes the state, whole or not at all; of nothing, nothing stays.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let path = self.directory.join(FILE);
        let write = || -> std::io::Result<()> {
            if state.is_empty() {
                return match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            let temporary = self.directory.join(NEW);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| Error::State { path: path.clone(), reason: error.to_string() })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Only an empty one goes; whoever waits for it looks again.
        let _ = std::fs::remove_dir(&self.directory);
    }
}
