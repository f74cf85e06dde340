//! The side in the sandbox.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{Mode, umask};
use nrtrace_profiles::changes::Changes;
use nrtrace_profiles::emit::Format;
use nrtrace_profiles::event::{self, Backend, Exit, Identity, Record};
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::without;
use nrtrace_profiles::requirement::{Access, Need, Requirement};
use nrtrace_profiles::ways::plan;

use super::live::{News, Told};
use super::{ARGUMENT, Answer, Order, Report, Request, Rights, put, sealed, take};
use crate::apply::{self, Artefacts, Unit};
use crate::backend::{self, Ready, Wanted};
use crate::ebpf::{Lent, Numbers};
use crate::launch::{Credentials, Error, IdentityPolicy};
use crate::recording::{self, RecordingFacts};
use crate::sandbox::{self, Group, Outcome, Shares};
use crate::session::{Plan, Source, Step};

/// Exit status of the process when the sandbox was ended at its deadline.
pub(super) const LATE: u8 = 124;
/// The program's process number is above this one,
const FIRST: u32 = 1000;
/// and by so many at the most: the smallest limit of the kernel is 32,768.
const MOST: u32 = 30_000;
/// What the service manager runs before the program may take so long.
const LONGEST_STEP: Duration = Duration::from_secs(60);
/// Why a unit that takes no control group has none.
const NO_GROUP: &str = "there is no control group for it";
/// Its exit status when it could not do its work.
const BROKEN: u8 = 3;

/// Becomes the sandbox that is asked for in the memory behind descriptor `memory`; a run that is followed has a socket
/// for it, `news`. To be called first of all in a process started for it.
pub fn inside(memory: RawFd, news: Option<RawFd>) -> ExitCode {
    let inherited = |fd: RawFd| (fcntl(borrowed(fd), FcntlArg::F_GETFD).is_ok()).then(|| owned(fd));
    let Some(memory) = inherited(memory) else {
        eprintln!("sandbox: nobody waits for the report");
        return ExitCode::from(BROKEN);
    };
    let mut memory = File::from(memory);
    let order = take::<Order>(&mut memory);
    let order = order.and_then(|order| order.ok_or_else(|| std::io::Error::other("this is no request")));
    let outcome = match order {
        Ok(order) if order.made.is_none() => make(order, &mut memory, news),
        Ok(order) => {
            let told = news.and_then(inherited).zip(order.called);
            first(&order, &mut memory, told.map(|(socket, blocked)| Told::new(socket, blocked)))
        }
        Err(error) => Err(Error::system("reading", "the order", error)),
    };
    outcome.unwrap_or_else(|error| {
        let _ = put(&mut memory, &Answer::NoSandbox(error.to_string()));
        ExitCode::from(BROKEN)
    })
}

fn borrowed<'a>(fd: RawFd) -> std::os::fd::BorrowedFd<'a> {
    // SAFETY: whoever starts this process passes the descriptor for it alone; where it does not, the call fails.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: whoever starts this process passes the descriptor for it alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes the sandbox and keeps it.
fn make(order: Order, memory: &mut File, news: Option<RawFd>) -> Result<ExitCode, Error> {
    use std::os::fd::AsRawFd;
    let own = memory.as_raw_fd();
    let mut answers = memory.try_clone().map_err(|error| Error::system("sharing", "the order", error))?;
    let layout = order.request.layout.clone();
    let kept = takes_group(&order.request).then(sandbox::Kept::make);
    let group = kept.as_ref().map(|kept| kept.as_ref().map(sandbox::Kept::group).map_err(Clone::clone));
    let first = &mut |remarks: &[String]| {
        let failed = |error| Error::system("passing on", "the order", error);
        let group = group.clone().map(|group| group.cloned());
        let joins = group.iter().flatten().map(|group| group.joins);
        put(memory, &Order { made: Some(remarks.to_vec()), group: group.clone(), ..order.clone() })
            .map_err(failed)?;
        // What somebody else's caller left open would lead out of the sandbox.
        if order.called.is_none() {
            let lent = order.lent.as_ref().map(Numbers::all).unwrap_or_default();
            sealed::close_on_execute(&[&[own], lent.as_slice()].concat()).map_err(failed)?;
        }
        for fd in joins {
            fcntl(borrowed(fd), FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| failed(errno.into()))?;
        }
        let numbers = std::iter::once(own).chain(news).map(|fd| fd.to_string());
        sealed::execute(&std::iter::once(ARGUMENT.to_owned()).chain(numbers).collect::<Vec<_>>())
    };
    let outcome = sandbox::hold(&layout, first, &mut |error| {
        let _ = put(&mut answers, &Answer::NoSandbox(error.to_string()));
    });
    Ok(match outcome? {
        Outcome::Ended(status) => ExitCode::from(status),
        Outcome::Late => ExitCode::from(LATE),
    })
}

/// Process 1 of the sandbox: has the program run.
fn first(order: &Order, memory: &mut File, told: Option<Told>) -> Result<ExitCode, Error> {
    let failed = |error: std::io::Error| Error::system("preparing", "process 1 of a sandbox", error);
    memory.set_len(0).map_err(failed)?;
    sealed::take_name().map_err(|errno| failed(errno.into()))?;
    let lent = order.lent.as_ref().map(Numbers::all).unwrap_or_default();
    let own = std::iter::once(std::os::fd::AsFd::as_fd(&memory)).chain(told.as_ref().map(Told::as_fd));
    let joins = order.group.iter().flatten().map(|group| borrowed(group.joins));
    for fd in own.chain(lent.into_iter().map(borrowed)).chain(joins) {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| failed(errno.into()))?;
    }
    if told.is_none() {
        sealed::empty_input().map_err(|errno| failed(errno.into()))?;
    }
    number_on(order.request.layout.parent);
    let status = sandbox::bury(&mut || {
        let answer = match run(order, told.as_ref()) {
            Ok(report) => Answer::Report(Box::new(report)),
            Err(failed) => failed,
        };
        u8::from(put(memory, &answer).is_err())
    });
    status.map(ExitCode::from)
}

