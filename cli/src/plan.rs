//! `nrtrace plan`: users, groups, owners and modes for components that share files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::accesses::Accesses;
use nrtrace_profiles::emit::PatchError;
use nrtrace_profiles::emit::escape::shell;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::glob::Pattern;
use nrtrace_profiles::plan::{self, Component, Grouping, Options, Owners, Public, Reader, User, emit};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Need, Severity};
use nrtrace_profiles::ways::grants;
use nrtrace_profiles::{Capability, RawText};
use nrtrace_tracer::accounts;

use crate::args::{GroupsArg, OwnerArg, PlanArgs, PlanFormat, PublicArg};
use crate::artefacts::Guard;
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir};
use crate::{input, terminal};

/// What a manifest can hold: far more than an API server takes as one object.
const MANIFEST: u64 = 16 << 20;
/// There are conflicts.
const FOUND: u8 = 1;

/// Plans, and prints or writes the result.
pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    let (components, recorded) = components(args)?;
    let paths = if args.paths.is_empty() { recorded } else { args.paths.clone() };
    let options = options(args, &components, paths)?;
    let pods = pods(args, &components)?;
    let arrangement = plan::plan(&components, &options).map_err(|error| BadInput(error.to_string()))?;
    let mut losses = Losses::default();
    match &args.output {
        Some(path) => {
            let output = OutputDir::open(path)?;
            let files = emit::files(&arrangement, &args.name, &pods);
            Guard::of(&output, args.force).write(&files, &mut losses);
            terminal::print(&emit::screen(&arrangement))?;
            if losses.is_empty() {
                terminal::print(&next(path, args))?;
            }
        }
        None => terminal::print(&match args.format {
            PlanFormat::Markdown => emit::markdown(&arrangement, &args.name),
            PlanFormat::Sysusers => emit::sysusers(&arrangement, &args.name),
            PlanFormat::Tmpfiles => emit::tmpfiles(&arrangement, &args.name),
            PlanFormat::Kubernetes => emit::kubernetes(&arrangement, &pods),
        })?,
    }
    if arrangement.conflicts.is_empty() {
        return Ok(losses.status(ExitCode::SUCCESS));
    }
    let count = arrangement.conflicts.len();
    terminal::tell(format_args!(
        "nrtrace: {count} wishes are in conflict: see the section \"Conflicts\" of the page"
    ));
    Ok(losses.status(ExitCode::from(FOUND)))
}

/// The components in the order of their first profiles, with all their runs taken together, and the patterns of the runs.
fn components(args: &PlanArgs) -> Result<(Vec<Component>, Vec<Pattern>)> {
    let mut out: Vec<Component> = Vec::new();
    let mut gathered: Vec<Accesses> = Vec::new();
    for (name, path) in &args.profiles {
        let profile = input::profile(path)?;
        let accesses = profile.accesses.clone().ok_or_else(|| {
            BadInput(format!(
                "{} does not tell of accesses: record it again with run --paths GLOB",
                path.display()
            ))
        })?;
        if accesses.dropped > 0 || !profile.run.complete {
            let message = format!(
                "nrtrace: {}: the recording is not complete, so accesses may be missing",
                path.display()
            );
            terminal::tell(format_args!("{message}"));
        }
        match out.iter().position(|component| component.name == *name) {
            Some(index) => {
                gathered[index].join(&accesses);
                out[index].capabilities.extend(capabilities(&profile));
                out[index].executes.extend(grants(&profile).executes);
            }
            None => {
                out.push(component(name, &profile, args));
                gathered.push(accesses);
            }
        }
    }
    named_components(args, &out)?;
    let mut patterns: BTreeSet<RawText> = BTreeSet::new();
    for (component, accesses) in out.iter_mut().zip(gathered) {
        component.files = accesses.files;
        patterns.extend(accesses.paths);
    }
    for (name, whom) in &args.today {
        let today = reader(whom)?;
        out.iter_mut()
            .filter(|component| component.name == *name)
            .for_each(|component| component.today = today.clone());
    }
    let patterns = patterns.iter().map(Pattern::new).collect::<Result<_, _>>();
    Ok((out, patterns.map_err(|error| BadInput(format!("a profile names paths that are none: {error}")))?))
}

