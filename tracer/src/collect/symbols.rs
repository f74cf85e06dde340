//! Addresses of the kernel's stack to names of functions. The probe asks the kernel for each that occurs; before Linux 5.13 all
//! are read from `/proc/kallsyms` (proc(5)), which takes a tenth of a second.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::{Arc, OnceLock};

/// Functions on a stack, innermost first.
pub type Frames = Arc<[Arc<str>]>;

/// Distinct stacks remembered; a kernel has some hundreds that lead to a check.
const STACKS: usize = 4096;

/// Text symbols, sorted by address.
#[derive(Debug, Default)]
struct Table {
    addresses: Vec<u64>,
    /// Where each name starts in `names`; it ends where the next one starts.
    starts: Vec<u32>,
    names: String,
    hidden: bool,
}

impl Table {
    fn read(mut input: impl BufRead) -> Self {
        let mut found: Vec<(u64, u32, u32)> = Vec::new();
        let mut table = Self::default();
        let mut all = String::new();
        let mut line = String::new();
        while input.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some((address, name)) = function(&line) {
                let start = all.len() as u32;
                all.push_str(plain(name));
                found.push((address, start, all.len() as u32));
            }
            line.clear();
        }
        found.sort_by_key(|symbol| symbol.0);
        table.hidden = found.last().is_none_or(|symbol| symbol.0 == 0);
        table.names.reserve_exact(all.len());
        for (address, start, end) in found {
            table.addresses.push(address);
            table.starts.push(table.names.len() as u32);
            table.names.push_str(&all[start as usize..end as usize]);
        }
        table.addresses.shrink_to_fit();
        table.starts.shrink_to_fit();
        table
    }

    fn load() -> Self {
        match File::open("/proc/kallsyms") {
            Ok(file) => Self::read(BufReader::with_capacity(1 << 16, file)),
            Err(_) => Self { hidden: true, ..Self::default() },
        }
    }

    fn name_at(&self, index: usize) -> &str {
        let start = self.starts[index] as usize;
        let end = self.starts.get(index + 1).map_or(self.names.len(), |next| *next as usize);
        &self.names[start..end]
    }

    /// The function that holds `address`.
    fn name(&self, address: u64) -> Option<&str> {
        let index = self.addresses.partition_point(|start| *start <= address).checked_sub(1)?;
        Some(self.name_at(index))
    }
}

/// Address and name of a function, where a line tells of one.
fn function(line: &str) -> Option<(u64, &str)> {
    let (address, rest) = line.split_once(' ')?;
    let (kind, rest) = rest.split_once(' ')?;
    // The padding in front of each function is never on a stack.
    if !matches!(kind, "t" | "T" | "w" | "W") || rest.starts_with("__pfx_") {
        return None;
    }
    let name = rest.split_ascii_whitespace().next()?;
    Some((u64::from_str_radix(address, 16).ok()?, name))
}

/// The name without what the compiler added: `.isra.0`, `.constprop.0`, `.part.0`, `.cold`.
fn plain(name: &str) -> &str {
    name.split('.').next().filter(|head| !head.is_empty()).unwrap_or(name)
}

/// Asks the kernel what the function is called that holds an address.
pub type Asking = Box<dyn Fn(u64) -> Option<String> + Send + Sync>;

/// How the running kernel's addresses get their names.
enum Kernel {
    /// It is asked for each.
    Asked(Asking),
    /// All were read.
    Read(Table),
}

static KERNEL: OnceLock<Kernel> = OnceLock::new();

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if matches!(self, Self::Asked(_)) { "Asked" } else { "Read" })
    }
}

impl Kernel {
    fn read() -> Self {
        Self::Read(Table::load())
    }

    fn name(&self, address: u64) -> Option<String> {
        match self {
            Self::Asked(asking) => asking(address).map(|name| plain(&name).to_owned()),
            Self::Read(table) => table.name(address).map(str::to_owned),
        }
    }

    fn hides(&self) -> bool {
        matches!(self, Self::Read(table) if table.hidden)
    }
}

/// Names are asked for in this way from now on, unless another one is known.
pub fn ask(asking: Asking) {
    let _ = KERNEL.set(Kernel::Asked(asking));
}

/// Name of the function to which a return address leads back.
pub fn caller(address: u64) -> Option<String> {
    // It is that of the next instruction, which may lie in the next function.
    KERNEL.get_or_init(Kernel::read).name(address.wrapping_sub(1))
}

/// The kernel's symbols, as stacks ask for them.
#[derive(Debug, Default)]
pub struct Symbols {
    kernel: Option<&'static Kernel>,
    stacks: HashMap<Box<[u64]>, Frames>,
    frames: HashSet<Frames>,
    names: HashMap<u64, Option<Arc<str>>>,
    empty: Frames,
}

impl Symbols {
    /// Starts to read the symbols in a thread of their own, unless they are asked for one by one.
    pub fn prefetch(&mut self) {
        if self.kernel.is_none() && KERNEL.get().is_none() {
            // Without a thread, the first stack reads them itself.
            let read = || _ = KERNEL.get_or_init(Kernel::read);
            let _ = std::thread::Builder::new().name("kallsyms".into()).spawn(read);
        }
    }

