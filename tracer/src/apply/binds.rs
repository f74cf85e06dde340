//! `SocketBindAllow=` and `SocketBindDeny=`, systemd.resource-control(5): a program of the kernel's that answers bind(2) for
//! the tasks of a control group.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::ebpf::sys::{bpf, bpf_fd};

/// What may be bound: what is allowed may, of all else what is denied may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Binds {
    allowed: Vec<Ports>,
    denied: Vec<Ports>,
}

/// One rule; an empty one is about every socket of the internet families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ports {
    /// `AF_INET` or `AF_INET6`.
    family: Option<i32>,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    protocol: Option<i32>,
    /// First and last.
    range: Option<(u16, u16)>,
}

impl Ports {
    /// Reads `[FAMILY:][PROTOCOL:]PORTS`, where each part may be missing but not all.
    fn read(text: &str) -> Option<Self> {
        let mut ports = Self::default();
        let mut words = text.split(':').peekable();
        for (name, family) in [("ipv4", libc::AF_INET), ("ipv6", libc::AF_INET6)] {
            if words.next_if_eq(&name).is_some() {
                ports.family = Some(family);
            }
        }
        for (name, protocol) in [("tcp", libc::IPPROTO_TCP), ("udp", libc::IPPROTO_UDP)] {
            if words.next_if_eq(&name).is_some() {
                ports.protocol = Some(protocol);
            }
        }
        ports.range = match words.next() {
            None | Some("any") => None,
            Some(word) => {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let range = (first.parse().ok()?, last.parse().ok()?);
                Some(range).filter(|(first, last)| *first > 0 && first <= last).map(Some)?
            }
        };
        words.next().is_none().then_some(ports)
    }
}

/// `struct bpf_insn`
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// The register that is written or compared, and the one that is read, of four bits each.
    registers: u8,
    offset: i16,
    value: i32,
}

/// Loads a word of what `r1` leads to, struct bpf_sock_addr.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const TO_BIG_ENDIAN: u8 = 0xdc;
const IF_OTHER: u8 = 0x55;
const IF_ABOVE: u8 = 0x25;
const IF_BELOW: u8 = 0xa5;
const EXIT: u8 = 0x95;
// Registers of the program below.
const CONTEXT: u8 = 1;
const PORT: u8 = 2;
const PROTOCOL: u8 = 3;
// Where struct bpf_sock_addr has them.
const USER_PORT: i16 = 24;
const SOCKET_PROTOCOL: i16 = 36;
/// The bind may go on.
const PASS: i32 = 1;
/// It fails with EPERM.
const REFUSE: i32 = 0;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, value }
}

const fn end(verdict: i32) -> [Instruction; 2] {
    [instruction(MOVE, 0, 0, 0, verdict), instruction(EXIT, 0, 0, 0, 0)]
}

impl Binds {
    /// Reads a value of either directive.
    pub(super) fn add(&mut self, allows: bool, value: &str) -> Option<()> {
        let rules = if allows { &mut self.allowed } else { &mut self.denied };
        match value {
            "" => rules.clear(),
            value => rules.push(Ports::read(value)?),
        }
        Some(())
    }

    /// Whether anything is refused.
    pub(super) fn refuse(&self) -> bool {
        !self.denied.is_empty()
    }

    /// Has the kernel hold the tasks of a control group to it, for as long as the group is there.
    ///
    /// # Errors
    /// As bpf(2): it takes CAP_BPF, CAP_NET_ADMIN, and a kernel with `CONFIG_CGROUP_BPF`.
    pub(super) fn hold(&self, group: BorrowedFd<'_>) -> io::Result<()> {
        for (family, hook) in [(libc::AF_INET, INET4_BIND), (libc::AF_INET6, INET6_BIND)] {
            let program = load(&self.program(family), hook)?;
            attach(program.as_fd(), group, hook)?;
        }
        Ok(())
    }

    /// The program for sockets of a family.
    fn program(&self, family: i32) -> Vec<Instruction> {
        let mut program = vec![
            instruction(LOAD_WORD, PORT, CONTEXT, USER_PORT, 0),
            instruction(TO_BIG_ENDIAN, PORT, 0, 0, 16),
            instruction(LOAD_WORD, PROTOCOL, CONTEXT, SOCKET_PROTOCOL, 0),
        ];
        let allowed = self.allowed.iter().map(|ports| (ports, PASS));
        for (ports, verdict) in allowed.chain(self.denied.iter().map(|ports| (ports, REFUSE))) {
            if ports.family.is_some_and(|of| of != family) {
                continue;
            }
            let range = ports.range.map(|(first, last)| [(IF_BELOW, PORT, first), (IF_ABOVE, PORT, last)]);
            let protocol = ports.protocol.map(|number| (IF_OTHER, PROTOCOL, number as u16));
            let tests: Vec<_> = protocol.into_iter().chain(range.into_iter().flatten()).collect();
            // Past the tests that follow, and the end.
            let past = (1..=tests.len()).rev().map(|left| left as i16 + 1);
            let tests = tests.iter().zip(past);
            program.extend(
                tests.map(|((code, of, value), past)| instruction(*code, *of, 0, past, (*value).into())),
            );
            program.extend(end(verdict));
        }
        program.extend(end(PASS));
        program
    }
}

