//! One rule each.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nrtrace_profiles::event::Identity;
use nrtrace_profiles::requirement::Access;
use nrtrace_tracer::oracle::{Answer, Cause, Error, Judgement, Method, Oracle, Question, Victim, Want};

use crate::world::{Entry, Kind, World, entry, identity, look, really, set_acl};

const WRITE: Want = Want::Open(libc::O_WRONLY);

fn user() -> Identity {
    identity(1000, 1000, &[])
}

fn all(world: &World, path: &str, want: Want) -> Judgement {
    let root = look(world.root());
    let oracle = Oracle::new(&user()).unwrap();
    oracle.ask_all(&Question::new(root.as_fd(), root.as_fd(), path.as_bytes(), want)).unwrap()
}

/// Each refusal as its path below the root, what it refuses, errno and cause.
fn refusals(world: &World, judgement: &Judgement) -> Vec<(String, Vec<Access>, i32, Cause)> {
    let root = world.root().to_str().unwrap();
    let each = judgement.refusals.iter().map(|refusal| {
        let path = refusal.component.path.as_str().unwrap().strip_prefix(root).unwrap().to_owned();
        (path, refusal.access.iter().copied().collect(), refusal.errno, refusal.cause)
    });
    each.collect()
}

fn failure(world: &World, path: &str, want: Want) -> Option<i32> {
    let judgement = all(world, path, want);
    assert_eq!(judgement.refusals, [], "{path}");
    judgement.failure.map(|failure| failure.errno)
}

#[test]
fn a_closed_directory_and_the_closed_file_behind_it_are_both_told() {
    let world = World::new(&[
        entry("root", Kind::Directory, 0o700, 0),
        entry("root/keys", Kind::Directory, 0o700, 0),
        entry("root/keys/key", Kind::File, 0o600, 0),
    ]);
    let judgement = all(&world, "/root/keys/key", Want::Open(libc::O_RDWR));
    let closed = |path: &str| (path.to_owned(), vec![Access::Search], libc::EACCES, Cause::Permission);
    let key =
        ("/root/keys/key".to_owned(), vec![Access::Read, Access::Write], libc::EACCES, Cause::Permission);
    assert_eq!(refusals(&world, &judgement), [closed("/root"), closed("/root/keys"), key]);
    assert_eq!(judgement.inode.map(|inode| inode.mode), Some(0o600));
    assert_eq!(judgement.failure, None);
}

#[test]
fn a_kernel_parameter_is_its_owners_alone_though_the_judge_keeps_roots_effective_id() {
    let root = std::fs::File::open("/").unwrap();
    let ask = |identity: &Identity, path: &str, want: Want| {
        let oracle = Oracle::new(identity).unwrap();
        let judgement =
            oracle.ask_all(&Question::new(root.as_fd(), root.as_fd(), path.as_bytes(), want)).unwrap();
        let refused =
            |refusal: nrtrace_tracer::oracle::Refusal| (refusal.access, refusal.errno, refusal.cause);
        judgement.refusals.into_iter().map(refused).collect::<Vec<_>>()
    };
    for path in ["/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward"] {
        let refused = [([Access::Write].into(), libc::EACCES, Cause::Permission)];
        assert_eq!(ask(&user(), path, WRITE), refused, "{path}");
        assert_eq!(ask(&identity(1000, 1000, &[0]), path, Want::Open(libc::O_RDWR)), refused, "{path}");
        assert_eq!(ask(&user(), path, Want::Open(libc::O_RDONLY)), [], "{path}");
        assert_eq!(ask(&identity(0, 0, &[]), path, WRITE), [], "{path}");
    }
}

#[test]
fn only_the_refused_half_of_read_and_write_is_told() {
    let world = World::new(&[entry("file", Kind::File, 0o644, 0)]);
    let judgement = all(&world, "/file", Want::Open(libc::O_RDWR));
    let told = ("/file".to_owned(), vec![Access::Write], libc::EACCES, Cause::Permission);
    assert_eq!(refusals(&world, &judgement), [told]);
}

