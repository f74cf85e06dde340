//! What mounts forbid, asked in a private mount namespace that goes with its thread.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nrtrace_profiles::requirement::Access;
use nrtrace_tracer::oracle::{Cause, Error, Oracle, Question, Victim, Want};

use crate::world::{Kind, World, entry, identity, look};

const NONE: Option<&str> = None;

/// Runs in a mount namespace of its own, from which nothing spreads.
fn privately(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
            work();
        });
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn files() -> World {
    World::new(&[
        entry("m", Kind::Directory, 0o777, 1000),
        entry("m/mine", Kind::File, 0o755, 1000),
        entry("m/theirs", Kind::File, 0o600, 0),
        entry("m/null", Kind::Device, 0o666, 0),
        entry("m/link", Kind::Link("mine".into()), 0o777, 0),
    ])
}

/// Mounts a directory on itself with other flags.
fn bind(path: &Path, flags: MsFlags) {
    mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE).unwrap();
    mount(NONE, path, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NONE).unwrap();
}

fn causes(world: &World, path: &str, want: Want) -> Vec<(i32, Cause)> {
    let root = look(world.root());
    let oracle = Oracle::new(&identity(1000, 1000, &[])).unwrap();
    let question = Question::new(root.as_fd(), root.as_fd(), path.as_bytes(), want);
    let judgement = oracle.ask_all(&question).unwrap();
    judgement.refusals.into_iter().map(|refusal| (refusal.errno, refusal.cause)).collect()
}

#[test]
fn a_read_only_mount_is_told_from_a_closed_file() {
    privately(|| {
        let world = files();
        bind(&world.at("m"), MsFlags::MS_RDONLY);
        let read_only = (libc::EROFS, Cause::ReadOnlyMount);
        for (path, want) in [
            ("/m/mine", Want::Open(libc::O_WRONLY)),
            ("/m/mine", Want::Access(libc::W_OK)),
            ("/m/mine", Want::Own),
            ("/m/mine", Want::Delete(Victim::File)),
            ("/m/new", Want::Create { directory: true }),
            ("/m/new", Want::Open(libc::O_WRONLY | libc::O_CREAT)),
        ] {
            assert_eq!(causes(&world, path, want), [read_only], "{path} {want:?}");
        }
        assert_eq!(causes(&world, "/m/mine", Want::Open(libc::O_RDONLY)), []);
        assert_eq!(causes(&world, "/m/null", Want::Open(libc::O_WRONLY)), []);
        // The kernel looks at the mode first; the mount refuses as well.
        let closed = (libc::EACCES, Cause::Permission);
        assert_eq!(causes(&world, "/m/theirs", Want::Open(libc::O_WRONLY)), [closed, read_only]);
        nix::mount::umount(&world.at("m")).unwrap();
    });
}

#[test]
fn noexec_and_nodev_mounts_are_told() {
    privately(|| {
        let world = files();
        bind(&world.at("m"), MsFlags::MS_NOEXEC | MsFlags::MS_NODEV);
        assert_eq!(causes(&world, "/m/mine", Want::Execute), [(libc::EACCES, Cause::NoExec)]);
        assert_eq!(causes(&world, "/m/mine", Want::Access(libc::X_OK)), [(libc::EACCES, Cause::NoExec)]);
        assert_eq!(causes(&world, "/m/null", Want::Open(libc::O_RDONLY)), [(libc::EACCES, Cause::NoDev)]);
        assert_eq!(causes(&world, "/m/null", Want::Access(libc::R_OK)), []);
        nix::mount::umount(&world.at("m")).unwrap();
        assert_eq!(causes(&world, "/m/mine", Want::Execute), []);
        assert_eq!(causes(&world, "/m/null", Want::Open(libc::O_RDONLY)), []);
    });
}

#[test]
fn an_overlay_is_judged_as_the_user_sees_it() {
    privately(|| {
        let world = World::new(&[
            entry("lower", Kind::Directory, 0o755, 0),
            entry("lower/dir", Kind::Directory, 0o755, 1000),
            entry("lower/dir/closed", Kind::File, 0o600, 0),
            entry("merged", Kind::Directory, 0o755, 0),
        ]);
        // The upper layer must not lie on an overlay itself, as it would in a container.
        mount(Some("tmpfs"), &world.at("merged"), Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir(world.at("merged").join(name)).unwrap();
        }
        let (lower, top) = (world.at("lower"), world.at("merged"));
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            top.join("upper").display(),
            top.join("work").display()
        );
        let merged = top.join("merged");
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let closed = (libc::EACCES, Cause::Permission);
        assert_eq!(causes(&world, "/merged/merged/dir/closed", Want::Open(libc::O_WRONLY)), [closed]);
        assert_eq!(causes(&world, "/merged/merged/dir/new", Want::Create { directory: true }), []);
        assert_eq!(causes(&world, "/merged/merged/dir/closed", Want::Delete(Victim::File)), []);
        assert_eq!(causes(&world, "/merged/merged/new", Want::Create { directory: true }), [closed]);
        nix::mount::umount(&merged).unwrap();
        nix::mount::umount(&top).unwrap();
    });
}

#[test]
fn another_mount_namespace_is_walked_from_its_root() {
    // The file is there only in the namespace of the thread that mounts it; the oracle is asked outside.
    let world = files();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let files = &world;
        scope.spawn(move || {
            privately(move || {
                mount(Some("tmpfs"), &files.at("m"), Some("tmpfs"), MsFlags::empty(), Some("mode=700"))
                    .unwrap();
                std::fs::write(files.at("m/hidden"), "").unwrap();
                sender.send(look(files.root())).unwrap();
                // Ends with the asking, also when that fails.
                let _ = wait.recv();
            });
        });
        let _done = done;
        let root = receiver.recv().unwrap();
        let oracle = Oracle::new(&identity(1000, 1000, &[])).unwrap();
        let question = Question::new(root.as_fd(), root.as_fd(), b"/m/hidden", Want::Open(libc::O_WRONLY));
        let told = oracle.ask_all(&question).unwrap();
        let access: Vec<Vec<Access>> =
            told.refusals.iter().map(|r| r.access.iter().copied().collect()).collect();
        assert_eq!(access, [vec![Access::Search], vec![Access::Write]]);
        assert_eq!(told.path.as_bytes(), world.at("m/hidden").as_os_str().as_encoded_bytes());
        assert!(!world.at("m/hidden").exists());
    });
}

#[test]
fn an_automount_point_is_not_triggered() {
    privately(|| {
        let world = World::new(&[entry("auto", Kind::Directory, 0o755, 0)]);
        let mut pipe = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }, 0);
        // Only a process of another group than the daemon's sees the mount point as one.
        let mut daemon = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let options = format!("fd={},pgrp={},minproto=5,maxproto=5,direct", pipe[1], daemon.id());
        let point = world.at("auto");
        mount(Some("test"), &point, Some("autofs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let root = look(world.root());
        let oracle = Oracle::new(&identity(1000, 1000, &[])).unwrap();
        let ask =
            |path: &str| oracle.ask(&Question::new(root.as_fd(), root.as_fd(), path.as_bytes(), Want::Reach));
        assert!(ask("/auto").is_ok());
        assert!(matches!(ask("/auto/below"), Err(Error::Automount { .. })));
        nix::mount::umount(&point).unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    });
}
