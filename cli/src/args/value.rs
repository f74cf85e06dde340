//! How values on the command line are read.

use std::ffi::OsString;
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
