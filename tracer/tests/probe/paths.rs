//! Checks and calls on files and sockets: what they are about, and what refused.

use std::path::Path;

use nrtrace_ebpf::{FLAG_CHECKED, FLAG_COMPONENT, FLAG_SOCKET};
use nrtrace_profiles::event::Record as Recorded;

use crate::records::{Record, Trace};
use crate::tracee::{Tracee, USER, symbol, symbols};

const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_SYS_ADMIN: u32 = 21;
/// What mkdir(1) calls.
#[cfg(target_arch = "x86_64")]
const MKDIR: libc::c_long = libc::SYS_mkdir;
#[cfg(not(target_arch = "x86_64"))]
const MKDIR: libc::c_long = libc::SYS_mkdirat;

/// The checks of a capability on a path.
fn checks<'a>(trace: &'a Trace, cap: u32, path: &str) -> Vec<&'a Record> {
    let wanted =
        |record: &&Record| record.check().is_some_and(|check| check.cap == cap) && record.path() == path;
    trace.records.iter().filter(wanted).collect()
}

/// The functions on a check's stack.
fn frames(record: &Record) -> Vec<String> {
    let symbols = symbols();
    let check = record.check().unwrap();
    check.stack[..check.stack_len as usize]
        .iter()
        .map(|address| symbol(&symbols, *address).to_owned())
        .collect()
}

/// The results of calls by number on a path.
fn results(trace: &Trace, nr: i64, path: &str) -> Vec<i64> {
    let calls = trace.records.iter().filter_map(|record| Some((record, record.call()?)));
    calls
        .filter(|(record, call)| i64::from(call.nr) == nr && record.path() == path)
        .map(|(_, call)| call.ret)
        .collect()
}

#[test]
fn mkdir_in_a_foreign_directory_consults_a_capability_for_the_parent() {
    let path = "/run/nrtrace-probe-mkdir";
    let trace = Tracee::default().shell(&format!("mkdir {path} && rmdir {path}"));
    let made = checks(&trace, CAP_DAC_OVERRIDE, path);
    assert_eq!(made.len(), 2, "one for mkdir, one for rmdir: {made:?}");
    assert!(frames(made[0]).iter().any(|name| name == "vfs_mkdir"), "{:?}", frames(made[0]));
    assert!(frames(made[1]).iter().any(|name| name.starts_with("may_delete")), "{:?}", frames(made[1]));
    // As many of the probe's own frames are left out as there are at most on x86-64; where the kernel calls the only program at a
    // tracepoint directly, there is one less. On 64-bit ARM there is one more, and a kprobe does not see who called the
    // function.
    let asks =
        |name: &String| ["cap_capable", "security_capable", "capable_wrt_inode_uidgid"].contains(&&**name);
    let own = frames(made[0]).iter().position(asks).expect("one of the functions that ask");
    assert!(own <= usize::from(cfg!(target_arch = "aarch64")), "{:?}", frames(made[0]));
    assert_eq!(made[0].check().unwrap().ret, 0);
    assert_eq!((made[0].head.fsuid, made[0].head.fsgid), (USER, USER));
    assert_eq!(results(&trace, MKDIR, path), [0]);
    let call = trace
        .records
        .iter()
        .find(|record| record.call().is_some_and(|call| i64::from(call.nr) == MKDIR))
        .unwrap();
    assert!(call.head.flags & FLAG_CHECKED != 0);
}

#[test]
fn search_names_the_directory_that_refuses() {
    let trace = Tracee::default().shell("cat /root/a/b; cat < /root/c");
    for path in ["/root/a/b", "/root/c"] {
        let found = checks(&trace, CAP_DAC_READ_SEARCH, path);
        assert!(!found.is_empty(), "{path}");
        for record in found {
            assert!(record.head.flags & FLAG_COMPONENT != 0);
            assert_eq!(record.component(), "/root");
            let inode = record.check().unwrap().component;
            assert_eq!((inode.mode & libc::S_IFMT, inode.uid), (libc::S_IFDIR, 0));
            assert!(
                frames(record).iter().any(|name| name.starts_with("link_path_walk")),
                "{:?}",
                frames(record)
            );
        }
        assert_eq!(results(&trace, libc::SYS_openat, path), [-i64::from(libc::ENOENT)]);
    }
}

