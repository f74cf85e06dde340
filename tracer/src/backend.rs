//! Chooses what watches the program: eBPF where it can be had, else ptrace(2) with the access oracle.

use std::os::fd::{AsFd, BorrowedFd};

use libc::sock_filter;
use nrtrace_profiles::calls::Row;
use nrtrace_profiles::event::{Backend, Identity, Mode, Record};

use crate::ebpf::{self, Lent, Probe};
use crate::launch;
use crate::oracle::{self, Oracle};
use crate::predict::{self, Predictor};
use crate::ptrace::{self, MakeJudge, Stops, Tracer};
use crate::session::{Begins, Source};

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Choice {
    /// eBPF if it loads, else ptrace.
    #[default]
    Auto,
    /// eBPF or nothing.
    Ebpf,
    /// ptrace or nothing.
    Ptrace,
}

/// What is to be recorded, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How much.
    pub record: Record,
    /// Bytes of the eBPF backend's buffer, a power of two.
    pub buffer: usize,
    /// Whether it runs already.
    pub attach: bool,
    /// The only user whose doings are foretold; what all others are refused is real.
    pub foretold: Option<u32>,
    /// How the program runs.
    pub mode: Mode,
    /// The user whose rights are judged.
    pub identity: &'a Identity,
}

/// A backend that is ready to watch.
pub struct Ready {
    /// Which.
    pub kind: Backend,
    /// What does the watching.
    pub source: Box<dyn Source>,
    /// What it is, in a few words.
    pub description: String,
    /// Why it is not the first choice.
    pub fallback: Option<ebpf::Error>,
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// eBPF was asked for.
    #[error(transparent)]
    Ebpf(#[from] ebpf::Error),
    /// ptrace was asked for.
    #[error(transparent)]
    Ptrace(#[from] PtraceError),
    /// Neither works.
    #[error("no backend works here. eBPF: {ebpf}. ptrace: {ptrace}. See nrtrace doctor")]
    Neither {
        /// Why eBPF does not.
        ebpf: ebpf::Error,
        /// Why ptrace does not.
        ptrace: PtraceError,
    },
}

impl Error {
    /// Why eBPF does not work, where that is part of it.
    pub fn ebpf(&self) -> Option<&ebpf::Error> {
        match self {
            Self::Ebpf(error) | Self::Neither { ebpf: error, .. } => Some(error),
            Self::Ptrace(_) => None,
        }
    }
}

/// Why the ptrace backend does not work.
#[derive(Debug, thiserror::Error)]
pub enum PtraceError {
    /// The tracer.
    #[error(transparent)]
    Tracer(#[from] ptrace::Error),
    /// The access oracle.
    #[error(transparent)]
    Oracle(#[from] oracle::Error),
}

/// Prepares the backend that was chosen.
///
/// The ptrace backend forks: to be called before other threads are started.
///
/// # Errors
/// When it does not work here; with [`Choice::Auto`] when none does.
pub fn prepare(choice: Choice, wanted: &Wanted<'_>) -> Result<Ready, Error> {
    match choice {
        Choice::Ebpf => Ok(probe(wanted)?),
        Choice::Ptrace => Ok(tracer(wanted)?),
        Choice::Auto => match probe(wanted) {
            Ok(ready) => Ok(ready),
            Err(ebpf) => match tracer(wanted) {
                Ok(ready) => Ok(Ready { fallback: Some(ebpf), ..ready }),
                Err(ptrace) => Err(Error::Neither { ebpf, ptrace }),
            },
        },
    }
}

impl Ready {
    /// With a probe that another process has loaded.
    pub fn lent(lent: Lent) -> Self {
        let description = format!("eBPF, {}", lent.hooks().description());
        Self { kind: Backend::Ebpf, source: Box::new(lent), description, fallback: None }
    }
}

fn probe(wanted: &Wanted<'_>) -> Result<Ready, ebpf::Error> {
    let probe =
        Probe::load(&ebpf::Options { record: wanted.record, buffer: wanted.buffer, attach: wanted.attach })?;
    let description = format!("eBPF, {}", probe.hooks().description());
    Ok(Ready { kind: Backend::Ebpf, source: Box::new(probe), description, fallback: None })
}

fn tracer(wanted: &Wanted<'_>) -> Result<Ready, PtraceError> {
    // Made here to be sure that it can be made: the one that is used lives in the tracer process.
    drop(Oracle::new(wanted.identity)?);
    let identity = wanted.identity.clone();
    // Where refusals are real, some come from what the oracle does not know: each call's result is waited for.
    let real = wanted.mode == Mode::Enforced;
    let only = wanted.foretold;
    let judge: MakeJudge = Box::new(move || match Predictor::new(&identity, real) {
        Ok(predictor) => Box::new(predictor.only(only)),
        Err(error) => panic!("{error}"),
    });
    let rows = predict::rows(wanted.record);
    let stops = match wanted.record {
        Record::Needs => Stops::Checks,
        Record::Calls => Stops::EntryAndExit,
    };
    let options = ptrace::Options {
        rows: rows.clone(),
        stops,
        from_exec: true,
        kill_tree: !wanted.attach,
        attach: wanted.attach,
    };
    let tracer = Tracer::start(options, Some(judge))?;
    let description = "ptrace, with needs predicted by the access oracle".to_owned();
    let source = Box::new(Traced { tracer, rows });
    Ok(Ready { kind: Backend::Ptrace, source, description, fallback: None })
}

/// The ptrace backend as a source of records.
struct Traced {
    tracer: Tracer,
    rows: Vec<Row>,
}

impl Source for Traced {
    fn watch(&mut self, child: BorrowedFd<'_>) -> Result<(), launch::Error> {
        self.tracer.watch(child).map_err(launch::Error::source)
    }

    fn adopt(&mut self, pid: i32, begins: Begins) -> Result<(), launch::Error> {
        let from_exec = match begins {
            Begins::Now => false,
            Begins::WithExec => true,
            Begins::InContainer => {
                let advice =
                    "a container engine can be traced by eBPF alone; attach to its container instead";
                return Err(launch::Error::source(std::io::Error::other(advice)));
            }
        };
        self.tracer.adopt(pid, from_exec).map_err(launch::Error::source)
    }

    fn watches(&self, pid: i32, _pidfd: BorrowedFd<'_>) -> bool {
        self.tracer.traces(pid)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tracer.as_fd()
    }

    fn drain(&mut self, sink: &mut dyn FnMut(&[u8])) {
        self.tracer.drain(sink);
    }

    fn lost(&self) -> u64 {
        self.tracer.lost()
    }

    fn filter(&self) -> Vec<sock_filter> {
        ptrace::filter(&self.rows)
    }

    fn helper(&self) -> Option<i32> {
        Some(self.tracer.pid() as i32)
    }
}
