//! The way to a file, one component at a time, as path_resolution(7) goes it.
//!
//! The walker goes with nrtrace's own rights, so that it also sees what lies behind a closed directory; each
//! directory it passes becomes a question for the judge. Where nrtrace itself may not go (a FUSE filesystem of
//! the target's, NFS with squashed root), the judge opens the way. Without a judge, the way is only gone. openat2(2) with
//! `RESOLVE_IN_ROOT` would take `/proc/self` for nrtrace's own, and refuses `/proc/self/fd/1`, where `/dev/stdout` leads.

use std::ffi::CString;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nrtrace_profiles::requirement::Access;

use super::judge::{Judge, Query};
use super::node::{Mount, Node, is_magic_link};
use super::protections::Protections;
use super::{Cause, Error, Question};

/// `MAXSYMLINKS` of `linux/namei.h`.
const MAX_LINKS: u32 = 40;
/// Longest path, with its terminator.
const PATH_MAX: usize = 4096;
/// `PROC_ROOT_INO` of `linux/proc_fs.h`.
const PROC_ROOT_INODE: u64 = 1;

/// Something that can refuse.
pub(super) enum Step {
    /// To be asked: these bits on this node, each with its name. All bits are asked at once, for one ACL entry
    /// must allow them all. `refusal` replaces errno and cause of the kernel's answer.
    Ask { node: usize, bits: Vec<(i32, Access)>, refusal: Option<(Errno, Cause)> },
    /// Known to refuse.
    Refused { node: usize, access: Access, errno: Errno, cause: Cause },
}

/// What kind of component a path ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// A name.
    Name,
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing: the path is `/`, or a link of procfs was followed by the kernel.
    Root,
}

/// Where the way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At this node.
    Found(usize),
    /// At a name that is not there, in the directory [`Walk::parent`].
    Absent,
    /// Before the last component: it fails with this errno whoever goes.
    Failed(Errno),
    /// At a refusal behind which nobody can look.
    Blocked,
}

/// A way that was gone.
pub(super) struct Walk {
    /// Every file seen.
    pub nodes: Vec<Node>,
    /// What can refuse, in the kernel's order.
    pub steps: Vec<Step>,
    /// Where it ended.
    pub end: End,
    /// The directory of the last name.
    pub parent: Option<usize>,
    /// The last name, or the one at which the way failed.
    pub name: Vec<u8>,
    /// What the last component is.
    pub last: Last,
    /// Whether a slash follows the last name, so that it must be a directory.
    pub slash: bool,
}

impl Walk {
    /// Adds a question.
    pub fn ask(&mut self, node: usize, bits: &[(i32, Access)]) {
        self.steps.push(Step::Ask { node, bits: bits.to_vec(), refusal: None });
    }

    /// Adds a refusal that needs no question.
    pub fn refuse(&mut self, node: usize, access: Access, errno: Errno, cause: Cause) {
        self.steps.push(Step::Refused { node, access, errno, cause });
    }
}

/// How the last component is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Final {
    /// A symbolic link there is followed.
    Follow,
    /// A symbolic link there is followed if a slash comes after it.
    NoFollow,
    /// The entry itself is meant: never followed.
    Entry,
    /// As `Follow`, but a slash at the end is an error (open(2) with `O_CREAT`).
    Make,
    /// As `Make`, and a symbolic link is not followed.
    MakeNoFollow,
}

/// Goes the way of a question.
pub(super) fn walk(
    judge: Option<(&Judge, &Protections)>,
    question: &Question,
    treat: Final,
) -> Result<Walk, Error> {
    let open = |fd| Node::same(fd).map_err(|errno| Error::Start { errno });
    let mut nodes = vec![open(question.root)?];
    if !question.path.starts_with(b"/") {
        nodes.push(open(question.base)?);
    }
    let at = nodes.len() - 1;
    let walk = Walk {
        nodes,
        steps: Vec::new(),
        end: End::Failed(Errno::ENOENT),
        parent: None,
        name: Vec::new(),
        last: Last::Root,
        slash: false,
    };
    let mut walker = Walker { judge, question, walk, at, rest: Vec::new(), links: 0 };
    let path = question.path;
    if path.len() >= PATH_MAX {
        walker.walk.end = End::Failed(Errno::ENAMETOOLONG);
    } else if !path.is_empty() {
        walker.take(path);
        walker.go(treat)?;
    } else if question.empty_path {
        walker.walk.end = End::Found(at);
    }
    Ok(walker.walk)
}

