//! What a record says of a call.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use nrtrace_ebpf::record::{
    ASKED_SEARCH, FLAG_CHECKED, FLAG_COMPAT, FLAG_COMPONENT, FLAG_FD_ONLY, FLAG_NO_RESULT, FLAG_PREDICTED,
    FLAG_SOCKET, FLAG_TRUNCATED, FLAG_UNREADABLE, InodeRecord, KIND_CALL, KIND_CHECK, PATH_MAX,
};
use nrtrace_tracer::ptrace::{CallAtEntry, Ending, Foreteller, Foretold, Predicted, Stops};

use crate::harness::{Case, open};

/// A path in the order of a record's base.
fn leaf_first(path: &std::path::Path) -> String {
    let path = path.to_str().unwrap();
    path.split('/').filter(|part| !part.is_empty()).rev().collect::<Vec<_>>().join("/")
}

#[test]
fn a_call_has_its_path_and_result() {
    let trace = Case::default().run(|| {
        open("/nowhere/at all");
        open("/etc/passwd");
        0
    });
    trace.assert_whole();
    let failed = trace.call_on("/nowhere/at all");
    assert_eq!(failed.call.ret, -i64::from(libc::ENOENT));
    assert_eq!(i64::from(failed.call.nr), libc::SYS_openat);
    assert_eq!((failed.head.pid, failed.head.tid), (trace.root as u32, trace.root as u32));
    assert_eq!(failed.head.fsuid, nix::unistd::geteuid().as_raw());
    assert_eq!(failed.head.flags, 0);
    assert!(trace.call_on("/etc/passwd").call.ret >= 0);
}

#[test]
fn at_entry_alone_a_call_has_no_result() {
    let case = Case { stops: Stops::Entry, ..Case::default() };
    let trace = case.run(|| {
        open("/nowhere");
        0
    });
    trace.assert_whole();
    let call = trace.call_on("/nowhere");
    assert_eq!(call.head.flags, FLAG_NO_RESULT);
    assert_eq!(call.call.ret, 0);
}

#[test]
fn relative_paths_carry_their_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let gone = path.join("gone");
    std::fs::create_dir(&gone).unwrap();
    let trace = Case::default().run(|| {
        std::env::set_current_dir(&path).unwrap();
        open("in cwd");
        let usr = std::fs::File::open("/usr").unwrap();
        // SAFETY: valid strings and descriptors.
        unsafe {
            libc::openat(usr.as_raw_fd(), c"in dirfd".as_ptr(), libc::O_RDONLY);
            libc::openat(99, c"in nothing".as_ptr(), libc::O_RDONLY);
            libc::fchmod(usr.as_raw_fd(), 0o755);
            libc::rename(c"from".as_ptr(), c"to".as_ptr());
        }
        std::env::set_current_dir(&gone).unwrap();
        std::fs::remove_dir(&gone).unwrap();
        open("in removed");
        0
    });
    assert_eq!(trace.call_on("in cwd").base(), leaf_first(&path));
    assert_eq!(trace.call_on("in dirfd").base(), "usr");
    let nothing = trace.call_on("in nothing");
    assert_eq!((nothing.base(), nothing.call.ret), ("", -i64::from(libc::EBADF)));
    let fchmod = trace.kind(KIND_CALL).find(|seen| i64::from(seen.call.nr) == libc::SYS_fchmod).unwrap();
    assert_eq!((fchmod.base(), fchmod.path()), ("usr", ""));
    assert_eq!(fchmod.head.flags & FLAG_FD_ONLY, FLAG_FD_ONLY);
    let rename = trace.call_on("from");
    assert_eq!(rename.path2(), "to");
    assert_eq!(rename.strings[nrtrace_ebpf::record::STR_BASE2], leaf_first(&path));
    assert_eq!(trace.call_on("in removed").base(), leaf_first(&gone));
}

#[test]
fn strings_end_at_the_end_of_memory_and_of_paths() {
    let long = "x/".repeat(3000);
    let trace = Case::default().run(|| {
        open(&long);
        // SAFETY: maps two pages, gives the second back, and uses the very end of the first.
        unsafe {
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let rw = libc::PROT_READ | libc::PROT_WRITE;
            let page = libc::mmap(std::ptr::null_mut(), 8192, rw, private, -1, 0).cast::<u8>();
            libc::munmap(page.add(4096).cast(), 4096);
            std::ptr::copy_nonoverlapping(c"/end".as_ptr().cast(), page.add(4096 - 5), 5);
            libc::openat(libc::AT_FDCWD, page.add(4096 - 5).cast(), libc::O_RDONLY);
            libc::openat(libc::AT_FDCWD, page.add(4096).cast(), libc::O_RDONLY);
        }
        0
    });
    assert_eq!(trace.call_on("/end").call.ret, -i64::from(libc::ENOENT));
    let cut = trace.kind(KIND_CALL).find(|seen| seen.path().len() == PATH_MAX).unwrap();
    assert_eq!(cut.head.flags & FLAG_TRUNCATED, FLAG_TRUNCATED);
    assert_eq!(cut.call.ret, -i64::from(libc::ENAMETOOLONG));
    let fault = trace.kind(KIND_CALL).find(|seen| seen.call.ret == -i64::from(libc::EFAULT)).unwrap();
    assert_eq!(fault.head.flags & FLAG_UNREADABLE, FLAG_UNREADABLE);
}

