//! Which permission check it was, from the kernel functions on the stack.

use crate::Capability;
use crate::calls::flags::CLONE_NEW;
use crate::calls::{Identity, Operation, Task};
use crate::event::{Asked, Check, Event};

use super::files;

/// What stands for a call where there was none.
const PAGE_FAULT: &str = "page-fault";

/// What the kernel was deciding when it consulted a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckSite {
    /// Passing through a directory on the way.
    Search,
    /// Access to the file itself.
    File,
    /// Making a name in a directory.
    CreateIn,
    /// Removing a name from a directory.
    DeleteIn,
    /// Making an entry without a name in the directory that is the object (`O_TMPFILE`).
    EntryIn,
    /// Removing or renaming what somebody else owns in a sticky directory.
    Sticky,
    /// Doing what is the owner's right: mode, times, ACL, `O_NOATIME`.
    Own,
    /// Setting times to now, which takes ownership or write access.
    Touch,
    /// Giving a file to an owner or group.
    Chown,
    /// Binding a privileged port.
    Bind,
    /// Taking another identity.
    SetId,
    /// Anything else; the capability and the call tell.
    Other,
    /// Overcommit accounting: the answer changes how much memory may be promised, not whether.
    Overcommit,
    /// Asked without audit: a refusal is expected and the call goes on.
    NotAudited,
    /// overlayfs at work on its layers.
    Overlay,
    /// The call goes on either way, doing a little less.
    GoesOn,
    /// The kernel writes a core dump.
    CoreDump,
    /// Giving privileges up, which a process without them has no need to.
    DropsPrivileges,
    /// A seccomp filter installed without no_new_privs.
    SeccompFilter,
    /// Sysctls whose owner is the administrator of a namespace: those of networks, users, process ids and IPC.
    Sysctl,
}

use CheckSite::{
    Bind, Chown, CreateIn, DeleteIn, DropsPrivileges, EntryIn, File, GoesOn, Other, Overcommit, Own, Search,
    SetId, Sticky, Sysctl,
};

/// A function of the kernel, what a check below it is for, and why.
struct Row(&'static str, CheckSite, #[expect(dead_code, reason = "says why the row is there")] &'static str);

