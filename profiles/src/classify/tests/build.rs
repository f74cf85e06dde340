//! Traces by hand.

use std::sync::Arc;

use crate::event::*;
use crate::{Capability, RawText};

/// The user of most traces.
pub const UID: u32 = 61_184;

/// Stacks as Linux 6.18 shows them, without the entry.
pub const SEARCH: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission link_path_walk path_openat do_filp_open";
pub const OPEN: &str = "capable_wrt_inode_uidgid generic_permission inode_permission may_open path_openat do_filp_open do_sys_openat2";
pub const O_CREATE: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission path_openat do_filp_open do_sys_openat2";
pub const MKDIR: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission may_create vfs_mkdir do_mkdirat";
pub const MKNOD: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission may_create vfs_mknod unix_bind";
pub const UNLINK: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission may_delete vfs_unlink do_unlinkat";
pub const RENAME_OLD: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission may_delete vfs_rename do_renameat2";
pub const RENAME_NEW: &str =
    "capable_wrt_inode_uidgid generic_permission inode_permission may_create vfs_rename do_renameat2";
pub const ACCESS: &str = "capable_wrt_inode_uidgid generic_permission inode_permission do_faccessat";
pub const BIND: &str = "ns_capable __inet_bind inet_bind_sk __sys_bind";
pub const CHMOD: &str =
    "ns_capable inode_owner_or_capable setattr_prepare ext4_setattr notify_change chmod_common";
pub const CHOWN: &str = "capable_wrt_inode_uidgid setattr_prepare ext4_setattr notify_change chown_common";

pub const O_WRONLY: u64 = 1;
pub const O_RDWR: u64 = 2;
pub const O_CREAT: u64 = 0o100;
pub const O_EXCL: u64 = 0o200;
pub const O_TRUNC: u64 = 0o1000;
pub const O_APPEND: u64 = 0o2000;

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EACCES: i32 = 13;
pub const EROFS: i32 = 30;

/// An event in the making.
#[derive(Clone)]
pub struct Make(pub Event);

pub fn call(name: &str, args: &[u64]) -> Make {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Make(Event {
        seq: 0,
        time: 0,
        count: 1,
        last: 0,
        process: Process {
            pid: 4242,
            tid: 4242,
            name: "test".into(),
            exe: None,
            ancestors: Default::default(),
        },
        credentials: Credentials { uid: UID, gid: UID },
        phase: Phase::Startup,
        call: Call { name: name.into(), args: all, data: None, structure: Vec::new() },
        object: Object::Nothing,
        outcome: Outcome::Success { value: 0 },
        checks: Vec::new(),
        obstacle: None,
    })
}

/// `openat` of an absolute path.
pub fn open(path: &str, flags: u64) -> Make {
    call("openat", &[u64::MAX - 99, 0x7000, flags, 0o644]).on(path)
}

pub fn mkdir(path: &str) -> Make {
    call("mkdir", &[0x7000, 0o755]).on(path).check(Capability::DAC_OVERRIDE, MKDIR)
}

/// A rename within or between directories that both refuse.
pub fn rename(from: &str, to: &str) -> Make {
    call("rename", &[0x7000, 0x7100])
        .two(from, to)
        .check(Capability::DAC_OVERRIDE, RENAME_OLD)
        .check(Capability::DAC_OVERRIDE, RENAME_NEW)
}

pub fn bind(protocol: Protocol, address: &str, port: u16) -> Make {
    call("bind", &[5, 0x7000, 16]).socket(protocol, address, port)
}

pub fn inode(file_type: FileType, mode: u32, uid: u32) -> Inode {
    let user = (uid == 0).then(|| "root".to_owned());
    Inode { file_type, mode, uid, group: user.clone(), user, gid: uid, device: None }
}

pub fn object(path: &str) -> PathObject {
    PathObject {
        given: path.into(),
        seen: path.into(),
        path: path.into(),
        parent: Some(Box::new(inode(FileType::Directory, 0o755, 0))),
        inode: None,
        resolved: true,
    }
}

impl Make {
    pub fn on(mut self, path: &str) -> Self {
        self.0.object = Object::Path(object(path));
        self
    }

    /// As the process passed it, when that differs from where it led.
    pub fn given(mut self, given: &str) -> Self {
        if let Object::Path(path) = &mut self.0.object {
            path.given = given.into();
        }
        self
    }

    /// What is there now.
    pub fn there(mut self, file_type: FileType, mode: u32, uid: u32) -> Self {
        if let Object::Path(path) | Object::Gift { path, .. } = &mut self.0.object {
            path.inode = Some(Box::new(inode(file_type, mode, uid)));
        }
        self
    }