struct Walker<'a> {
    /// Who judges, and what the kernel protects; nobody where the way alone is of interest.
    judge: Option<(&'a Judge, &'a Protections)>,
    question: &'a Question<'a>,
    walk: Walk,
    /// The directory the next component is looked up in.
    at: usize,
    /// Components still to come, the next one last.
    rest: Vec<Vec<u8>>,
    links: u32,
}

/// What came of one component.
enum Went {
    /// The walk goes on.
    On,
    /// It ended.
    Ended(End),
}

impl Walker<'_> {
    /// Puts the components of a path, or of a link's text, before those still to come.
    fn take(&mut self, text: &[u8]) {
        if text.starts_with(b"/") {
            self.at = 0;
        }
        if self.rest.is_empty() {
            self.walk.slash |= text.ends_with(b"/") && text.iter().any(|byte| *byte != b'/');
        }
        let names = text.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        self.rest.extend(names.rev().map(<[u8]>::to_vec));
    }

    fn go(&mut self, treat: Final) -> Result<(), Error> {
        self.walk.end = loop {
            let Some(name) = self.rest.pop() else { break End::Found(self.at) };
            if let Went::Ended(end) = self.component(name, treat)? {
                break end;
            }
        };
        Ok(())
    }

    fn component(&mut self, name: Vec<u8>, treat: Final) -> Result<Went, Error> {
        self.walk.name.clone_from(&name);
        if !self.walk.nodes[self.at].is_directory() {
            return Ok(Went::Ended(End::Failed(Errno::ENOTDIR)));
        }
        self.search(self.at);
        self.walk.parent = Some(self.at);
        self.walk.last = match name.as_slice() {
            b"." => Last::Dot,
            b".." => Last::DotDot,
            _ => Last::Name,
        };
        let here = &self.walk.nodes[self.at];
        if self.walk.last == Last::Dot || (self.walk.last == Last::DotDot && here.is(&self.walk.nodes[0])) {
            return Ok(Went::On);
        }
        if self.walk.last == Last::Name
            && self.rest.is_empty()
            && self.walk.slash
            && matches!(treat, Final::Make | Final::MakeNoFollow)
        {
            return Ok(Went::Ended(End::Failed(Errno::EISDIR)));
        }
        let Ok(name) = CString::new(name) else { return Ok(Went::Ended(End::Failed(Errno::EINVAL))) };
        // Only what is on no disk can be of a special kind; whether links are followed is asked when one is met.
        let mut special = if here.on_disk() { Mount::default() } else { mount(here) };
        if special.automount && self.judge.is_some() {
            // Looking a name up here would have the filesystem mounted.
            return Err(Error::Automount { path: here.path() });
        }
        let child = match self.open(&name, false)? {
            Ok(child) => child,
            Err(Errno::ENOENT) if self.rest.is_empty() => return Ok(Went::Ended(End::Absent)),
            Err(errno) => return Ok(Went::Ended(self.blocked(errno))),
        };
        let last = self.rest.is_empty();
        let follow = match treat {
            _ if !last => true,
            Final::Follow | Final::Make => true,
            Final::NoFollow => self.walk.slash,
            Final::Entry | Final::MakeNoFollow => false,
        };
        if !(child.is_symlink() && follow) {
            return Ok(self.enter(child, &name, special));
        }
        if self.walk.nodes[self.at].on_disk() {
            special = mount(&self.walk.nodes[self.at]);
        }
        self.follow(&name, child, special)
    }

    /// Makes a file the present one.
    fn enter(&mut self, mut child: Node, name: &CString, mount: Mount) -> Went {
        let here = &self.walk.nodes[self.at];
        let numbers = name.to_bytes().iter().all(u8::is_ascii_digit);
        child.own_proc = child.beside(here)
            && if here.ino() == PROC_ROOT_INODE && mount.proc {
                numbers && self.own_pid().is_some_and(|pid| pid.as_bytes() == name.to_bytes())
            } else {
                here.own_proc && self.walk.last == Last::Name
            };
        self.walk.nodes.push(child);
        self.at = self.walk.nodes.len() - 1;
        Went::On
    }

    /// Goes on where a symbolic link leads.
    fn follow(&mut self, name: &CString, link: Node, mount: Mount) -> Result<Went, Error> {
        self.links += 1;
        let last = self.rest.is_empty();
        if self.links > MAX_LINKS || mount.no_symlinks {
            return Ok(Went::Ended(End::Failed(Errno::ELOOP)));
        }
        let here = &self.walk.nodes[self.at];
        if last && self.judge.is_some_and(|(_, protections)| protections.forbids_link(here, &link)) {
            self.walk.nodes.push(link);
            let node = self.walk.nodes.len() - 1;
            self.walk.refuse(node, Access::Search, Errno::EACCES, Cause::ProtectedSymlink);
            return self.go_through(node);
        }
        if mount.proc && here.ino() == PROC_ROOT_INODE {
            let own = match name.to_bytes() {
                b"self" => self.own_pid(),
                b"thread-self" => self.own_thread(),
                _ => None,
            };
            if let Some(text) = own {
                self.take(text.as_bytes());
                return Ok(Went::On);
            }
        }
        if mount.proc && is_magic_link(here.fd(), name) {
            return self.jump(name);
        }
        self.walk.nodes.push(link);
        self.go_through(self.walk.nodes.len() - 1)
    }

    /// Puts the text of a link before the rest of the way.
    fn go_through(&mut self, link: usize) -> Result<Went, Error> {
        match self.walk.nodes[link].text() {
            Ok(text) if text.is_empty() => Ok(Went::Ended(End::Failed(Errno::ENOENT))),
            Ok(text) => {
                self.take(&text);
                Ok(Went::On)
            }
            Err(errno) => Ok(Went::Ended(End::Failed(errno))),
        }
    }

    /// Follows a link of procfs that has no text. Whether the target may is for the judge to try, unless the
    /// process looks at itself, which is always allowed.
    fn jump(&mut self, name: &CString) -> Result<Went, Error> {
        if let Some((judge, _)) = self.judge
            && !self.walk.nodes[self.at].own_proc
        {
            let dir = self.walk.nodes[self.at].fd().as_raw_fd();
            let query = Query::Open { dir, name: name.clone(), follow: true };
            if let Some(Err(errno @ (Errno::EACCES | Errno::EPERM))) = judge.put(vec![query])?.pop() {
                self.walk.refuse(self.at, Access::Read, errno, Cause::OtherProcess);
            }
        }
        match self.open(name, true)? {
            Ok(node) => {
                self.walk.nodes.push(node);
                self.at = self.walk.nodes.len() - 1;
                self.walk.last = Last::Root;
                self.walk.parent = None;
                Ok(Went::On)
            }
            Err(errno) => Ok(Went::Ended(self.blocked(errno))),
        }
    }

    /// Opens an entry of the present directory, as nrtrace, and where that is refused as the target.
    fn open(&self, name: &CString, follow: bool) -> Result<Result<Node, Errno>, Error> {
        let here = self.walk.nodes[self.at].fd();
        match (Node::open(here, name, follow), self.judge) {
            (Err(Errno::EACCES | Errno::EPERM), Some((judge, _))) => {
                let query = Query::Open { dir: here.as_raw_fd(), name: name.clone(), follow };
                match judge.put(vec![query])?.pop() {
                    Some(Ok(Some(fd))) => Ok(Node::new(fd)),
                    Some(Err(errno)) => Ok(Err(errno)),
                    _ => Err(Error::Gone),
                }
            }
            (other, _) => Ok(other),
        }
    }

    /// Ends the walk at an entry that could not be opened.
    fn blocked(&mut self, errno: Errno) -> End {
        if !matches!(errno, Errno::EACCES | Errno::EPERM) {
            return End::Failed(errno);
        }
        self.walk.refuse(self.at, Access::Search, errno, Cause::Policy);
        End::Blocked
    }

    /// Passing through a directory is a question, once.
    fn search(&mut self, node: usize) {
        let asked = |step: &Step| matches!(step, Step::Ask { node: other, .. } if *other == node);
        if !self.walk.steps.iter().any(asked) {
            self.walk.ask(node, &[(libc::X_OK, Access::Search)]);
        }
    }

    /// What `self` means in a procfs for the process asked about: its number there.
    fn own_pid(&self) -> Option<String> {
        self.question.process.map(|process| process.pid.to_string())
    }

    fn own_thread(&self) -> Option<String> {
        self.question.process.map(|process| format!("{}/task/{}", process.pid, process.tid))
    }
}

/// What the mount of a node forbids; nothing where the kernel does not tell.
pub(super) fn mount(node: &Node) -> Mount {
    node.mount().unwrap_or_default()
}
