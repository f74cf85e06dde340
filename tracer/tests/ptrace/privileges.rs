//! Identities, other filters, and other programs than the native ones.

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use nrtrace_ebpf::record::{FLAG_COMPAT, KIND_CALL, KIND_EXEC, STR_ROOT};
use nrtrace_tracer::ptrace::{Installed, Stops, filter, install};

use crate::harness::{Case, alone, exec, open, root, rows};

const NOBODY: u32 = 65534;

#[test]
fn a_set_user_id_program_gets_its_ids_where_the_kernel_lets_it() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("cat");
    // A process forked while the copy is open for writing would keep it from being executed (ETXTBSY).
    let writing = alone();
    std::fs::copy("/bin/cat", &program).unwrap();
    drop(writing);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let owner = std::fs::metadata(&program).unwrap().uid();
    let words = [program.to_str().unwrap(), "/nowhere"].map(|word| CString::new(word).unwrap());
    let uid = root().then_some(NOBODY);
    let trace = Case { uid, ..Case::default() }.run(|| {
        // As the launched program: without capabilities.
        open("/nowhere/before");
        exec(&words)
    });
    trace.assert_whole();
    let before = trace.call_on("/nowhere/before");
    assert_eq!(before.head.fsuid, if root() { NOBODY } else { owner });
    // Installed by root, the filter leaves set-user-ID programs alone; its own user's it cannot change.
    assert_eq!(trace.call_on("/nowhere").head.fsuid, owner);
}

#[test]
fn without_privilege_the_filter_needs_no_new_privs_and_says_so() {
    let expected = if root() { Installed::AsIs } else { Installed::NoNewPrivileges };
    let filter = filter(&rows());
    let _alone = alone();
    // SAFETY: a process with a copy of the memory.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let done = install(&filter).ok();
        // SAFETY: plain numbers.
        unsafe {
            let no_new_privs = libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
            libc::_exit(i32::from(done != Some(expected) || no_new_privs != (expected != Installed::AsIs)));
        }
    }
    let mut status = -1;
    // SAFETY: `status` lives through the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(status, 0);
}

#[test]
fn changed_ids_are_seen_from_the_next_call_on() {
    assert!(root(), "only root can change its ids");
    let trace = Case::default().run(|| {
        open("/nowhere/as root");
        // SAFETY: plain numbers.
        unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) };
        open("/nowhere/as nobody");
        std::thread::spawn(|| open("/nowhere/in thread")).join().unwrap();
        0
    });
    let uid = |path| trace.call_on(path).head.fsuid;
    assert_eq!(
        (uid("/nowhere/as root"), uid("/nowhere/as nobody"), uid("/nowhere/in thread")),
        (0, NOBODY, NOBODY)
    );
}

#[test]
fn a_changed_root_is_told() {
    assert!(root(), "only root can change its root directory");
    let trace = Case::default().run(|| {
        open("/nowhere/outside");
        // SAFETY: a valid string.
        i32::from(unsafe { libc::chroot(c"/usr".as_ptr()) } != 0 || open("/bin") != 0)
    });
    assert_eq!(trace.status.code(), Some(0));
    assert_eq!(trace.call_on("/nowhere/outside").strings[STR_ROOT], "");
    assert_eq!(trace.call_on("/bin").strings[STR_ROOT], "usr");
}

#[test]
fn a_new_name_is_seen_from_the_next_call_on() {
    let trace = Case::default().run(|| {
        // SAFETY: a valid string.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"renamed".as_ptr(), 0, 0, 0) };
        open("/nowhere/renamed");
        0
    });
    assert_eq!(&trace.call_on("/nowhere/renamed").head.comm[..8], b"renamed\0");
}