    pub fn two(mut self, from: &str, to: &str) -> Self {
        self.0.object = Object::TwoPaths { from: object(from).into(), to: object(to).into() };
        self
    }

    pub fn socket(mut self, protocol: Protocol, address: &str, port: u16) -> Self {
        let port = Some(port);
        self.0.object = Object::Socket(SocketObject { protocol, address: address.into(), port, path: None });
        self
    }

    pub fn unix(mut self, path: &str) -> Self {
        self.0.object = Object::Socket(SocketObject {
            protocol: Protocol::Unix,
            address: path.into(),
            port: None,
            path: Some(object(path)),
        });
        self
    }

    pub fn ids(mut self, ids: &[u32]) -> Self {
        self.0.object = Object::Ids { ids: ids.to_vec() };
        self
    }

    pub fn gift(mut self, path: &str, uid: u32, gid: u32) -> Self {
        self.0.object = Object::Gift { path: object(path), uid, gid };
        self
    }

    pub fn wrote(mut self, text: &str) -> Self {
        self.0.call.data = Some(text.into());
        self
    }

    /// A granted check with these functions, innermost first.
    pub fn check(mut self, capability: Capability, frames: &str) -> Self {
        let frames: Vec<Arc<str>> = frames.split_whitespace().map(Arc::from).collect();
        self.0.checks.push(Check {
            capability,
            granted: true,
            frames: frames.into(),
            component: None,
            foreign: false,
            not_audited: false,
            child_namespace: false,
            predicted: None,
        });
        self
    }

    /// Changes the last check.
    fn last(mut self, change: impl FnOnce(&mut Check)) -> Self {
        change(self.0.checks.last_mut().unwrap());
        self
    }

    pub fn refused(self) -> Self {
        self.last(|check| check.granted = false)
    }

    pub fn at(self, path: &str, file_type: FileType, mode: u32) -> Self {
        let component = Component { path: path.into(), inode: inode(file_type, mode, 0) };
        self.last(|check| check.component = Some(component))
    }

    /// The last check was about the directory `path`.
    pub fn in_directory(self, path: &str) -> Self {
        self.at(path, FileType::Directory, 0o755)
    }

    /// The last check was foretold.
    pub fn foretold(self, asked: Asked) -> Self {
        self.last(|check| check.predicted = Some(asked))
    }

    pub fn foreign(self) -> Self {
        self.last(|check| check.foreign = true)
    }

    pub fn not_audited(self) -> Self {
        self.last(|check| check.not_audited = true)
    }

    pub fn child_namespace(self) -> Self {
        self.last(|check| check.child_namespace = true)
    }

    pub fn fails(mut self, errno: i32) -> Self {
        self.0.outcome = Outcome::Failure { errno };
        self
    }

    pub fn hindered(mut self, cause: Cause, at: &str) -> Self {
        self.0.obstacle = Some(Obstacle { cause, at: Some(at.into()) });
        self
    }

    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    pub fn answered(self) -> Self {
        self.outcome(Outcome::Answered)
    }

    pub fn by(mut self, pid: u32, name: &str) -> Self {
        self.0.process =
            Process { pid, tid: pid, name: name.into(), exe: None, ancestors: Default::default() };
        self
    }

    pub fn times(mut self, count: u64) -> Self {
        self.0.count = count;
        self
    }

    pub fn phase(mut self, phase: Phase) -> Self {
        self.0.phase = phase;
        self
    }
}

/// A permissive run of these events, a millisecond apart.
pub fn trace(command: &str, events: impl IntoIterator<Item = Make>) -> Trace {
    let number = |(seq, Make(mut event)): (usize, Make)| {
        event.seq = seq as u64;
        event.time = 1_000_000 * seq as u64;
        event.last = event.time;
        event
    };
    Trace {
        run: RunFacts {
            id: String::new(),
            command: command.split(' ').map(RawText::from).collect(),
            identity: Identity {
                user: "test".into(),
                group: "test".into(),
                uid: UID,
                gid: UID,
                groups: Vec::new(),
                exists: false,
            },
            mode: Mode::Permissive,
            backend: Backend::Ebpf,
            record: Record::Calls,
            kernel: "6.18.0".into(),
            cwd: "/".into(),
            environment: Vec::new(),
            missing_capabilities: Vec::new(),
            given: Vec::new(),
            unprivileged_port_start: 1024,
            paths: vec![],
            attached: None,
            container: None,
        },
        events: events.into_iter().enumerate().map(number).collect(),
        end: TraceEnd {
            unjudged: 0,
            exit: Exit::Stopped { status: Some(0) },
            duration: 5_000_000_000,
            ..TraceEnd::default()
        },
    }
}
