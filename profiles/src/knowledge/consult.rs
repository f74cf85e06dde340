//! Finds what is known of a profile's needs.

use std::collections::{BTreeMap, BTreeSet};

use super::schema::{CheckFact, Program, Recognise, Remedy, Told};
use super::{Fact, Library, Setting};
use crate::RawText;
use crate::edit::Edit;
use crate::event::Protocol;
use crate::glob::{Pattern, matches_text};
use crate::profile::{GaveUp, Profile};
use crate::requirement::{Need, Requirement};

/// Bytes of a process's name that the kernel keeps (`TASK_COMM_LEN` less the closing zero).
const COMM: usize = 15;

impl Library {
    /// What is known of the profile's needs and of what made the program give up, in order. `read` has the text of
    /// configuration files, where they are those of the run.
    fn consult(&self, profile: &Profile, read: Read<'_>) -> Vec<Fact> {
        let mut found: BTreeMap<(String, usize), Fact> = BTreeMap::new();
        for program in self.programs() {
            let main = program.recognise.iter().any(|way| starts(way, profile));
            for requirement in &profile.requirements {
                if !main && !program.recognise.iter().any(|way| acts(way, &requirement.evidence.processes)) {
                    continue;
                }
                for (index, told) in facts(program, &requirement.need, &subjects(requirement)) {
                    let fact = found
                        .entry((program.name.clone(), index))
                        .or_insert_with(|| fact(program, told, profile, read));
                    fact.needs.insert(requirement.id.clone());
                }
            }
            let Some(gave_up) = profile.gave_up.as_ref().filter(|_| main) else { continue };
            for (index, check) in program.checks.iter().enumerate().filter(|(_, check)| fits(check, gave_up))
            {
                let fact = fact(program, &check.told, profile, read);
                found.insert(
                    (program.name.clone(), usize::MAX - index),
                    Fact { checks: Some(check.checks), ..fact },
                );
            }
        }
        found.into_values().collect()
    }

    /// Puts what is known into the profile, in place of what was there of the programs of this library; what the
    /// configuration of the run said stays.
    pub fn annotate(&self, profile: &mut Profile) {
        let before: BTreeMap<String, Edit> = (profile.knowledge.iter().flat_map(|fact| &fact.remedies))
            .filter_map(|setting| Some((setting.text.clone(), setting.edit.clone()?)))
            .collect();
        self.annotate_by(profile, &|_| None);
        for setting in profile.knowledge.iter_mut().flat_map(|fact| &mut fact.remedies) {
            setting.edit = setting.edit.take().or_else(|| before.get(&setting.text).cloned());
        }
    }

    /// The same, where the configuration of the run is at hand: `read` has the text of its files.
    pub fn annotate_by(&self, profile: &mut Profile, read: Read<'_>) {
        let known = self.consult(profile, read);
        profile.knowledge.retain(|fact| self.text(&fact.program).is_none());
        profile.knowledge.extend(known);
        profile.knowledge.sort();
    }
}

/// Reads a configuration file; `None` where there is none.
pub type Read<'a> = &'a dyn Fn(&RawText) -> Option<String>;

/// Whether the command of the run is such a program.
fn starts(way: &Recognise, profile: &Profile) -> bool {
    let name = |path: &RawText| path.as_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
    let names: Vec<Vec<u8>> = profile.executable.iter().chain(profile.command.first()).map(name).collect();
    let words = profile.command.get(1..).unwrap_or_default();
    let named = way.executables.iter().any(|known| names.iter().any(|name| matches_text(known, name)));
    let has = |known: &String| words.iter().any(|word| matches_text(known, word.as_bytes()));
    named && way.arguments.iter().all(has)
}

/// Whether one of the processes is such a program. Their arguments are not known, so a way that asks for some does not
/// recognise them.
fn acts(way: &Recognise, processes: &BTreeSet<RawText>) -> bool {
    let is = |known: &String, process: &RawText| {
        let name = process.as_bytes();
        matches_text(known, name) || (name.len() == COMM && known.as_bytes().starts_with(name))
    };
    way.arguments.is_empty()
        && processes.iter().any(|process| way.executables.iter().any(|known| is(known, process)))
}

/// The paths that a requirement is about.
fn subjects(requirement: &Requirement) -> Vec<&RawText> {
    let path = match &requirement.need {
        Need::Path { path, .. } | Need::Device { path, .. } => Some(path),
        Need::Identity { path, .. } => path.as_ref(),
        _ => None,
    };
    path.into_iter().chain(&requirement.evidence.objects).collect()
}

fn any_matches(patterns: &[String], paths: &[&RawText]) -> bool {
    let mut patterns = patterns.iter().filter_map(|text| Pattern::new(&RawText::from(text.as_str())).ok());
    patterns.any(|pattern| paths.iter().any(|path| pattern.matches(path.as_bytes())))
}

