//! Accesses under chosen paths.

use crate::accesses::FileAccess;
use crate::event::FileType;
use crate::requirement::word;

use super::build::*;
use super::run;

/// The accesses of a run with these events, in a line each.
fn gathered(events: Vec<Make>) -> Vec<String> {
    let mut trace = trace("x", events);
    trace.run.paths = vec!["/srv/data".into(), "/etc/ssl/*.key".into()];
    let found = run(&trace).accesses.unwrap();
    let line = |file: &FileAccess| {
        let access: Vec<String> = file.access.iter().map(word).collect();
        format!("{} {} {}", file.path, word(&file.file_type), access.join(","))
    };
    found.files.iter().map(line).collect()
}

#[test]
fn successes_count_and_only_under_the_paths() {
    let found = gathered(vec![
        open("/etc/ssl/a.key", 0).there(FileType::File, 0o640, 0),
        open("/etc/ssl/a.crt", 0).there(FileType::File, 0o644, 0),
        open("/srv/data/log", O_WRONLY | O_APPEND).there(FileType::File, 0o640, 0),
        open("/srv/data/missing", 0).fails(ENOENT),
        call("mkdir", &[0, 0o700]).on("/srv/data/sub"),
        call("connect", &[]).unix("/srv/data/sock"),
    ]);
    assert_eq!(
        found,
        [
            "/etc/ssl/a.key file read",
            "/srv/data directory ",
            "/srv/data/log file append",
            "/srv/data/sock socket write",
            "/srv/data/sub directory create",
        ]
    );
}

#[test]
fn temporary_names_are_a_matter_of_their_directory() {
    let found = gathered(vec![
        open("/srv/data/.x.1234.tmp", O_WRONLY | O_CREAT | O_EXCL),
        call("rename", &[]).two("/srv/data/.x.1234.tmp", "/srv/data/x"),
    ]);
    assert_eq!(found, ["/srv/data directory write", "/srv/data/x file create"]);
}

#[test]
fn a_directory_that_gets_its_name_later_has_what_was_made_in_it() {
    let found = gathered(vec![
        call("mkdir", &[0, 0o700]).on("/srv/data/wal.tmp"),
        open("/srv/data/wal.tmp/0.tmp", O_WRONLY | O_CREAT | O_EXCL),
        call("rename", &[]).two("/srv/data/wal.tmp/0.tmp", "/srv/data/wal.tmp/0.wal"),
        call("rename", &[]).two("/srv/data/wal.tmp", "/srv/data/wal"),
    ]);
    assert_eq!(
        found,
        [
            "/srv/data directory write",
            "/srv/data/wal directory write,create",
            "/srv/data/wal/0.wal file create"
        ]
    );
}