    /// Whether the kernel hides its addresses (`kptr_restrict`); known once a stack was looked at.
    pub fn hidden(&self) -> bool {
        self.kernel.is_some_and(Kernel::hides)
    }

    /// The functions of `stack`, from the innermost to the last inside the system call's entry, without those
    /// of the tracing itself. Equal lists are one allocation.
    pub fn frames(&mut self, stack: &[u64]) -> Frames {
        if stack.is_empty() {
            return self.empty.clone();
        }
        if let Some(frames) = self.stacks.get(stack) {
            return frames.clone();
        }
        let kernel = *self.kernel.get_or_insert_with(|| KERNEL.get_or_init(Kernel::read));
        if kernel.hides() {
            return self.empty.clone();
        }
        let names = &mut self.names;
        let named = stack.iter().filter_map(|address| {
            // A return address is that of the next instruction, which may lie in the next function.
            let name = || kernel.name(address.wrapping_sub(1)).map(Arc::from);
            names.entry(*address).or_insert_with(name).clone()
        });
        let inside = named.skip_while(|name| is_tracing(name)).take_while(|name| !is_entry(name));
        let list: Vec<Arc<str>> = inside.collect();
        let frames = intern_list(&mut self.frames, list);
        if self.stacks.len() >= STACKS {
            self.stacks.clear();
            self.frames.clear();
            self.names.clear();
        }
        self.stacks.insert(stack.into(), frames.clone());
        frames
    }
}

fn intern_list(lists: &mut HashSet<Frames>, list: Vec<Arc<str>>) -> Frames {
    if let Some(known) = lists.get(list.as_slice()) {
        return known.clone();
    }
    let list: Frames = list.into();
    lists.insert(list.clone());
    list
}

/// Functions that are on the stack because it is being looked at.
fn is_tracing(name: &str) -> bool {
    ["bpf_", "__bpf_", "__traceiter_", "trace_", "__probestub_", "perf_", "kprobe_", "arch_ftrace", "ftrace_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Functions by which every system call, or page fault, is entered.
fn is_entry(name: &str) -> bool {
    const PREFIXES: [&str; 12] = [
        "do_syscall_",
        "x64_sys_call",
        "ia32_sys_call",
        "entry_SYSCALL",
        "entry_SYSENTER",
        "__x64_sys_",
        "__ia32_sys_",
        "__arm64_sys_",
        "__do_fast_syscall_32",
        "do_int80_",
        "invoke_syscall",
        "asm_exc_",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t generic_permission
ffffffff81000200 t link_path_walk.part.0.constprop.0
ffffffff81000300 D some_data
ffffffff81000400 T __x64_sys_openat
ffffffff81000500 T do_syscall_64
ffffffff81000600 T cap_capable
ffffffff81000700 T bpf_trace_run5
ffffffffc0000100 t ovl_permission\t[overlay]
";

    fn symbols(text: &str) -> Symbols {
        let kernel = Kernel::Read(Table::read(text.as_bytes()));
        Symbols { kernel: Some(Box::leak(Box::new(kernel))), ..Symbols::default() }
    }

    #[test]
    fn a_stack_is_named_cut_and_shared() {
        let mut symbols = symbols(KALLSYMS);
        let at = |offset: u64| 0xffff_ffff_8100_0000 + offset;
        let stack = [at(0x710), at(0x610), at(0x200), at(0x210), 0xffff_ffff_c000_0110, at(0x410), at(0x510)];
        let frames = symbols.frames(&stack);
        let names: Vec<&str> = frames.iter().map(|name| &**name).collect();
        // The third address is the first byte after generic_permission: a call that never returns.
        assert_eq!(names, ["cap_capable", "generic_permission", "link_path_walk", "ovl_permission"]);
        let mut other = stack;
        other[1] += 4;
        assert!(Arc::ptr_eq(&frames, &symbols.frames(&other)));
        assert!(!symbols.hidden());
    }

    #[test]
    fn hidden_addresses_give_no_frames() {
        let mut symbols = symbols("0000000000000000 T _text\n0000000000000000 t generic_permission\n");
        assert!(symbols.frames(&[1, 2, 3]).is_empty());
        assert!(symbols.hidden());
    }

    #[test]
    fn a_name_that_is_asked_for_is_cut_as_one_that_is_read() {
        let asked = |address| (address == 0x10f).then(|| "link_path_walk.part.0.constprop.0".to_owned());
        let kernel = Box::leak(Box::new(Kernel::Asked(Box::new(asked))));
        let mut symbols = Symbols { kernel: Some(kernel), ..Symbols::default() };
        let frames = symbols.frames(&[0x110, 0x210]);
        assert_eq!(frames.iter().map(|name| &**name).collect::<Vec<_>>(), ["link_path_walk"]);
        assert!(!symbols.hidden());
    }

    #[test]
    fn this_kernel_has_symbols() {
        let table = Table::load();
        assert!(table.hidden || table.addresses.len() > 10_000);
    }
}
