//! Changes of identity and gifts of ownership.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::driver::{describe, python, run};

pub const TESTS: &[(&str, fn())] = &[
    ("changes_are_answered_and_recorded", changes_are_answered_and_recorded),
    ("repetitions_are_not_recorded", repetitions_are_not_recorded),
    ("gifts_are_answered_and_recorded", gifts_are_answered_and_recorded),
    ("gifts_of_nothing_fail_as_ever", gifts_of_nothing_fail_as_ever),
    ("gifts_to_oneself_are_made", gifts_to_oneself_are_made),
    ("gifts_seen_from_elsewhere", gifts_seen_from_elsewhere),
    ("deny_refuses", deny_refuses),
    ("switch_switches", switch_switches),
    ("two_hundred_threads", two_hundred_threads),
    ("calls_of_the_32_bit_table", calls_of_the_32_bit_table),
    ("a_user_namespace_is_its_own_affair", a_user_namespace_is_its_own_affair),
    ("below_another_listener", below_another_listener),
];

fn ids(call: &Value) -> (&str, &Value) {
    (call["name"].as_str().unwrap(), &call["object"]["ids"])
}

const ANSWERED: &str = "answered";

fn changes_are_answered_and_recorded() {
    let script = r#"
import os, ctypes
libc = ctypes.CDLL(None)
os.setgroups([3, 4]); os.setgroups([])
os.setgid(33); os.setuid(33); os.setreuid(-1, 5); os.setregid(6, -1)
os.setresuid(0, 0, 0); os.setresgid(1, 2, 3)
print(libc.setfsuid(7), libc.setfsgid(8), os.getresuid(), os.getresgid(), os.getgroups())
"#;
    let outcome = python(json!({ "as": "61999:61998" }), script, &[]);
    let expected = "61999 61998 (61999, 61999, 61999) (61998, 61998, 61998) []\n";
    assert_eq!(outcome.stdout, expected);
    let calls: Vec<_> = outcome.calls();
    let unchanged = u32::MAX;
    let expected = [
        ("setgroups", json!([3, 4])),
        ("setgroups", json!([])),
        ("setgid", json!([33])),
        ("setuid", json!([33])),
        ("setreuid", json!([unchanged, 5])),
        ("setregid", json!([6, unchanged])),
        ("setresuid", json!([0, 0, 0])),
        ("setresgid", json!([1, 2, 3])),
        ("setfsuid", json!([7])),
        ("setfsgid", json!([8])),
    ];
    assert_eq!(
        calls.iter().map(|call| ids(call)).collect::<Vec<_>>(),
        expected.each_ref().map(|(n, i)| (*n, i))
    );
    for call in calls {
        assert_eq!((&call["outcome"]["is"], &call["comm"]), (&json!(ANSWERED), &json!("python3")));
        assert_eq!((&call["pid"], &call["late"]), (&outcome.value["started"], &json!(true)));
    }
}

fn repetitions_are_not_recorded() {
    let script = r#"
import os, ctypes
u, g = os.getuid(), os.getgid()
os.setuid(u); os.setgid(g); os.setreuid(u, u); os.setresuid(-1, u, -1); os.setresgid(g, g, g)
assert ctypes.CDLL(None).setfsuid(u) == u
try: ctypes.CDLL(None, use_errno=True).syscall(105, -1) == -1 or exit(4)
except OSError: pass
"#;
    assert_eq!(python(json!({}), script, &[]).calls(), [&Value::Null; 0]);
}

fn gifts_are_answered_and_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let script = r#"
import os, sys
os.chdir(sys.argv[1])
open("file", "w").close(); os.mkdir("dir"); os.symlink("file", "link")
os.chown("file", 33, 34); os.chown("./dir/../link", 33, -1); os.lchown("link", -1, 34)
f = os.open("file", os.O_RDONLY); os.fchown(f, 0, 0)
d = os.open("dir", os.O_RDONLY); open("dir/inner", "w").close(); os.chown("inner", 1, 1, dir_fd=d)
os.chown("link", 2, 2, follow_symlinks=False)
import ctypes; libc = ctypes.CDLL(None, use_errno=True)
assert libc.fchownat(f, b"", 3, 3, 0x1000) == 0 and libc.fchownat(-100, b"", 4, 4, 0x1000) == 0
assert libc.fchownat(f, b"", 3, 3, 0x8) == -1 and ctypes.get_errno() == 22
os.chown("/proc/self/fd/%d" % f, 5, 5)
"#;
    let outcome = python(json!({ "as": "61999" }), script, &[directory.path().to_str().unwrap()]);
    let seen: Vec<Value> = outcome
        .calls()
        .iter()
        .map(|call| {
            let (object, file) = (&call["object"], &call["object"]["path"]);
            assert_eq!((&object["kind"], &file["resolved"]), (&json!("gift"), &json!(true)), "{call}");
            assert_eq!(file["inode"]["uid"], if object["uid"] == 4 { 0 } else { 61999 }, "{call}");
            json!([
                call["name"],
                file["given"],
                file["path"],
                file["inode"]["file_type"],
                object["uid"],
                object["gid"]
            ])
        })
        .collect();
    let unchanged = u32::MAX;
    let file = at("file");
    let expected = [
        json!(["chown", "file", file, "file", 33, 34]),
        json!(["chown", "./dir/../link", file, "file", 33, unchanged]),
        json!(["lchown", "link", at("link"), "symlink", unchanged, 34]),
        json!(["fchown", "", file, "file", 0, 0]),
        json!(["fchownat", "inner", at("dir/inner"), "file", 1, 1]),
        json!(["lchown", "link", at("link"), "symlink", 2, 2]),
        json!(["fchownat", "", file, "file", 3, 3]),
        json!(["fchownat", "", directory.path(), "directory", 4, 4]),
        json!(["chown", outcome.calls()[8]["object"]["path"]["given"], file, "file", 5, 5]),
    ];
    assert_eq!(seen, expected);
    let inner = &outcome.calls()[4]["object"]["path"];
    assert_eq!(inner["seen"], at("dir/inner"));
    assert_eq!(inner["parent"]["file_type"], "directory");
    assert_eq!(Path::new(&file).metadata().unwrap().uid(), 61999);
}