/// The first frame, innermost first, that has a row decides.
///
/// Names that compilers inline away are listed beside the callers they vanish into: on Linux 6.18 `may_lookup`
/// goes into `link_path_walk`, `lookup_open` into `path_openat`; on 6.1 `may_create` into `vfs_mkdir` and its kind.
const TABLE: &[Row] = &[
    Row("cap_vm_enough_memory", Overcommit, "__vm_enough_memory asks whether root's reserve may be used"),
    Row("security_vm_enough_memory_mm", Overcommit, "the caller of the above"),
    Row("bprm_fill_uid", GoesOn, "execve ignores set-id bits it may not honour"),
    Row("dev_load", GoesOn, "asks whether a module may be loaded for an interface that is not there"),
    Row("bpf_jit_charge_modmem", GoesOn, "the filter is interpreted when it may not be compiled"),
    Row("bpf_int_jit_compile", GoesOn, "constants are blinded for those without CAP_BPF"),
    Row("bpf_prog_select_runtime", GoesOn, "as above, where the compiler inlined"),
    Row("bpf_prepare_filter", GoesOn, "as above"),
    Row("alloc_pipe_info", GoesOn, "beyond the soft limit a pipe is made with fewer pages"),
    Row("kallsyms_show_value", GoesOn, "addresses of the kernel are shown as zeros"),
    Row("kallsyms_open", GoesOn, "as above, where the compiler inlined"),
    Row("modules_open", GoesOn, "as above"),
    Row("io_uring_create", GoesOn, "asks whether locked memory is to be accounted"),
    Row("io_uring_setup", GoesOn, "as above, where the compiler inlined"),
    Row("ext4_has_free_clusters", GoesOn, "asks for the reserve when a file system is nearly full"),
    Row("ext4_xattr_trusted_list", GoesOn, "leaves trusted attributes out of a list"),
    Row("simple_xattr_list", GoesOn, "as above"),
    Row("dquot_alloc_inode", GoesOn, "asks whether quota counts"),
    Row("__dquot_alloc_space", GoesOn, "as above"),
    Row("xfs_trans_dqresv", GoesOn, "as above"),
    Row("net_ctl_permissions", Sysctl, "the namespace's administrator has the owner's rights"),
    Row("pid_table_root_permissions", Sysctl, "as above, from Linux 6.14 on"),
    Row("ipc_permissions", Sysctl, "as above"),
    Row("sysctl_perm", Sysctl, "the caller of all of these"),
    Row("proc_sys_permission", Sysctl, "as above, where the compiler inlined"),
    Row("cap_capset", DropsPrivileges, "capset beyond the bounding set"),
    Row("cap_inh_is_capped", DropsPrivileges, "as above"),
    Row("may_lookup", Search, "each directory on the way"),
    Row("link_path_walk", Search, "as above, where the compiler inlined"),
    Row("lookup_one_unlocked", Search, "a lookup on the kernel's behalf"),
    Row("may_o_create", CreateIn, "open with O_CREAT of what is not there"),
    Row("lookup_open", CreateIn, "as above, where the compiler inlined"),
    Row("open_last_lookups", CreateIn, "as above"),
    Row("vfs_tmpfile", EntryIn, "O_TMPFILE"),
    Row("may_delete", DeleteIn, "unlink, rmdir and rename"),
    Row("may_delete_dentry", DeleteIn, "its name from Linux 6.19 on"),
    Row("vfs_unlink", DeleteIn, "as above, where the compiler inlined"),
    Row("vfs_rmdir", DeleteIn, "as above"),
    Row("may_create", CreateIn, "mkdir, mknod, symlink, link, rename and bind"),
    Row("may_create_dentry", CreateIn, "its name from Linux 6.19 on"),
    Row("vfs_create", CreateIn, "as above, where the compiler inlined"),
    Row("vfs_mkdir", CreateIn, "as above"),
    Row("vfs_mknod", CreateIn, "as above; unix_bind ends here too"),
    Row("vfs_mkobj", CreateIn, "message queues"),
    Row("vfs_symlink", CreateIn, "as above"),
    Row("vfs_link", CreateIn, "as above"),
    Row("vfs_rename", CreateIn, "the new name, where the compiler inlined may_create"),
    Row("may_open", File, "open of what is there; execve as well"),
    Row("do_faccessat", File, "access"),
    Row("path_permission", File, "chdir, chroot, connect to a Unix socket, inotify"),
    Row("unix_find_bsd", File, "connect or send to a Unix socket"),
    Row("unix_find_other", File, "as above, where the compiler inlined"),
    Row("vfs_truncate", File, "truncate"),
    Row("safe_hardlink_source", File, "link to what others own (fs.protected_hardlinks)"),
    Row("may_linkat", File, "as above, where the compiler inlined"),
    Row("xattr_permission", File, "attributes"),
    Row("setattr_prepare", File, "chmod, chown, utimes; the capability tells"),
    Row("may_setattr", File, "times set to now"),
    Row("notify_change", File, "as above, where the compiler inlined"),
    Row("path_openat", CreateIn, "directly, it has inlined lookup_open; may_open would stand before it"),
    Row("__inet_bind", Bind, "IPv4"),
    Row("inet_bind", Bind, "as above, where the compiler inlined"),
    Row("inet_bind_sk", Bind, "as above, from Linux 6.7 on"),
    Row("__inet6_bind", Bind, "IPv6"),
    Row("inet6_bind_sk", Bind, "as above"),
    Row("inet6_bind", Bind, "as above"),
    Row("sctp_do_bind", Bind, "SCTP"),
    Row("ns_capable_setid", SetId, "setuid, setgid and their kind"),
    Row("may_setgroups", SetId, "setgroups"),
];

/// Which check it was.
pub fn site(event: &Event, check: &Check) -> CheckSite {
    if let Some(asked) = check.predicted {
        return refine(event, check, foretold(asked));
    }
    let frames: Vec<&str> = check.frames.iter().map(|frame| &**frame).collect();
    if is_overlay(&frames) {
        return CheckSite::Overlay;
    }
    if frames.iter().any(|frame| matches!(*frame, "vfs_coredump" | "do_coredump")) {
        return CheckSite::CoreDump;
    }
    let found = frames.iter().find_map(|frame| TABLE.iter().find(|row| row.0 == *frame).map(|row| row.1));
    if let Some(at) = frames.iter().position(|frame| frame.ends_with("_noaudit")) {
        return match frames.get(at + 1) {
            Some(caller) if caller.contains("seccomp") => CheckSite::SeccompFilter,
            _ if found == Some(Sysctl) => Sysctl,
            _ => CheckSite::NotAudited,
        };
    }
    refine(event, check, found.unwrap_or_else(|| by_call(event, check)))
}