/// Installs a filter that answers `action` to call `nr`, and lets the others pass.
fn own_filter(nr: libc::c_long, action: u32) {
    let op = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = [
        op((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0),
        op((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, 1, nr as u32),
        op((libc::BPF_RET | libc::BPF_K) as u16, 0, action),
        op((libc::BPF_RET | libc::BPF_K) as u16, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: `program` lives through the call.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn filters_of_the_tracee_mean_what_they_mean_without_tracer() {
    for stops in [Stops::Entry, Stops::EntryAndExit] {
        let trace = Case { stops, ..Case::default() }.run(|| {
            let errno = |name: libc::c_long| {
                // SAFETY: both calls take a path or nothing; the path is valid.
                let result = unsafe { libc::syscall(name, c"/nowhere/x".as_ptr(), 0) };
                (result, std::io::Error::last_os_error().raw_os_error())
            };
            // With nobody to trace it, a call that should stop fails.
            own_filter(libc::SYS_getppid, libc::SECCOMP_RET_TRACE | 7);
            own_filter(libc::SYS_chmod, libc::SECCOMP_RET_TRACE | 8);
            own_filter(libc::SYS_mkdir, libc::SECCOMP_RET_ERRNO | libc::EDOM as u32);
            let right = errno(libc::SYS_getppid) == (-1, Some(libc::ENOSYS))
                && errno(libc::SYS_chmod) == (-1, Some(libc::ENOSYS))
                && errno(libc::SYS_mkdir) == (-1, Some(libc::EDOM))
                && open("/nowhere/filtered") == -libc::ENOENT;
            i32::from(!right)
        });
        trace.assert_whole();
        assert_eq!(trace.status.code(), Some(0));
        assert_eq!(trace.calls_on("/nowhere/filtered").count(), 1);
        assert_eq!(trace.calls_on("/nowhere/x").count(), 0, "what a filter answers is not made");
    }
}

/// A static 32-bit program: `open("/nowhere/elf32", O_RDONLY)`, then `exit(-result)`.
fn elf32() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let mut code = vec![0xb8, 5, 0, 0, 0, 0xbb]; // mov eax, 5; mov ebx, path
    code.extend((BASE + HEADERS + 29).to_le_bytes());
    code.extend([0x31, 0xc9, 0x31, 0xd2, 0xcd, 0x80]); // xor ecx, ecx; xor edx, edx; int 0x80
    code.extend([0xf7, 0xd8, 0x89, 0xc3]); // neg eax; mov ebx, eax
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80, 0x90, 0x90]); // mov eax, 1; int 0x80
    assert_eq!(code.len(), 29);
    code.extend(b"/nowhere/elf32\0");
    let size = HEADERS + code.len() as u32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, 3] {
        file.extend(half.to_le_bytes()); // ET_EXEC, EM_386
    }
    for word in [1, BASE + HEADERS, 52, 0, 0] {
        file.extend(word.to_le_bytes()); // version, entry, program headers, section headers, flags
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend(word.to_le_bytes()); // PT_LOAD of everything, readable and executable
    }
    file.extend(code);
    file
}

#[test]
fn a_32_bit_program_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("elf32");
    let writing = alone();
    std::fs::write(&program, elf32()).unwrap();
    drop(writing);
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let trace = Case::default().exec(&[program.to_str().unwrap()]);
    trace.assert_whole();
    assert_eq!(trace.status.code(), Some(libc::ENOENT));
    let call = trace.call_on("/nowhere/elf32");
    assert_eq!((call.call.nr, call.call.ret, call.head.flags), (5, -i64::from(libc::ENOENT), FLAG_COMPAT));
    // The execve that led there is a native call.
    let execve = trace.kind(KIND_CALL).find(|seen| i64::from(seen.call.nr) == libc::SYS_execve).unwrap();
    assert_eq!((execve.head.flags, execve.call.ret), (0, 0));
    assert_eq!(trace.kind(KIND_EXEC).count(), 1);
}

/// Tests that do what only root can do.
const NEEDS_ROOT: &[&str] = &[
    "as_an_ordinary_user",
    "a_changed_root_is_told",
    "changed_ids_are_seen_from_the_next_call_on",
    "a_call_that_is_judged_takes_one_stop_of_five_or_six_system_calls",
];

/// Runs all other tests again as a user without privileges.
#[test]
fn as_an_ordinary_user() {
    assert!(root(), "only root can become another user");
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let tests = directory.path().join("tests");
    let _alone = alone();
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(&tests)
        .args(NEEDS_ROOT.iter().flat_map(|test| ["--skip", test]))
        .env("TMPDIR", directory.path())
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let expected = format!("0 failed; 0 ignored; 0 measured; {} filtered out", NEEDS_ROOT.len());
    assert!(text.contains(&expected), "{text}");
}
