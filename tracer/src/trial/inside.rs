//! The side in the sandbox.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::stat::{Mode, umask};
use nrtrace_profiles::changes::Changes;
use nrtrace_profiles::emit::Format;
use nrtrace_profiles::event::{self, Backend, Identity, Record};
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::without;
use nrtrace_profiles::requirement::{Access, Need, Requirement};
use nrtrace_profiles::ways::plan;

use super::{ARGUMENT, Answer, Order, REPORT_FD, Report, Request, Rights, sealed};
use crate::apply::{self, Artefacts};
use crate::backend::{self, Wanted};
use crate::launch::{Credentials, Error, IdentityPolicy};
use crate::recording::{self, Facts};
use crate::sandbox::{self, Outcome, Shares};
use crate::session::{Plan, Source};

/// Exit status of the process when the sandbox was ended at its deadline.
pub(super) const LATE: u8 = 124;

/// Becomes the sandbox that standard input asks for. To be called first of all in a process started for it.
pub fn inside() -> ExitCode {
    let mut text = Vec::new();
    let order = std::io::stdin().read_to_end(&mut text).map_err(|error| error.to_string());
    let order = order.and_then(|_| serde_json::from_slice::<Order>(&text).map_err(|error| error.to_string()));
    // SAFETY: whoever starts this process passes the descriptor for it alone.
    let report = unsafe { OwnedFd::from_raw_fd(REPORT_FD) };
    if nix::fcntl::fcntl(&report, nix::fcntl::FcntlArg::F_GETFD).is_err() {
        std::mem::forget(report);
        return refuse("nobody waits for the report");
    }
    match order {
        Ok(Order::Make(request)) => make(request),
        Ok(Order::Run(request, remarks)) => first(&request, &remarks, report),
        Err(error) => refuse(&format!("this is no request: {error}")),
    }
}

/// Makes the sandbox and keeps it.
fn make(request: Request) -> ExitCode {
    let layout = request.layout.clone();
    let outcome = sandbox::hold(&layout, &mut |remarks| {
        let order = Order::Run(request.clone(), remarks.to_vec());
        let text = serde_json::to_vec(&order).unwrap_or_default();
        sealed::execute(ARGUMENT, &text, REPORT_FD)
    });
    match outcome {
        Ok(Outcome::Ended(status)) => ExitCode::from(status),
        Ok(Outcome::Late) => ExitCode::from(LATE),
        Err(error) => refuse(&error.to_string()),
    }
}

/// Process 1 of the sandbox: has the program run.
fn first(request: &Request, remarks: &[String], report: OwnedFd) -> ExitCode {
    // The program finds nothing to read there, and none of what was read here.
    if !set_close_on_exec(&report) || sealed::empty_input().is_err() {
        return refuse("the report's descriptor cannot be kept from the program");
    }
    let mut report = File::from(report);
    let status = sandbox::bury(&mut || {
        let answer = match run(request, remarks) {
            Ok(report) => Answer::Report(Box::new(report)),
            Err(failed) => failed,
        };
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        u8::from(report.write_all(&text).is_err())
    });
    status.map_or_else(|error| refuse(&error.to_string()), ExitCode::from)
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("sandbox: {message}");
    ExitCode::from(3)
}

fn set_close_on_exec(fd: &OwnedFd) -> bool {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).is_ok()
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::Failed { status: error.exit_status(), message: error.to_string() }
    }
}

/// What the program is started with.
struct Start {
    credentials: Credentials,
    identity: Identity,
    policy: IdentityPolicy,
    mode: event::Mode,
    not_applied: Vec<String>,
    on_shares: BTreeSet<String>,
    withheld: BTreeSet<String>,
}

fn run(request: &Request, remarks: &[String]) -> Result<Report, Answer> {
    // What is prepared is this sandbox, and not what it shows of the machine.
    let shares = Shares::find(&request.layout.binds)?;
    shares.close()?;
    let start = prepare(request, &shares)?;
    shares.open()?;
    let plan = Plan {
        command: request.command.clone(),
        credentials: start.credentials,
        identity_policy: start.policy,
        guarded: true,
        keep_env: request.keep_env,
        env: request.env.clone(),
        run_for: request.run_for,
        grace: request.grace,
        course: request.course.clone(),
        capture: request.capture,
    };
    let broken = |error: &dyn std::fmt::Display| Answer::Failed { message: error.to_string(), status: 3 };
    let wanted = |watch: super::Watching| Wanted {
        attach: false,
        foretold: None,
        record: watch.record,
        buffer: watch.buffer,
        mode: start.mode,
        identity: &start.identity,
    };
    let mut facts = Facts {
        identity: start.identity.clone(),
        mode: start.mode,
        backend: Backend::Ptrace,
        paths: Vec::new(),
        record: request.watch.map_or(Record::Needs, |watch| watch.record),
    };
    // The backend may fork, so it comes before the runtime.
    let mut source: Box<dyn Source> = match request.watch {
        Some(watch) => {
            let ready = backend::prepare(watch.backend, &wanted(watch)).map_err(|error| broken(&error))?;
            facts.backend = ready.kind;
            ready.source
        }
        None => Box::new(Nothing::new()?),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| broken(&error))?;
    let there = std::env::set_current_dir(&request.cwd);
    there.map_err(|error| broken(&format_args!("{}: {error}", request.cwd.display())))?;
    let mut recorded = runtime.block_on(recording::record(&plan, facts, source.as_mut(), &mut |_| {}))?;
    // Nothing stays of it.
    recorded.trace.end.notes.retain(|note| !recorded.left.contains(note));
    Ok(Report {
        verdict: recorded.verdict,
        trace: recorded.trace,
        program: recorded.program.into(),
        status: recorded.status,
        output: recorded.output,
        not_applied: start.not_applied,
        on_shares: start.on_shares,
        withheld: start.withheld,
        remarks: remarks.to_vec(),
    })
}

