//! Needs that are dealt with alike are one row.

use std::collections::{BTreeMap, BTreeSet};

use super::proved;
use super::rows::{by, identity, subject};
use crate::RawText;
use crate::describe::owner;
use crate::emit::remedy::{Remedy, chosen, remedies, verdict};
use crate::emit::treatment::Treatment;
use crate::event::{FileType, Phase};
use crate::grants::{Act, Grants};
use crate::place::{is_below, parent};
use crate::profile::Profile;
use crate::requirement::{IdentityOperation, Need, Requirement, word};

/// What one row stands for.
pub(crate) struct Group<'a> {
    /// The needs.
    pub(crate) needs: Vec<&'a Requirement>,
    /// What they are about, in a few words.
    pub(crate) subject: String,
    pub(in crate::emit) verdict: Treatment,
    /// Which of the files does it; empty where none does.
    pub(in crate::emit) place: String,
    /// What is done.
    pub(crate) remedy: String,
    /// What would do as well, by the program's own configuration.
    pub(in crate::emit) others: Vec<String>,
}

/// What needs of one row have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    verdict: Treatment,
    kind: u8,
    /// Where they lie: the first components of a path; of a refusal, which is a sentence, anywhere.
    tree: Vec<u8>,
    file_type: Option<FileType>,
    /// The new owner, where files are given away.
    ids: Option<Vec<u32>>,
    proved: Vec<String>,
    /// Which files do what.
    done: Vec<(String, String)>,
    /// What is known of the program and would do as well.
    others: Vec<String>,
}

/// Components of a path that needs of one row have in common: `/var/lib/NAME`.
const TREE: usize = 3;

impl Alike {
    fn of(requirement: &Requirement, grants: &Grants) -> Self {
        let need = &requirement.need;
        let verdict = verdict(grants, requirement);
        let (tree, file_type) = match need {
            Need::Path { path, file_type, .. } if verdict <= Treatment::Partly => {
                (tree(path), Some(*file_type))
            }
            // A limit or a parameter is a value of its own.
            Need::Limit { .. } | Need::Sysctl { .. } | Need::Exec { .. } => (need.id().into_bytes(), None),
            _ => (Vec::new(), None),
        };
        let ids = match need {
            Need::Identity { operation: IdentityOperation::Chown, ids, .. } => Some(ids.clone()),
            _ => None,
        };
        Self {
            verdict,
            kind: need.rank(),
            tree,
            file_type,
            ids,
            // A port of both families is one, whichever of the two was left out to try.
            proved: if matches!(need, Need::Port { .. }) { Vec::new() } else { proved::of_need(requirement) },
            done: done(grants, requirement),
            others: if verdict <= Treatment::Partly { others(grants, requirement) } else { Vec::new() },
        }
    }
}

fn tree(path: &RawText) -> Vec<u8> {
    let bytes = path.as_bytes();
    let end = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').nth(TREE).map(|(at, _)| at);
    let parent = parent(path);
    bytes.get(..end.unwrap_or(parent.as_bytes().len())).unwrap_or_default().to_vec()
}

fn done(grants: &Grants, requirement: &Requirement) -> Vec<(String, String)> {
    let words = chosen(grants, requirement).map(|(way, words)| {
        // Whom a row is about is said once.
        let what = match (&requirement.need, &way.act) {
            (Need::Capability { .. }, Act::Capability(capability, _)) => {
                words.what.strip_prefix(&capability.to_string()).map(|rest| format!("ambient{rest}"))
            }
            _ => None,
        };
        // The title above such a row says it.
        let shown = words.what.strip_prefix("cannot be granted: ").map(str::to_owned);
        (words.place.to_owned(), what.or(shown).unwrap_or(words.what))
    });
    words.collect()
}

fn others(grants: &Grants, requirement: &Requirement) -> Vec<String> {
    let known = |remedy: Remedy| (remedy.source.is_some() && !remedy.chosen).then_some(remedy.text);
    remedies(grants, requirement).into_iter().filter_map(known).collect()
}

/// The rows of a profile, in the order of its needs; what was only asked about is in none.
pub(crate) fn groups<'a>(profile: &'a Profile, grants: &Grants) -> Vec<Group<'a>> {
    let mut places: BTreeMap<Alike, usize> = BTreeMap::new();
    let mut out: Vec<Vec<&Requirement>> = Vec::new();
    for requirement in profile.requirements.iter().filter(|requirement| !requirement.only_asked()) {
        let place = *places.entry(Alike::of(requirement, grants)).or_insert(out.len());
        match out.get_mut(place) {
            Some(known) => known.push(requirement),
            None => out.push(vec![requirement]),
        }
    }
    let mut groups: Vec<(usize, Alike)> = places.into_iter().map(|(alike, place)| (place, alike)).collect();
    groups.sort_by_key(|(place, _)| *place);
    let rows = groups.into_iter().zip(out).map(|((_, alike), needs)| {
        let list = |part: fn(&(String, String)) -> &String| {
            let mut parts: Vec<&str> = alike.done.iter().map(|done| part(done).as_str()).collect();
            parts.retain(|part| !part.is_empty());
            parts.dedup();
            parts.join("; ")
        };
        Group {
            subject: name(&needs),
            verdict: alike.verdict,
            place: list(|(place, _)| place),
            remedy: list(|(_, what)| what),
            others: alike.others,
            needs,
        }
    });
    rows.collect()
}

/// What is needed, by the names that the rows have, and how often each was met; that with the newest need comes last.
pub fn found(profile: &Profile, grants: &Grants) -> Vec<(String, u64)> {
    let mut all = groups(profile, grants);
    all.sort_by_key(|group| group.needs.iter().map(|need| need.evidence.first).max());
    let met = |group: &Group<'_>| group.needs.iter().map(|need| need.evidence.count).sum();
    all.into_iter().map(|group| (group.subject.clone(), met(&group))).collect()
}