fn gifts_of_nothing_fail_as_ever() {
    let script = r#"
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def errno(call, *args):
    assert call(*args) == -1
    return ctypes.get_errno()
print(errno(libc.chown, b"/no/such", 1, 1), errno(libc.chown, b"/etc/passwd/x", 1, 1), errno(libc.fchown, 999, 1, 1),
      errno(libc.chown, ctypes.c_void_p(8), 1, 1), errno(libc.chown, b"", 1, 1), errno(libc.chown, b"/" + b"x/" * 3000, 1, 1),
      errno(libc.setgroups, 70000, None), errno(libc.setgroups, 3, ctypes.c_void_p(8)))
"#;
    let outcome = python(json!({}), script, &[]);
    let errnos = [libc_errno("ENOENT"), libc_errno("ENOTDIR"), libc_errno("EBADF"), libc_errno("EFAULT")];
    let [enoent, enotdir, ebadf, efault] = errnos;
    assert_eq!(outcome.stdout, format!("{enoent} {enotdir} {ebadf} {efault} {enoent} 36 22 {efault}\n"));
    assert_eq!(outcome.calls(), [&Value::Null; 0]);
}

fn libc_errno(name: &str) -> i32 {
    match name {
        "ENOENT" => nix::libc::ENOENT,
        "ENOTDIR" => nix::libc::ENOTDIR,
        "EBADF" => nix::libc::EBADF,
        _ => nix::libc::EFAULT,
    }
}

fn gifts_to_oneself_are_made() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = "import os, sys; os.chown(sys.argv[1], os.getuid(), 4)";
    let outcome = python(json!({ "as": "61999", "groups": ["4"] }), script, &[file.path().to_str().unwrap()]);
    assert_eq!(outcome.calls(), [&Value::Null; 0]);
    let metadata = file.path().metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (61999, 4));
}

fn gifts_seen_from_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("root")).unwrap();
    let script = r#"
import os, sys
os.chown("/dev/stdout", 1, 1)
os.chroot(sys.argv[1] + "/root"); os.chdir("/")
os.mkdir("/sub"); open("/sub/file", "w").close(); os.symlink("/sub", "/abs")
os.chown("/abs/file", 2, 2); os.chown("../../sub", 3, 3)
"#;
    let outcome = python(json!({ "as": "61999" }), script, &[directory.path().to_str().unwrap()]);
    let files: Vec<&Value> = outcome.calls().iter().map(|call| &call["object"]["path"]).collect();
    // A pipe has no path.
    assert_eq!((&files[0]["given"], &files[0]["resolved"]), (&json!("/dev/stdout"), &json!(false)));
    assert_eq!(files[0]["inode"]["file_type"], "fifo");
    let root = directory.path().join("root");
    assert_eq!((&files[1]["seen"], &files[1]["path"]), (&json!("/abs/file"), &json!(root.join("sub/file"))));
    assert_eq!((&files[2]["seen"], &files[2]["path"]), (&json!("/../../sub"), &json!(root.join("sub"))));
}

fn deny_refuses() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = r#"
import os, sys, ctypes
for call in (lambda: os.setuid(0), lambda: os.setgroups([]), lambda: os.chown(sys.argv[1], 5, 5)):
    try: call(); sys.exit("not refused")
    except PermissionError: pass
