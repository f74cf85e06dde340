//! How values on the command line are read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nrtrace_profiles::RawText;
use nrtrace_profiles::glob::Pattern;

/// A time span such as `30s`; a bare number counts seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 30s, 2m or 500ms"))
}

/// A variable as `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// A pattern of paths.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(&RawText::from(text)).map_err(|error| error.to_string())
}

/// A component and its profile, as `NAME=PROFILE`.
pub fn component(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = assignment(text)?;
    Ok((name, path.into()))
}

/// `NAME=VALUE` for a component, whose name is plain.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && name.chars().all(plain) && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("write it as NAME=VALUE, with letters, digits, `-`, `_` and `.` in the name".to_owned()),
    }
}

/// Ids for a component, as `NAME=UID[:GID]`.
pub fn given_ids(text: &str) -> Result<(String, u32, u32), String> {
    let (name, ids) = assignment(text)?;
    let (uid, gid) = ids.split_once(':').unwrap_or((&ids, &ids));
    // The last two stand for "unchanged" in chown(2), the first is root.
    let id = |text: &str| text.parse::<u32>().ok().filter(|id| *id != 0 && *id < u32::MAX - 1);
    match (id(uid), id(gid)) {
        (Some(uid), Some(gid)) => Ok((name, uid, gid)),
        _ => Err("write it as NAME=UID or NAME=UID:GID, with numbers other than 0".to_owned()),
    }
}

/// What names of users may begin with.
pub fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let starts = text.chars().next().is_none_or(|c| c.is_ascii_lowercase() || c == '_');
    if starts && text.len() <= 16 && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("at most 16 small letters, digits, `-` and `_`, beginning with a letter".to_owned())
}

/// A name for files.
pub fn file_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 100 && !text.starts_with(['.', '-']) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("letters, digits, `-`, `_` and `.`, beginning with a letter or digit".to_owned())
}

/// A size in MiB that a ring buffer can have.
pub fn buffer(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(mib) if mib.is_power_of_two() && mib <= 1024 => Ok(mib),
        _ => Err("a power of two from 1 to 1024".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("soon").is_err());
    }
}