/// The facts that fit a need, each with its place in the file.
fn facts<'a>(program: &'a Program, need: &Need, paths: &[&RawText]) -> Vec<(usize, &'a Told)> {
    let id = need.id();
    let is_path = matches!(need, Need::Path { .. } | Need::Device { .. });
    let path = program.paths.iter().map(|fact| (is_path && any_matches(&fact.patterns, paths), &fact.told));
    let port = program.ports.iter().map(|fact| {
        let fits = matches!(need, Need::Port { protocol, port, .. }
            if fact.ports.contains(port) && has(&fact.protocols, *protocol));
        (fits, &fact.told)
    });
    let identity = program.identities.iter().map(|fact| {
        let fits = matches!(need, Need::Identity { operation, .. } if fact.operations.contains(operation));
        (fits && (fact.patterns.is_empty() || any_matches(&fact.patterns, paths)), &fact.told)
    });
    let other = program
        .needs
        .iter()
        .map(|fact| (fact.ids.iter().any(|known| matches_text(known, id.as_bytes())), &fact.told));
    let all = path.chain(port).chain(identity).chain(other).enumerate();
    all.filter(|(_, (fits, _))| *fits).map(|(index, (_, told))| (index, told)).collect()
}

fn has(protocols: &BTreeSet<Protocol>, protocol: Protocol) -> bool {
    protocols.is_empty() || protocols.contains(&protocol)
}

fn fits(check: &CheckFact, gave_up: &GaveUp) -> bool {
    let said =
        |text: &String| gave_up.stderr.iter().any(|line| matches_text(&format!("*{text}*"), line.as_bytes()));
    let looked: Vec<&RawText> = gave_up.looked_at.iter().map(|looked| &looked.path).collect();
    let says = check.says.iter().any(said);
    let looks = any_matches(&check.patterns, &looked);
    // A program that says nothing is recognised by what it looks at; what one says is the better sign.
    says || (looks && (check.says.is_empty() || gave_up.stderr.is_empty()))
}

fn fact(program: &Program, told: &Told, profile: &Profile, read: Read<'_>) -> Fact {
    Fact {
        program: program.name.clone(),
        needs: BTreeSet::new(),
        checks: None,
        is: told.is.clone(),
        fatal: told.fatal,
        remedies: told
            .remedies
            .iter()
            .filter(|remedy| is_there(remedy, profile))
            .map(|remedy| setting(remedy, profile, read))
            .collect(),
        note: told.note.clone(),
        sources: told.sources.clone(),
    }
}

/// Whether what is to be taken away is there, as far as the command line tells.
fn is_there(remedy: &Remedy, profile: &Profile) -> bool {
    let Some(option) = remedy.option.as_ref().filter(|_| remedy.remove) else { return true };
    profile.command.iter().any(|word| {
        let rest = word.as_bytes().strip_prefix(option.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"=") || option.len() == 2)
    })
}

/// A remedy, with the names of this profile in it.
fn setting(remedy: &Remedy, profile: &Profile, read: Read<'_>) -> Setting {
    let identity = &profile.identity;
    // The number of a user made up for the run is not the one it will have.
    let uid = if identity.exists { identity.uid.to_string() } else { "UID".to_owned() };
    let fill = |text: &str| {
        let names =
            [("name", &profile.name), ("user", &identity.user), ("group", &identity.group), ("uid", &uid)];
        names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let write = fill(&remedy.write);
    let file = remedy.file.as_deref().unwrap_or("its configuration");
    if let Some(name) = remedy.directive.clone() {
        let text = format!("put `{name}={write}` into its unit");
        return Setting { text, variable: None, directive: Some((name, write)), directory: None, edit: None };
    }
    let text = match (&remedy.option, &remedy.variable, &remedy.key, remedy.remove) {
        (Some(_), _, _, false) => format!("start it with `{write}`"),
        (Some(_), _, _, true) => format!("start it without `{write}`"),
        (_, Some(name), _, false) => format!("set `{name}={write}` in its environment"),
        (_, Some(name), _, true) => format!("leave `{name}` out of its environment"),
        (_, _, Some(_), false) => format!("put {} into {file}", lines(&write)),
        (_, _, Some(_), true) => format!("remove `{write}` from {file}, where it is set"),
        _ => write.clone(),
    };
    let literal = remedy.key.as_ref().filter(|key| !remedy.remove && is_literal(key, &write));
    let edit = literal.and_then(|key| {
        let file = RawText::from(file);
        Edit::set(&file, &read(&file)?, key, &write)
    });
    let variable = remedy.variable.as_ref().filter(|_| !remedy.remove);
    let value = remedy.unit.as_deref().map_or(write, fill);
    Setting {
        text,
        variable: variable.map(|name| (name.clone(), value)),
        directive: None,
        directory: remedy.directory.as_deref().map(|directory| RawText::from(fill(directory).as_str())),
        edit,
    }
}

/// Whether this is what a file is to hold, and not told in words.
fn is_literal(key: &str, write: &str) -> bool {
    write.starts_with(key) && !write.contains('…')
}

/// The lines of a text, as words in a sentence.
fn lines(text: &str) -> String {
    text.lines().map(|line| format!("`{}`", line.trim())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_recognised_by_their_cut_names() {
        let way = |name: &str, arguments: &[&str]| Recognise {
            executables: vec![name.into()],
            arguments: arguments.iter().map(|word| (*word).into()).collect(),
        };
        let named = |name: &str| BTreeSet::from([RawText::from(name)]);
        assert!(acts(&way("kube-controller-manager", &[]), &named("kube-controller")));
        assert!(acts(&way("php-fpm*", &[]), &named("php-fpm8.2")));
        assert!(!acts(&way("kube-controller-manager", &[]), &named("kube-proxy")));
        assert!(!acts(&way("k0s", &["controller"]), &named("k0s")));
    }
}