os.setuid(os.getuid())
print(ctypes.CDLL(None).setfsuid(9))
"#;
    let outcome =
        python(json!({ "identity": "deny", "as": "61999" }), script, &[file.path().to_str().unwrap()]);
    assert_eq!(outcome.stdout, "61999\n");
    let calls = outcome.calls();
    assert_eq!(calls.len(), 4);
    for call in calls {
        assert_eq!(call["outcome"], json!({ "is": "failure", "errno": nix::libc::EPERM }));
    }
    assert_eq!(file.path().metadata().unwrap().uid(), 0);
}

fn switch_switches() {
    let script = "import os; os.setgroups([4]); os.setuid(33); print(os.getuid(), os.getgroups())";
    let outcome = python(json!({ "identity": "switch" }), script, &[]);
    assert_eq!(outcome.stdout, "33 [4]\n");
    assert_eq!(outcome.calls(), [&Value::Null; 0]);
}

fn two_hundred_threads() {
    let script = r#"
import ctypes, threading
libc = ctypes.CDLL(None)
bad = []
def work(number):
    for i in range(20):
        if libc.syscall(105, number + 1) != 0: bad.append(number)
threads = [threading.Thread(target=work, args=(n,)) for n in range(200)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(bad))
"#;
    let outcome = python(json!({}), script, &[]);
    assert_eq!(outcome.stdout, "0\n");
    let mut counts = std::collections::BTreeMap::new();
    for call in outcome.calls() {
        *counts.entry(call["object"]["ids"][0].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts, (1..=200).map(|id| (id, 20)).collect());
}

fn calls_of_the_32_bit_table() {
    // int 0x80 enters the 32-bit table from a 64-bit program too.
    let script = r#"
import ctypes, mmap, struct
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p] + [ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
page = libc.mmap(None, 8192, 7, 0x22 | 0x40, -1, 0)
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; mov edx, r10d; int 0x80; pop rbx; ret
code = bytes.fromhex("53 89f8 89f3 89d1 4489c2 cd80 5b c3".replace(" ", ""))
ctypes.memmove(page, code, len(code))
call = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 5)(page)
data = page + 4096
ctypes.memmove(data, struct.pack("<HH", 3, 4), 4)
ctypes.memmove(data + 16, b"/etc/passwd\0", 12)
print(call(23, 5, 0, 0, 0), call(213, 6, 0, 0, 0), call(215, 7, 0, 0, 0), call(81, 2, data, 0, 0),
      call(182, data + 16, 33, 0, 0xffff), call(24, 0, 0, 0, 0), call(199, 0, 0, 0, 0))
"#;
    let outcome = python(json!({ "as": "61999" }), script, &[]);
    assert_eq!(outcome.stdout, "0 0 61999 0 0 61999 61999\n");
    let calls = outcome.calls();
    let expected = [
        ("setuid", json!([5])),
        ("setuid", json!([6])),
        ("setfsuid", json!([7])),
        ("setgroups", json!([3, 4])),
    ];
    assert_eq!(
        calls[..4].iter().map(|call| ids(call)).collect::<Vec<_>>(),
        expected.each_ref().map(|(n, i)| (*n, i))
    );
    assert_eq!(calls[4]["object"]["path"]["path"], "/etc/passwd");
    assert_eq!((&calls[4]["object"]["uid"], &calls[4]["object"]["gid"]), (&json!(33), &json!(u32::MAX)));
}

fn a_user_namespace_is_its_own_affair() {
    let script = r#"
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert libc.unshare(0x10000000) == 0
    os.write(ready[1], b"x"); os.read(go[0], 1)
    os.setresgid(0, 0, 0); os.setuid(1)
    print(os.getuid(), os.getgid(), flush=True)
    os._exit(0)
os.read(ready[0], 1)
open("/proc/%d/uid_map" % pid, "w").write("0 61999 1\n1 5000 1\n")
open("/proc/%d/gid_map" % pid, "w").write("0 61999 1\n")
os.write(go[1], b"x")
exit(os.waitpid(pid, 0)[1])
"#;
    let outcome = python(json!({ "as": "61999" }), script, &[]);
    assert_eq!(outcome.stdout, "1 0\n");
    assert_eq!(outcome.calls(), [&Value::Null; 0]);
}

fn below_another_listener() {
    let out = tempfile::NamedTempFile::new().unwrap();
    let inner = describe(json!({ "as": "61999" }), out.path());
    let own = std::env::current_exe().unwrap();
    let script = "import os; os.setuid(5); os.chown('/etc/passwd', 7, 7); print(os.getuid())";
    let command = [own.to_str().unwrap(), "/usr/bin/python3", "-c", script];
    let outcome = run(json!({ "as": "61999", "inner": inner }), &command);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "61999\n"), "{}", outcome.stderr);
    let value: Value = serde_json::from_str(&std::fs::read_to_string(out.path()).unwrap()).unwrap();
    assert!(value["notes"][0].as_str().unwrap().contains("another seccomp listener"), "{value}");
    assert_eq!(Path::new("/etc/passwd").metadata().unwrap().uid(), 0);
}
