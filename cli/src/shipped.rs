//! What the tmpfiles.d(5) files of packages make on this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use nrtrace_profiles::RawText;
use nrtrace_profiles::grants::Shipped;
use nrtrace_profiles::place::real;
use nrtrace_tracer::files::read_regular;

/// Where the files are; of those with one name, the first counts.
const DIRECTORIES: [&str; 4] =
    ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// The largest that is read.
const LARGEST: u64 = 1 << 20;

/// The directories that they make. Of several lines for one, systemd-tmpfiles takes the first by the file's name.
pub fn lines() -> BTreeMap<RawText, Shipped> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for entry in DIRECTORIES.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        files.entry(entry.file_name()).or_insert_with(|| entry.path());
    }
    let mut lines = BTreeMap::new();
    for (name, path) in files {
        let name = name.to_string_lossy().into_owned();
        // What was written by nrtrace is no package's.
        if !name.ends_with(".conf") || name.starts_with("nrtrace-") {
            continue;
        }
        let text = read_regular(&path, LARGEST).unwrap_or_default();
        for (path, shipped) in String::from_utf8_lossy(&text).lines().filter_map(|line| parse(&name, line)) {
            lines.entry(path).or_insert(shipped);
        }
    }
    lines
}

/// A line that makes a directory, written without quotes, escapes and specifiers.
fn parse(file: &str, line: &str) -> Option<(RawText, Shipped)> {
    let mut fields = line.split_whitespace();
    let kind = fields.next().filter(|kind| kind.starts_with(['d', 'D']))?;
    let path = fields.next().filter(|path| path.starts_with('/') && !path.contains(['%', '\\', '"']))?;
    // Such a line may fail.
    if kind.contains('-') {
        return None;
    }
    let mut or = |usual: &str| fields.next().filter(|field| *field != "-").unwrap_or(usual).to_owned();
    let (mode, user, group) = (or("0755"), or("root"), or("root"));
    let mode = u32::from_str_radix(mode.trim_start_matches([':', '~']), 8).ok()?;
    let shipped = Shipped { file: file.to_owned(), mode, user, group };
    Some((real(&RawText::from(path.trim_end_matches('/'))), shipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_and_nothing_else() {
        let shipped = |mode, user: &str, group: &str| Shipped {
            file: "x.conf".into(),
            mode,
            user: user.into(),
            group: group.into(),
        };
        let found = |line| parse("x.conf", line);
        assert_eq!(
            found("d /run/shop 0750 shop web -"),
            Some(("/run/shop".into(), shipped(0o750, "shop", "web")))
        );
        assert_eq!(
            found("d!\t/var/run/shop - shop"),
            Some(("/run/shop".into(), shipped(0o755, "shop", "root")))
        );
        for line in [
            "",
            "# d /x",
            "f /run/x 0644 root root -",
            "d /run/%u",
            "d relative",
            "z /run/x",
            "d /run/x mode",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