/// What needs are about, together.
fn name(needs: &[&Requirement]) -> String {
    let Some(first) = needs.first() else { return String::new() };
    match &first.need {
        Need::Path { .. } | Need::Device { .. } if needs.len() > 1 => {
            files(&paths(needs), plural(&first.need))
        }
        Need::Port { .. } => ports(needs),
        Need::Identity { operation: IdentityOperation::Chown, ids, path } => {
            let all = (needs.len() > 1).then(|| RawText::from(files(&paths(needs), "files").as_str()));
            identity(IdentityOperation::Chown, ids, all.as_ref().or(path.as_ref()), &first.evidence.names)
        }
        Need::Identity { .. } => {
            let words: BTreeSet<String> = needs.iter().flat_map(|need| super::rows::named(need)).collect();
            let mut words: Vec<String> = words.into_iter().collect();
            // `become group x`, `become user x`: the user comes first.
            words.sort_by_key(|word| !word.starts_with("become user"));
            words.join(", ")
        }
        _ => {
            let mut names: Vec<String> = needs.iter().map(|need| subject(&need.need).concat()).collect();
            names.dedup();
            few(&names)
        }
    }
}

fn paths<'a>(needs: &[&'a Requirement]) -> Vec<&'a RawText> {
    let path = |need: &&'a Requirement| match &need.need {
        Need::Path { path, .. } | Need::Device { path, .. } => Some(path),
        Need::Identity { path, .. } => path.as_ref(),
        _ => None,
    };
    needs.iter().filter_map(path).collect()
}

fn plural(need: &Need) -> &'static str {
    match need {
        Need::Path { file_type: FileType::Directory, .. } => "directories",
        Need::Path { .. } => "files",
        _ => "devices",
    }
}

/// Paths by what they have in common: `/var/log/nginx/{access,error}.log` as a shell writes it where that is short, else
/// the directory that they lie in.
fn files(paths: &[&RawText], what: &str) -> String {
    const SHORT: usize = 44;
    let Some(first) = paths.first() else { return String::new() };
    let directory = parent(first);
    if paths.iter().all(|path| parent(path) == directory) {
        let base = directory.to_text();
        let base = base.trim_end_matches('/');
        let names: Vec<String> = paths
            .iter()
            .map(|path| path.to_text().get(base.len() + 1..).unwrap_or_default().to_owned())
            .collect();
        let plain = |c: char| c.is_alphanumeric() || "._-".contains(c);
        let text = format!("{base}/{{{}}}", names.join(","));
        if text.len() <= SHORT && names.iter().all(|name| name.chars().all(plain)) {
            return text;
        }
    }
    let mut tree = directory;
    while tree.as_bytes().len() > 1 && !paths.iter().all(|path| is_below(path.as_bytes(), tree.as_bytes())) {
        tree = parent(&tree);
    }
    if tree.as_bytes().iter().filter(|byte| **byte == b'/').count() > 1 {
        return format!("{}/ ({} {what})", tree.to_text(), paths.len());
    }
    few(&paths.iter().map(|path| path.to_text()).collect::<Vec<_>>())
}

/// The first of some names, and how many more there are.
pub(in crate::emit) fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

/// `tcp 80, 443; udp 53`: on which address does not matter, since what opens a port opens it on all.
fn ports(needs: &[&Requirement]) -> String {
    let mut by_protocol: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
    for need in needs {
        if let Need::Port { protocol, port, .. } = &need.need {
            by_protocol.entry(word(protocol)).or_default().insert(*port);
        }
    }
    let line = by_protocol.iter().map(|(protocol, ports)| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        format!("{protocol} {}", ports.join(", "))
    });
    line.collect::<Vec<_>>().join("; ")
}

impl Group<'_> {
    /// Why, from all that is said to the least.
    pub(in crate::emit) fn reasons(&self) -> Vec<String> {
        let calls: BTreeSet<&str> =
            self.needs.iter().flat_map(|need| need.evidence.calls.iter().map(String::as_str)).collect();
        let processes: BTreeSet<String> =
            self.needs.iter().flat_map(|need| need.evidence.processes.iter().map(RawText::to_text)).collect();
        let processes: Vec<String> = processes.into_iter().collect();
        let calls = calls.into_iter().collect::<Vec<_>>().join(", ");
        let held = self.needs.iter().all(|need| need.phase == Phase::Before);
        let by = by(if held { "held" } else { &calls }, &few(&processes));
        let refused: BTreeSet<(String, String)> = self
            .needs
            .iter()
            .filter_map(|need| {
                let (at, inode) = need.refused()?;
                let owner = inode.map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
                let itself = subject(&need.need).first() == Some(&at.to_text());
                Some((if itself { "it".into() } else { at.to_text() }, owner))
            })
            .collect();
        let mut out = Vec::new();
        if let (1, Some((at, owner))) = (refused.len(), refused.first()) {
            let verb = if at == "it" { "refused by" } else { "refused at" };
            out.extend(by.iter().map(|by| format!("{by}; {verb} {at}{owner}")));
            out.extend([format!("{verb} {at}{owner}"), format!("{verb} {at}")]);
        }
        out.extend(by);
        out.extend((!calls.is_empty()).then_some(calls));
        let origins: BTreeSet<String> =
            self.needs.iter().flat_map(|need| need.evidence.origins.iter().map(RawText::to_text)).collect();
        if let (Some(first), Some(origin)) = (out.first().cloned(), origins.first()) {
            let from = format!("from {origin}");
            out.insert(0, format!("{first}; {from}"));
            out.insert(1, from);
        }
        out
    }
}
