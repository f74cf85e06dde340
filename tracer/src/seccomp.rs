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
    let When::Other(argument, values) = &rule.when else { return vec![ret(rule.action)] };
    let mut block = vec![load(ARGUMENTS + 8 * argument)];
    for (place, value) in values.iter().enumerate() {
        block.push(if_equal(*value, (values.len() - place) as u8, 0));
    }
    block.push(ret(rule.action));
    block
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
}
