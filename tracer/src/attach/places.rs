//! Where runtimes keep what they know of containers, to notice at once that something was made there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::api;
use super::state::{self, DOCKER, Known, containerd, directories, runtime_roots, storages};

/// The times of the directories that hold what runtimes know of containers: they change whenever one was made or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Of containerd's bundles.
    pub bundles: Vec<(PathBuf, Option<SystemTime>)>,
    /// Of all else.
    pub others: Vec<(PathBuf, Option<SystemTime>)>,
}

/// Where runtimes keep what they know of containers, as far as it is known where that is.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The engines that were asked.
    asked: Vec<api::Api>,
    /// Of containerd: a directory for each namespace, with one for each container.
    bundles: Vec<PathBuf>,
    /// Of docker: a directory for each container.
    docker: Vec<PathBuf>,
}

impl Places {
    /// Those of the engines that run now.
    pub fn find() -> Self {
        Self { docker: vec![DOCKER.into()], ..Self::default() }.again()
    }

    /// The same a while later: an engine is asked once.
    #[must_use]
    pub fn again(self) -> Self {
        let asked = api::all();
        let mut docker = self.docker;
        let new = asked.iter().filter(|api| !self.asked.contains(api));
        docker.extend(new.filter_map(api::Api::directory));
        docker.sort();
        docker.dedup();
        Self { asked, bundles: state::bundle_roots(), docker }
    }

    /// Whether an engine is asked, of which nothing but its answers tells what was made.
    pub fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The times of their directories.
    pub fn stamp(&self) -> Stamp {
        let namespaces = self.bundles.iter().flat_map(|root| directories(root));
        let stored = storages().into_iter().flat_map(|storage| directories(&storage.graph));
        let roots = runtime_roots().into_iter().map(|(root, _)| root).chain(self.docker.iter().cloned());
        let timed = |path: PathBuf| {
            let time = fs::metadata(&path).and_then(|facts| facts.modified()).ok();
            (path, time)
        };
        Stamp { bundles: namespaces.map(timed).collect(), others: stored.chain(roots).map(timed).collect() }
    }

    /// What containerd has made a moment ago.
    pub fn recent(&self) -> Vec<Known> {
        const MOMENT: Duration = Duration::from_secs(2);
        let is_new = |path: &Path| {
            let made = fs::metadata(path).and_then(|facts| facts.modified()).ok();
            made.is_some_and(|made| made.elapsed().is_ok_and(|age| age < MOMENT))
        };
        self.bundles.iter().flat_map(|root| containerd(root, &is_new)).collect()
    }
}
