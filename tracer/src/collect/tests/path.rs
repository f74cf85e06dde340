//! Paths and components, on a real directory tree.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use nrtrace_ebpf::record::*;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Check, FileType, Object, PathObject, Record};

use super::record::{Sketch, sketch};
use super::{calls, config, mkdir, started};
use crate::collect::paths::{clean, leaf_first, split, upright};

const DAC_OVERRIDE: u32 = 1;

fn bytes(path: &Path) -> RawText {
    RawText::from(path.as_os_str().as_bytes())
}

fn object(sketch: &Sketch) -> PathObject {
    match calls(&[sketch.call()]).remove(0).object {
        Object::Path(path) => path,
        other => panic!("{other:?}"),
    }
}

fn checked(sketch: &Sketch) -> Check {
    calls(&[sketch.check(DAC_OVERRIDE), sketch.call()]).remove(0).checks.remove(0)
}

fn open(path: &Path, flags: i32) -> Sketch {
    sketch(libc::SYS_open).path(path.as_os_str().as_bytes()).args(&[0, flags as u64])
}

/// A directory with `real/file` and links to it.
fn tree() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    let at = |name: &str| top.path().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("real/file"), "").unwrap();
    symlink("real", at("relative")).unwrap();
    symlink(at("real"), at("absolute")).unwrap();
    symlink("real/file", at("name")).unwrap();
    symlink("real/new", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("/proc/self/fd", at("fd")).unwrap();
    top
}

#[test]
fn symbolic_links_are_followed_as_the_call_does() {
    let top = tree();
    let at = |name: &str| top.path().join(name);
    let cases: &[(&str, i32, &str)] = &[
        ("relative/file", libc::O_RDONLY, "real/file"),
        ("absolute/file", libc::O_RDONLY, "real/file"),
        ("absolute/../real/./file", libc::O_RDONLY, "real/file"),
        ("relative/none/below", libc::O_RDONLY, "real/none/below"),
        ("name", libc::O_RDONLY, "real/file"),
        ("name", libc::O_NOFOLLOW, "name"),
        ("dangling", libc::O_CREAT, "real/new"),
        ("dangling", libc::O_CREAT | libc::O_EXCL, "dangling"),
        ("real//file/", libc::O_RDONLY, "real/file"),
    ];
    for (given, flags, path) in cases {
        let found = object(&open(&at(given), *flags));
        assert_eq!((found.path, found.resolved), (bytes(&at(path)), true), "{given}");
        assert_eq!(found.given, bytes(&at(given)));
    }
    let unlink = sketch(libc::SYS_unlink).path(at("relative/name").as_os_str().as_bytes());
    assert_eq!(object(&unlink).path, bytes(&at("real/name")));
    assert!(object(&open(&at("loop/x"), 0)).resolved, "a loop ends");
}

#[test]
fn links_into_proc_are_left_to_the_reader() {
    let top = tree();
    let fd = object(&open(&top.path().join("fd/1"), 0));
    assert_eq!(fd.path, "/proc/self/fd/1".into());
    let own = object(&sketch(libc::SYS_open).path("/proc/self/root/etc"));
    assert_eq!((own.seen.clone(), own.path), ("/proc/self/root/etc".into(), own.seen));
}

#[test]
fn relative_paths_start_where_the_kernel_says() {
    let at = |path: &str, base: &str, root: &str| {
        let made = sketch(libc::SYS_mkdir).path(path).string(STR_BASE, base).string(STR_ROOT, root);
        let found = object(&made);
        (found.seen.to_text(), found.path.to_text(), found.resolved)
    };
    let is = |seen: &str, path: &str| (seen.to_owned(), path.to_owned(), true);
    assert_eq!(at("x", "b/nrtrace-a", ""), is("/nrtrace-a/b/x", "/nrtrace-a/b/x"));
    assert_eq!(at("../x", "b/nrtrace-a", ""), is("/nrtrace-a/x", "/nrtrace-a/x"));
    assert_eq!(at("x", "", ""), is("/x", "/x"), "in the root directory");
    assert_eq!(at("x", "b/jail/nrtrace-a", "jail/nrtrace-a"), is("/b/x", "/nrtrace-a/jail/b/x"));
    assert_eq!(at("/x", "", "jail/nrtrace-a"), is("/x", "/nrtrace-a/jail/x"));
    assert_eq!(at("/../x", "", "jail/nrtrace-a"), is("/x", "/nrtrace-a/jail/x"), "out of no jail");
}

#[test]
fn a_path_without_its_start_is_not_resolved() {
    for flag in [FLAG_UNREADABLE, FLAG_DEEP, FLAG_TRUNCATED] {
        let found = super::collect(
            Record::Calls,
            &[mkdir("x").string(STR_BASE, "half/way").flag(flag).call(), mkdir("/x").call()],
        );
        assert_eq!(found.unresolved, 1);
        assert!(
            matches!(&found.events[0].object, Object::Path(path) if !path.resolved && path.given == "x".into())
        );
    }
}

