//! Seccomp filters, seccomp(2): their instructions, and programs that answer calls by name.

use libc::sock_filter;

/// What of the two tables of calls depends on the machine.
#[cfg(target_arch = "x86_64")]
pub mod arch {
    pub use syscalls::x86::Sysno as Compat;

    /// `AUDIT_ARCH_X86_64` of `linux/audit.h`.
    pub const NATIVE: u32 = 0xc000_003e;
    /// `AUDIT_ARCH_I386`.
    pub const COMPAT: u32 = 0x4000_0003;
    /// Marks a call of the x32 table, whose numbers are else the native ones.
    pub const VARIANT_BIT: u32 = 0x4000_0000;
}

/// What of the two tables of calls depends on the machine.
#[cfg(target_arch = "aarch64")]
pub mod arch {
    pub use syscalls::arm::Sysno as Compat;

    /// `AUDIT_ARCH_AARCH64` of `linux/audit.h`.
    pub const NATIVE: u32 = 0xc000_00b7;
    /// `AUDIT_ARCH_ARM`.
    pub const COMPAT: u32 = 0x4000_0028;
    /// There is no such table here.
    pub const VARIANT_BIT: u32 = 0;
}

// Offsets in struct seccomp_data; both architectures are little-endian.
/// The number of the call.
pub const NUMBER: u32 = 0;
/// The architecture of its table.
pub const ARCH: u32 = 4;
/// Its arguments, of eight bytes each.
pub const ARGUMENTS: u32 = 16;

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Loads a word of struct seccomp_data.
pub const fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Keeps these bits.
pub const fn and(mask: u32) -> sock_filter {
    statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
}

/// Ends with an action.
pub const fn ret(action: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

/// Skips instructions.
pub const fn skip(count: usize) -> sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JA, count as u32)
}

/// Skips `then` instructions when what was loaded is `k`, else `otherwise`.
pub const fn if_equal(k: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: then, jf: otherwise, k }
}

/// Which calls of a name are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// All.
    Always,
    /// Those in which this argument is none of these values.
    Other(u32, Vec<u32>),
    /// Those in which each of these arguments has all bits of its mask.
    Bits(Vec<(u32, u32)>),
}

/// A call that does not go on to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub call: String,
    /// Which of them.
    pub when: When,
    /// What becomes of it: `SECCOMP_RET_…`.
    pub action: u32,
}

impl Rule {
    /// Every call of that name fails.
    pub fn refuse(call: &str, errno: i32) -> Self {
        Self { call: call.to_owned(), when: When::Always, action: libc::SECCOMP_RET_ERRNO | errno as u32 }
    }

    /// A call of that name fails with EPERM where these arguments have these bits.
    pub fn refuse_bits(call: &str, bits: &[(u32, u32)]) -> Self {
        Self { when: When::Bits(bits.to_vec()), ..Self::refuse(call, libc::EPERM) }
    }
}

/// The number of a call in the native table.
pub fn native(name: &str) -> Option<u32> {
    name.parse::<syscalls::Sysno>().ok().map(|call| call.id() as u32)
}

/// The number of a call in the 32-bit table.
pub fn compat(name: &str) -> Option<u32> {
    name.parse::<arch::Compat>().ok().map(|call| call.id() as u32)
}

/// The number of a call in the table of an architecture.
fn number(table: u32, name: &str) -> Option<u32> {
    if table == arch::NATIVE { native(name) } else { compat(name) }
}

