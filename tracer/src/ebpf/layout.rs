//! What the probe must be told about the running kernel.

use nrtrace_ebpf::layout::{ABSENT, MEMBERS, Registers, WORDS_OF_REGISTERS};

use super::Error;
use super::btf::Types;

/// Offsets of all members, in the order the probe expects.
///
/// # Errors
/// When the kernel lacks a member that the probe cannot do without.
pub fn members(types: &Types<'_>) -> Result<Vec<u32>, Error> {
    MEMBERS
        .iter()
        .map(|row| match row.member.split('|').find_map(|name| types.offset(row.structure, name)) {
            Some(offset) => Ok(offset),
            None if row.optional => Ok(ABSENT),
            None => Err(Error::MissingMember { structure: row.structure, member: row.member }),
        })
        .collect()
}

#[cfg(target_arch = "x86_64")]
mod machine {
    pub const NUMBER: &str = "orig_ax";
    /// syscall(2): registers of a native call's arguments.
    pub const ARGS: [&str; 6] = ["di", "si", "dx", "r10", "r8", "r9"];
    /// The same of a 32-bit call.
    pub const COMPAT_ARGS: [&str; 6] = ["bx", "cx", "dx", "si", "di", "bp"];
    /// Words of the registers above, for registers that are elements of an array.
    pub const INDEXED: bool = false;
    pub const COMPAT_WORD: &str = "thread_info.status";
    /// `TS_COMPAT` of `arch/x86/include/asm/thread_info.h`.
    pub const COMPAT_MASK: u32 = 2;
    /// Arguments of a function of the kernel, as of any other by the ABI.
    pub const FUNCTION: [&str; 4] = ["di", "si", "dx", "cx"];
    /// Its result.
    pub const RESULT: &str = "ax";
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub const NUMBER: &str = "syscallno";
    /// The first register has the result once the call is done; its argument stays beside it.
    pub const ARGS: [&str; 6] = ["orig_x0", "regs", "regs", "regs", "regs", "regs"];
    pub const COMPAT_ARGS: [&str; 6] = ARGS;
    pub const INDEXED: bool = true;
    pub const COMPAT_WORD: &str = "thread_info.flags";
    /// `_TIF_32BIT` of `arch/arm64/include/asm/thread_info.h`.
    pub const COMPAT_MASK: u32 = 1 << 22;
    pub const FUNCTION: [&str; 4] = ["regs"; 4];
    pub const RESULT: &str = "regs";
}

/// Where the registers of a system call are.
///
/// # Errors
/// When the kernel's register layout is not the known one.
pub fn registers(types: &Types<'_>) -> Result<Registers, Error> {
    let offset =
        |structure, member| types.offset(structure, member).ok_or(Error::MissingMember { structure, member });
    fn all<const N: usize>(types: &Types<'_>, names: [&'static str; N]) -> Result<[u32; N], Error> {
        let mut offsets = [0; N];
        for (index, (to, member)) in offsets.iter_mut().zip(names).enumerate() {
            let structure = "pt_regs";
            let start = types.offset(structure, member).ok_or(Error::MissingMember { structure, member })?;
            *to = start + if machine::INDEXED { index as u32 * 8 } else { 0 };
        }
        Ok(offsets)
    }
    Ok(Registers {
        number: offset("pt_regs", machine::NUMBER)?,
        args: all(types, machine::ARGS)?,
        compat_args: all(types, machine::COMPAT_ARGS)?,
        compat_word: offset("task_struct", machine::COMPAT_WORD)?,
        compat_mask: machine::COMPAT_MASK,
        function: all(types, machine::FUNCTION)?,
        result: offset("pt_regs", machine::RESULT)?,
    })
}

/// The registers as the words the probe holds.
pub fn words(registers: &Registers) -> [u32; WORDS_OF_REGISTERS] {
    let Registers { number, args, compat_args, compat_word, compat_mask, function, result } = registers;
    let mut words = [0; WORDS_OF_REGISTERS];
    words[0] = *number;
    words[1..7].copy_from_slice(args);
    words[7..13].copy_from_slice(compat_args);
    words[13] = *compat_word;
    words[14] = *compat_mask;
    words[15..19].copy_from_slice(function);
    words[19] = *result;
    words
}

/// Which argument of `capable_wrt_inode_uidgid` the inode is; the second one where the type information tells of no
/// functions.
pub fn inode_argument(types: &Types<'_>) -> u32 {
    types.parameter("capable_wrt_inode_uidgid", "inode").unwrap_or(1)
}

/// How far into a task's stack its registers may be: they end where the stack does, but for what some kernels leave free
/// there.
pub fn distances(types: &Types<'_>) -> Vec<u64> {
    const PAGE: u32 = 4096;
    const LEFT_FREE: [u32; 2] = [0, 16];
    let Some(registers) = types.size("pt_regs") else { return Vec::new() };
    let told = types.size("thread_union");
    let stacks = told.into_iter().chain([4, 8, 2, 16, 32].map(|pages| pages * PAGE));
    let all = stacks.flat_map(|stack| LEFT_FREE.map(|free| stack.checked_sub(registers + free)));
    all.flatten().map(u64::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_has_all_members() {
        let bytes = std::fs::read(crate::ebpf::btf::VMLINUX)
            .expect("the kernel's types; a kernel with BTF is needed");
        let types = Types::parse(&bytes).unwrap();
        let offsets = members(&types).unwrap();
        assert_eq!(offsets.len(), MEMBERS.len());
        let registers = registers(&types).unwrap();
        assert_ne!(registers.args[0], registers.args[1]);
    }
}