#[test]
fn bind_tells_its_socket_and_the_chosen_port() {
    let trace = Case::default().run(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        i32::from(listener.local_addr().unwrap().port() == 0)
    });
    let bind = trace.kind(KIND_CALL).find(|seen| i64::from(seen.call.nr) == libc::SYS_bind).unwrap();
    assert_eq!(bind.head.flags & FLAG_SOCKET, FLAG_SOCKET);
    assert_eq!(i32::from(bind.call.socket.family), libc::AF_INET);
    assert_eq!(i32::from(bind.call.socket.ty), libc::SOCK_STREAM);
    assert_ne!(bind.call.socket.port, 0);
    assert_eq!(bind.head.strings[nrtrace_ebpf::record::STR_DATA], 16);
}

/// Opens `path` (below 4 GiB) by the 32-bit entry, as 32-bit programs do.
fn open_by_int80(path: &str) -> i32 {
    let path = CString::new(path).unwrap();
    let bytes = path.as_bytes_with_nul();
    let result: i32;
    // SAFETY: a fresh page below 4 GiB holds the string; the call clobbers only what is declared.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast(), bytes.len());
        std::arch::asm!(
            "push rbx", "mov ebx, {path:e}", "int 0x80", "pop rbx",
            path = in(reg) page as u32, inlateout("eax") 5 => result, in("ecx") 0, in("edx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[test]
fn a_32_bit_call_is_known_as_one() {
    let trace = Case::default().run(|| {
        let result = open_by_int80("/nowhere/in 32 bit");
        i32::from(result != -libc::ENOENT)
    });
    assert_eq!(trace.status.code(), Some(0));
    let call = trace.call_on("/nowhere/in 32 bit");
    assert_eq!((call.call.nr, call.head.flags), (5, FLAG_COMPAT));
    assert_eq!(call.call.ret, -i64::from(libc::ENOENT));
}

#[test]
fn the_probes_table_serves_this_backend_too() {
    for stops in [Stops::Entry, Stops::EntryAndExit] {
        let case = Case { stops, rows: nrtrace_profiles::calls::ROWS.to_vec(), ..Case::default() };
        let trace = case.exec(&["/bin/sh", "-c", "echo not said; exec /bin/cat /nowhere/table"]);
        trace.assert_whole();
        assert_eq!(trace.status.code(), Some(1));
        assert_eq!(trace.calls_on("/nowhere/table").count(), 1);
        let said: Vec<&str> = trace
            .kind(KIND_CALL)
            .filter(|seen| i64::from(seen.call.nr) == libc::SYS_write)
            .map(|seen| seen.data())
            .collect();
        assert!(said.contains(&"/nowhere/table") && !said.contains(&"not said\n"), "{said:?}");
        assert!(trace.kind(KIND_CALL).all(|seen| i64::from(seen.call.nr) != libc::SYS_brk));
    }
}

/// Foretells a check for each path with "secret" in it.
struct Wary;

impl Foreteller for Wary {
    fn judge(&mut self, call: &CallAtEntry<'_>) -> Foretold {
        let Some(path) = call.path.map(String::from_utf8_lossy).filter(|path| path.contains("secret")) else {
            return Foretold::default();
        };
        assert_eq!(call.name, "openat");
        // Each of these would panic, and so kill the tracee, if the tracee could not be looked into.
        let (base, root) = (call.base().unwrap(), call.root().unwrap());
        assert_ne!(base.as_raw_fd(), root.as_raw_fd());
        let inode = InodeRecord { mode: 0o40700, ..InodeRecord::default() };
        let component = Some((path.replace("/secret", "").into_bytes(), inode));
        let check = Predicted { capability: 1, ret: -libc::EACCES, asked: ASKED_SEARCH, component };
        Foretold { checks: vec![check], ending: Ending::Open }
    }
}

#[test]
fn a_judge_foretells_checks_before_the_call() {
    let judge: nrtrace_tracer::ptrace::MakeJudge = Box::new(|| Box::new(Wary));
    let case = Case { stops: Stops::Entry, judge: Some(judge), ..Case::default() };
    let trace = case.run(|| {
        open("/a/b/secret");
        open("/a/b/plain");
        0
    });
    let at = trace.records.iter().position(|seen| seen.head.kind == KIND_CHECK).unwrap();
    let (check, call) = (&trace.records[at], &trace.records[at + 1]);
    assert_eq!(check.head.flags, FLAG_PREDICTED | FLAG_COMPONENT);
    assert_eq!((check.check.cap, check.check.ret), (1, -libc::EACCES));
    assert_eq!((check.path(), check.path2()), ("/a/b/secret", "b/a"));
    assert_eq!(check.check.component.mode, 0o40700);
    assert_eq!((check.check.stack_len, check.check.opts), (0, ASKED_SEARCH));
    assert_eq!(call.head.flags, FLAG_CHECKED | FLAG_NO_RESULT);
    assert_eq!(trace.call_on("/a/b/plain").head.flags, FLAG_NO_RESULT);
    assert_eq!(trace.kind(KIND_CHECK).count(), 1);
}
