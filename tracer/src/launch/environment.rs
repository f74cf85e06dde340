//! The program's environment, and where the command is found.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::Identity;

use super::Error;
use crate::accounts;

/// The search path a service gets: systemd's default with `/sbin` and `/bin` for systems where they are directories
/// of their own.
pub const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables, by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// What the environment is made from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The caller's variables.
    pub caller: &'a Variables,
    /// The user ids whose `/run/user/UID` is the caller's: its own, and the one it had before sudo(8).
    pub caller_uids: &'a [u32],
    /// Keep all of the caller's.
    pub keep: bool,
    /// Variables that win over all others.
    pub overrides: &'a [(OsString, OsString)],
}

/// A user's home directory and shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Home directory; `/` for a user without an account.
    pub directory: PathBuf,
    /// Login shell; `/bin/sh` where the account has none that runs commands.
    pub shell: PathBuf,
}

impl Home {
    /// That of an identity, from this machine's accounts.
    pub fn of(identity: &Identity) -> Self {
        let account = if identity.exists { accounts::user_by_uid(identity.uid) } else { None };
        let (directory, shell) = account.map(|account| (account.dir, account.shell)).unwrap_or_default();
        let or =
            |path: PathBuf, default: &str| if path.as_os_str().is_empty() { default.into() } else { path };
        let refuses = shell.file_name().is_some_and(|name| name == "nologin" || name == "false");
        let shell = if refuses { PathBuf::new() } else { shell };
        Self { directory: or(directory, "/"), shell: or(shell, "/bin/sh") }
    }
}

/// The environment of a program that runs as `identity`: the caller's, but with `HOME`, `USER`, `LOGNAME`, `SHELL` and
/// `PATH` of a service, and without what sudo(8) and the caller's login left there.
pub fn build(identity: &Identity, home: &Home, origin: Origin<'_>) -> Variables {
    let mut variables = origin.caller.clone();
    if !origin.keep {
        variables.retain(|name, value| !is_callers_own(name, value, origin.caller_uids));
        let set: [(&str, &OsStr); 5] = [
            ("HOME", home.directory.as_os_str()),
            ("USER", OsStr::new(&identity.user)),
            ("LOGNAME", OsStr::new(&identity.user)),
            ("SHELL", home.shell.as_os_str()),
            ("PATH", OsStr::new(SERVICE_PATH)),
        ];
        variables.extend(set.map(|(name, value)| (name.into(), value.into())));
    }
    variables.extend(origin.overrides.iter().cloned());
    variables
}

/// The environment that a service manager gives whatever runs as `identity`, systemd.exec(5): nothing of the caller's, and
/// neither a home directory nor a shell that are none.
pub fn service(identity: &Identity) -> Variables {
    let account = if identity.exists { accounts::user_by_uid(identity.uid) } else { None };
    let (directory, shell) = account.map(|account| (account.dir, account.shell)).unwrap_or_default();
    let is_none = ["nologin", "false", "true"];
    let refuses = shell.file_name().is_some_and(|name| is_none.iter().any(|none| name == *none));
    let set: [(&str, &OsStr, bool); 5] = [
        ("PATH", OsStr::new(SERVICE_PATH), true),
        ("USER", OsStr::new(&identity.user), true),
        ("LOGNAME", OsStr::new(&identity.user), true),
        ("HOME", directory.as_os_str(), directory.is_absolute() && directory != Path::new("/")),
        ("SHELL", shell.as_os_str(), shell.is_absolute() && !refuses),
    ];
    let set = set.into_iter().filter(|(_, _, holds)| *holds);
    set.map(|(name, value, _)| (name.into(), value.into())).collect()
}

fn is_callers_own(name: &OsStr, value: &OsStr, uids: &[u32]) -> bool {
    let runtime = |uid: &u32| Path::new(value) == Path::new(&format!("/run/user/{uid}"));
    match name.as_bytes() {
        b"MAIL" => true,
        b"XDG_RUNTIME_DIR" => uids.iter().any(runtime),
        name => name.starts_with(b"SUDO_"),
    }
}

/// The user ids whose runtime directory is the caller's.
pub fn caller_uids(caller: &Variables) -> Vec<u32> {
    let sudo = caller.get(OsStr::new("SUDO_UID")).and_then(|uid| uid.to_str()?.parse().ok());
    sudo.into_iter().chain([nix::unistd::getuid().as_raw()]).collect()
}

/// The variables that can redirect a program's files: `HOME`, `TMPDIR`, `TMP`, `TEMP` and `XDG_*`.
pub fn redirects(variables: &Variables) -> Vec<(RawText, RawText)> {
    let is_redirect = |name: &&OsString| {
        let name = name.as_bytes();
        matches!(name, b"HOME" | b"TMPDIR" | b"TMP" | b"TEMP") || name.starts_with(b"XDG_")
    };
    let chosen = variables.iter().filter(|(name, _)| is_redirect(name));
    chosen.map(|(name, value)| (RawText::from(name.as_bytes()), RawText::from(value.as_bytes()))).collect()
}