/// Options about a component that is not there are mistakes.
fn named_components(args: &PlanArgs, components: &[Component]) -> Result<()> {
    let ids = args.ids.iter().map(|(name, ..)| name);
    let today = args.today.iter().map(|(name, _)| name);
    let manifests = args.manifests.iter().map(|(name, _)| name);
    for name in ids.chain(today).chain(manifests) {
        if components.iter().all(|component| component.name != *name) {
            return Err(BadInput(format!("no component is called {name:?}")).into());
        }
    }
    Ok(())
}

/// The manifests that are given, by their components.
fn pods(args: &PlanArgs, components: &[Component]) -> Result<emit::Pods> {
    let mut pods = emit::Pods::new();
    for (name, path) in &args.manifests {
        let bad = |error: PatchError| BadInput(format!("{}: {error}", path.display()));
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let pod = emit::Pod::read(&file, &input::text(path, MANIFEST)?, name).map_err(bad)?;
        let index = components.iter().position(|component| component.name == *name);
        if index.is_some_and(|index| pods.insert(index, pod).is_some()) {
            return Err(BadInput(format!("manifests for {name:?} are given twice")).into());
        }
    }
    Ok(pods)
}

/// What to do with the files that were written.
fn next(path: &Path, args: &PlanArgs) -> String {
    let (name, at) = (&args.name, word(path));
    let mut steps = vec![
        format!("systemd-sysusers {at}/sysusers.d/nrtrace-{name}.conf"),
        format!("systemd-tmpfiles --create {at}/tmpfiles.d/nrtrace-{name}.conf"),
    ];
    if args.manifests.is_empty() {
        steps.push(format!("cp -r {at}/*.service.d /etc/systemd/system/ && sudo systemctl daemon-reload"));
    }
    let mut folders: Vec<String> =
        args.manifests.iter().map(|(_, file)| word(file.parent().unwrap_or(Path::new(".")))).collect();
    folders.dedup();
    if let [folder] = folders.as_slice() {
        steps.push(format!("cp {at}/manifests/*.yaml {folder}/"));
    }
    let steps: Vec<String> = steps.iter().map(|step| format!("  sudo {step}\n")).collect();
    let page = format!("\nEvery file, with its owner and mode, is in {at}/{name}.md. To bring it about:\n");
    page + &steps.concat()
}

/// A path as a shell takes it.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    shell::readable(match text.trim_end_matches('/') {
        "" if text.starts_with('/') => "/",
        "" => ".",
        text => text,
    })
}

fn component(name: &str, profile: &Profile, args: &PlanArgs) -> Component {
    let identity = &profile.identity;
    let keeps = identity.exists && identity.uid != 0 && !args.new_users;
    let given = args.ids.iter().any(|(of, ..)| of == name);
    let user = (keeps && !given).then(|| User {
        name: identity.user.clone(),
        uid: identity.uid,
        group: identity.group.clone(),
        gid: identity.gid,
        exists: true,
    });
    Component {
        name: name.to_owned(),
        user,
        today: today(identity),
        files: Vec::new(),
        capabilities: capabilities(profile),
        executes: grants(profile).executes,
    }
}

fn today(identity: &Identity) -> Reader {
    if !identity.exists {
        return Reader::default();
    }
    let gids = identity.groups.iter().copied().chain([identity.gid]).collect();
    Reader { uid: identity.uid, gids }
}

/// The user, and the groups behind a colon, as this machine or a number names them.
fn reader(text: &str) -> Result<Reader> {
    let unknown = |what: &str, name: &str| {
        BadInput(format!("there is no {what} {name:?} on this machine; its number does too"))
    };
    let (user, groups) = text.split_once(':').unwrap_or((text, ""));
    let account = accounts::user_by_name(user);
    let uid = match (user.parse(), &account) {
        (Ok(uid), _) => uid,
        (_, Some(account)) => account.uid.as_raw(),
        _ => return Err(unknown("user", user).into()),
    };
    let mut gids: BTreeSet<u32> = BTreeSet::new();
    for group in groups.split(',').filter(|group| !group.is_empty()) {
        let known = accounts::group_by_name(group).map(|group| group.gid.as_raw());
        gids.insert(group.parse().ok().or(known).ok_or_else(|| unknown("group", group))?);
    }
    if gids.is_empty() {
        gids.extend(account.map(|account| account.gid.as_raw()));
    }
    Ok(Reader { uid, gids })
}