/// Has processes numbered as on a machine that has run for a while: what holds a number of one digit does not look as if it
/// were another one next time.
fn number_on(from: u32) {
    // Where the kernel does not let them (CONFIG_CHECKPOINT_RESTORE), they have low numbers.
    let _ = fs::write("/proc/sys/kernel/ns_last_pid", (FIRST + from % MOST).to_string());
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
    /// Variables by which a service manager tells of what it made.
    variables: Vec<(OsString, OsString)>,
    not_applied: Vec<String>,
    on_shares: BTreeSet<String>,
    withheld: BTreeSet<String>,
}

fn run(order: &Order, told: Option<&Told>) -> Result<Report, Answer> {
    let (request, remarks) = (&order.request, order.made.clone().unwrap_or_default());
    let tell = |news| told.iter().for_each(|told| told.tell(&news));
    tell(News::Made(remarks.clone()));
    if told.is_none() {
        // As a service manager starts services.
        umask(Mode::from_bits_truncate(0o022));
    }
    // What is prepared is this sandbox, and not what it shows of the machine.
    let shares = Shares::find(&request.layout.binds)?;
    shares.close()?;
    let group = order.group.as_ref().map(|group| group.as_ref().map_err(String::as_str));
    let mut start = prepare(request, &shares, group.unwrap_or(Err(NO_GROUP)))?;
    shares.open()?;
    let service = request.service.clone().unwrap_or_default();
    let env: Vec<_> =
        start.variables.drain(..).chain(service.env).chain(request.env.iter().cloned()).collect();
    let (full, before) = service.before.into_iter().partition::<Vec<_>, _>(|step| step.full);
    let plan = Plan {
        command: request.command.clone(),
        before,
        credentials: start.credentials.clone(),
        identity_policy: start.policy,
        guarded: true,
        keep_env: request.keep_env,
        env,
        run_for: request.run_for,
        grace: request.grace,
        course: request.course.clone(),
        capture: request.capture,
        relay: told.map(Told::relay),
    };
    let mut facts = facts(request, &start).map_err(|error| broken(&error))?;
    // The backend may fork, so it comes before the runtime.
    let mut source = source(order, &start)?;
    if let Some(ready) = &source {
        facts.backend = ready.kind;
        tell(News::watched(ready));
    }
    let mut nothing = Nothing::new()?;
    let source = source.as_mut().map_or(&mut nothing as &mut dyn Source, |ready| ready.source.as_mut());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| broken(&error))?;
    let there = std::env::set_current_dir(&request.cwd);
    there.map_err(|error| broken(&format_args!("{}: {error}", request.cwd.display())))?;
    for step in full {
        runtime.block_on(with_all_rights(&step, &plan, &facts))?;
    }
    let progress = &mut |progress| tell(News::Progress(progress));
    let mut recorded = runtime.block_on(recording::record(&plan, facts, source, progress))?;
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
        by_volume: BTreeSet::new(),
        remarks,
    })
}

/// Runs what the service manager itself runs before the program, with all rights, in this sandbox.
async fn with_all_rights(step: &Step, plan: &Plan, facts: &RecordingFacts) -> Result<(), Answer> {
    let plan = Plan {
        command: step.command.clone(),
        before: Vec::new(),
        credentials: Credentials::Unchanged,
        identity_policy: IdentityPolicy::Switch,
        run_for: Some(LONGEST_STEP),
        course: None,
        relay: None,
        ..plan.clone()
    };
    let done = recording::record(&plan, facts.clone(), &mut Nothing::new()?, &mut |_| {}).await?;
    if done.trace.end.exit == (Exit::Exited { status: 0 }) || step.may_fail {
        return Ok(());
    }
    let words: Vec<_> = step.command.iter().map(|word| word.to_string_lossy()).collect();
    let said = String::from_utf8_lossy(&done.output).trim().to_owned();
    Err(broken(&format_args!("`{}`, which is run before the program, failed: {said}", words.join(" "))))
}

