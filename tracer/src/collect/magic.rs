//! Links of procfs that lead to what a process has open, and to no name: `/proc/self/fd/N`, `cwd`, `root` and `exe`.

use std::collections::HashMap;
use std::fs::read_link;
use std::os::unix::ffi::OsStrExt;

use nrtrace_ebpf::record::Head;
use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::Operation;
use nrtrace_profiles::event::{Check, Object, PathObject};

use super::object;

/// Descriptors remembered.
const OPENED: usize = 4096;

/// Where such links lead.
#[derive(Debug, Default)]
pub struct Links {
    /// What was opened only to be named so, and is closed again at once (`O_PATH`): by process and descriptor.
    opened: HashMap<(u32, u64), RawText>,
}

/// A path through a link.
struct Through<'a> {
    /// Whose it is: a number, `self` or `thread-self`.
    process: &'a [u8],
    /// The link's name below that.
    link: Vec<&'a [u8]>,
    /// The components behind it.
    rest: Vec<&'a [u8]>,
}

impl<'a> Through<'a> {
    fn of(path: &'a [u8]) -> Option<Self> {
        let mut parts = path.strip_prefix(b"/proc/")?.split(|byte| *byte == b'/').collect::<Vec<_>>();
        let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let process = parts.remove(0);
        if !(is_number(process) || matches!(process, b"self" | b"thread-self")) {
            return None;
        }
        let length = match parts[..] {
            [b"fd", fd, ..] if is_number(fd) => 2,
            [b"cwd" | b"root" | b"exe", ..] => 1,
            _ => return None,
        };
        let rest = parts.split_off(length);
        Some(Self { process, link: parts, rest })
    }
}

/// Whether a path goes through such a link.
pub fn is_through(path: &RawText) -> bool {
    Through::of(path.as_bytes()).is_some()
}

impl Links {
    /// A file was opened by `head`'s process as `fd`, with `O_PATH`.
    pub fn opened(&mut self, head: &Head, fd: u64, path: &RawText) {
        if self.opened.len() >= OPENED {
            self.opened.clear();
        }
        self.opened.insert((head.pid, fd), path.clone());
    }

    /// Makes the paths of a call what they lead to, as far as that is known: by what the kernel judged in it, else by what
    /// the process has open, or executes.
    pub fn follow(
        &self,
        head: &Head,
        exe: Option<&RawText>,
        does: Operation,
        object: &mut Object,
        checks: &[Check],
    ) {
        let single = matches!(object, Object::Path(_));
        for path in object::paths_mut(object, does) {
            let Some(through) = Through::of(path.path.as_bytes()) else { continue };
            let judged = checks.iter().filter(|_| single).find_map(|check| {
                let at = &check.component.as_ref()?.path;
                (at.as_bytes().starts_with(b"/") && !at.as_bytes().starts_with(b"/proc/")).then_some(at)
            });
            let end = match judged {
                Some(at) => Some(behind(at.as_bytes(), &through.rest)),
                None => self.live(head, exe, &through),
            };
            if let Some(end) = end {
                lead(path, end);
            }
        }
    }

    fn live(&self, head: &Head, exe: Option<&RawText>, through: &Through<'_>) -> Option<Vec<u8>> {
        let own = matches!(through.process, b"self" | b"thread-self");
        if !own && through.process != head.pid.to_string().as_bytes() {
            return None;
        }
        if let (Some(exe), [b"exe"]) = (exe, &through.link[..]) {
            return Some(exe.as_bytes().to_vec());
        }
        let fd = through.link.get(1).and_then(|fd| std::str::from_utf8(fd).ok()?.parse().ok());
        if let Some(known) = fd.and_then(|fd| self.opened.get(&(head.pid, fd))) {
            return Some([&[known.as_bytes()], &through.rest[..]].concat().join(&b'/'));
        }
        let link = std::str::from_utf8(&through.link.join(&b'/')).ok()?.to_owned();
        let target = read_link(format!("/proc/{}/{link}", head.pid)).ok()?;
        let target = target.as_os_str().as_bytes().to_vec();
        let is_path = target.starts_with(b"/") && !target.ends_with(b" (deleted)");
        let start = target.strip_suffix(b"/").unwrap_or(&target);
        is_path.then(|| [&[start], &through.rest[..]].concat().join(&b'/'))
    }
}

fn lead(path: &mut PathObject, end: Vec<u8>) {
    path.path = if end.is_empty() { "/".into() } else { RawText::new(end) };
    path.resolved = true;
}

/// The end of a way that was judged at `at`, and of which the last components are `rest`: some of these, or none, are behind.
fn behind(at: &[u8], rest: &[&[u8]]) -> Vec<u8> {
    let passed = (1..=rest.len()).rev().find(|count| {
        let tail = rest[..*count].join(&b'/');
        at.strip_suffix(tail.as_slice()).is_some_and(|start| start.ends_with(b"/"))
    });
    let at = at.strip_suffix(b"/").unwrap_or(at);
    [&[at], &rest[passed.unwrap_or(0)..]].concat().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use nrtrace_profiles::calls::File;

    #[test]
    fn links_are_told_from_files_of_procfs() {
        for path in ["/proc/self/fd/8", "/proc/7/cwd/a/b", "/proc/thread-self/root/etc", "/proc/self/exe"] {
            assert!(is_through(&path.into()), "{path}");
        }
        for path in
            ["/proc/self/status", "/proc/self/fd", "/proc/sys/fs", "/proc", "/proc/self/fdinfo/3", "/x"]
        {
            assert!(!is_through(&path.into()), "{path}");
        }
    }

    #[test]
    fn what_is_executed_is_known_when_the_process_is_gone() {
        let gone = Head { pid: u32::MAX, ..Head::default() };
        let exe = RawText::from("/bin/busybox");
        for (path, exe, end) in [
            ("/proc/self/exe", Some(&exe), "/bin/busybox"),
            ("/proc/self/exe", None, "/proc/self/exe"),
            ("/proc/self/fd/3", Some(&exe), "/proc/self/fd/3"),
            ("/proc/7/exe", Some(&exe), "/proc/7/exe"),
        ] {
            let mut object = Object::Path(PathObject { path: path.into(), ..PathObject::default() });
            Links::default().follow(&gone, exe, Operation::File(File::Execute), &mut object, &[]);
            let Object::Path(found) = object else { panic!("{object:?}") };
            assert_eq!(found.path, end.into());
        }
    }

    #[test]
    fn what_was_judged_is_on_the_way() {
        for (at, rest, end) in [
            ("/root/log", &[][..], "/root/log"),
            ("/srv/t", &[b"new".as_slice()], "/srv/t/new"),
            ("/srv/t/root600", &[b"root600"], "/srv/t/root600"),
            ("/srv/t/a", &[b"a", b"b"], "/srv/t/a/b"),
            ("/", &[b"etc"], "/etc"),
        ] {
            assert_eq!(behind(at.as_bytes(), rest), end.as_bytes(), "{at}");
        }
    }

    #[test]
    fn what_is_open_tells_where_a_link_leads() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(directory.path()).unwrap();
        use std::os::fd::AsRawFd;
        let head = Head { pid: std::process::id(), ..Head::default() };
        let path = RawText::new(format!("/proc/self/fd/{}/new", file.as_raw_fd()));
        let mut object = Object::Path(PathObject { path, resolved: true, ..PathObject::default() });
        Links::default().follow(&head, None, Operation::Other, &mut object, &[]);
        let Object::Path(path) = object else { panic!("no path") };
        assert_eq!(path.path, RawText::new(directory.path().join("new").as_os_str().as_bytes()));
    }
}