/// The oracle knows what it was asked.
fn foretold(asked: Asked) -> CheckSite {
    match asked {
        Asked::Search => Search,
        Asked::File => File,
        Asked::Create => CreateIn,
        Asked::Delete => DeleteIn,
        Asked::Entry => EntryIn,
        Asked::Sticky => Sticky,
        Asked::Other => Other,
    }
}

/// overlayfs acts below each call with its mounter's rights; `ovl_permission` first asks for the caller's, directly,
/// and `ovl_setattr` and the setting of an ACL ask themselves before they pass the call on.
fn is_overlay(frames: &[&str]) -> bool {
    frames.iter().enumerate().any(|(at, frame)| {
        let before = at.checked_sub(1).and_then(|at| frames.get(at)).copied().unwrap_or_default();
        let for_caller = matches!(
            (before, *frame),
            ("generic_permission", "ovl_permission")
                | ("setattr_prepare", "ovl_setattr")
                | ("inode_owner_or_capable", "ovl_set_or_remove_acl")
        );
        frame.starts_with("ovl_") && !for_caller
    })
}

/// What the frames leave open, the capability tells.
fn refine(event: &Event, check: &Check, site: CheckSite) -> CheckSite {
    match check.capability {
        Capability::CHOWN => Chown,
        Capability::FOWNER if site == Sticky || check.is_sticky() => Sticky,
        Capability::FOWNER if event.call.sets_times_to_now() => CheckSite::Touch,
        Capability::FOWNER => Own,
        Capability::SETUID | Capability::SETGID => SetId,
        Capability::NET_BIND_SERVICE => Bind,
        capability if capability.is_dac() => match site {
            Search | File | CreateIn | DeleteIn | EntryIn => site,
            // Some other caller of the ordinary permission check: a file system's own operation, most often.
            _ if check.frames.iter().any(|frame| &**frame == "generic_permission") => File,
            _ if check.frames.is_empty() => by_call(event, check),
            _ => Other,
        },
        _ => match site {
            // Another capability asked for below a function of the table: no matter of file permissions.
            Search | File | CreateIn | DeleteIn | EntryIn | Sticky | Own | Bind | SetId => Other,
            other => other,
        },
    }
}

/// Where the kernel hides its symbols, the call and the capability are all there is.
fn by_call(event: &Event, check: &Check) -> CheckSite {
    if !check.frames.is_empty() {
        return Other;
    }
    if check.capability.is_dac() {
        return dac_by_call(event);
    }
    match (check.capability, event.call.operation()) {
        (Capability::SYS_ADMIN, Operation::Memory(_) | Operation::Task(Task::Fork)) => Overcommit,
        (Capability::SYS_ADMIN, _) if files::is_exec(event) || &*event.call.name == PAGE_FAULT => Overcommit,
        (Capability::SYS_ADMIN, Operation::Task(Task::Clone)) if event.call.args[0] & CLONE_NEW == 0 => {
            Overcommit
        }
        (Capability::SETPCAP, Operation::Identity(Identity::Capabilities)) => DropsPrivileges,
        (Capability::FOWNER, operation) if operation.removes_name() => Sticky,
        _ => Other,
    }
}

/// Without frames: a file that is there and somebody else's is judged itself; for one that is not there, or that the
/// call has made, its directory is; when neither could be looked at, it is about the way.
fn dac_by_call(event: &Event) -> CheckSite {
    let operation = event.call.operation();
    let object = files::made(event);
    if object.is_some_and(|path| path.parent.is_none() && path.inode.is_none()) {
        return Search;
    }
    let absent = object.is_some_and(|path| path.inode.is_none());
    let made =
        object.and_then(|path| path.inode.as_ref()).is_some_and(|inode| inode.uid == event.credentials.uid);
    match () {
        () if operation.removes_name() => DeleteIn,
        () if operation.makes_name() || ((absent || made) && files::may_create(event)) => CreateIn,
        () if absent => Search,
        () => File,
    }
}
