//! What a shell offers for a word that is being typed, beside what the definition of the command line tells: users, units,
//! containers, needs of a profile, programs that are known.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::engine::CompletionCandidate;
use nrtrace_profiles::knowledge::Library;
use nrtrace_profiles::unit::Name;
use nrtrace_tracer::attach::state;

use crate::service::find;
use crate::{input, meant};

/// Under this variable a shell asks; its value is the shell's name.
pub const VARIABLE: &str = "NRTRACE_COMPLETE";

/// Those that begin like the word.
fn beginning(word: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let word = word.to_string_lossy();
    let names: BTreeSet<String> = names.into_iter().filter(|name| name.starts_with(&*word)).collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Users, `--as`; behind a colon groups.
pub fn users(word: &OsStr) -> Vec<CompletionCandidate> {
    match word.to_str().and_then(|word| word.split_once(':')) {
        Some((user, _)) => {
            beginning(word, meant::accounts("/etc/group").map(|group| format!("{user}:{group}")))
        }
        // None is judged for root.
        None => beginning(word, meant::accounts("/etc/passwd").filter(|user| user != "root")),
    }
}

/// Groups, `--groups`.
pub fn groups(word: &OsStr) -> Vec<CompletionCandidate> {
    beginning(word, meant::accounts("/etc/group"))
}

/// Services of this machine that can be started, by their names or, where a path is begun, by their files.
pub fn units(word: &OsStr) -> Vec<CompletionCandidate> {
    let entries =
        find::trees().into_iter().flat_map(|tree| fs::read_dir(tree).into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let services = names.filter(|name| Name::parse(name).is_ok_and(|name| !name.is_template()));
    beginning(word, services.filter_map(|name| name.strip_suffix(".service").map(str::to_owned)))
}

/// Containers by their names; one without by its id.
pub fn containers(word: &OsStr) -> Vec<CompletionCandidate> {
    let all = state::joined(state::all());
    let named = all.into_iter().flat_map(|known| match known.names.is_empty() {
        true => vec![known.id],
        false => known.names,
    });
    beginning(word, named)
}

/// What knowledge files there are.
pub fn programs(word: &OsStr) -> Vec<CompletionCandidate> {
    beginning(word, Library::built_in().programs().map(|program| program.name.clone()))
}

/// The needs of the profile that is named before.
pub fn needs(word: &OsStr) -> Vec<CompletionCandidate> {
    let typed: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").collect();
    let paths = typed.iter().skip_while(|word| *word != "explain").skip(1).map(Path::new);
    let files = paths.map(input::in_directory).filter(|path| path.is_file());
    let Some(profile) = files.map(|path: PathBuf| input::profile(&path)).find_map(Result::ok) else {
        return Vec::new();
    };
    beginning(word, profile.requirements.into_iter().map(|known| known.id))
}
