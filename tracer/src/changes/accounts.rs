//! Users and groups, by the tools of the machine: shadow's, or busybox's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::accounts;
use crate::launch::environment::SERVICE_PATH;

/// Whether there is such a group.
pub fn has_group(name: &str) -> bool {
    accounts::group_by_name(name).is_some()
}

/// Whether there is such a user.
pub fn has_user(name: &str) -> bool {
    accounts::user_by_name(name).is_some()
}

/// The number of a group, where there is one of that name.
pub fn gid(name: &str) -> Option<u32> {
    accounts::group_by_name(name).map(|group| group.gid.as_raw())
}

/// The name of a user, or its number.
pub fn user_name(uid: u32) -> String {
    accounts::user_by_uid(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

/// The name of a group, or its number.
pub fn group_name(gid: u32) -> String {
    accounts::group_by_gid(gid).map_or_else(|| gid.to_string(), |group| group.name)
}

/// Whether the group's list has the user.
pub fn is_member(user: &str, group: &str) -> bool {
    accounts::group_by_name(group).is_some_and(|group| group.mem.iter().any(|member| member == user))
}

/// Makes a system group.
pub fn make_group(name: &str, gid: Option<u32>) -> Result<(), String> {
    let gid = gid.map(|gid| gid.to_string());
    let number = |option| gid.iter().flat_map(move |gid| [option, gid.as_str()]);
    either(
        ("groupadd", ["-r"].into_iter().chain(number("-g")).chain([name]).collect()),
        ("addgroup", ["-S"].into_iter().chain(number("-g")).chain([name]).collect()),
    )
}

/// Makes a system user without a shell. Its home is named, and not made.
pub fn make_user(name: &str, group: &str, uid: Option<u32>, home: &str) -> Result<(), String> {
    let uid = uid.map(|uid| uid.to_string());
    let number = || uid.iter().flat_map(|uid| ["-u", uid.as_str()]);
    let plain = ["-r", "-M", "-N", "-g", group, "-d", home, "-s", "/usr/sbin/nologin"];
    let small = ["-S", "-D", "-H", "-G", group, "-h", home, "-s", "/sbin/nologin"];
    either(
        ("useradd", plain.into_iter().chain(number()).chain([name]).collect()),
        ("adduser", small.into_iter().chain(number()).chain([name]).collect()),
    )
}

/// Where services have what is theirs: systemd makes it (`StateDirectory=` and its kind), and leaves most of it there.
const OF_SERVICES: [&str; 4] = ["/var/lib", "/var/cache", "/var/log", "/run"];

/// A place of a service that belongs to a user: the next user of that number would have it.
pub fn owned(name: &str) -> Option<PathBuf> {
    let uid = accounts::user_by_name(name)?.uid.as_raw();
    let places =
        OF_SERVICES.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
    let mut owned = places.filter(|place| place.metadata().is_ok_and(|facts| facts.uid() == uid));
    owned.next().map(|place| place.path())
}

/// Has a user join a group.
pub fn join(user: &str, group: &str) -> Result<(), String> {
    either(("usermod", vec!["-aG", group, user]), ("addgroup", vec![user, group]))
}

/// Has a user leave a group.
pub fn leave(user: &str, group: &str) -> Result<(), String> {
    either(("gpasswd", vec!["-d", user, group]), ("delgroup", vec![user, group]))
}

/// Removes a user. A group of the same name that `keep` is to stay.
pub fn remove_user(name: &str, keep: bool) -> Result<(), String> {
    if keep && has("usermod") {
        // userdel removes a group of that name when it is the user's primary one.
        run("usermod", &["-g", "0", name])?;
    }
    either(("userdel", vec![name]), ("deluser", vec![name]))
}

/// Removes a group.
pub fn remove_group(name: &str) -> Result<(), String> {
    either(("groupdel", vec![name]), ("delgroup", vec![name]))
}

fn has(tool: &str) -> bool {
    SERVICE_PATH.split(':').any(|directory| std::path::Path::new(directory).join(tool).is_file())
}

fn either(usual: (&str, Vec<&str>), small: (&str, Vec<&str>)) -> Result<(), String> {
    let (tool, arguments) = if has(usual.0) { usual } else { small };
    run(tool, &arguments)
}

pub(super) fn run(tool: &str, arguments: &[&str]) -> Result<(), String> {
    let ended = Command::new(tool)
        .args(arguments)
        .env_clear()
        .env("PATH", SERVICE_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("{tool}: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    Err(if said.is_empty() { format!("{tool} ended with {}", ended.status) } else { said })
}