#[test]
fn an_acl_opens_what_the_mode_closes_and_its_mask_closes_it_again() {
    let world = World::new(&[entry("file", Kind::File, 0o600, 0)]);
    set_acl(&world.at("file"), 0o600, &[(2, 1000, 6)], 7);
    assert_eq!(all(&world, "/file", WRITE).refusals, []);
    set_acl(&world.at("file"), 0o600, &[(2, 1000, 6)], 4);
    assert_eq!(all(&world, "/file", Want::Open(libc::O_RDONLY)).refusals, []);
    assert_eq!(refusals(&world, &all(&world, "/file", WRITE))[0].3, Cause::Permission);
}

#[test]
fn rights_that_two_groups_give_do_not_add_up() {
    // posix_acl_permission: one entry must give all that is asked for at once.
    let acl = Some((vec![(8, 1001, 4), (8, 1002, 2)], 7));
    let world = World::new(&[Entry { acl, ..entry("file", Kind::File, 0o600, 0) }]);
    let who = identity(1000, 1000, &[1001, 1002]);
    let root = look(world.root());
    let oracle = Oracle::new(&who).unwrap();
    let ask =
        |flags| oracle.ask(&Question::new(root.as_fd(), root.as_fd(), b"file", Want::Open(flags))).unwrap();
    assert_eq!(ask(libc::O_RDONLY), Answer::Allowed);
    assert_eq!(ask(libc::O_WRONLY), Answer::Allowed);
    let Answer::Refused(refusal) = ask(libc::O_RDWR) else { panic!("refused by the kernel") };
    assert_eq!(refusal.access.into_iter().collect::<Vec<_>>(), [Access::Read, Access::Write]);
}

#[test]
fn links_are_followed_forty_times() {
    let mut entries = vec![entry("end", Kind::File, 0o644, 0)];
    for number in 0..=40 {
        let to = if number == 0 { "end".to_owned() } else { format!("link{}", number - 1) };
        entries.push(entry(&format!("link{number}"), Kind::Link(to), 0o777, 0));
    }
    let world = World::new(&entries);
    assert_eq!(failure(&world, "/link39", Want::Reach), None);
    assert_eq!(failure(&world, "/link40", Want::Reach), Some(libc::ELOOP));
}

#[test]
fn names_and_paths_have_a_longest() {
    let world = World::new(&[]);
    assert_eq!(failure(&world, &"n".repeat(255), Want::Reach), Some(libc::ENOENT));
    assert_eq!(failure(&world, &"n".repeat(256), Want::Reach), Some(libc::ENAMETOOLONG));
    assert_eq!(failure(&world, &"./".repeat(2048), Want::Reach), Some(libc::ENAMETOOLONG));
    assert_eq!(failure(&world, "", Want::Reach), Some(libc::ENOENT));
}

#[test]
fn deep_directories_are_walked_to_their_end() {
    let path = vec!["d"; 300].join("/");
    let world = World::new(&[]);
    fs::create_dir_all(world.at(&path)).unwrap();
    let judgement = all(&world, &path, Want::Create { directory: true });
    assert_eq!(judgement.failure.map(|failure| failure.errno), Some(libc::EEXIST));
    let judgement = all(&world, &format!("{path}/new"), Want::Create { directory: true });
    let told = (format!("/{path}"), vec![Access::Create], libc::EACCES, Cause::Permission);
    assert_eq!(refusals(&world, &judgement), [told]);
    assert!(judgement.path.as_bytes().ends_with(b"/d/d/new"));
}

