//! Loads the probe.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::{fs, io, thread};

use aya::maps::Array;
use aya::programs::raw_trace_point::RawTracePoint;
use aya::programs::{
    BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePointRunOptions, TestRun,
};
use aya::sys::SyscallError;
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chroot;
use nrtrace_ebpf::layout::WORDS_OF_REGISTERS;

use super::btf::{Types, VMLINUX};
use super::names::Names;
use super::probe::{Hooks, KPROBES, map_error};
use super::{Error, layout, marks, support, sys, table};

/// The programs, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("nrtrace-probe.bpf.o");
/// The same for kernels without `bpf_loop`, task storage, or types of the current task.
static PORTABLE: &[u8] = aya::include_bytes_aligned!("nrtrace-probe-portable.bpf.o");

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// What takes the least time.
    Current,
    /// What takes the least of the kernel.
    Portable,
}

impl Variant {
    /// In the order they are tried.
    pub(super) const ALL: [Self; 2] = [Self::Current, Self::Portable];
}

/// For what the probe is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To trace what descends from a marked task.
    Run,
    /// To trace what already runs as well.
    Attach,
    /// To try every hook.
    Try,
}

/// The maps are made, the programs not yet loaded.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Btf,
    pub(super) kprobes: Vec<OwnedFd>,
}

/// What is read of the kernel's types.
struct Found {
    loader: EbpfLoader<'static>,
    members: Vec<u32>,
    registers: [u32; WORDS_OF_REGISTERS],
    inode_argument: u32,
    distances: Vec<u64>,
    btf: Btf,
}

impl Found {
    fn of_kernel(purpose: Purpose) -> Result<Self, Error> {
        let loader = loader();
        let vmlinux = fs::read(VMLINUX).map_err(Error::NoBtf)?;
        let types = Types::parse(&vmlinux)?;
        // Functions come late among the types, and are needed only where a tracepoint is missing.
        let (excerpt, complete) = types.excerpt(&TRACEPOINTS, &[]);
        let excerpt = match complete && purpose != Purpose::Try {
            true => excerpt,
            false => types.excerpt(&TRACEPOINTS, &FUNCTIONS).0,
        };
        Ok(Self {
            loader,
            members: layout::members(&types)?,
            registers: layout::words(&layout::registers(&types)?),
            inode_argument: layout::inode_argument(&types),
            distances: layout::distances(&types),
            btf: Btf::parse(&excerpt, Endianness::default())?,
        })
    }
}

/// A new loader reads all of the kernel's types, for relocations that the probe has none of. So it is made by a thread that
/// sees nothing of them.
fn loader() -> EbpfLoader<'static> {
    let unseeing = || {
        unshare(CloneFlags::CLONE_FS).ok()?;
        chroot("/sys/kernel/btf").ok()?;
        Some(EbpfLoader::new())
    };
    let thread = thread::Builder::new().name("loader".into()).spawn(unseeing).ok();
    // Where that may not be done, it reads them and forgets them again.
    let mut loader = thread.and_then(|thread| thread.join().ok()?).unwrap_or_else(EbpfLoader::new);
    loader.btf(None);
    loader
}

/// The tracepoints that programs are attached to.
const TRACEPOINTS: [&str; 8] = [
    "cap_capable",
    "sys_exit",
    "sched_process_exec",
    "sched_process_exit",
    "task_newtask",
    "cgroup_attach_task",
    "cgroup_mkdir",
    "sched_process_free",
];

/// The functions that programs are attached to where the first tracepoint is missing.
const FUNCTIONS: [&str; 2] = ["cap_capable", "capable_wrt_inode_uidgid"];

