//! sysusers.d(5), for machines without `systemd-sysusers`: the lines that nrtrace writes.

use std::fs::{self, OpenOptions};
use std::io::Write;

use super::{lines, words};
use crate::accounts;

/// Applies the lines; what could not be done, in words.
pub fn apply(text: &str) -> Vec<String> {
    let mut failed = Vec::new();
    for line in lines(text) {
        if let Err(reason) = apply_line(line) {
            failed.push(format!("sysusers.d `{line}`: {reason}"));
        }
    }
    failed
}

fn apply_line(line: &str) -> Result<(), String> {
    let words = words::split(line).ok_or("cannot be read")?;
    let words: Vec<String> = words
        .into_iter()
        .map(String::from_utf8)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let word = |index: usize| words.get(index).map(String::as_str).filter(|word| *word != "-");
    match (word(0), word(1)) {
        (Some("g"), Some(name)) => group(name, word(2)).map(drop),
        (Some("u"), Some(name)) => user(name, word(2), word(3).unwrap_or(""), word(4).unwrap_or("/")),
        (Some("m"), Some(name)) => member(name, word(2).ok_or("names no group")?),
        _ => Err("is of a kind that is not known here".into()),
    }
}

fn failed(error: std::io::Error) -> String {
    error.to_string()
}

fn append(path: &str, line: &str) -> Result<(), String> {
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    writeln!(file, "{line}").map_err(failed)
}

fn group(name: &str, id: Option<&str>) -> Result<u32, String> {
    if let Some(known) = accounts::group_by_name(name) {
        return Ok(known.gid.as_raw());
    }
    let gid = match id.map(str::parse) {
        Some(id) => id.map_err(|_| "its number is none")?,
        None => free()?,
    };
    append("/etc/group", &format!("{name}:x:{gid}:"))?;
    Ok(gid)
}

fn user(name: &str, ids: Option<&str>, description: &str, home: &str) -> Result<(), String> {
    if accounts::user_by_name(name).is_some() {
        return Ok(());
    }
    let (uid, group_name) = match ids.and_then(|ids| ids.split_once(':')) {
        Some((uid, group)) => (Some(uid).filter(|uid| *uid != "-"), group),
        None => (ids, name),
    };
    let gid = match group_name.parse::<u32>() {
        Ok(gid) => gid,
        Err(_) => group(group_name, None)?,
    };
    let taken = |id: u32| accounts::user_by_uid(id).is_some();
    let uid = match uid.map(str::parse) {
        Some(uid) => uid.map_err(|_| "its number is none")?,
        // As systemd does, the same as the group's where that is free.
        None if !taken(gid) => gid,
        None => free()?,
    };
    append("/etc/passwd", &format!("{name}:x:{uid}:{gid}:{description}:{home}:/usr/sbin/nologin"))
}

fn member(user: &str, group_name: &str) -> Result<(), String> {
    group(group_name, None)?;
    let text = fs::read_to_string("/etc/group").map_err(failed)?;
    let mut out = String::with_capacity(text.len() + user.len() + 1);
    for line in text.lines() {
        out.push_str(line);
        let members = line.rsplit(':').next().unwrap_or_default();
        if line.split(':').next() == Some(group_name) && members.split(',').all(|member| member != user) {
            out.push_str(if members.is_empty() { "" } else { "," });
            out.push_str(user);
        }
        out.push('\n');
    }
    fs::write("/etc/group", out).map_err(failed)
}

/// The highest id of the system's range that neither a user nor a group has.
fn free() -> Result<u32, String> {
    let is_free = |id: &u32| accounts::user_by_uid(*id).is_none() && accounts::group_by_gid(*id).is_none();
    (100..=999).rev().find(is_free).ok_or_else(|| "no id of the system's range is free".into())
}