/// A filter for native and 32-bit calls that answers those of the rules and lets all others pass.
pub fn program(rules: &[Rule]) -> Vec<sock_filter> {
    let mut filter = vec![load(ARCH)];
    for (table, mask) in [(arch::NATIVE, !arch::VARIANT_BIT), (arch::COMPAT, !0)] {
        let mut section = Vec::new();
        for rule in rules {
            let Some(number) = number(table, &rule.call) else { continue };
            let block = block(rule);
            section.extend([load(NUMBER), and(mask), if_equal(number, 1, 0), skip(block.len())]);
            section.extend(block);
        }
        section.push(ret(libc::SECCOMP_RET_ALLOW));
        filter.extend([if_equal(table, 1, 0), skip(section.len())]);
        filter.extend(section);
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    filter
}

/// What is done once the number has matched: an answer, or a way past the end of the block.
fn block(rule: &Rule) -> Vec<sock_filter> {
    let mut block = Vec::new();
    match &rule.when {
        When::Always => {}
        When::Other(argument, values) => {
            block.push(load(ARGUMENTS + 8 * argument));
            for (place, value) in values.iter().enumerate() {
                block.push(if_equal(*value, (values.len() - place) as u8, 0));
            }
        }
        When::Bits(bits) => {
            for (place, (argument, mask)) in bits.iter().enumerate() {
                let rest = 3 * (bits.len() - place - 1) + 1;
                block.extend([load(ARGUMENTS + 8 * argument), and(*mask), if_equal(*mask, 0, rest as u8)]);
            }
        }
    }
    block.push(ret(rule.action));
    block
}

/// A filter that answers each call by its name, and all others with `otherwise`.
pub fn table(answers: &[(&str, u32)], otherwise: u32) -> Vec<sock_filter> {
    let mut filter = vec![load(ARCH)];
    for (table, mask) in [(arch::NATIVE, !arch::VARIANT_BIT), (arch::COMPAT, !0)] {
        let mut section = vec![load(NUMBER), and(mask)];
        for (name, action) in answers {
            if let Some(number) = number(table, name) {
                section.extend([if_equal(number, 0, 1), ret(*action)]);
            }
        }
        section.push(ret(otherwise));
        filter.extend([if_equal(table, 1, 0), skip(section.len())]);
        filter.extend(section);
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    filter
}

/// A filter that ends the thread at a call of another table than the native one.
pub fn native_only() -> Vec<sock_filter> {
    let kill = ret(libc::SECCOMP_RET_KILL_THREAD);
    let mut filter = vec![load(ARCH), if_equal(arch::NATIVE, 1, 0), kill];
    if arch::VARIANT_BIT != 0 {
        // A number of -1 is no call, but what a tracer makes of one that is left out.
        filter.extend([load(NUMBER), if_equal(u32::MAX, 3, 0), and(arch::VARIANT_BIT)]);
        filter.extend([if_equal(arch::VARIANT_BIT, 0, 1), kill]);
    }
    filter.push(ret(libc::SECCOMP_RET_ALLOW));
    filter
}

/// What a filter answers, by running it here.
#[cfg(test)]
pub fn answer(filter: &[sock_filter], audit_arch: u32, nr: u32, args: [u32; 4]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = filter[at];
        at += 1;
        match u32::from(code) & 0x07 {
            libc::BPF_LD => {
                accumulator = match k {
                    NUMBER => nr,
                    ARCH => audit_arch,
                    k => args[((k - ARGUMENTS) / 8) as usize],
                }
            }
            libc::BPF_ALU => accumulator &= k,
            libc::BPF_JMP if u32::from(code) & 0xf0 == libc::BPF_JA => at += k as usize,
            libc::BPF_JMP => at += usize::from(if accumulator == k { jt } else { jf }),
            _ => return k,
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use nrtrace_ebpf::table::{SOCKETCALL, in_socketcall};

    use super::*;

    const PASSED: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn calls_are_answered_in_both_tables_and_no_others() {
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | errno as u32;
        let realtime = When::Other(1, vec![0, 3, 5]);
        let filter = program(&[
            Rule::refuse("fchown", libc::ENOSYS),
            Rule { when: realtime, ..Rule::refuse("sched_setscheduler", libc::EPERM) },
        ]);
        for table in [arch::NATIVE, arch::COMPAT] {
            let number = |name: &str| number(table, name).unwrap();
            assert_eq!(answer(&filter, table, number("fchown"), [0; 4]), refused(libc::ENOSYS));
            assert_eq!(answer(&filter, table, number("fchmod"), [0; 4]), PASSED);
            for (policy, expected) in
                [(0, PASSED), (3, PASSED), (5, PASSED), (1, refused(1)), (6, refused(1))]
            {
                let found = answer(&filter, table, number("sched_setscheduler"), [9, policy, 9, 9]);
                assert_eq!(found, expected, "{policy}");
            }
        }
        assert_eq!(answer(&filter, 0xdead, native("fchown").unwrap(), [0; 4]), PASSED);
        let variant = native("fchown").unwrap() | arch::VARIANT_BIT;
        assert_eq!(answer(&filter, arch::NATIVE, variant, [0; 4]), refused(libc::ENOSYS));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_socketcall_makes_a_call_of_the_same_table() {
        let calls = [(1, "socket"), (2, "bind"), (3, "connect"), (4, "listen")];
        for (which, name) in calls.into_iter().chain([(11, "sendto"), (14, "setsockopt"), (16, "sendmsg")]) {
            assert_eq!(compat(name), u32::try_from(in_socketcall(which)).ok(), "{name}");
        }
        assert_eq!(compat("socketcall"), Some(SOCKETCALL as u32));
        assert_eq!(in_socketcall(0), SOCKETCALL);
    }

    #[test]
    fn all_bits_of_all_arguments_make_a_rule() {
        let filter = program(&[Rule::refuse_bits("openat", &[(2, 0o100), (3, 0o4000)])]);
        let openat = native("openat").unwrap();
        for (flags, mode, expected) in
            [(0o101, 0o4755, true), (0o101, 0o755, false), (1, 0o4755, false), (0o100, 0o4000, true)]
        {
            let refused = answer(&filter, arch::NATIVE, openat, [0, 0, flags, mode]) != PASSED;
            assert_eq!(refused, expected, "{flags:o} {mode:o}");
        }
    }

    #[test]
    fn what_is_not_in_a_table_is_answered_otherwise() {
        let errno = |number: i32| libc::SECCOMP_RET_ERRNO | number as u32;
        let filter = table(&[("read", PASSED), ("chown", errno(libc::ENOSYS))], errno(libc::EPERM));
        for table in [arch::NATIVE, arch::COMPAT] {
            let of = |name: &str| answer(&filter, table, number(table, name).unwrap(), [0; 4]);
            assert_eq!(of("read"), PASSED);
            assert_eq!(of("chown"), errno(libc::ENOSYS));
            assert_eq!(of("write"), errno(libc::EPERM));
        }
    }

    #[test]
    fn only_native_calls_pass() {
        let (filter, read) = (native_only(), native("read").unwrap());
        assert_eq!(answer(&filter, arch::NATIVE, read, [0; 4]), PASSED);
        assert_eq!(answer(&filter, arch::NATIVE, u32::MAX, [0; 4]), PASSED);
        assert_eq!(answer(&filter, arch::COMPAT, 3, [0; 4]), libc::SECCOMP_RET_KILL_THREAD);
        if arch::VARIANT_BIT != 0 {
            let found = answer(&filter, arch::NATIVE, read | arch::VARIANT_BIT, [0; 4]);
            assert_eq!(found, libc::SECCOMP_RET_KILL_THREAD);
        }
    }
}
