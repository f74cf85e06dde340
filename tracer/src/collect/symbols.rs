//! Addresses of the kernel's stack to names of functions, from `/proc/kallsyms` (proc(5)).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
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

    /// As bytes: how many, all addresses, all starts, all names.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.addresses.len() * 12 + self.names.len());
        bytes.extend((self.addresses.len() as u64).to_ne_bytes());
        self.addresses.iter().for_each(|address| bytes.extend(address.to_ne_bytes()));
        self.starts.iter().for_each(|start| bytes.extend(start.to_ne_bytes()));
        bytes.extend(self.names.as_bytes());
        bytes
    }

    /// What [`Table::to_bytes`] has written.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<8>()?;
        let count = usize::try_from(u64::from_ne_bytes(*count)).ok()?;
        let (addresses, rest) = rest.split_at_checked(count.checked_mul(8)?)?;
        let (starts, names) = rest.split_at_checked(count.checked_mul(4)?)?;
        let table = Self {
            addresses: addresses.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect(),
            starts: starts.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect(),
            names: String::from_utf8(names.to_vec()).ok()?,
            hidden: addresses.iter().all(|byte| *byte == 0),
        };
        let holds = |start: &u32| table.names.is_char_boundary(*start as usize);
        (table.starts.is_sorted() && table.starts.iter().all(holds)).then_some(table)
    }

    /// First and last-plus-one address of a function; zeros when the kernel hides its addresses or has none of that name.
    fn extent(&self, name: &str) -> [u64; 2] {
        let is_it = |index: &usize| self.name_at(*index) == name;
        match (0..self.addresses.len()).find(is_it).filter(|_| !self.hidden) {
            Some(index) => {
                let start = self.addresses[index];
                // Others may have the same address.
                let behind = self.addresses[index..].iter().find(|address| **address > start);
                [start, behind.copied().unwrap_or(u64::MAX)]
            }
            None => [0; 2],
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

/// Those of the running kernel, read once.
static KERNEL: OnceLock<Table> = OnceLock::new();

/// Reads the symbols, unless that was done.
pub fn read() {
    KERNEL.get_or_init(Table::load);
}

/// First and last-plus-one address of a function of the kernel; zeros where that is not to be known.
pub fn extent(name: &str) -> [u64; 2] {
    KERNEL.get_or_init(Table::load).extent(name)
}

/// Starts to read the symbols in a thread of their own (some 100 ms), unless that was done.
pub fn prefetch() {
    if KERNEL.get().is_none() {
        // Without a thread, the first stack reads them itself.
        let _ = std::thread::Builder::new().name("kallsyms".into()).spawn(read);
    }
}

/// The symbols, for another process on this kernel.
pub fn written() -> Vec<u8> {
    KERNEL.get_or_init(Table::load).to_bytes()
}

/// Takes what another process has [written], in place of reading it from the kernel. What is none of it is left alone.
pub fn preset(file: File) {
    let mut bytes = Vec::new();
    // It is read from its start, wherever others have got to.
    if file.metadata().is_ok_and(|told| {
        bytes.resize(usize::try_from(told.len()).unwrap_or(0), 0);
        file.read_exact_at(&mut bytes, 0).is_ok()
    }) && let Some(table) = Table::from_bytes(&bytes)
    {
        // One that is there already is as good.
        let _ = KERNEL.set(table);
    }
}

/// The kernel's symbols, read when the first stack asks for them.
#[derive(Debug, Default)]
pub struct Symbols {
    table: Option<&'static Table>,
    stacks: HashMap<Box<[u64]>, Frames>,
    frames: HashSet<Frames>,
    names: HashSet<Arc<str>>,
    empty: Frames,
}

impl Symbols {
    /// Starts to read the symbols in a thread of their own (some 100 ms), unless that was done.
    pub fn prefetch(&mut self) {
        if self.table.is_none() {
            prefetch();
        }
    }

    /// Whether the kernel hides its addresses (`kptr_restrict`); known once a stack was looked at.
    pub fn hidden(&self) -> bool {
        self.table.is_some_and(|table| table.hidden)
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
        let table = *self.table.get_or_insert_with(|| KERNEL.get_or_init(Table::load));
        if table.hidden {
            return self.empty.clone();
        }
        // A return address is that of the next instruction, which may lie in the next function.
        let named = stack.iter().filter_map(|address| table.name(address.wrapping_sub(1)));
        let inside: Vec<&str> =
            named.skip_while(|name| is_tracing(name)).take_while(|name| !is_entry(name)).collect();
        let names = &mut self.names;
        let list: Vec<Arc<str>> = inside.into_iter().map(|name| intern(names, name)).collect();
        let frames = intern_list(&mut self.frames, list);
        if self.stacks.len() >= STACKS {
            self.stacks.clear();
            self.frames.clear();
        }
        self.stacks.insert(stack.into(), frames.clone());
        frames
    }
}

fn intern(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return known.clone();
    }
    let name: Arc<str> = name.into();
    names.insert(name.clone());
    name
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
        Symbols { table: Some(Box::leak(Box::new(Table::read(text.as_bytes())))), ..Symbols::default() }
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
    fn what_is_written_is_what_is_read() {
        let table = Table::read(KALLSYMS.as_bytes());
        let bytes = table.to_bytes();
        let read = Table::from_bytes(&bytes).unwrap();
        assert!(!read.hidden && !table.addresses.is_empty());
        assert_eq!((read.addresses, read.starts, read.names), (table.addresses, table.starts, table.names));
        for damaged in [&[][..], &bytes[..7], &bytes[..30], &[0xff; 64]] {
            assert!(Table::from_bytes(damaged).is_none(), "{damaged:?}");
        }
        assert!(Table::from_bytes(&Table::default().to_bytes()).unwrap().hidden);
    }

    #[test]
    fn a_function_ends_where_the_next_one_starts() {
        let table = Table::read(KALLSYMS.as_bytes());
        assert_eq!(table.extent("generic_permission"), [0xffff_ffff_8100_0100, 0xffff_ffff_8100_0200]);
        assert_eq!(table.extent("some_data"), [0; 2]);
        let hidden =
            Table::read("0000000000000000 T generic_permission\n0000000000000000 T next\n".as_bytes());
        assert_eq!(hidden.extent("generic_permission"), [0; 2]);
    }

    #[test]
    fn this_kernel_has_symbols() {
        let table = Table::load();
        assert!(table.hidden || table.addresses.len() > 10_000);
    }
}
