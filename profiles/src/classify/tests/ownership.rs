//! Changes of owner and identity, and what takes ownership.

use crate::Capability;
use crate::event::FileType;
use crate::requirement::Basis;

use super::build::*;
use super::{lines, needs, run};

#[test]
fn mode_and_times_take_ownership() {
    let own = Capability::FOWNER;
    let directory = |event: Make| event.there(FileType::Directory, 0o755, 0);
    let touch = "ns_capable inode_owner_or_capable may_setattr notify_change vfs_utimes";
    // As seen on Linux 5.10, whose compiler inlined `__check_sticky`.
    const INLINED: &str = "cap_capable security_capable capable_wrt_inode_uidgid exit_amd_microcode \
                           capable_wrt_inode_uidgid may_delete vfs_rmdir do_rmdir";
    let events = [
        directory(call("chmod", &[0, 0o700]).on("/var/lib/x")).check(own, CHMOD),
        directory(call("utimensat", &[0, 0, 0x7000]).on("/srv/times")).check(own, CHMOD),
        directory(call("utimensat", &[0, 0, 0]).on("/srv/touched")).check(own, touch),
        call("unlink", &[])
            .on("/tmp/theirs")
            .there(FileType::File, 0o644, 0)
            .check(own, "__check_sticky may_delete"),
        call("rmdir", &[])
            .on("/tmp/another")
            .there(FileType::Directory, 0o755, 0)
            .check(own, INLINED)
            .in_directory("/tmp"),
    ];
    needs(
        &trace("x", events),
        &[
            "path:/srv/times directory own",
            "path:/srv/touched directory write",
            "path:/tmp/another directory own",
            "path:/tmp/theirs file own",
            "path:/var/lib/x directory own",
        ],
    );
}

#[test]
fn a_gift_is_a_change_of_identity_and_keeping_is_ownership() {
    let make = |uid: u32| {
        let args = [0x7000, u64::from(uid), u64::from(u32::MAX)];
        call("chown", &args).on("/srv/x").there(FileType::File, 0o644, 0).check(Capability::CHOWN, CHOWN)
    };
    needs(&trace("x", [make(UID)]), &["path:/srv/x file own"]);
    needs(&trace("x", [make(33)]), &["identity:chown:33,-:/srv/x"]);
    let gift = call("fchown", &[]).gift("/var/lib/x/key", 33, u32::MAX).answered();
    let events = [mkdir("/var/lib/x").in_directory("/var/lib"), gift];
    let profile = run(&trace("x", events));
    assert_eq!(lines(&profile), ["path:/var/lib/x directory create", "identity:chown:33,-:/var/lib/x/key"]);
    assert!(
        profile.notes.iter().any(|note| note.contains("gives files that it made")),
        "{:?}",
        profile.notes
    );
}

#[test]
fn taking_the_identity_one_has_is_no_need() {
    let own = |name: &str| call(name, &[u64::from(UID)]).ids(&[UID, u32::MAX]).answered();
    needs(&trace("x", [own("setresuid"), own("setregid")]), &[]);
    // setgroups takes the privilege in any case, and a refusal is a refusal.
    let events = [
        call("setgroups", &[0]).ids(&[]).answered(),
        call("setuid", &[108]).ids(&[108]).fails(EPERM),
        call("setuid", &[0]).ids(&[0]).check(Capability::SETUID, "ns_capable_setid __sys_setuid"),
    ];
    let profile = run(&trace("x", events));
    assert_eq!(lines(&profile), ["identity:set-groups:", "identity:set-user:0", "identity:set-user:108"]);
    assert_eq!(profile.requirements[2].basis, Basis::Denied);
}

#[test]
fn dropping_privileges_is_no_need() {
    let events = [
        call("capset", &[]).check(Capability::SETPCAP, "cap_capset security_capset"),
        call("capset", &[]).check(Capability::SETPCAP, ""),
    ];
    needs(&trace("x", events), &[]);
    // The bounding set and the secure bits are refused to who has no privileges.
    let dropped = call("prctl", &[24, 7]);
    let events = [dropped.check(Capability::SETPCAP, "ns_capable cap_task_prctl security_task_prctl")];
    needs(&trace("x", events), &["capability:CAP_SETPCAP"]);
}
