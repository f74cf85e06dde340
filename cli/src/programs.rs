//! Directories of this machine in which others have programs: they are not given to the user of a service, who could put
//! another program into one's place.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Need;

/// Entries of one directory that are looked at.
const ENTRIES: usize = 10_000;

/// Notes which of the directories that the profile's needs lie in hold programs of others, for a program that ran on this
/// machine's files.
pub fn note(profile: &mut Profile) {
    if profile.container.is_some() {
        return;
    }
    let uid = profile.identity.uid;
    let mut looked_at = BTreeSet::new();
    for requirement in &profile.requirements {
        let Need::Path { path, pattern: false, .. } = &requirement.need else { continue };
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        looked_at.extend([Some(path), path.parent()].into_iter().flatten());
    }
    let held = looked_at.into_iter().filter(|directory| hold_programs(directory, uid));
    profile.programs = held.map(|path| RawText::new(path.as_os_str().as_bytes())).collect();
}

/// Whether somebody else has a program in a directory that is not the user's already.
fn hold_programs(directory: &Path, uid: u32) -> bool {
    let other = fs::symlink_metadata(directory).is_ok_and(|facts| facts.is_dir() && facts.uid() != uid);
    let runs = |entry: fs::DirEntry| {
        entry.metadata().is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0 && facts.uid() != uid)
    };
    other && fs::read_dir(directory).into_iter().flatten().take(ENTRIES).flatten().any(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_with_a_program_of_somebody_else_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let (file, mine) = (directory.path().join("file"), fs::metadata(directory.path()).unwrap().uid());
        fs::write(&file, "#!/bin/sh\n").unwrap();
        assert!(!hold_programs(directory.path(), mine + 1), "it is no program");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(hold_programs(directory.path(), mine + 1));
        assert!(!hold_programs(directory.path(), mine), "it is the user's own");
        assert!(!hold_programs(&file, mine + 1) && !hold_programs(&directory.path().join("none"), mine + 1));
    }
}
