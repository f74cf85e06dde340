//! Applies in a sandbox what nrtrace wrote for a host: the very files, by their real consumers where they are
//! installed, else line by line.

mod acl;
mod binds;
mod delegate;
mod harden;
mod sysusers;
mod tmpfiles;
mod unit;
pub mod words;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nrtrace_profiles::changes::Changes;
use nrtrace_profiles::event::Identity;

use crate::accounts;
use crate::changes::{Job, Part, STATE, Selection};
use crate::launch::environment::{self, SERVICE_PATH};
use crate::launch::{Confined, Error};
use crate::sandbox::Group;

pub use unit::Unit;

/// The texts of the files.
#[derive(Clone, Copy, Debug)]
pub struct Artefacts<'a> {
    /// sysusers.d(5)
    pub sysusers: &'a str,
    /// tmpfiles.d(5)
    pub tmpfiles: &'a str,
    /// The drop-in of the unit.
    pub unit: &'a str,
    /// sysctl.d(5)
    pub sysctl: &'a str,
    /// modules-load.d(5)
    pub modules: &'a str,
    /// What `nrtrace apply` is to do.
    pub changes: &'a Changes,
    /// Whether file capabilities are to be used in place of ambient ones.
    pub on_file: bool,
}

/// What the program is started with, once everything is in place.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its credentials, and what it is started behind.
    pub confined: Confined,
    /// What could not be applied, in words.
    pub not_applied: Vec<String>,
}

/// Applies everything, and sets limits and priorities of this process, which the program inherits.
///
/// To be called as root, in a sandbox.
///
/// # Errors
/// When the user is not there afterwards.
pub fn apply(
    artefacts: &Artefacts<'_>,
    private_network: bool,
    group: Result<&Group, &str>,
) -> Result<Applied, Error> {
    // While the directories are still root's.
    let mut not_applied = change(artefacts.changes, Part::Configuration);
    consume("systemd-sysusers", &["-"], artefacts.sysusers, sysusers::apply, &mut not_applied);
    consume("systemd-tmpfiles", &["--create", "-"], artefacts.tmpfiles, tmpfiles::apply, &mut not_applied);
    sysctls(artefacts.sysctl, private_network, &mut not_applied);
    modules(artefacts.modules, &mut not_applied);
    let unit = Unit::parse(artefacts.unit);
    for words in &unit.before_start {
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["sysctl", .., setting] => sysctls(setting, private_network, &mut not_applied),
            ["modprobe", module] => modules(module, &mut not_applied),
            _ => not_applied.push(format!("ExecStartPre=+{} of the unit", words.join(" "))),
        }
    }
    let mut applied = start(&unit, group)?;
    not_applied.append(&mut applied.not_applied);
    let confined = &mut applied.confined;
    if confined.fence.directory.is_none() {
        // Where the run was, as what follows the command may be a relative path.
        confined.fence.directory = std::env::current_dir().ok().filter(|path| path.is_dir());
    }
    if artefacts.on_file {
        (confined.ambient, confined.no_new_privs) = (0, false);
        not_applied.extend(change(artefacts.changes, Part::Capabilities));
    }
    applied.not_applied = not_applied;
    Ok(applied)
}

/// Has one kind of changes made; what could not be done, in words.
fn change(changes: &Changes, part: Part) -> Vec<String> {
    let selection = Selection { part, ..Selection::default() };
    let job = Job::open(changes, selection, Path::new(STATE), &mut || Ok(())).and_then(Job::apply);
    job.unwrap_or_else(|error| vec![error.to_string()])
}

/// Makes and gives what these files name, and nothing else; what could not be done, in words.
///
/// To be called as root, in a sandbox.
pub fn files(tmpfiles: &str, unit: &str, changes: &Changes, identity: &Identity) -> Vec<String> {
    let mut not_applied = change(changes, Part::Configuration);
    consume("systemd-tmpfiles", &["--create", "-"], tmpfiles, tmpfiles::apply, &mut not_applied);
    Unit::parse(unit).make_directories(identity, &mut not_applied);
    not_applied
}

/// Makes what a unit has around its program, whoever that runs as: directories, credentials, limits and the mask for new
/// files; the variables that tell of them. What closes something is left out.
///
/// To be called as root, in a sandbox.
pub fn surround(
    unit: &Unit,
    identity: &Identity,
    not_applied: &mut Vec<String>,
) -> Vec<(OsString, OsString)> {
    unit.make_directories(identity, not_applied);
    limits(unit, not_applied);
    if let Some(mask) = unit.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    unit.variables(identity, not_applied)
}