#[test]
fn open_names_the_file_that_refuses() {
    use std::os::unix::fs::MetadataExt;

    let trace = Tracee::default().shell("cat /etc/shadow");
    let found = checks(&trace, CAP_DAC_READ_SEARCH, "/etc/shadow");
    assert_eq!(found.len(), 1);
    let facts = std::fs::metadata("/etc/shadow").unwrap();
    let inode = found[0].check().unwrap().component;
    assert_eq!(found[0].component(), "/etc/shadow");
    assert_eq!(
        (inode.mode, inode.uid, inode.gid, inode.ino),
        (facts.mode(), facts.uid(), facts.gid(), facts.ino())
    );
    // The kernel has 20 bits for the minor number.
    let (major, minor) = (inode.dev >> 20, inode.dev & 0xf_ffff);
    assert_eq!((major, minor), (libc::major(facts.dev()), libc::minor(facts.dev())));
}

#[test]
fn creating_names_the_directory() {
    let path = "/run/nrtrace-probe-create";
    let trace = Tracee::default().shell(&format!(": > {path}; rm {path}"));
    let found = checks(&trace, CAP_DAC_OVERRIDE, path);
    assert!(found.iter().any(|record| record.component() == "/run"), "{found:?}");
}

#[test]
fn relative_paths_are_complete_though_the_process_is_gone() {
    let directory = tempfile::Builder::new().prefix("nrtrace-probe-relative").tempdir().unwrap();
    let deep = directory.path().join("one/two\n三");
    std::fs::create_dir_all(&deep).unwrap();
    let deep: &'static Path = Box::leak(deep.into_boxed_path());
    let tracee = Tracee { directory: deep, ..Tracee::default() };
    let trace = tracee.shell("i=0; while [ $i -lt 100 ]; do (: > made$i); i=$((i+1)); done");
    for index in 0..100 {
        let path = format!("{}/made{index}", deep.display());
        let found = checks(&trace, CAP_DAC_OVERRIDE, &path);
        assert_eq!(found.len(), 1, "{path}");
        assert_eq!(found[0].component(), deep.to_str().unwrap());
    }
    assert_eq!(trace.lost.total(), 0);
}

#[test]
fn paths_below_a_directory_descriptor_are_complete() {
    // `rm -r` works with directory descriptors alone.
    let directory = tempfile::Builder::new().prefix("nrtrace-probe-dirfd").tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
    let trace = Tracee::default().run(&["/bin/rm", "-r", directory.path().join("a").to_str().unwrap()]);
    let removed = directory.path().join("a/b");
    let by_descriptor = trace.records.iter().any(|record| {
        record.call().is_some_and(|call| i64::from(call.nr) == libc::SYS_unlinkat && call.args[0] as i32 >= 0)
            && record.path() == removed.to_str().unwrap()
    });
    assert!(by_descriptor, "unlinkat of {}", removed.display());
    assert_eq!(checks(&trace, CAP_DAC_OVERRIDE, removed.to_str().unwrap()).len(), 1);
}

#[test]
fn renames_have_both_paths() {
    let directory = tempfile::Builder::new().prefix("nrtrace-probe-rename").tempdir().unwrap();
    std::fs::write(directory.path().join("old"), "").unwrap();
    let directory: &'static Path = Box::leak(directory.keep().into_boxed_path());
    let tracee = Tracee { directory, ..Tracee::default() };
    let trace = tracee.run(&["/bin/mv", "old", "new"]);
    let base = directory.display();
    let both = trace.records.iter().any(|record| {
        record.call().is_some_and(|call| call.ret == 0)
            && record.path() == format!("{base}/old")
            && record.second_path() == format!("{base}/new")
    });
    assert!(both);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_changed_root_is_told() {
    let directory = tempfile::Builder::new().prefix("nrtrace-probe-root").tempdir().unwrap();
    std::fs::copy("/bin/busybox", directory.path().join("busybox")).expect("busybox-static is needed");
    let path = directory.path().to_str().unwrap();
    let trace = Tracee::default().run(&["/bin/busybox", "chroot", path, "/busybox", "mkdir", "/inside"]);
    let found = checks(&trace, CAP_DAC_OVERRIDE, "/inside");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].root(), path);
    assert!(directory.path().join("inside").is_dir());
}