/// Capabilities that a component needs besides its files.
fn capabilities(profile: &Profile) -> BTreeSet<Capability> {
    let required =
        profile.requirements.iter().filter(|requirement| requirement.severity == Severity::Required);
    let needed = required.filter_map(|requirement| match &requirement.need {
        Need::Port { .. } => Some(Capability::NET_BIND_SERVICE),
        _ => None,
    });
    let granted = grants(profile).capabilities.into_keys();
    needed.chain(granted).collect()
}

fn options(args: &PlanArgs, components: &[Component], paths: Vec<Pattern>) -> Result<Options> {
    let defs = input::system("/etc/login.defs");
    let mut given = BTreeMap::new();
    for (name, uid, gid) in &args.ids {
        if given.insert(name.clone(), (*uid, *gid)).is_some() {
            return Err(BadInput(format!("ids for {name:?} are given twice")).into());
        }
    }
    // A user that an earlier plan has made keeps its ids.
    for component in components.iter().filter(|component| component.user.is_none()) {
        let name = format!("{}{}", args.prefix, component.name);
        if let Some(account) = accounts::user_by_name(&name) {
            given.entry(component.name.clone()).or_insert((account.uid.as_raw(), account.gid.as_raw()));
        }
    }
    Ok(Options {
        prefix: args.prefix.clone(),
        uids: system_range(&defs, "UID"),
        gids: system_range(&defs, "GID"),
        taken_uids: ids_in("/etc/passwd"),
        taken_gids: ids_in("/etc/group"),
        given,
        owners: match args.owner {
            OwnerArg::Component => Owners::Component,
            OwnerArg::Root => Owners::Root,
        },
        grouping: match args.groups {
            GroupsArg::Set => Grouping::Set,
            GroupsArg::File => Grouping::File,
        },
        public: match args.public {
            PublicArg::Close => Public::Close,
            PublicArg::Leave => Public::Leave,
        },
        paths,
    })
}

/// `SYS_UID_MIN` to `SYS_UID_MAX` of login.defs(5), with the defaults of its manual page.
fn system_range(defs: &str, kind: &str) -> RangeInclusive<u32> {
    let value = |name: String| {
        let mut lines = defs.lines().map(str::split_whitespace).filter_map(|mut words| {
            (words.next() == Some(name.as_str())).then(|| words.next()?.parse::<u32>().ok()).flatten()
        });
        lines.next()
    };
    let first_ordinary = value(format!("{kind}_MIN")).unwrap_or(1000);
    let first = value(format!("SYS_{kind}_MIN")).unwrap_or(101);
    let last = value(format!("SYS_{kind}_MAX")).unwrap_or(first_ordinary.saturating_sub(1));
    first..=last
}

/// The ids in the third field of each line.
fn ids_in(file: &str) -> BTreeSet<u32> {
    input::system(file).lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_for_system_users() {
        assert_eq!(system_range("", "UID"), 101..=999);
        assert_eq!(system_range("# SYS_UID_MIN 5\nUID_MIN 500\n", "UID"), 101..=499);
        assert_eq!(system_range("SYS_UID_MIN 201\nSYS_UID_MAX\t300\n", "UID"), 201..=300);
        assert_eq!(system_range("SYS_GID_MIN 7", "GID"), 7..=999);
    }

    #[test]
    fn whom_a_component_runs_as_today() {
        assert_eq!(reader("0").unwrap(), Reader { uid: 0, gids: BTreeSet::new() });
        assert_eq!(reader("5000:0,7").unwrap(), Reader { uid: 5000, gids: BTreeSet::from([0, 7]) });
        assert_eq!(reader("root:root").unwrap(), Reader { uid: 0, gids: BTreeSet::from([0]) });
        assert!(reader("nobody-of-that-name").is_err());
    }
}