#[test]
fn nothing_leads_above_the_root() {
    let world = World::new(&[
        entry("jail", Kind::Directory, 0o755, 0),
        entry("jail/up", Kind::Link("/../../../inside".into()), 0o777, 0),
        entry("jail/inside", Kind::File, 0o600, 1000),
        entry("inside", Kind::File, 0o600, 0),
    ]);
    let jail = look(&world.at("jail"));
    let oracle = Oracle::new(&user()).unwrap();
    for path in ["../inside", "/../inside", "up"] {
        let question = Question::new(jail.as_fd(), jail.as_fd(), path.as_bytes(), WRITE);
        assert_eq!(oracle.ask(&question).unwrap(), Answer::Allowed, "{path}");
    }
}

/// Sets attributes of chattr(1) for as long as it lives.
struct Attribute<'a>(&'a World, &'static str, &'static str);

impl<'a> Attribute<'a> {
    fn set(world: &'a World, path: &'static str, attribute: &'static str) -> Self {
        let status =
            Command::new("chattr").arg(format!("+{attribute}")).arg(world.at(path)).status().unwrap();
        assert!(status.success(), "chattr +{attribute}: use a filesystem that has it");
        Self(world, path, attribute)
    }
}

impl Drop for Attribute<'_> {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg(format!("-{}", self.2)).arg(self.0.at(self.1)).status();
    }
}

#[test]
fn immutable_and_append_only_files_refuse_their_owner() {
    let world = World::new(&[
        entry("dir", Kind::Directory, 0o755, 1000),
        entry("dir/fixed", Kind::File, 0o644, 1000),
        entry("dir/log", Kind::File, 0o644, 1000),
    ]);
    let _fixed = Attribute::set(&world, "dir/fixed", "i");
    let _log = Attribute::set(&world, "dir/log", "a");
    let append = Want::Open(libc::O_WRONLY | libc::O_APPEND);
    let unlink = Want::Delete(Victim::File);
    for (path, want, cause) in [
        ("/dir/fixed", WRITE, Some(Cause::Immutable)),
        ("/dir/fixed", Want::Open(libc::O_RDONLY), None),
        ("/dir/fixed", unlink, Some(Cause::Immutable)),
        ("/dir/fixed", Want::Own, Some(Cause::Immutable)),
        ("/dir/fixed", Want::Touch, Some(Cause::Immutable)),
        ("/dir/log", WRITE, Some(Cause::AppendOnly)),
        ("/dir/log", append, None),
        ("/dir/log", unlink, Some(Cause::AppendOnly)),
        ("/dir/log", Want::Own, Some(Cause::AppendOnly)),
        ("/dir/log", Want::Truncate, Some(Cause::AppendOnly)),
        ("/dir/log", Want::Touch, None),
    ] {
        let told = refusals(&world, &all(&world, path, want));
        let causes: Vec<_> = told.iter().map(|refusal| (refusal.2, refusal.3)).collect();
        let wanted: Vec<_> = cause.into_iter().map(|cause| (libc::EPERM, cause)).collect();
        assert_eq!(causes, wanted, "{path} {want:?}");
        let name = std::ffi::CString::new(path).unwrap();
        let act = match want {
            Want::Delete(_) => continue,
            Want::Open(flags) => crate::property::Op::Open(flags),
            Want::Own => crate::property::Op::Chmod,
            Want::Truncate => crate::property::Op::Truncate,
            _ => crate::property::Op::Touch,
        };
        let got = really(&user(), world.root(), world.root(), || act.act(&name));
        assert_eq!(got, cause.map_or(0, |_| libc::EPERM), "{path} {want:?}");
    }
}

#[test]
fn a_sticky_directory_protects_what_others_own() {
    let world = World::new(&[
        entry("tmp", Kind::Directory, 0o1777, 0),
        entry("tmp/theirs", Kind::File, 0o666, 1001),
        entry("tmp/mine", Kind::File, 0o600, 1000),
    ]);
    let unlink = Want::Delete(Victim::File);
    let told = ("/tmp/theirs".to_owned(), vec![Access::Delete], libc::EPERM, Cause::Sticky);
    assert_eq!(refusals(&world, &all(&world, "/tmp/theirs", unlink)), [told]);
    assert_eq!(failure(&world, "/tmp/mine", unlink), None);
}

