//! Keys by which equal events are recognised before anything is made of them.
//!
//! A key is a hash of 64 bits with a random seed: among 100,000 events two different ones share a key with a
//! probability of about 1 in 4,000,000,000, and no program can bring that about.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use nrtrace_ebpf::record::{FLAG_COMPAT, FLAG_FD_ONLY};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Check, Event, Object, Phase};

use super::decode::Operation;
use super::fold::Worth;
use crate::launch::IdentityCall;
use nrtrace_profiles::calls::Row;

/// Makes keys.
#[derive(Debug, Default)]
pub struct Keys(RandomState);

/// What a key is made of, besides the operation.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The executable.
    pub exe: Option<&'a RawText>,
    /// When in the life of the service.
    pub phase: Phase,
    /// 0 for success, the positive errno of a failure, negative when not known.
    pub ending: i32,
    /// The checks.
    pub checks: &'a [Check],
    /// What is known of the call.
    pub row: &'static Row,
}

impl Keys {
    /// Equal for operations that make equal events but for their time and thread.
    pub fn event(&self, operation: &Operation<'_>, seen: Seen<'_>) -> u64 {
        let mut state = self.0.build_hasher();
        let head = &operation.head;
        (head.comm, head.fsuid, head.fsgid, head.mnt_ns, head.net_ns).hash(&mut state);
        (operation.nr, head.flags & (FLAG_COMPAT | FLAG_FD_ONLY), seen.ending, seen.phase).hash(&mut state);
        seen.row.telling_args(&operation.args).hash(&mut state);
        operation.strings.all().hash(&mut state);
        seen.exe.map(RawText::as_bytes).hash(&mut state);
        if let Some(socket) = &operation.socket {
            (socket.family, socket.ty, socket.protocol).hash(&mut state);
            // With an address, its port tells; this one may be one that the kernel chose.
            if operation.strings.data().is_empty() {
                (socket.port, operation.args[0]).hash(&mut state);
            }
        }
        hash_checks(seen.checks, &mut state);
        state.finish()
    }

    /// The keys of a refusal's directory and kind.
    pub fn refusal(&self, operation: &Operation<'_>, seen: Seen<'_>) -> Worth {
        let mut state = self.0.build_hasher();
        (operation.nr, operation.head.fsuid, operation.head.mnt_ns, seen.ending).hash(&mut state);
        seen.checks.iter().for_each(|check| check.capability.hash(&mut state));
        let kind = state.finish();
        let path = operation.strings.path();
        let directory = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &path[..at]);
        (operation.strings.base(), directory).hash(&mut state);
        Worth::Refusal { directory: state.finish(), kind }
    }

    /// The key and the worth of a program that was executed.
    pub fn program(&self, event: &Event) -> (u64, Worth) {
        let mut state = self.0.build_hasher();
        "program".hash(&mut state);
        let kind = state.finish();
        let (process, credentials) = (&event.process, &event.credentials);
        (&process.name, &process.exe, event.phase, credentials.uid, credentials.gid).hash(&mut state);
        process.ancestors.iter().for_each(|ancestor| (&ancestor.name, &ancestor.exe).hash(&mut state));
        (state.finish(), Worth::Refusal { directory: kind, kind })
    }

    /// The key and the worth of a call that the supervisor decided on.
    pub fn decided(&self, call: &IdentityCall, exe: Option<&RawText>, phase: Phase) -> (u64, Worth) {
        let mut state = self.0.build_hasher();
        ("decided", call.name).hash(&mut state);
        let kind = state.finish();
        (&call.comm, exe, phase, format!("{:?}", call.outcome)).hash(&mut state);
        match &call.object {
            Object::Ids { ids } => ids.hash(&mut state),
            Object::Gift { path, uid, gid } => (path.given.as_bytes(), &path.path, uid, gid).hash(&mut state),
            _ => call.args.hash(&mut state),
        }
        (state.finish(), Worth::Refusal { directory: kind, kind })
    }
}

fn hash_checks(checks: &[Check], state: &mut impl Hasher) {
    for check in checks {
        (
            check.capability,
            check.granted,
            check.foreign,
            check.not_audited,
            check.child_namespace,
            check.predicted,
        )
            .hash(state);
        // Equal frames are one allocation.
        Arc::as_ptr(&check.frames).cast::<()>().hash(state);
        check.component.as_ref().map(|component| component.path.as_bytes()).hash(state);
    }
}