#[test]
fn a_chrooted_process_keeps_its_links_inside() {
    let jail = tempfile::tempdir().unwrap();
    fs::create_dir(jail.path().join("etc")).unwrap();
    symlink("/etc", jail.path().join("link")).unwrap();
    let made = sketch(libc::SYS_mkdir)
        .path("/link/x")
        .string(STR_ROOT, leaf_first(jail.path().as_os_str().as_bytes()));
    assert_eq!(object(&made).path, bytes(&jail.path().join("etc/x")));
}

#[test]
fn a_new_root_is_named_once() {
    let new_root = sketch(libc::SYS_chroot).path("/var/lib/jail").string(STR_ROOT, "jail/lib/var");
    assert_eq!(object(&new_root).path, RawText::from("/var/lib/jail"), "the record's root is the new one");
    let again =
        sketch(libc::SYS_chroot).path(".").string(STR_BASE, "jail/lib/var").string(STR_ROOT, "jail/lib/var");
    assert_eq!(object(&again).path, RawText::from("/var/lib/jail"));
    let failed = sketch(libc::SYS_chroot).path("/etc").string(STR_ROOT, "jail/lib/var").ret(-1);
    assert_eq!(object(&failed).path, RawText::from("/var/lib/jail/etc"), "a failed one changes nothing");
}

#[test]
fn what_was_missing_on_the_way_is_told() {
    let top = tree();
    let made = |path: &str| object(&open(&top.path().join(path), libc::O_CREAT | libc::O_WRONLY).ret(-2));
    assert!(made("none/file").parent.is_none());
    assert!(made("real/none").parent.is_some());
}

#[test]
fn what_the_run_made_and_left_is_told() {
    let top = tree();
    let at = |name: &str| top.path().join(name);
    std::os::unix::fs::chown(at("real/file"), Some(61_184), None).unwrap();
    let makes = [open(&at("real/file"), libc::O_CREAT), open(&at("real/gone"), libc::O_CREAT)];
    let root_owned = sketch(libc::SYS_mkdir).path(at("real").as_os_str().as_bytes());
    let records: Vec<Vec<u8>> = makes.iter().chain([&root_owned]).map(Sketch::call).collect();
    let left = |identity_exists: bool| {
        let mut config = config(Record::Calls);
        config.identity.exists = identity_exists;
        let mut collector = started(config);
        records.iter().for_each(|bytes| collector.record(bytes));
        collector.finish().left
    };
    let told = left(false).remove(0);
    assert!(told.contains(&format!("nobody: {};", at("real/file").display())), "{told}");
    assert!(left(true).is_empty(), "an existing user's files are its own");
}

#[test]
fn a_refused_path_has_its_facts() {
    let top = tree();
    let found = object(&open(&top.path().join("relative/file"), 0).ret(-i64::from(libc::EACCES)));
    assert_eq!(found.parent.as_ref().map(|inode| inode.file_type), Some(FileType::Directory));
    assert_eq!(found.inode.as_ref().map(|inode| inode.file_type), Some(FileType::File));
    assert_eq!(found.inode.unwrap().user.as_deref(), Some("root"), "these tests run as root");
}

#[test]
fn a_directory_made_after_it_was_missed_is_seen() {
    let top = tree();
    let mut collector = started(config(Record::Calls));
    let below = |name: &str| open(&top.path().join("new").join(name), 0);
    collector.record(&below("missed").ret(-2).call());
    collector.record(&below("refused").ret(-13).call());
    symlink("real", top.path().join("new")).unwrap();
    collector.record(&below("file").ret(-13).at(20_000_000).call());
    let events = collector.finish().events;
    let Object::Path(path) = &events[2].object else { panic!("{events:?}") };
    assert_eq!(path.path, bytes(&top.path().join("real/file")));
    assert!(path.parent.is_some());
}

#[test]
fn the_component_is_found_where_the_kernel_does_not_tell() {
    let top = tree();
    let at = |name: &str| top.path().join(name);
    // A temporary directory is 0700: by its bits it refuses everybody, which is what a search check is about.
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    let component = |made: &Sketch| checked(made).component.map(|found| found.path);
    assert_eq!(component(&mkdir(at("relative/new").to_str().unwrap())), Some(bytes(&at("real"))));
    assert_eq!(component(&open(&at("relative/file"), 0)), Some(bytes(&at("real/file"))));
    assert_eq!(component(&open(&at("real/new"), libc::O_CREAT)), Some(bytes(&at("real"))));
    assert_eq!(component(&open(&at("real/file"), libc::O_CREAT)), Some(bytes(&at("real/file"))));

    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
    let rename = |from: &str, to: &str| {
        let made = sketch(libc::SYS_rename).path(at(from).as_os_str().as_bytes());
        component(&made.string(STR_PATH2, at(to).as_os_str().as_bytes()))
    };
    assert_eq!(rename("open/x", "real/x"), Some(bytes(&at("real"))));
    assert_eq!(rename("real/x", "open/x"), Some(bytes(&at("real"))));
}