impl Loaded {
    /// Makes the maps, with a ring buffer of `buffer` bytes.
    pub(super) fn new(buffer: u32, purpose: Purpose, variant: Variant) -> Result<Self, Error> {
        let Found { loader, members, registers, inode_argument, distances, btf } = Found::of_kernel(purpose)?;
        let mut loader: EbpfLoader<'_> = loader;
        let attaching = u32::from(purpose == Purpose::Attach);
        let object = if variant == Variant::Current { OBJECT } else { PORTABLE };
        let ebpf = loader
            .allow_unsupported_maps()
            .map_max_entries("RECORDS", buffer)
            .override_global("LAYOUT", members.as_slice(), true)
            .override_global("REGISTERS", registers.as_slice(), true)
            .override_global("ATTACHING", &attaching, true)
            .override_global("INODE_ARGUMENT", &inode_argument, true)
            .load(object)
            .map_err(|error| {
                let why = is_permission(&error).then(support::why_not_permitted).flatten();
                why.unwrap_or_else(|| Error::Object(Box::new(error)))
            })?;
        let mut this = Self { ebpf, btf, kprobes: Vec::new() };
        if variant == Variant::Portable {
            this.find_places(&distances)?;
        }
        Ok(this)
    }

    /// Loads what only the portable probe has.
    fn find_places(&mut self, distances: &[u64]) -> Result<(), Error> {
        for name in ["number_at", "task_of"] {
            let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| refused(name, error))?;
        }
        marks::find_registers(&mut self.ebpf, distances)?;
        self.tracepoint("sched_process_free")
    }

    /// Has the verifier look at programs on tracepoints all at the same time. What it says is heard as each is attached.
    pub(super) fn verify(&mut self, names: &[&'static str]) {
        let Self { ebpf, btf, .. } = self;
        let wanted = ebpf.programs_mut().filter_map(|(name, program)| match program {
            Program::BtfTracePoint(program) if names.contains(&name) => Some((name.to_owned(), program)),
            _ => None,
        });
        let queue = Mutex::new(wanted.collect::<Vec<_>>());
        let next = || queue.lock().ok()?.pop();
        let work = || {
            while let Some((name, program)) = next() {
                let _ = program.load(&name, btf);
            }
        };
        thread::scope(|scope| {
            for _ in 1..names.len() {
                // Without a thread more, the others do its work.
                let _ = thread::Builder::new().name("verifier".into()).spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// The way to names of the kernel's functions, where it has one.
    pub(super) fn names(&mut self) -> Option<Names> {
        program::<RawTracePoint>(&mut self.ebpf, "name_of").ok()?.load().ok()?;
        Names::of(&self.ebpf)
    }

    /// Tells the probe the numbers of the system calls.
    pub(super) fn fill_table(&mut self) -> Result<(), Error> {
        fill(&mut self.ebpf, "NATIVE", table::native())?;
        fill(&mut self.ebpf, "COMPAT", table::compat())
    }

    /// Attaches to the capability checks, by the first way that works.
    pub(super) fn attach_hooks(&mut self) -> Result<Hooks, Error> {
        match self.tracepoint("cap_capable") {
            Ok(()) => return Ok(Hooks::Tracepoint),
            Err(Error::NoTracepoint(_)) => {}
            Err(error) => return Err(error),
        }
        let functions = match self.functions() {
            Ok(()) => return Ok(Hooks::Functions),
            Err(error @ (Error::Program { .. } | Error::Forbidden { .. })) => error,
            Err(error) => return Err(error),
        };
        // One of them may be attached already, and would tell everything twice.
        for name in ["cap_capable_exit", "inode_capable_exit"] {
            let _ = program::<FExit>(&mut self.ebpf, name).map(FExit::unload);
        }
        match self.kprobes() {
            Ok(()) => Ok(Hooks::Kprobes),
            Err(kprobes) => Err(Error::NoHook { functions: Box::new(functions), kprobes: Box::new(kprobes) }),
        }
    }

    /// Loads and attaches the program on the tracepoint of the same name.
    pub(super) fn tracepoint(&mut self, name: &'static str) -> Result<(), Error> {
        tracepoint(&mut self.ebpf, &self.btf, name)
    }

    /// Loads and attaches the programs on functions.
    pub(super) fn functions(&mut self) -> Result<(), Error> {
        let Self { ebpf, btf, .. } = self;
        for (name, function) in
            [("cap_capable_exit", "cap_capable"), ("inode_capable_exit", "capable_wrt_inode_uidgid")]
        {
            let program: &mut FExit = program(ebpf, name)?;
            program
                .load(function, btf)
                .and_then(|()| program.attach())
                .map_err(|error| refused(name, error))?;
        }
        let name = "inode_capable_entry";
        let program: &mut FEntry = program(ebpf, name)?;
        let loaded = program.load("capable_wrt_inode_uidgid", btf);
        loaded.and_then(|()| program.attach()).map_err(|error| refused(name, error))?;
        Ok(())
    }

    /// Loads the programs that need no trampolines, and attaches them to the functions.
    pub(super) fn kprobes(&mut self) -> Result<(), Error> {
        let failed = |source| Error::NoKprobe { source };
        let kind = sys::kprobe_kind().map_err(failed)?;
        for (name, probe) in KPROBES {
            let program: &mut KProbe = program(&mut self.ebpf, name)?;
            program.load().map_err(|error| refused(name, error))?;
            let fd = program.fd().map_err(|error| refused(name, error))?;
            self.kprobes.push(sys::attach_kprobe(fd.as_fd(), probe, kind).map_err(failed)?);
        }
        Ok(())
    }

    /// Depth of this process's pid namespace.
    pub(super) fn pid_level(&mut self) -> Result<u32, Error> {
        let name = "pid_level";
        let program: &mut RawTracePoint = program(&mut self.ebpf, name)?;
        program.load().map_err(|error| refused(name, error))?;
        let run = program.test_run(RawTracePointRunOptions::new()).map_err(|error| refused(name, error))?;
        Ok(run.return_value)
    }
}

/// Loads and attaches the program on the tracepoint of the same name.
pub(super) fn tracepoint(ebpf: &mut Ebpf, btf: &Btf, name: &'static str) -> Result<(), Error> {
    let program: &mut BtfTracePoint = program(ebpf, name)?;
    let loaded = if program.fd().is_ok() { Ok(()) } else { program.load(name, btf) };
    match loaded.and_then(|()| program.attach()) {
        Ok(_) => Ok(()),
        Err(ProgramError::Btf(_)) => Err(Error::NoTracepoint(name)),
        Err(error) => Err(refused(name, error)),
    }
}

/// The program of that name, of the expected type.
fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(Error::Missing(name))?;
    program.try_into().map_err(|error| refused(name, error))
}

/// Writes rows of the table of system calls to a map.
fn fill(
    ebpf: &mut Ebpf,
    map: &'static str,
    rows: impl Iterator<Item = (u32, table::Bytes)>,
) -> Result<(), Error> {
    let found = ebpf.map_mut(map).ok_or(Error::Missing(map))?;
    let mut array =
        Array::<_, table::Bytes>::try_from(found).map_err(|error| map_error("open", map, error))?;
    for (number, operands) in rows {
        array.set(number, operands, 0).map_err(|error| map_error("fill", map, error))?;
    }
    Ok(())
}

/// A program's refusal: for lack of permission if that explains it.
fn refused(program: &'static str, error: ProgramError) -> Error {
    if !is_permission(&error) {
        return Error::Program { program, refusal: Box::new(error) };
    }
    support::why_not_permitted().unwrap_or(Error::Forbidden { program })
}

/// Whether the kernel said EPERM (EACCES is the verifier's).
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match (error.downcast_ref::<io::Error>(), error.downcast_ref::<SyscallError>()) {
            (Some(io), _) => Some(io),
            (_, Some(call)) => Some(&call.io_error),
            _ => None,
        };
        if io.is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        cause = error.source();
    }
    false
}
