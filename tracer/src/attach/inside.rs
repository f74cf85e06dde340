//! What is to be known of a container's files before volumes are mounted over them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nrtrace_profiles::RawText;

/// Directories that are links to `/run` and `/run/lock` on most systems.
const LINKS: [&str; 2] = ["/var/run", "/var/lock"];
/// Trees whose contents do not outlive a start.
const STARTS_ANEW: [&str; 3] = ["/run", "/tmp", "/var/log"];
/// Every Debian has it, and nobody misses it.
const LOCK: &str = "/run/lock";
/// No more is looked at.
const MOST: usize = 10_000;
const DEEPEST: usize = 16;

/// Those of `/var/run` and `/var/lock` that are directories of their own below a root directory.
pub fn apart(root: &Path) -> BTreeSet<RawText> {
    // A link would be followed in the wrong root directory.
    let is_directory = |path: &str| fs::symlink_metadata(root.join(path)).is_ok_and(|facts| facts.is_dir());
    let own = LINKS.into_iter().filter(|path| is_directory("var") && is_directory(&path[1..]));
    own.map(RawText::from).collect()
}

/// Directories in trees that start anew in which there is something all the same.
pub fn holds(root: &Path) -> BTreeSet<RawText> {
    let own = apart(root);
    let trees = STARTS_ANEW.into_iter().map(RawText::from).chain(own);
    let (mut found, mut left) = (BTreeSet::new(), MOST);
    for tree in trees {
        look(root, &tree.to_text(), DEEPEST, &mut left, &mut found);
    }
    found
}

/// Adds a directory if there is something in it, and those below.
fn look(root: &Path, path: &str, depth: usize, left: &mut usize, found: &mut BTreeSet<RawText>) {
    let directory = root.join(&path[1..]);
    if depth == 0 || !fs::symlink_metadata(&directory).is_ok_and(|facts| facts.is_dir()) {
        return;
    }
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        // Names that are no text are in no manifest.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let below = format!("{path}/{name}");
        if below == LOCK {
            continue;
        }
        found.insert(RawText::from(path));
        look(root, &below, depth - 1, left, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_holds_is_found_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for directory in ["run/lock/below", "run/app/deep", "run/empty", "tmp", "var/log", "var/lib/x"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("run/app/deep/file"), "x").unwrap();
        std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("var/log/link")).unwrap();
        let texts = |found: BTreeSet<RawText>| found.iter().map(RawText::to_text).collect::<Vec<_>>();
        assert_eq!(texts(holds(root)), ["/run", "/run/app", "/run/app/deep", "/var/log"]);
        assert!(apart(root).is_empty());
        fs::remove_file(root.join("var/run")).unwrap();
        fs::create_dir_all(root.join("var/run/own")).unwrap();
        assert_eq!(texts(apart(root)), ["/var/run"]);
        assert!(texts(holds(root)).contains(&"/var/run".to_owned()));
        assert!(!texts(holds(root)).contains(&"/var/run/own".to_owned()));
    }

    #[test]
    fn a_debian_holds_nothing() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("run/lock")).unwrap();
        fs::create_dir_all(place.path().join("tmp")).unwrap();
        assert!(holds(place.path()).is_empty());
    }
}
