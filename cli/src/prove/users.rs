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

/// The first number of a user who may be a person.
const FIRST_PERSON: u32 = 1000;

/// A user to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The user.
    pub identity: Identity,
    /// Why, in words that follow its name.
    pub why: String,
    /// Whether a new user that lives with as little is better, who owns nothing else.
    pub is_weak: bool,
}

/// The users that are worth a trial beside that of the profile, in order.
///
/// What starts by a unit runs as whom that one names: other units with the same executable are other services.
pub fn others(profile: &Profile, program: &str) -> Vec<Candidate> {
    let executable = profile.executable.as_ref().filter(|_| profile.unit.is_none());
    let said = executable.map(|path| units::of(Path::new(OsStr::from_bytes(path.as_bytes()))));
    let in_units = said.iter().flat_map(|said| &said.users).map(|(user, group, unit)| {
        let text = group.as_ref().map_or_else(|| user.clone(), |group| format!("{user}:{group}"));
        (text, format!("whom {unit} names"), false)
    });
    let text = |hint: Hint| {
        let text = hint.gid.map_or_else(|| hint.uid.to_string(), |gid| format!("{}:{gid}", hint.uid));
        (text, hint.why, hint.is_weak)
    };
    let in_command =
        named(&profile.command).into_iter().map(|user| (user, "whom its options name".to_owned(), false));
    let alike = namesakes(program).into_iter().map(|user| (user, "who bears its name".to_owned(), false));
    let all = becomes(profile).into_iter().map(text).chain(in_command).chain(in_units);
    let all = all.chain(owners(profile).into_iter().map(text)).chain(alike);
    let mut found: Vec<Candidate> = Vec::new();
    for (text, why, is_weak) in all {
        // What a unit names may not be there, and a number may have no name: then it is no user of this machine.
        let Ok(identity) = identity::resolve(Some(&text), &[], program) else { continue };
        let is_new = |known: &Identity| (known.uid, known.gid) != (identity.uid, identity.gid);
        let service = (1..FIRST_PERSON).contains(&identity.uid);
        if service
            && identity.exists
            && is_new(&profile.identity)
            && found.iter().all(|known| is_new(&known.identity))
        {
            found.push(Candidate { identity, why, is_weak });
        }
    }
    found
}

/// What the options of a command name as a user: `-u web`, `--user=web`, `-j unix,user=web`.
fn named(command: &[RawText]) -> Vec<String> {
    let words: Vec<&str> = command.iter().skip(1).filter_map(RawText::as_str).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let option = at.checked_sub(1).and_then(|before| words.get(before)).copied().unwrap_or_default();
        if ["-u", "-U", "--user", "-user"].contains(&option) {
            found.push((*word).to_owned());
        }
        found.extend(word.split(',').filter_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim_start_matches('-').eq_ignore_ascii_case("user").then(|| value.to_owned())
        }));
    }
    found
}

/// Names under which packages make a user for a program.
fn namesakes(program: &str) -> Vec<String> {
    let plain = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    let names = [program, plain, plain.strip_suffix('d').unwrap_or(plain)];
    let forms = names
        .iter()
        .filter(|name| name.len() > 2)
        .flat_map(|name| ["", "_", "debian-", "Debian-"].map(|before| format!("{before}{name}")));
    forms.collect()
}

/// Directories that the program's packages would have made and that are not there.
pub fn made(profile: &Profile) -> Vec<RawText> {
    // The directories of the unit that starts it are made by that.
    let executable = profile.executable.as_ref().filter(|_| profile.unit.is_none());
    let said =
        executable.map(|path| units::of(Path::new(OsStr::from_bytes(path.as_bytes())))).unwrap_or_default();
    let users = said.users.iter().map(|(user, ..)| user).chain([&profile.identity.user]);
    let given = users.flat_map(|user| units::made_for(user));
    let mut all: Vec<_> = said.directories.iter().cloned().chain(given).collect();
    all.sort();
    all.dedup();
    all.retain(|path| !path.exists());
    all.into_iter().map(|path| RawText::new(path.into_os_string().into_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_name_users() {
        let of = |text: &str| named(&text.split(' ').map(RawText::from).collect::<Vec<_>>());
        assert_eq!(of("tftpd --user tftp --address :69"), ["tftp"]);
        assert_eq!(of("varnishd -j unix,user=vcache -F"), ["vcache"]);
        assert_eq!(of("slapd -u openldap -g openldap"), ["openldap"]);
        assert_eq!(of("x --user=web"), ["web"]);
        assert!(of("user=x --users web -F u").is_empty());
    }

    #[test]
    fn packages_name_users_after_programs() {
        assert!(namesakes("tor").contains(&"debian-tor".to_owned()));
        assert!(namesakes("snmpd").contains(&"Debian-snmp".to_owned()));
        assert!(namesakes("php-fpm8.2").contains(&"php-fpm".to_owned()));
        assert!(namesakes("sh").is_empty());
    }
}