#[test]
fn a_search_check_names_the_uppermost_closed_directory() {
    let Some(walk) = address_of("link_path_walk") else { return };
    let top = tree();
    fs::create_dir_all(top.path().join("closed/below")).unwrap();
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(top.path().join("closed"), Permissions::from_mode(0o700)).unwrap();
    let mut made = open(&top.path().join("closed/below/file"), 0);
    made.stack = vec![walk + 8];
    let check = checked(&made);
    assert!(check.frames.iter().any(|frame| &**frame == "link_path_walk"));
    assert_eq!(check.component.unwrap().path, bytes(&top.path().join("closed")));
}

#[test]
fn an_open_that_makes_the_file_is_judged_by_the_directory() {
    let Some(open_at) = address_of("path_openat") else { return };
    let top = tree();
    fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
    let component = |name: &str, flags: i32| {
        let mut made = open(&top.path().join(name), flags);
        made.stack = vec![open_at + 8];
        checked(&made).component.unwrap().path
    };
    // The file is there by the time the call is told of.
    assert_eq!(component("real/file", libc::O_CREAT), bytes(&top.path().join("real")));
    assert_eq!(component("real/file", libc::O_RDONLY), bytes(&top.path().join("real/file")));
}

/// Where the running kernel has a function; `None` where it hides that.
fn address_of(name: &str) -> Option<u64> {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let line =
        symbols.lines().find(|line| line.split(' ').nth(2).is_some_and(|found| found.starts_with(name)))?;
    u64::from_str_radix(&line[..16], 16).ok().filter(|address| *address != 0)
}

/// Makes a symbolic link on a file system of its own, says its mount namespace, and waits.
const APART: &str = "mount -t tmpfs none /mnt && mkdir /mnt/real && ln -s real /mnt/link && \
    readlink /proc/self/ns/mnt && read line";

#[test]
fn a_mount_namespace_outlives_its_processes() {
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", APART])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mnt_ns = line.trim().strip_prefix("mnt:[").and_then(|rest| rest.strip_suffix(']'));
    let mnt_ns: u32 = mnt_ns.expect("mounting takes root").parse().unwrap();
    let here = |mut made: Sketch| {
        made.head.mnt_ns = mnt_ns;
        made.thread(child.id(), child.id())
    };
    let exec = here(sketch(0)).exec("sh/bin/usr");
    let refused = here(mkdir("/mnt/link/new")).ret(-13).call();
    let mut collector = started(config(Record::Calls));
    collector.record(&exec);
    drop(child.stdin.take());
    child.wait().unwrap();
    collector.record(&refused);
    let event = collector.finish().events.remove(0);
    let Object::Path(path) = event.object else { panic!("{event:?}") };
    assert_eq!((path.path, path.seen), ("/mnt/real/new".into(), "/mnt/link/new".into()));
    assert_eq!(path.parent.unwrap().file_type, FileType::Directory);
}

#[test]
fn the_kernels_own_component_is_taken() {
    let mut made = mkdir("/nrtrace-no-such/a").string(STR_PATH2, "run/var").flag(FLAG_COMPONENT);
    made.component = Some(InodeRecord { mode: libc::S_IFDIR | 0o750, uid: 0, gid: 7, ..Default::default() });
    let mut done = made.clone();
    done.strings[STR_PATH2].clear();
    let events = calls(&[made.check(DAC_OVERRIDE), done.call()]);
    let component = events[0].checks[0].component.clone().unwrap();
    assert_eq!((component.path, component.inode.mode, component.inode.gid), ("/var/run".into(), 0o750, 7));
}

#[test]
fn hostile_names_stay_as_they_are() {
    let name = b"/nrtrace-no-such/\xff\n%s\x1b[31m";
    assert_eq!(object(&sketch(libc::SYS_mkdir).path(name)).path.as_bytes(), name);
}

#[test]
fn texts_are_cut_and_joined() {
    assert_eq!(upright(b"c/b/a"), b"/a/b/c");
    assert_eq!(upright(b""), b"/");
    assert_eq!(leaf_first(b"/usr/lib/x"), b"x/lib/usr");
    assert_eq!(leaf_first(b"/"), b"");
    assert_eq!(leaf_first(b"pipe:[7]"), b"pipe:[7]");
    assert_eq!(clean(b"//a/./b/../../../c/"), b"/c");
    assert_eq!(split(b"/a"), (&b"/"[..], &b"a"[..]));
    assert_eq!(split(b"/a/b"), (&b"/a"[..], &b"b"[..]));
}
