//! What is mounted on this machine, and what becomes of it in a sandbox.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use crate::launch::Error;

/// A mount of this machine that can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number in `/proc/PID/mountinfo`.
    pub id: u64,
    /// The directory or file of its file system that is its root.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The type of its file system.
    pub kind: String,
    /// Its flags that matter for access.
    pub flags: MsFlags,
}

/// What becomes of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gets an overlay.
    Overlay,
    /// It is shown as it is: nothing can be written to it, or it is the kernel's own.
    Shown,
    /// A new one, which belongs to the sandbox's namespaces, takes its place.
    Anew,
    /// It is not shown.
    Hidden,
}

/// File systems through which the kernel itself speaks; their files have nothing to be kept apart.
const KERNEL: &[&str] = &[
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "efivarfs",
    "fusectl",
    "nsfs",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "tracefs",
];

impl Mount {
    /// What becomes of it.
    pub fn fate(&self) -> Fate {
        let below = |directory: &str| self.point.starts_with(directory);
        match self.kind.as_str() {
            "proc" | "sysfs" | "devpts" | "mqueue" | "hugetlbfs" => Fate::Anew,
            // A look at it would mount something.
            "autofs" => Fate::Hidden,
            kind if KERNEL.contains(&kind) => Fate::Shown,
            _ if below("/proc") || below("/sys") => Fate::Shown,
            _ if self.flags.contains(MsFlags::MS_RDONLY) => Fate::Shown,
            _ => Fate::Overlay,
        }
    }
}

/// All mounts that can be seen, in the order in which they are to be made; the root's is not among them.
pub fn visible() -> Result<Vec<Mount>, Error> {
    // A thread may have left the namespace of its process.
    let path = "/proc/thread-self/mountinfo";
    let text = fs::read(path).map_err(|error| Error::system("reading", path, error))?;
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Some(mount) = parse_line(line) else { continue };
        // It hides what was mounted there and below before.
        mounts.retain(|earlier| !earlier.point.starts_with(&mount.point));
        if mount.point != Path::new("/") {
            mounts.push(mount);
        }
    }
    mounts
}

/// A line of proc_pid_mountinfo(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let path =
        |index: usize| Some(PathBuf::from(std::ffi::OsString::from_vec(unescaped(fields.get(index)?))));
    let (root, point) = (path(3)?, path(4)?);
    let id = std::str::from_utf8(fields.first()?).ok()?.parse().ok()?;
    let dash = fields.iter().position(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.get(dash + 1)?).into_owned();
    let of_mount = fields.get(5)?.split(|byte| *byte == b',');
    let of_file_system = fields.get(dash + 3).into_iter().flat_map(|text| text.split(|byte| *byte == b','));
    let mut flags = MsFlags::empty();
    for option in of_mount {
        flags |= match option {
            b"ro" => MsFlags::MS_RDONLY,
            b"nosuid" => MsFlags::MS_NOSUID,
            b"nodev" => MsFlags::MS_NODEV,
            b"noexec" => MsFlags::MS_NOEXEC,
            b"noatime" => MsFlags::MS_NOATIME,
            b"nodiratime" => MsFlags::MS_NODIRATIME,
            b"relatime" => MsFlags::MS_RELATIME,
            b"nosymfollow" => MsFlags::from_bits_retain(256),
            _ => MsFlags::empty(),
        };
    }
    if of_file_system.into_iter().any(|option| option == b"ro") {
        flags |= MsFlags::MS_RDONLY;
    }
    Some(Mount { id, root, point, kind, flags })
}

/// Space, tab, line end and backslash are written as octal numbers.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        let number = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number {
            Some(number) => {
                out.push(number);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_made() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            26 24 0:24 / /dev/pts rw,relatime - devpts devpts rw\n\
            27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            25 24 0:23 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n\
            30 25 0:27 / /dev/shm rw,relatime shared:4 - tmpfs tmpfs rw\n\
            31 27 0:40 / /a\\040b ro,noexec - ext4 /dev/vdb rw\n\
            32 27 0:41 / /c rw - squashfs /dev/loop0 ro\n\
            33 27 0:42 / /a rw - autofs x rw\n\
            34 31 0:43 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\nnonsense";
        let found: Vec<(String, Fate)> =
            parse(text).iter().map(|mount| (mount.point.display().to_string(), mount.fate())).collect();
        let expected = [
            ("/proc", Fate::Anew),
            ("/dev/shm", Fate::Overlay),
            ("/a b", Fate::Shown),
            ("/c", Fate::Shown),
            ("/a", Fate::Hidden),
            ("/sys/fs/cgroup", Fate::Shown),
        ];
        assert_eq!(found, expected.map(|(point, fate)| (point.to_owned(), fate)));
    }
}
