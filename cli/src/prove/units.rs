//! What the units of this machine say about a program: whom it runs as there, and what is made for it beforehand.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nrtrace_profiles::RawText;
use nrtrace_profiles::prove::users::is_interpreter;
use nrtrace_profiles::unit::{Exec, Service};
use nrtrace_tracer::files::read_regular;

use crate::service::find;

/// Where tmpfiles.d(5) files are.
const TMPFILES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// Stands for an instance of a template.
const INSTANCE: &str = "an-instance";
/// No such file is longer.
const MOST: u64 = 1 << 20;
/// Directives that name directories, and where these are.
const DIRECTORIES: [(&str, &str); 4] = [
    ("RuntimeDirectory", "/run"),
    ("StateDirectory", "/var/lib"),
    ("CacheDirectory", "/var/cache"),
    ("LogsDirectory", "/var/log"),
];

/// What units say that start a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// `User=`, with `Group=` and the unit.
    pub users: Vec<(String, Option<String>, String)>,
    /// Directories that are made before it starts.
    pub directories: BTreeSet<PathBuf>,
}

/// What the units of this machine say that name an executable. Of an interpreter, which starts anything, nothing.
pub fn of(executable: &Path) -> Said {
    of_trees(executable, &find::trees())
}

fn of_trees(executable: &Path, trees: &[PathBuf]) -> Said {
    let mut said = Said::default();
    if is_interpreter(&RawText::new(executable.as_os_str().as_bytes())) {
        return said;
    }
    let mut known = BTreeSet::new();
    for path in trees.iter().flat_map(|tree| files(tree, "service")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !known.insert(name.clone()) {
            continue;
        }
        // A template stands for its instances: what it says of them is the same but for their names.
        let form = name.replace("@.service", &format!("@{INSTANCE}.service"));
        let Ok(found) = find::find_in(trees, &form) else { continue };
        if found.name.to_string() != form {
            // Another name of a unit that comes by its own.
            continue;
        }
        let file = found.files.first().cloned().unwrap_or_default();
        if let Ok(service) = Service::of(&found.unit, &found.name, &find::host(&file)) {
            read(&service, &name, executable, &mut said);
        }
    }
    said
}

/// The files of a directory with that ending, in order; none where it cannot be listed.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    paths
}

fn read(service: &Service, unit: &str, executable: &Path, said: &mut Said) {
    if !names(&service.start, executable) {
        return;
    }
    if let Some(user) = &service.user {
        said.users.push((user.clone(), service.group.clone(), unit.to_owned()));
    }
    let plain = |name: &str| !name.contains(INSTANCE) && !name.split('/').any(|part| part == "..");
    for (directive, value) in &service.directives {
        let base = DIRECTORIES.iter().find(|(known, _)| known == directive).map(|(_, base)| base);
        if let Some(base) = base.filter(|_| plain(value)) {
            said.directories.insert(Path::new(base).join(value));
        }
    }
    // `ExecStartPre=/bin/mkdir -p /run/x` and `install -d /run/x`.
    for step in &service.before {
        let Some((program, arguments)) = step.words.split_first() else { continue };
        let makes = program.ends_with("/mkdir")
            || (program.ends_with("/install") && arguments.iter().any(|word| word.starts_with("-d")));
        if let Some(path) = arguments.last().filter(|path| makes && path.starts_with('/') && plain(path)) {
            said.directories.insert(path.into());
        }
    }
}

/// Directories that the packages' tmpfiles.d files make and give to a user.
pub fn made_for(user: &str) -> BTreeSet<PathBuf> {
    let texts = TMPFILES.iter().flat_map(|tree| files(Path::new(tree), "conf"));
    let texts = texts.filter_map(|path| read_regular(&path, MOST).ok());
    texts.flat_map(|text| made_in(&String::from_utf8_lossy(&text), user)).collect()
}

fn made_in(text: &str, user: &str) -> BTreeSet<PathBuf> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (kind, path, _, owner) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let makes = kind.starts_with(['d', 'D']) && owner == user;
        (makes && path.starts_with('/') && !path.contains('%')).then(|| PathBuf::from(path))
    };
    text.lines().filter_map(line).collect()
}

/// Whether a command of a unit starts that file, by itself or by a shell.
fn names(exec: &Exec, executable: &Path) -> bool {
    let is_it = |word: &str| {
        let word = word.trim_matches(['"', '\'']);
        word.starts_with('/') && Path::new(word).canonicalize().is_ok_and(|path| path == executable)
    };
    exec.words.iter().flat_map(|word| word.split(|c: char| c.is_whitespace() || c == ';')).any(is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, executable: &str) -> Said {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x.service"), text).unwrap();
        let executable = Path::new(executable).canonicalize().unwrap();
        of_trees(&executable, &[directory.path().to_owned(), "/nowhere".into()])
    }

    #[test]
    fn a_unit_tells_whom_a_program_runs_as_and_what_is_made_for_it() {
        let text = "[Service]\nUser=web\nGroup = data\nExecStartPre=/bin/mkdir -m 740 -p /run/made\n\
                    ExecStart=-/usr/bin/env \\\n  X=1 -f\n#User=other\nRuntimeDirectory=a b/c\nStateDirectory=%N ../x\n";
        assert_eq!(said(text, "/usr/bin/env"), Said::default(), "an interpreter starts anything");
        let text = text.replace("/usr/bin/env", "/usr/bin/tail");
        let found = said(&text, "/usr/bin/tail");
        assert_eq!(found.users, [("web".into(), Some("data".into()), "x.service".into())]);
        let made: Vec<&str> = found.directories.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(made, ["/run/a", "/run/b/c", "/run/made", "/var/lib/x"]);
        assert_eq!(said(&text, "/usr/bin/head"), Said::default());
    }

    #[test]
    fn a_shell_may_start_it_and_a_name_is_no_path() {
        let of = |start: &str| {
            said(&format!("[Service]\nUser=web\nExecStart={start}\n"), "/usr/bin/tail").users.len()
        };
        assert_eq!(of("/bin/sh -c \"x=1; exec /usr/bin/tail -f\""), 1);
        assert_eq!(of("!!/usr/bin/tail"), 1);
        assert_eq!(of("/usr/bin/head tail"), 0);
    }

    #[test]
    fn what_tmpfiles_make_for_a_user_is_read() {
        let text = "# d /run/no 0755 web\nd /run/web 0755 web web -\nD  /run/all 0755 root\nd\t/run/%b 0755 web web\n";
        assert_eq!(made_in(text, "web"), BTreeSet::from([PathBuf::from("/run/web")]));
    }
}
