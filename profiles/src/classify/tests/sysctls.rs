//! Kernel parameters below `/proc/sys`.

use crate::Capability;
use crate::event::Cause;
use crate::requirement::Basis;

use super::build::*;
use super::{lines, needs, run};

#[test]
fn a_write_to_a_sysctl_of_a_namespace_depends_on_a_check_without_audit() {
    let path = "/proc/sys/kernel/pid_max";
    let stack = "ns_capable_noaudit pid_table_root_permissions sysctl_perm proc_sys_permission inode_permission may_open";
    let check = |flags| open(path, flags).check(Capability::SYS_ADMIN, stack).not_audited();
    needs(
        &trace("x", [check(O_WRONLY), call("write", &[3]).on(path).wrote("4194304\n")]),
        &["sysctl:kernel.pid_max=4194304"],
    );
    needs(&trace("x", [check(0)]), &[]);
}

#[test]
fn what_is_refused_of_a_sysctl_is_its_owners_alone() {
    // No capability is consulted, so a security module seems to refuse it.
    for cause in [Cause::Policy, Cause::Permission] {
        let write = || open("/proc/sys/vm/overcommit_memory", O_WRONLY).hindered(cause, "");
        let profile = run(&trace("x", [write().fails(EACCES)]));
        assert_eq!(lines(&profile), ["sysctl:vm.overcommit_memory"], "{cause:?}");
        assert_eq!(profile.requirements[0].basis, Basis::Denied);
        assert_eq!(profile.unexplained, []);
        // A read-only mount is another matter.
        let profile = run(&trace("x", [write().fails(EROFS)]));
        assert_eq!(lines(&profile), [""; 0], "{cause:?}");
    }
}