#[test]
fn rename_takes_two_questions() {
    let world = World::new(&[
        entry("from", Kind::Directory, 0o777, 0),
        entry("from/file", Kind::File, 0o600, 0),
        entry("to", Kind::Directory, 0o755, 0),
        entry("to/there", Kind::File, 0o666, 1000),
    ]);
    assert_eq!(failure(&world, "/from/file", Want::Delete(Victim::Any)), None);
    for (path, access) in [("/to/there", Access::Delete), ("/to/new", Access::Create)] {
        let told = ("/to".to_owned(), vec![access], libc::EACCES, Cause::Permission);
        assert_eq!(refusals(&world, &all(&world, path, Want::Replace(Victim::File))), [told]);
    }
}

#[test]
fn a_descriptor_is_asked_about_by_an_empty_path() {
    let world =
        World::new(&[entry("closed", Kind::Directory, 0o700, 0), entry("closed/file", Kind::File, 0o644, 0)]);
    let (root, file) = (look(world.root()), look(&world.at("closed/file")));
    let oracle = Oracle::new(&user()).unwrap();
    let about = Question::new(root.as_fd(), file.as_fd(), b"", Want::Own);
    let Answer::Refused(refusal) = oracle.ask(&Question { empty_path: true, ..about }).unwrap() else {
        panic!("somebody else's file")
    };
    assert_eq!((refusal.cause, refusal.errno), (Cause::NotOwner, libc::EPERM));
}

#[test]
fn each_of_many_threads_gets_its_own_answer() {
    let world = World::new(&[entry("mine", Kind::File, 0o600, 1000), entry("theirs", Kind::File, 0o600, 0)]);
    let root = look(world.root());
    let oracle = Oracle::new(&user()).unwrap();
    std::thread::scope(|scope| {
        for name in ["mine", "theirs", "mine", "theirs"] {
            let ask = || oracle.ask(&Question::new(root.as_fd(), root.as_fd(), name.as_bytes(), WRITE));
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(ask().unwrap() == Answer::Allowed, name == "mine");
                }
            });
        }
    });
}

/// Copies this test program to where everybody can run it, and runs one test of it as an ordinary user.
fn as_user(test: &str) {
    let world = World::new(&[
        entry("mine", Kind::File, 0o600, 1000),
        entry("theirs", Kind::File, 0o600, 0),
        entry("closed", Kind::Directory, 0o700, 0),
    ]);
    let program = world.at("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]).arg(&program);
    command.args(["--exact", test, "--ignored", "--nocapture"]).current_dir(world.root());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

#[test]
fn an_ordinary_user_can_judge_for_himself() {
    as_user("cases::as_an_ordinary_user");
}

#[test]
#[ignore = "run by an_ordinary_user_can_judge_for_himself, as uid 1000"]
fn as_an_ordinary_user() {
    let root = look(std::path::Path::new("/"));
    let here = look(std::path::Path::new("."));
    for method in [Method::Descriptor, Method::RealIds] {
        let oracle = Oracle::with_method(&user(), method).unwrap();
        let ask = |path: &str, want| {
            oracle.ask_all(&Question::new(root.as_fd(), here.as_fd(), path.as_bytes(), want)).unwrap()
        };
        assert_eq!(ask("mine", WRITE).refusals, []);
        assert_eq!(ask("theirs", WRITE).refusals[0].cause, Cause::Permission);
        // Nobody sees what is behind a directory that is closed to nrtrace too: one refusal, told once.
        let judgement = ask("closed/x/y", Want::Reach);
        assert_eq!(judgement.refusals.len(), 1);
        assert!(judgement.refusals[0].component.path.as_bytes().ends_with(b"/closed"));
        assert_eq!(judgement.failure, None);
    }
    let other = Oracle::new(&identity(1001, 1000, &[]));
    assert!(matches!(other, Err(Error::Become { operation: "setfsuid", .. })), "{:?}", other.err());
}