#[test]
fn bind_tells_address_socket_and_port() {
    let script = "use IO::Socket::INET; for my $port (80, 0) {
        IO::Socket::INET->new(Listen => 1, LocalAddr => '0.0.0.0', LocalPort => $port) or die $!; }";
    let tracee = Tracee { own_network: true, ..Tracee::default() };
    let trace = tracee.run(&["/usr/bin/perl", "-e", script]);
    let check = trace
        .records
        .iter()
        .find(|record| record.check().is_some_and(|check| check.cap == CAP_NET_BIND_SERVICE));
    let check = check.expect("a check for port 80");
    assert!(check.head.flags & FLAG_SOCKET != 0);
    let socket = check.check().unwrap().socket;
    assert_eq!((i32::from(socket.family), i32::from(socket.ty)), (libc::AF_INET, libc::SOCK_STREAM));
    assert_eq!(check.strings[nrtrace_ebpf::STR_DATA][..4], [2, 0, 0, 80]);
    let calls = |nr: i64| -> Vec<u16> {
        let calls = trace.records.iter().filter_map(Record::call).filter(|call| i64::from(call.nr) == nr);
        calls.map(|call| call.socket.port).collect()
    };
    let bound = calls(libc::SYS_bind);
    assert_eq!(bound.len(), 2, "one record for each bind");
    assert!(bound[0] == 80 && bound[1] >= 1024, "{bound:?}");
    assert_eq!(calls(libc::SYS_listen), bound);
    let own = std::fs::metadata("/proc/self/ns/net")
        .map(|facts| std::os::unix::fs::MetadataExt::ino(&facts))
        .unwrap();
    assert_ne!(u64::from(check.head.net_ns), own);
}

#[test]
fn what_is_said_on_standard_error_and_set_in_procfs_is_told() {
    let script =
        "print STDERR qq(hello\\n); open my $f, '>', '/proc/self/oom_score_adj'; print $f 17; close $f;
        print qq(quiet\\n)";
    let trace = Tracee::default().run(&["/usr/bin/perl", "-e", script]);
    let written: Vec<(String, String)> = trace
        .records
        .iter()
        .filter(|record| record.call().is_some_and(|call| i64::from(call.nr) == libc::SYS_write))
        .map(|record| (record.path(), record.data()))
        .collect();
    let pid = trace.child;
    let expected =
        [("/".to_owned(), "hello\n".to_owned()), (format!("/proc/{pid}/oom_score_adj"), "17".to_owned())];
    assert_eq!(written, expected);
}

#[test]
fn accounting_of_memory_is_no_need() {
    let script = "my @a = map { 'x' x 1000000 } 1..50; system('true'); my $p = fork; exit if !$p; wait;";
    let trace = Tracee::default().run(&["/usr/bin/perl", "-e", script]);
    let noise: Vec<_> = trace
        .records
        .iter()
        .filter(|record| record.check().is_some_and(|check| check.cap == CAP_SYS_ADMIN))
        .collect();
    assert!(noise.is_empty(), "{noise:?}");
}

#[test]
fn unshare_and_mounts_do_need_the_capability() {
    let tracee = Tracee { record: Recorded::Needs, ..Tracee::default() };
    let trace = tracee.run(&["/usr/bin/unshare", "--uts", "/bin/true"]);
    let real = trace.records.iter().filter_map(Record::check).filter(|check| check.cap == CAP_SYS_ADMIN);
    let numbers: Vec<i64> = real.map(|check| i64::from(check.nr)).collect();
    assert_eq!(numbers, [libc::SYS_unshare]);
    assert!(trace.records.iter().all(|record| record.call().is_none()), "--record needs records no calls");
}
