//! Names of the kernel's functions, for which the probe asks the kernel.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::Program;
use nrtrace_ebpf::layout::NAME_MAX;

use super::sys;
use crate::collect::symbols::Asking;

/// The program that asks, and the map that it leaves the answer in.
#[derive(Debug)]
pub(super) struct Names {
    program: OwnedFd,
    answer: OwnedFd,
}

/// The answer, which a NUL ends.
struct Text([u8; NAME_MAX]);

impl Default for Text {
    fn default() -> Self {
        Self([0; NAME_MAX])
    }
}

impl Names {
    /// Of a probe whose program `name_of` this kernel has taken (Linux 5.13).
    pub(super) fn of(ebpf: &Ebpf) -> Option<Self> {
        let (Program::RawTracePoint(program), Map::Array(answer)) =
            (ebpf.program("name_of")?, ebpf.map("NAME")?)
        else {
            return None;
        };
        let program = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
        Some(Self { program, answer: answer.fd().as_fd().try_clone_to_owned().ok()? })
    }

    /// As descriptors that a process inherits, by their numbers.
    pub(super) fn numbers(&self) -> [RawFd; 2] {
        [self.program.as_raw_fd(), self.answer.as_raw_fd()]
    }

    /// As another process has passed them on, for this one alone.
    pub(super) fn inherited([program, answer]: [RawFd; 2]) -> Self {
        // SAFETY: whoever starts this process passes these descriptors for it alone, and they are taken once.
        let owned = |number: RawFd| unsafe { OwnedFd::from_raw_fd(number) };
        Self { program: owned(program), answer: owned(answer) }
    }

    /// How to ask, where this process may.
    pub(super) fn asking(self) -> Option<Asking> {
        sys::run(self.program.as_fd(), 0).ok()?;
        let names = Mutex::new(self);
        Some(Box::new(move |address| names.lock().ok()?.name(address)))
    }

    fn name(&self, address: u64) -> Option<String> {
        sys::run(self.program.as_fd(), address).ok()?;
        // SAFETY: the array was made for such answers, and any bytes are one.
        let Text(answer) = unsafe { sys::lookup(self.answer.as_fd(), &0u32) }.ok()?;
        name(&answer)
    }
}

/// The function of an answer as `name [module]`; none where it is an address, which lies in no function.
fn name(answer: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(answer.split(|byte| *byte == 0).next()?).ok()?;
    let name = text.split_ascii_whitespace().next()?;
    (!name.starts_with("0x")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_and_addresses_are_no_names() {
        assert_eq!(name(b"cap_capable\0\0old").as_deref(), Some("cap_capable"));
        assert_eq!(name(b"ovl_permission [overlay]\0").as_deref(), Some("ovl_permission"));
        assert_eq!(name(b"0x1000\0"), None);
        assert_eq!(name(b"\0"), None);
    }
}
