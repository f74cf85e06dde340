//! What `/proc` says of a process that runs already.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::status::Status;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nrtrace_profiles::RawText;
use nrtrace_profiles::container::IdRange;

/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`, as bits: who has both is refused no file.
const OVERRIDES: u64 = 1 << 1 | 1 << 2;
/// Most bytes of a file in a container that is read.
const FILE_MAX: u64 = 1 << 20;
/// The initial user namespace (`PROC_USER_INIT_INO` of `include/linux/proc_ns.h`).
const INITIAL_USER_NS: u32 = 0xefff_fffd;

/// All processes, by number.
pub fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Threads of a process.
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process as it was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its number.
    pub pid: i32,
    /// Short name.
    pub name: RawText,
    /// Command line; empty for threads of the kernel.
    pub command: Vec<RawText>,
    /// Executable, as the process sees it.
    pub exe: Option<RawText>,
    /// Working directory, as the process sees it.
    pub cwd: RawText,
    /// Its environment, as it was started with.
    pub environment: BTreeMap<OsString, OsString>,
    /// Effective user id, on the host.
    pub uid: u32,
    /// Effective group id, on the host.
    pub gid: u32,
    /// Supplementary groups, on the host.
    pub groups: Vec<u32>,
    /// Effective capabilities, as bits.
    pub capabilities: u64,
    /// Whether a seccomp filter is installed.
    pub filtered: bool,
    /// Inode number of its mount namespace.
    pub mnt_ns: u32,
    /// Inode number of its user namespace.
    pub user_ns: u32,
    /// How that maps user ids; empty for the initial one.
    pub uid_map: Vec<IdRange>,
    /// How that maps group ids; empty for the initial one.
    pub gid_map: Vec<IdRange>,
}

impl Facts {
    /// Reads all there is to know; nothing when it is gone.
    pub fn read(pid: i32) -> Option<Self> {
        let status = Status::of(pid)?;
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok();
        let raw = |path: PathBuf| RawText::new(path.into_os_string().into_vec());
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = command.strip_suffix(b"\0").unwrap_or(&command);
        let words = command.split(|byte| *byte == 0).map(RawText::from);
        let user_ns = namespace(pid, "user");
        let map = |name| if user_ns == INITIAL_USER_NS { Vec::new() } else { id_map(pid, name) };
        Some(Self {
            pid,
            name: RawText::from(fs::read(format!("/proc/{pid}/comm")).unwrap_or_default().trim_ascii_end()),
            command: if command.is_empty() { Vec::new() } else { words.collect() },
            exe: link("exe").map(raw),
            cwd: link("cwd").map_or_else(|| RawText::from("/"), raw),
            environment: environment(pid),
            uid: status.ids("Uid")?[1],
            gid: status.ids("Gid")?[1],
            groups: status.numbers("Groups"),
            capabilities: status.capabilities("CapEff"),
            filtered: status.is_filtered(),
            mnt_ns: namespace(pid, "mnt"),
            user_ns,
            uid_map: map("uid_map"),
            gid_map: map("gid_map"),
        })
    }

    /// Whether it is root, in its user namespace.
    pub fn is_root(&self) -> bool {
        nrtrace_profiles::container::inside(&self.uid_map, self.uid) == Some(0)
    }

    /// Whether no file is refused to it.
    pub fn overrides(&self) -> bool {
        self.capabilities & OVERRIDES == OVERRIDES
    }

    /// Whether it is a thread of the kernel, which makes no system calls.
    pub fn is_kernel(&self) -> bool {
        self.command.is_empty() && self.exe.is_none()
    }

    /// What the program is called: the last component of its executable or, failing that, its short name.
    pub fn program(&self) -> String {
        let path = self.exe.as_ref().unwrap_or(&self.name).as_bytes();
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        String::from_utf8_lossy(path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()).into_owned()
    }
}

fn environment(pid: i32) -> BTreeMap<OsString, OsString> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|entry| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((OsString::from_vec(entry[..at].to_vec()), OsString::from_vec(entry[at + 1..].to_vec())))
    });
    pairs.collect()
}

/// Inode number of a process's namespace; 0 when it cannot be looked at.
pub fn namespace(pid: i32, kind: &str) -> u32 {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).map_or(0, |facts| facts.st_ino() as u32)
}

/// `/proc/PID/uid_map` or `gid_map`; the ids outside are those of this process's user namespace.
fn id_map(pid: i32, name: &str) -> Vec<IdRange> {
    let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let ranges = text.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
        Some(IdRange { inside: numbers.next()??, outside: numbers.next()??, length: numbers.next()?? })
    });
    ranges.collect()
}

/// A file below a process's root directory, links resolved as the process would; nothing when it is not there, no
/// ordinary file, or too large.
pub fn file(pid: i32, path: &str) -> Option<Vec<u8>> {
    let root = open(
        format!("/proc/{pid}/root").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(root.ok()?, path.trim_start_matches('/'), how).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// `net.ipv4.ip_unprivileged_port_start` of a process's network namespace; nothing when it cannot be entered.
pub fn unprivileged_port_start(pid: i32) -> Option<u16> {
    if namespace(pid, "net") == namespace(std::process::id() as i32, "net") {
        return Some(crate::recording::unprivileged_port_start());
    }
    let namespace = File::open(format!("/proc/{pid}/ns/net")).ok()?;
    // A thread of its own: it does not come back to this namespace.
    let reader = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
        Some(crate::recording::unprivileged_port_start())
    });
    reader.join().ok().flatten()
}

/// Names by number from the text of passwd(5) or group(5): the first and third fields.
pub fn names(text: &[u8]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(number)) = (fields.next(), fields.nth(1)) else { continue };
        if let (Ok(name), Ok(Ok(id))) =
            (std::str::from_utf8(name), std::str::from_utf8(number).map(str::parse))
            && !name.is_empty()
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// A path as text for the kernel.
pub fn os(text: &RawText) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_facts() {
        let own = Facts::read(std::process::id() as i32).unwrap();
        assert!(!own.is_kernel() && !own.command.is_empty());
        assert_eq!(own.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(
            own.exe.as_ref().map(|exe| exe.to_text()),
            std::env::current_exe().unwrap().to_str().map(str::to_owned)
        );
        assert!(own.environment.contains_key(&OsString::from("PATH")));
        assert!(threads(own.pid).contains(&own.pid));
        assert_eq!(unprivileged_port_start(own.pid), Some(crate::recording::unprivileged_port_start()));
        assert!(Facts::read(i32::MAX).is_none());
    }

    #[test]
    fn files_stay_below_the_root() {
        let own = std::process::id() as i32;
        assert!(
            file(own, "/etc/passwd")
                .is_some_and(|text| names(&text).get(&0).is_some_and(|name| name == "root"))
        );
        assert!(file(own, "/../../etc/passwd").is_some());
        assert_eq!(file(own, "/dev/null"), None);
        assert_eq!(file(own, "/proc/self/exe"), None);
        assert_eq!(file(own, "/no/such/file"), None);
    }

    #[test]
    fn accounts_by_number() {
        let text = b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:\nbad\n:x:7:7::\nodd:x:nine:9::\nweb:x:33:33::/var/www:\n";
        let found = names(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[&0].as_str(), found[&33].as_str()), ("root", "web"));
    }
}