fn broken(error: &dyn std::fmt::Display) -> Answer {
    Answer::Failed { message: error.to_string(), status: BROKEN }
}

fn facts(request: &Request, start: &Start) -> Result<RecordingFacts, nrtrace_profiles::glob::BadPattern> {
    Ok(RecordingFacts {
        identity: start.identity.clone(),
        mode: start.mode,
        backend: Backend::Ptrace,
        paths: request.paths.iter().map(Pattern::new).collect::<Result<_, _>>()?,
        record: request.watch.map_or(Record::Needs, |watch| watch.record),
    })
}

/// What watches the program, where something is to.
fn source(order: &Order, start: &Start) -> Result<Option<Ready>, Answer> {
    let Some(watch) = order.request.watch else { return Ok(None) };
    // Where a lent one cannot be attached, another one is made.
    if let Some(lent) = order.lent.as_ref().and_then(|numbers| Lent::attach(numbers).ok()) {
        return Ok(Some(Ready::lent(lent)));
    }
    let wanted = Wanted {
        attach: false,
        foretold: None,
        record: watch.record,
        buffer: watch.buffer,
        mode: start.mode,
        identity: &start.identity,
    };
    backend::prepare(watch.backend, &wanted).map(Some).map_err(|error| broken(&error))
}

fn prepare(request: &Request, shares: &Shares, group: Result<&Group, &str>) -> Result<Start, Answer> {
    let (profile, choices) = match &request.rights {
        Rights::Recorded { identity, mode, policy, prepared } => {
            let mut start = recorded(identity, *mode, *policy);
            if let Some(service) = &request.service {
                let unit = Unit::parse(&service.directives);
                start.variables = apply::surround(&unit, identity, &mut start.not_applied);
            }
            if let Some(profile) = prepared {
                start.not_applied.extend(prepare_files(profile, shares));
            }
            return Ok(start);
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
    let elsewhere = without(profile, &on_shares);
    let artefacts = Artefacts {
        sysusers: &text(Format::Sysusers),
        tmpfiles: &Format::Tmpfiles.emit(&elsewhere, &plan(&elsewhere, choices)).text,
        unit: &unit_of(request, &text(Format::SystemdDropIn)),
        sysctl: &text(Format::Sysctl),
        modules: &text(Format::ModulesLoad),
        changes: &Changes::of(profile, &grants),
        on_file,
    };
    let applied = apply::apply(&artefacts, request.layout.private_network, group)?;
    let delegates = !applied.not_applied.iter().any(|text| text.starts_with("Delegate="));
    not_applied.extend(applied.not_applied);
    Ok(Start {
        identity: applied.confined.identity.clone(),
        credentials: Credentials::Confined(applied.confined),
        policy: IdentityPolicy::Switch,
        mode: event::Mode::Enforced,
        variables: Vec::new(),
        not_applied,
        on_shares,
        withheld: grants.delegate.filter(|_| !delegates).map(|why| why.needs).unwrap_or_default(),
    })
}

/// The unit of the program with the drop-in behind it, as far as there is one.
fn unit_of(request: &Request, drop_in: &str) -> String {
    let directives = request.service.as_ref().map(|service| service.directives.as_str());
    format!("{}\n{drop_in}", directives.unwrap_or_default())
}

/// Whether the unit says what takes a control group.
fn takes_group(request: &Request) -> bool {
    let Rights::Granted { profile, choices } = &request.rights else { return false };
    let drop_in = Format::SystemdDropIn.emit(profile, &plan(profile, choices)).text;
    Unit::parse(&unit_of(request, &drop_in)).takes_group()
}

/// Makes and gives the files that a profile asks for, and no other rights.
fn prepare_files(profile: &Profile, shares: &Shares) -> Vec<String> {
    let elsewhere = without(profile, &on_shares(profile, shares));
    let grants = plan(&elsewhere, &Choices::default());
    let text = |format: Format| format.emit(&elsewhere, &grants).text;
    let changes = Changes::of(&elsewhere, &grants);
    apply::files(&text(Format::Tmpfiles), &text(Format::SystemdDropIn), &changes, &profile.identity)
}

/// For a run that shows what is needed.
fn recorded(identity: &Identity, mode: event::Mode, policy: IdentityPolicy) -> Start {
    // A program that asks who it is finds what it will find as a service.
    let not_applied = if mode == event::Mode::Observation { Vec::new() } else { apply::make_user(identity) };
    Start {
        credentials: match mode {
            event::Mode::Permissive => Credentials::Permissive(identity.clone()),
            event::Mode::Enforced => Credentials::Enforced(identity.clone()),
            event::Mode::Observation => Credentials::Unchanged,
        },
        identity: identity.clone(),
        policy,
        mode,
        variables: Vec::new(),
        not_applied,
        on_shares: BTreeSet::new(),
        withheld: BTreeSet::new(),
    }
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