fn prepare(request: &Request, shares: &Shares) -> Result<Start, Answer> {
    // As a service manager starts services.
    umask(Mode::from_bits_truncate(0o022));
    let (profile, choices) = match &request.rights {
        Rights::Permissive { identity, policy, prepared } => {
            // A program that asks who it is finds what it will find as a service.
            let mut not_applied = apply::make_user(identity);
            if let Some(profile) = prepared {
                not_applied.extend(prepare_files(profile, shares));
            }
            return Ok(Start {
                credentials: Credentials::Permissive(identity.clone()),
                identity: identity.clone(),
                policy: *policy,
                mode: event::Mode::Permissive,
                not_applied,
                on_shares: BTreeSet::new(),
                withheld: BTreeSet::new(),
            });
        }
        Rights::Granted { profile, choices } => (profile, choices),
    };
    let on_shares = on_shares(profile, shares);
    let mut not_applied = clear_away(profile, &on_shares);
    not_applied
        .extend(on_shares.iter().map(|id| format!("{id}, as it lies on what --share shows of the machine")));
    let grants = plan(profile, choices);
    if grants.port_method == Method::Socket && !grants.ports.is_empty() {
        let why =
            "the socket unit, as nobody hands sockets over in a trial: prove it without --prefer socket";
        not_applied.push(why.to_owned());
    }
    let text = |format: Format| format.emit(profile, &grants).text;
    let on_file = grants.on_file && !grants.capabilities.is_empty();
    let file_capabilities = on_file.then(|| Changes::of(profile, &grants));
    let elsewhere = without(profile, &on_shares);
    let artefacts = Artefacts {
        sysusers: &text(Format::Sysusers),
        tmpfiles: &Format::Tmpfiles.emit(&elsewhere, &plan(&elsewhere, choices)).text,
        unit: &text(Format::SystemdDropIn),
        sysctl: &text(Format::Sysctl),
        modules: &text(Format::ModulesLoad),
        file_capabilities: file_capabilities.as_ref(),
    };
    let applied = apply::apply(&artefacts, request.layout.private_network)?;
    not_applied.extend(applied.not_applied);
    Ok(Start {
        identity: applied.confined.identity.clone(),
        credentials: Credentials::Confined(applied.confined),
        policy: IdentityPolicy::Switch,
        mode: event::Mode::Enforced,
        not_applied,
        on_shares,
        // The machine's control groups are not the sandbox's to hand on.
        withheld: grants.delegate.map(|why| why.needs).unwrap_or_default(),
    })
}

/// Makes and gives the files that a profile asks for, and no other rights.
fn prepare_files(profile: &Profile, shares: &Shares) -> Vec<String> {
    let elsewhere = without(profile, &on_shares(profile, shares));
    let grants = plan(&elsewhere, &Choices::default());
    let text = |format: Format| format.emit(&elsewhere, &grants).text;
    apply::files(&text(Format::Tmpfiles), &text(Format::SystemdDropIn), &profile.identity)
}

/// The ids of the needs that are about what is shared: it is left as it is.
fn on_shares(profile: &Profile, shares: &Shares) -> BTreeSet<String> {
    let is_shared = |requirement: &&Requirement| {
        let (path, pattern) = match &requirement.need {
            Need::Path { path, pattern, .. } => (path, *pattern),
            Need::Device { path, .. } | Need::Identity { path: Some(path), .. } => (path, false),
            _ => return false,
        };
        let mut bytes = path.as_bytes();
        if pattern {
            // What a pattern stands for lies in the directory before it, or below.
            let end = bytes.iter().position(|byte| b"*?[".contains(byte)).unwrap_or(bytes.len());
            let end = bytes[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            bytes = &bytes[..end.max(1).min(bytes.len())];
        }
        shares.hold(Path::new(std::ffi::OsStr::from_bytes(bytes)))
    };
    profile.requirements.iter().filter(is_shared).map(|requirement| requirement.id.clone()).collect()
}

/// Takes away what the run of the profile made, or a later one: what is there already hides the need to make it.
fn clear_away(profile: &Profile, on_shares: &BTreeSet<String>) -> Vec<String> {
    let mut kept = Vec::new();
    for requirement in profile.requirements.iter().filter(|found| !on_shares.contains(&found.id)) {
        let Need::Path { path, access, pattern: false, .. } = &requirement.need else { continue };
        let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !access.contains(&Access::Create) || metadata.uid() != profile.identity.uid {
            continue;
        }
        let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        if let Err(error) = removed {
            kept.push(format!(
                "{}, which an earlier run made, could not be taken away: {error}",
                path.display()
            ));
        }
    }
    kept
}

/// Watches nothing.
struct Nothing {
    quiet: OwnedFd,
    _other: OwnedFd,
}

impl Nothing {
    fn new() -> Result<Self, Error> {
        let pipe = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (quiet, other) = pipe.map_err(|errno| Error::system("making", "a pipe", errno))?;
        Ok(Self { quiet, _other: other })
    }
}

impl Source for Nothing {
    fn watch(&mut self, _child: std::os::fd::BorrowedFd<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.quiet)
    }

    fn drain(&mut self, _sink: &mut dyn FnMut(&[u8])) {}

    fn lost(&self) -> u64 {
        0
    }
}