/// Finds the program of a command as a shell does: a name with a slash is a path, any other is looked up in the
/// directories of each search path in turn. The result is absolute, symbolic links are kept.
///
/// # Errors
/// [`Error::CommandNotFound`] and [`Error::NotExecutable`].
pub fn find_program(name: &OsStr, search_paths: &[&OsStr]) -> Result<PathBuf, Error> {
    let not_found = |path: Option<String>| Error::CommandNotFound { name: name.display().to_string(), path };
    if name.is_empty() {
        return Err(not_found(None));
    }
    if name.as_bytes().contains(&b'/') {
        let path = absolute(Path::new(name))?;
        return match obstacle(&path) {
            None => Ok(path),
            Some(Obstacle::Absent) => Err(not_found(None)),
            Some(Obstacle::Reason(reason)) => Err(Error::NotExecutable { path, reason }),
        };
    }
    let mut refused = None;
    for directory in search_paths.iter().flat_map(std::env::split_paths) {
        // An empty entry is the working directory, see sh(1).
        let path =
            absolute(&if directory.as_os_str().is_empty() { ".".into() } else { directory })?.join(name);
        match obstacle(&path) {
            None => return Ok(path),
            Some(Obstacle::Absent) => {}
            Some(Obstacle::Reason(reason)) => {
                refused.get_or_insert(Error::NotExecutable { path, reason });
            }
        }
    }
    let searched = search_paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    Err(refused.unwrap_or_else(|| not_found(Some(searched))))
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path)
        .map_err(|error| Error::system("making absolute", path.display().to_string(), error))
}

enum Obstacle {
    Absent,
    Reason(&'static str),
}

fn obstacle(path: &Path) -> Option<Obstacle> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Some(Obstacle::Reason("a directory on the way may not be searched"));
        }
        Err(_) => return Some(Obstacle::Absent),
    };
    if metadata.is_dir() {
        return Some(Obstacle::Reason("it is a directory"));
    }
    if !metadata.is_file() {
        return Some(Obstacle::Reason("it is not a regular file"));
    }
    access(path, AccessFlags::X_OK)
        .is_err()
        .then_some(Obstacle::Reason("it has no execute permission, or its file system is mounted noexec"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn identity() -> Identity {
        let name = || "prog".to_owned();
        Identity { user: name(), group: name(), uid: 61184, gid: 61184, groups: vec![], exists: false }
    }

    const CALLER: &[(&str, &str)] = &[
        ("HOME", "/root"),
        ("PATH", "/root/bin"),
        ("SUDO_USER", "me"),
        ("MAIL", "/var/mail/root"),
        ("XDG_RUNTIME_DIR", "/run/user/0/"),
        ("XDG_CONFIG_HOME", "/c"),
        ("TMPDIR", "/t"),
        ("LANG", "C"),
    ];

    #[test]
    fn a_service_environment() {
        let caller = variables(CALLER);
        let overrides = [("LANG".into(), "de".into()), ("USER".into(), "other".into())];
        let origin = Origin { caller: &caller, caller_uids: &[0], keep: false, overrides: &overrides };
        let home = Home::of(&identity());
        let expected = [
            ("HOME", "/"),
            ("PATH", SERVICE_PATH),
            ("SHELL", "/bin/sh"),
            ("USER", "other"),
            ("LOGNAME", "prog"),
            ("XDG_CONFIG_HOME", "/c"),
            ("TMPDIR", "/t"),
            ("LANG", "de"),
        ];
        let built = build(&identity(), &home, origin);
        assert_eq!(built, variables(&expected));
        let names: Vec<String> = redirects(&built).iter().map(|(name, _)| name.to_text()).collect();
        assert_eq!(names, ["HOME", "TMPDIR", "XDG_CONFIG_HOME"]);
    }

    #[test]
    fn the_callers_environment_on_request() {
        let mut caller = variables(CALLER);
        let origin = Origin { caller: &caller, caller_uids: &[0], keep: true, overrides: &[] };
        assert_eq!(build(&identity(), &Home::of(&identity()), origin), caller);
        caller.insert("XDG_RUNTIME_DIR".into(), "/run/user/61184".into());
        let origin = Origin { caller: &caller, caller_uids: &[0, 1000], keep: false, overrides: &[] };
        let built = build(&identity(), &Home::of(&identity()), origin);
        assert_eq!(built[OsStr::new("XDG_RUNTIME_DIR")], "/run/user/61184");
    }

    #[test]
    fn a_service_account_has_its_home_and_a_shell_that_works() {
        let daemon = super::super::identity::resolve(Some("daemon"), &[], "x").unwrap();
        assert_eq!(Home::of(&daemon), Home { directory: "/usr/sbin".into(), shell: "/bin/sh".into() });
    }

    #[test]
    fn a_service_has_nothing_of_the_caller() {
        let daemon = super::super::identity::resolve(Some("daemon"), &[], "x").unwrap();
        let expected =
            [("HOME", "/usr/sbin"), ("PATH", SERVICE_PATH), ("USER", "daemon"), ("LOGNAME", "daemon")];
        assert_eq!(service(&daemon), variables(&expected));
        let nobody_yet = [("PATH", SERVICE_PATH), ("USER", "prog"), ("LOGNAME", "prog")];
        assert_eq!(service(&identity()), variables(&nobody_yet));
    }

    #[test]
    fn programs_are_found_as_by_a_shell() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, mode) in [("first/tool", 0o644), ("second/tool", 0o755), ("first/plain", 0o644)] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), "").unwrap();
            std::fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(path("first/dir")).unwrap();
        let (first, second) = (path("first"), path("second"));
        let search = [first.as_os_str(), second.as_os_str()];
        let find = |name: &str| find_program(OsStr::new(name), &search);

        assert_eq!(find("tool").unwrap(), path("second/tool"));
        let status = |name: &str| find(name).unwrap_err().exit_status();
        assert_eq!(status("plain"), 126);
        assert_eq!(status("dir"), 126);
        assert_eq!(status("nothing"), 127);
        assert_eq!(status(""), 127);
        assert_eq!(status("/nothing/at/all"), 127);
        assert_eq!(status("/usr"), 126);
        assert_eq!(status("/dev/null"), 126);
        assert!(find("nothing").unwrap_err().to_string().contains("first"));
    }
}