/// `BPF_PROG_LOAD` and `BPF_PROG_ATTACH` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
const CGROUP_SOCK_ADDR: u32 = 18;
/// `BPF_CGROUP_INET4_BIND` and `BPF_CGROUP_INET6_BIND` of `enum bpf_attach_type`.
const INET4_BIND: u32 = 8;
const INET6_BIND: u32 = 9;
/// `BPF_F_ALLOW_MULTI`: beside what the groups above have.
const ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    hook: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttr {
    group: u32,
    program: u32,
    hook: u32,
    flags: u32,
}

fn load(program: &[Instruction], hook: u32) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let attr = LoadAttr {
        kind: CGROUP_SOCK_ADDR,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        hook,
        ..LoadAttr::default()
    };
    // SAFETY: the attribute has the kernel's layout; what it leads to lives until the call returns. A program has a descriptor.
    unsafe { bpf_fd(PROG_LOAD, &attr) }
}

fn attach(program: BorrowedFd<'_>, group: BorrowedFd<'_>, hook: u32) -> io::Result<()> {
    let attr = AttachAttr {
        group: group.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        hook,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the attribute has the kernel's layout, and leads to nothing.
    unsafe { bpf(PROG_ATTACH, &attr).map(drop) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_systemd_does() {
        let read = |text: &str| Ports::read(text).map(|ports| (ports.family, ports.protocol, ports.range));
        assert_eq!(read("tcp:80"), Some((None, Some(libc::IPPROTO_TCP), Some((80, 80)))));
        assert_eq!(
            read("ipv6:udp:1-1023"),
            Some((Some(libc::AF_INET6), Some(libc::IPPROTO_UDP), Some((1, 1023))))
        );
        assert_eq!(read("ipv4"), Some((Some(libc::AF_INET), None, None)));
        assert_eq!(read("any"), Some((None, None, None)));
        for text in ["0", "80:tcp", "tcp:70000", "9-8", "sctp:80", "tcp:80:81", "tcp:", "ipv6:ipv4"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    /// What the program says of a bind, by its instructions.
    fn verdict(binds: &Binds, family: i32, protocol: i32, port: u16) -> i32 {
        let program = binds.program(family);
        let (mut at, mut result) = (3, -1);
        loop {
            let Instruction { code, registers, offset, value } = program[at];
            at += 1;
            let register = if registers == PORT { i32::from(port) } else { protocol };
            let jumps = match code {
                MOVE => {
                    result = value;
                    false
                }
                EXIT => return result,
                IF_OTHER => register != value,
                IF_ABOVE => register > value,
                IF_BELOW => register < value,
                other => panic!("{other:#x}"),
            };
            at += if jumps { offset as usize } else { 0 };
        }
    }

    #[test]
    fn what_is_allowed_wins_over_what_is_denied() {
        let mut binds = Binds::default();
        binds.add(true, "tcp:80").unwrap();
        binds.add(true, "ipv6:udp:53").unwrap();
        assert!(!binds.refuse());
        binds.add(false, "1-1023").unwrap();
        assert!(binds.refuse());
        let (tcp, udp) = (libc::IPPROTO_TCP, libc::IPPROTO_UDP);
        for (family, protocol, port, expected) in [
            (libc::AF_INET, tcp, 80, PASS),
            (libc::AF_INET, udp, 80, REFUSE),
            (libc::AF_INET, tcp, 81, REFUSE),
            (libc::AF_INET, tcp, 1023, REFUSE),
            (libc::AF_INET, tcp, 1024, PASS),
            (libc::AF_INET, tcp, 0, PASS),
            (libc::AF_INET6, udp, 53, PASS),
            (libc::AF_INET, udp, 53, REFUSE),
        ] {
            assert_eq!(verdict(&binds, family, protocol, port), expected, "{family} {protocol} {port}");
        }
        binds.add(false, "").unwrap();
        assert!(!binds.refuse());
    }
}
