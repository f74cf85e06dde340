//! What a process holds that ran before it was watched, taken in as if the calls that made it had been seen.

use nrtrace_ebpf::record::{
    FLAG_PREDICTED, FLAG_SOCKET, Head, KIND_CALL, STR_DATA, STR_PATH, STR_ROOT, STRINGS,
};
use nrtrace_profiles::Capability;
use nrtrace_profiles::event::Phase;

use super::Collector;
use super::Trees;
use super::decode::{Observation, Operation, RawCheck, Strings};
use super::paths::leaf_first;
use crate::attach::held::{self, Held, What};

/// [`Head::flags`]: no call was seen, but what it made. The probe has no such flag.
pub const FLAG_HELD: u16 = 1 << 13;

impl Collector {
    /// What was seen of its files while it was waited for.
    pub fn keep(&mut self, trees: Trees) {
        self.builder.keep(trees);
    }

    /// Takes in what the process of `head` holds. What runs as the user itself proves nothing about the user's rights by
    /// that, so it is of use where the oracle judges.
    pub(super) fn held(&mut self, head: &Head) {
        if !self.builder.foretells_for(head) {
            return;
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Before);
        let (held, root) = held::of(head.pid as i32);
        let root = leaf_first(&root);
        for held in held {
            self.hold(head, &held, &root);
        }
        self.phase = phase;
    }

    fn hold(&mut self, head: &Head, held: &Held, root: &[u8]) {
        let fd = held.fd as u64;
        let mut parts = [&[][..]; STRINGS];
        parts[STR_ROOT] = root;
        let mut head = Head { kind: KIND_CALL, flags: head.flags | FLAG_HELD, ..*head };
        let (nr, args, socket, ret) = match &held.what {
            What::File { path, flags } => {
                parts[STR_PATH] = path;
                let args = [libc::AT_FDCWD as u64, 0, u64::from(*flags as u32), 0, 0, 0];
                (libc::SYS_openat, args, None, i64::from(held.fd))
            }
            What::Listener { address, socket, .. } => {
                parts[STR_DATA] = address;
                head.flags |= FLAG_SOCKET;
                (libc::SYS_bind, [fd, 0, address.len() as u64, 0, 0, 0], Some(*socket), 0)
            }
        };
        let operation = Operation { head, nr: nr as i32, args, socket, strings: Strings::new(parts) };
        if matches!(held.what, What::Listener { privileged: true, .. }) {
            let head = Head { flags: head.flags | FLAG_PREDICTED, ..head };
            let capability = u32::from(Capability::NET_BIND_SERVICE.number());
            let check = Box::new(RawCheck::new(capability, 0));
            self.observe(Observation::Check(Operation { head, ..operation }, check));
        }
        self.observe(Observation::Call(operation, ret));
        if socket.is_some_and(|socket| i32::from(socket.ty) == libc::SOCK_STREAM) {
            let listen = Operation { nr: libc::SYS_listen as i32, ..operation };
            self.observe(Observation::Call(listen, 0));
        }
    }
}
