//! Each row says what it has to.

use std::collections::BTreeSet;

use nrtrace_ebpf::table::{NONE, Operands, WHEN_TELLING};

use super::*;

#[test]
fn names_are_unique_and_rows_distinguishable_from_none() {
    let mut names = BTreeSet::new();
    for row in ROWS {
        assert!(names.insert(row.name), "{} is there twice", row.name);
        assert!(row.operands.is_row(), "{} is never recorded and has no trait", row.name);
        assert_eq!(find(row.name).map(|found| found.name), Some(row.name));
    }
    assert!(find("no-call").is_none() && find("").is_none());
}

#[test]
fn telling_calls_have_the_descriptor_first() {
    let telling = ROWS.iter().filter(|row| row.operands.when & WHEN_TELLING != 0);
    assert!(telling.clone().count() > 0 && telling.clone().all(|row| row.operands.dirfd == 0));
}

#[test]
fn argument_indexes_are_within_six() {
    for row in ROWS {
        let Operands { path, dirfd, path2, dirfd2, address, data, .. } = row.operands;
        for index in [path, dirfd, path2, dirfd2] {
            assert!(index == NONE || index < 6, "{}: argument {index}", row.name);
        }
        for index in [address, data] {
            assert!(index == NONE || index < 5, "{}: a length follows argument {index}", row.name);
        }
    }
}

/// Foretelling has an answer for each row: what it wants of files, what it consults, or why neither is known.
#[test]
fn each_row_can_be_foretold_or_says_why_not() {
    for row in ROWS {
        let consults = !row.operation.consults().is_empty();
        // Arguments that are no null pointers, and no flags that change what is meant.
        let wants = row.wants(&[0x40; 6], &NoMemory).iter().flatten().count();
        let on_descriptor =
            row.is_on_descriptor() || row.operands.address == NONE && row.operands.path == NONE;
        assert!(!row.is_judged() || wants > 0, "{} names a file and wants nothing of it", row.name);
        assert_eq!(
            wants > 1,
            row.operands.path2 != NONE
                && !row.operation.has_text()
                && wants > 0
                && !matches!(row.operation, Operation::Mount(_)),
            "{}",
            row.name
        );
        let open = row.operation.unforetold().is_some();
        let plain = matches!(row.operation, Operation::Write | Operation::Socket(Socket::Listen));
        assert!(
            row.is_judged() || consults || open || plain || (on_descriptor && row.operands.dirfd != NONE),
            "{} is neither foretold nor said not to be",
            row.name
        );
        assert!(!(open && consults), "{} is foretold and said not to be", row.name);
    }
}

/// Calls that do the same with other operands have one meaning.
#[test]
fn variants_of_a_call_mean_the_same() {
    let at = |name: &str| {
        let row = find(name).unwrap_or_else(|| panic!("{name}"));
        row.wants(&[0; 6], &NoMemory)
    };
    for alike in [
        &["open", "openat", "openat2"][..],
        &["mkdir", "mkdirat"],
        &["mknod", "mknodat", "symlink", "symlinkat"],
        &["link", "linkat"],
        &["rename", "renameat", "renameat2"],
        &["unlink", "unlinkat"],
        &["chmod", "fchmod", "fchmodat", "fchmodat2", "file_setattr"],
        &["chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32"],
        &["utime", "utimes", "futimesat", "utimensat", "utimensat_time64"],
        &["truncate", "truncate64"],
        &["setxattr", "lsetxattr", "fsetxattr", "setxattrat", "removexattr", "removexattrat"],
        &["access", "faccessat", "faccessat2"],
        &["stat", "lstat", "newfstatat", "statx", "stat64", "fstatat64"],
        &["execve", "execveat"],
    ] {
        for name in alike {
            assert_eq!(at(name), at(alike[0]), "{name}");
            assert!(at(name)[0].is_some(), "{name}");
        }
    }
}

#[test]
fn open_flags_say_whether_a_link_is_followed() {
    let row = find("openat").unwrap_or_else(|| panic!("no openat"));
    let with = |flags: u64| [0, 0, flags, 0o640, 0, 0];
    assert!(row.follows(&with(super::flags::O_CREAT)));
    assert!(!row.follows(&with(0o300)));
    assert!(!row.follows(&with(super::flags::O_NOFOLLOW)));
    assert_eq!(row.telling_args(&with(2))[3], 0);
    assert_eq!(row.telling_args(&with(super::flags::O_CREAT))[3], 0o640);
}

#[test]
fn openat2_reads_like_openat() {
    let args = [3, 0x7000, 0x7fff_0000, 24, 0, 0];
    let of = |name, structure: &[u64]| operation(name).in_place(&args, structure);
    assert_eq!(of("openat2", &[0o101, 0o640])[2..4], [0o101, 0o640]);
    assert_eq!(of("openat2", &[])[2..4], [0, 0]);
    assert_eq!(of("openat", &[1, 2]), args);
}
