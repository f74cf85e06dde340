//! Where a program writes by the user's own rights.

use crate::event::{FileType, Object};

use super::build::*;
use super::run;

#[test]
fn writes_by_own_rights_are_told_by_the_place_that_has_to_stay_writable() {
    let own = |make: Make| make.there(FileType::File, 0o644, UID);
    let in_own_directory = |path: &str| {
        let mut make = open(path, O_WRONLY | O_CREAT);
        if let Object::Path(object) = &mut make.0.object {
            object.parent = Some(Box::new(inode(FileType::Directory, 0o755, UID)));
        }
        make
    };
    let profile = run(&trace(
        "thing",
        [
            in_own_directory("/var/lib/own/state"),
            in_own_directory("/var/lib/own/deep/state"),
            own(open("/var/log/thing.log", O_WRONLY | O_CREAT | O_APPEND)),
            open("/etc/passwd", 0).there(FileType::File, 0o644, 0),
            open("/proc/self/oom_score_adj", O_WRONLY).there(FileType::File, 0o644, UID),
            call("rename", &[0, 0]).two("/tmp/a", "/srv/b"),
            open("/dev/shm/x", O_WRONLY | O_CREAT | O_EXCL).there(FileType::File, 0o600, UID),
            open("/etc/refused", O_WRONLY).fails(EACCES),
        ],
    ));
    let places: Vec<String> = profile.writes.iter().map(|written| written.path.to_string()).collect();
    assert_eq!(places, ["/dev/shm", "/srv", "/tmp", "/var/lib/own", "/var/log/thing.log"]);
}

/// A unit with a read-only tree has to leave writable whatever was set, by whichever call.
#[test]
fn each_call_that_sets_something_of_an_own_file_is_a_write() {
    for name in [
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "removexattr",
        "chmod",
        "fchmod",
        "fchmodat2",
        "utimes",
        "futimesat",
        "utimensat",
        "utimensat_time64",
        "truncate",
        "truncate64",
        "file_setattr",
        "fchown",
    ] {
        let own = call(name, &[5, 0x7000, 0x7100]).on("/srv/own/file").there(FileType::File, 0o644, UID);
        let places: Vec<String> =
            run(&trace("thing", [own])).writes.iter().map(|written| written.path.to_string()).collect();
        assert_eq!(places, ["/srv/own/file"], "{name}");
    }
    for name in ["getxattr", "stat", "access", "chdir", "readlink", "inotify_add_watch"] {
        let own = call(name, &[0x7000, 0, 0]).on("/srv/own/file").there(FileType::File, 0o644, UID);
        assert!(run(&trace("thing", [own])).writes.is_empty(), "{name}");
    }
}