/// Does what a service manager does right before it executes a service, but for the execution: makes its directories
/// and what it is started behind, and sets limits and priorities of this process, which the program inherits. `group` is
/// the control group that it is to be in where the unit speaks of that, or why there is none.
///
/// # Errors
/// When the user is not there, or what it is to be started behind cannot be made.
pub fn start(unit: &Unit, group: Result<&Group, &str>) -> Result<Applied, Error> {
    let mut not_applied: Vec<String> =
        unit.unknown.iter().map(|line| format!("{line} of the unit")).collect();
    let identity = identity(unit)?;
    unit.make_directories(&identity, &mut not_applied);
    let mut environment = environment::service(&identity);
    environment.extend(unit.variables(&identity, &mut not_applied));
    limits(unit, &mut not_applied);
    if let Some(mask) = unit.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    // What it opens is to be in the copy that the fence makes of the mounts.
    let group = unit.join(group, &identity, &mut not_applied);
    let mut fence = unit.fence()?;
    fence.group = group;
    fence.directory = match &unit.directory {
        Some((path, optional)) if *optional && !path.is_dir() => Some("/".into()),
        directory => directory.as_ref().map(|(path, _)| path.clone()),
    };
    let confined = Confined {
        identity,
        ambient: unit.ambient,
        bounding: unit.bounding(),
        no_new_privs: unit.no_new_privs,
        environment,
        fence,
    };
    Ok(Applied { confined, not_applied })
}

/// Makes the user of a run, if it does not exist, with the numbers it has there; what could not be done, in words.
///
/// To be called as root, in a sandbox.
pub fn make_user(identity: &Identity) -> Vec<String> {
    let Identity { user, group, uid, gid, .. } = identity;
    if identity.exists {
        Vec::new()
    } else {
        sysusers::apply(&format!("g {group} {gid}\nu {user} {uid}:{gid}\n"))
    }
}

/// Has a file applied by its consumer, or by `own` where that is not installed.
fn consume(
    consumer: &str,
    arguments: &[&str],
    text: &str,
    own: fn(&str) -> Vec<String>,
    not_applied: &mut Vec<String>,
) {
    match find(consumer) {
        None => not_applied.extend(own(text)),
        Some(path) => {
            if let Err(reason) = run(path, arguments, text) {
                not_applied.extend(reason.lines().map(|line| format!("{consumer}: {}", line.trim())));
            }
        }
    }
}

fn find(program: &str) -> Option<PathBuf> {
    SERVICE_PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

/// Runs a program with that input; what it said, when it fails.
fn run(program: impl AsRef<Path>, arguments: &[&str], input: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut child = Command::new(program.as_ref())
        .args(arguments)
        .env("PATH", SERVICE_PATH)
        .env("SYSTEMD_LOG_TARGET", "console")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .current_dir("/")
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading all of it tells so by its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() { format!("ended with {}", output.status) } else { said })
}

/// Parameters of the sandbox's own network are set; others must have the value already.
fn sysctls(text: &str, private_network: bool, not_applied: &mut Vec<String>) {
    for line in lines(text) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let (name, value) = (name.trim().trim_start_matches('-'), value.trim());
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let squeezed = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let is_set = std::fs::read_to_string(&path).is_ok_and(|now| squeezed(&now) == squeezed(value));
        let own = private_network && name.starts_with("net.");
        if !is_set && (!own || std::fs::write(&path, value).is_err()) {
            not_applied.push(format!("the kernel parameter {name} = {value}, which is the whole machine's"));
        }
    }
}

fn modules(text: &str, not_applied: &mut Vec<String>) {
    for module in lines(text) {
        if !Path::new(&format!("/sys/module/{}", module.replace('-', "_"))).exists() {
            not_applied.push(format!("the kernel module {module}, which is not loaded on this machine"));
        }
    }
}

/// The lines of a file that are no comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
}

/// The user as this sandbox knows it.
fn identity(unit: &Unit) -> Result<Identity, Error> {
    let number = |name: &str| name.parse::<u32>().ok();
    let user = accounts::user_by_name(&unit.user);
    let uid = user.as_ref().map(|user| user.uid.as_raw()).or_else(|| number(&unit.user));
    let gid = |name: &str| {
        let group = accounts::group_by_name(name);
        group.map(|group| group.gid.as_raw()).or_else(|| number(name))
    };
    let uid = uid.ok_or_else(|| Error::UnknownUser { name: unit.user.clone() })?;
    let own = gid(&unit.group).ok_or_else(|| Error::UnknownGroup { name: unit.group.clone() })?;
    let mut groups = Vec::new();
    for name in &unit.groups {
        groups.push(gid(name).ok_or_else(|| Error::UnknownGroup { name: name.clone() })?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity {
        user: unit.user.clone(),
        group: unit.group.clone(),
        uid,
        gid: own,
        groups,
        exists: user.is_some(),
    })
}

/// Sets limits and priorities as a service manager does before it gives up root.
fn limits(unit: &Unit, not_applied: &mut Vec<String>) {
    for (name, resource, wanted) in &unit.limits {
        if let Err(reason) = limit(*resource, *wanted) {
            not_applied.push(format!("{name}, because nrtrace may not raise it itself ({reason})"));
        }
    }
    if let Some(nice) = unit.nice {
        // SAFETY: a plain system call.
        let set = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
        if set != 0 {
            not_applied.push(format!("Nice={nice}, which nrtrace may not set itself"));
        }
    }
    if let Some(score) = unit.oom_score
        && std::fs::write("/proc/self/oom_score_adj", score.to_string()).is_err()
    {
        not_applied.push(format!("OOMScoreAdjust={score}, which nrtrace may not set itself"));
    }
}

fn limit(resource: Resource, wanted: rlim_t) -> Result<(), nix::errno::Errno> {
    let set = setrlimit(resource, wanted, wanted);
    if set.is_err() {
        // At least as far as it goes.
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, hard.min(wanted), hard)?;
    }
    set
}
