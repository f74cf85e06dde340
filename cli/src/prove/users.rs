//! Whom a program is tried as: the users that its run and the units of this machine point to, and a new one.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::event::Identity;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::users::{Hint, becomes, owners};
use nrtrace_tracer::launch::identity;

use super::units;

/// How many users are tried beside the first.
const MOST: usize = 3;

/// A user to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The user.
    pub identity: Identity,
    /// Why, in words that follow its name.
    pub why: String,
}

/// The users that are worth a trial beside that of the profile, in order.
pub fn others(profile: &Profile, program: &str) -> Vec<Candidate> {
    let said = profile.executable.as_ref().map(|path| units::of(Path::new(OsStr::from_bytes(path.as_bytes()))));
    let named = said.iter().flat_map(|said| &said.users).map(|(user, group, unit)| {
        let text = group.as_ref().map_or_else(|| user.clone(), |group| format!("{user}:{group}"));
        (text, format!("whom {unit} names"))
    });
    let text = |hint: Hint| {
        let text = hint.gid.map_or_else(|| hint.uid.to_string(), |gid| format!("{}:{gid}", hint.uid));
        (text, hint.why)
    };
    let all = becomes(profile).into_iter().map(text).chain(named).chain(owners(profile).into_iter().map(text));
    let mut found: Vec<Candidate> = Vec::new();
    for (text, why) in all {
        // What a unit names may not be there, and a number may have no name: then it is no user of this machine.
        let Ok(identity) = identity::resolve(Some(&text), &[], program) else { continue };
        let is_new = |known: &Identity| (known.uid, known.gid) != (identity.uid, identity.gid);
        if identity.exists && is_new(&profile.identity) && found.iter().all(|known| is_new(&known.identity)) {
            found.push(Candidate { identity, why });
        }
    }
    found.truncate(MOST);
    found
}

/// Directories that the program's packages would have made and that are not there.
pub fn made(profile: &Profile) -> Vec<RawText> {
    let Some(executable) = &profile.executable else { return Vec::new() };
    let said = units::of(Path::new(OsStr::from_bytes(executable.as_bytes())));
    let users = said.users.iter().map(|(user, ..)| user).chain([&profile.identity.user]);
    let given = users.flat_map(|user| units::made_for(user));
    let mut all: Vec<_> = said.directories.iter().cloned().chain(given).collect();
    all.sort();
    all.dedup();
    all.retain(|path| !path.exists());
    all.into_iter().map(|path| RawText::new(path.into_os_string().into_vec())).collect()
}
