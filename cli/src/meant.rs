//! What was probably meant by a name that leads to nothing.

use std::fs;
use std::path::Path;

use nrtrace_tracer::launch;
use strsim::normalized_damerau_levenshtein as likeness;

/// Names that are less alike are different names.
const ALIKE: f64 = 0.7;

/// The question that ends an error about a name, where there is one much like it.
pub fn question(error: &anyhow::Error) -> Option<String> {
    let meant = match error.downcast_ref::<launch::Error>()? {
        launch::Error::UnknownUser { name } => nearest(name, accounts("/etc/passwd")),
        launch::Error::UnknownGroup { name } => nearest(name, accounts("/etc/group")),
        launch::Error::CommandNotFound { name, path: Some(path) } => nearest(name, programs(path)),
        _ => None,
    }?;
    Some(format!("; did you mean {meant:?}?"))
}

/// That of the names which is most like the word, if one is like it.
pub fn nearest(word: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let rated = names.map(|name| (likeness(word, &name), name)).filter(|(alike, _)| *alike >= ALIKE);
    rated.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, name)| name)
}

/// The names of passwd(5) or group(5).
pub fn accounts(file: &str) -> impl Iterator<Item = String> + use<> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned());
    names.collect::<Vec<_>>().into_iter()
}

/// The names in the directories of a search path.
fn programs(path: &str) -> impl Iterator<Item = String> {
    let directories = path.split(':').filter(|directory| Path::new(directory).is_absolute());
    let entries = directories.flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_asked_for_and_a_different_one_is_not() {
        let names = || ["www-data", "daemon", "nobody"].into_iter().map(str::to_owned);
        assert_eq!(nearest("wwwdata", names()).as_deref(), Some("www-data"));
        assert_eq!(nearest("deamon", names()).as_deref(), Some("daemon"));
        assert_eq!(nearest("postgres", names()), None);
        let unknown = launch::Error::UnknownUser { name: "deamon".into() };
        assert_eq!(question(&unknown.into()).as_deref(), Some("; did you mean \"daemon\"?"));
    }
}
