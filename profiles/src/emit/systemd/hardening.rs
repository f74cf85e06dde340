//! Directives that take away from a service what it does without, systemd.exec(5): which are written in any case, and
//! which only where trials have shown that the program lives with them.

use std::collections::BTreeSet;

use crate::emit::writable;
use crate::event::Protocol;
use crate::grants::Grants;
use crate::paths::is_at_or_below;
use crate::profile::Profile;
use crate::requirement::{KernelOperation, Limit, Need};
use crate::{Capability, RawText};

/// What the record says, and what is granted.
struct Seen<'a> {
    profile: &'a Profile,
    grants: &'a Grants,
}

/// When a directive is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// In any case: the record tells all that matters.
    Always,
    /// Once trials have shown it: the record does not tell.
    Proved,
}
use When::{Always, Proved};

/// A directive.
struct Row {
    name: &'static str,
    /// Its values: the one that takes away most first, then what may be tried in its place.
    values: &'static [&'static str],
    when: When,
    /// Whether systemd applies it, or some of it, by a filter of calls.
    filters: bool,
    /// Whether the record speaks against a value.
    against: fn(&Seen<'_>, &str) -> bool,
}

const fn row(
    name: &'static str,
    values: &'static [&'static str],
    when: When,
    filters: bool,
    against: fn(&Seen<'_>, &str) -> bool,
) -> Row {
    Row { name, values, when, filters, against }
}

const YES: &[&str] = &["yes"];
const FAMILIES: &[&str] = &["AF_UNIX AF_INET AF_INET6", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"];
const FAMILY: &str = "RestrictAddressFamilies";
const FILTER: &str = "SystemCallFilter";
const FILTERS: &[&str] =
    &["@system-service", "~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap"];
/// Where users keep what is theirs.
const HOMES: &[&str] = &["/home", "/root", "/run/user"];
/// Where programs meet by name.
const TEMPORARY: &[&str] = &["/tmp", "/var/tmp"];

/// All of them, in the order in which they are written.
const ROWS: &[Row] = &[
    row("ProtectHome", &["read-only"], Always, false, |seen, _| !seen.is_known() || seen.writes(HOMES)),
    row("ProtectHome", YES, Proved, false, |seen, _| !seen.is_known() || seen.meets(HOMES)),
    row("ProtectKernelTunables", YES, Always, true, |seen, _| {
        seen.needs(|need| matches!(need, Need::Sysctl { .. })) || seen.does(KernelOperation::Sysfs)
    }),
    row("ProtectKernelModules", YES, Always, true, |seen, _| seen.does(KernelOperation::Module)),
    row("ProtectKernelLogs", YES, Always, true, |seen, _| {
        seen.may(&[Capability::SYSLOG]) || seen.grants.devices.contains_key(&RawText::from("/dev/kmsg"))
    }),
    row("ProtectControlGroups", YES, Always, false, |seen, _| {
        seen.grants.delegate.is_some() || seen.does(KernelOperation::Cgroup)
    }),
    row("ProtectHostname", YES, Always, true, |seen, _| seen.may(&[Capability::SYS_ADMIN])),
    row("RestrictRealtime", YES, Always, true, |seen, _| {
        seen.grants.limits.contains_key(&Limit::RealtimePriority)
    }),
    row("LockPersonality", YES, Always, true, |_, _| false),
    row("ProtectProc", &["invisible"], Proved, false, |seen, _| seen.may(&[Capability::SYS_PTRACE])),
    // Whom else a program meets there, no trial shows.
    row("PrivateTmp", YES, Proved, false, |seen, _| !seen.is_known() || seen.meets(TEMPORARY)),
    row("PrivateDevices", YES, Proved, true, |seen, _| {
        !seen.grants.devices.is_empty() || seen.may(&[Capability::MKNOD, Capability::SYS_RAWIO])
    }),
    // It closes other devices than the clock's, too.
    row("ProtectClock", YES, Proved, true, |seen, _| {
        !seen.grants.devices.is_empty() || seen.may(&[Capability::SYS_TIME])
    }),
    row("RestrictNamespaces", YES, Proved, true, |seen, _| {
        seen.does(KernelOperation::Namespace) || seen.may(&[Capability::SYS_ADMIN])
    }),
    row(FAMILY, FAMILIES, Proved, true, |seen, value| {
        let netlink = seen.listens(Protocol::Netlink) || seen.may(&[Capability::NET_ADMIN]);
        seen.listens(Protocol::Packet)
            || seen.listens(Protocol::Other)
            || (netlink && !value.contains("AF_NETLINK"))
    }),
    row("RestrictSUIDSGID", YES, Proved, true, |_, _| false),
    row("MemoryDenyWriteExecute", YES, Proved, true, |_, _| false),
    row("SystemCallArchitectures", &["native"], Proved, true, |_, _| false),
    // Where there is a list of what is refused, one of what is allowed would change its meaning.
    row(FILTER, FILTERS, Proved, true, |seen, value| seen.is_filtered() != value.starts_with('~')),
    row(FILTER, &["~@resources"], Proved, true, |seen, _| {
        seen.may(&[Capability::SYS_NICE, Capability::SYS_RESOURCE])
    }),
    row(FILTER, &["~@privileged"], Proved, true, |seen, _| {
        seen.grants.capabilities.keys().any(|capability| *capability != Capability::NET_BIND_SERVICE)
    }),
];

/// What programs most often do not live with, by what trials of many have shown: those that become somebody, those that
/// make code, and those that ask for the list of interfaces.
pub fn is_often_too_much(line: &str) -> bool {
    [
        "SystemCallFilter=~@privileged",
        "MemoryDenyWriteExecute=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    ]
    .contains(&line)
}

impl Row {
    fn lines(&self) -> impl Iterator<Item = String> {
        self.values.iter().map(|value| format!("{}={value}", self.name))
    }

    /// The lines that the record does not speak against.
    fn open<'a>(&'a self, seen: &'a Seen<'_>) -> impl Iterator<Item = String> + 'a {
        let values = self.values.iter().filter(|value| !(self.against)(seen, value));
        values.map(|value| format!("{}={value}", self.name))
    }
}

impl Seen<'_> {
    /// Whether the unit takes that away by itself: what it says stays.
    fn has(&self, row: &Row) -> bool {
        self.profile.unit.as_ref().is_some_and(|unit| unit.restricts(row.name))
    }

    /// Whether the run tells where the program writes.
    fn is_known(&self) -> bool {
        writable::doubt(self.profile).is_none()
    }

    fn needs(&self, wanted: impl Fn(&Need) -> bool) -> bool {
        self.profile.requirements.iter().any(|requirement| wanted(&requirement.need))
    }

    fn does(&self, wanted: KernelOperation) -> bool {
        self.needs(|need| matches!(need, Need::Kernel { operation, .. } if *operation == wanted))
    }

    fn may(&self, any: &[Capability]) -> bool {
        any.iter().any(|capability| self.grants.capabilities.contains_key(capability))
    }

    fn writes(&self, trees: &[&str]) -> bool {
        writable::places(self.profile, self.grants).keys().any(|path| is_in(path, trees))
    }

    /// Whether the program writes there to what others see, listens there, or is there itself.
    fn meets(&self, trees: &[&str]) -> bool {
        let profile = self.profile;
        let needed = |need: &Need| match need {
            Need::Path { path, .. } | Need::Identity { path: Some(path), .. } => is_in(path, trees),
            _ => false,
        };
        let words = profile.command.iter().chain(&profile.executable).chain([&profile.run.cwd]);
        let variables = profile.run.given.iter().map(|(_, value)| value);
        let listens = profile.listens.iter().map(|listen| &listen.address);
        let files = profile.writes.iter().filter(|written| !written.made).map(|written| &written.path);
        // That it makes files of its own in the directory itself is what the directive is for.
        let files = files.filter(|path| trees.iter().all(|tree| path.as_bytes() != tree.as_bytes()));
        self.needs(needed)
            || words.chain(variables).chain(listens).chain(files).any(|path| is_in(path, trees))
    }

    fn listens(&self, protocol: Protocol) -> bool {
        self.profile.listens.iter().any(|listen| listen.protocol == protocol)
    }

    /// Whether the unit has a filter of calls for another reason.
    fn is_filtered(&self) -> bool {
        self.grants.directives.keys().any(|(name, _)| name == FILTER)
    }
}

fn is_in(path: &RawText, trees: &[&str]) -> bool {
    let below = |tree: &&str| is_at_or_below(path.as_bytes(), tree.as_bytes());
    trees.iter().any(below)
}

/// The directives of a plan's unit: those that hold by the record, and those that are proved or being tried. `filters` tells
/// whether it may have filters of calls.
pub(super) fn lines(profile: &Profile, grants: &Grants, filters: bool) -> (Vec<String>, Vec<String>) {
    let seen = Seen { profile, grants };
    let proof = profile.proof.as_ref().filter(|proof| proof.lives).map(|proof| &proof.hardening);
    let wanted = |line: &String| {
        grants.choices.harden.contains(line) || proof.is_some_and(|proved| proved.contains(line))
    };
    let (mut always, mut proved) = (Vec::new(), Vec::new());
    for row in ROWS.iter().filter(|row| (filters || !row.filters) && !seen.has(row)) {
        if row.when == Always {
            always.extend(row.open(&seen).next());
        } else if let Some(line) = row.lines().find(wanted) {
            always.retain(|other: &String| other.split('=').next() != Some(row.name));
            proved.push(line);
        }
    }
    // A program that is refused a call may go on, one that is killed cannot; and a list is the whole list.
    for (list, first) in
        [(FILTER, "SystemCallErrorNumber=EPERM\nSystemCallFilter="), (FAMILY, "RestrictAddressFamilies=")]
    {
        if let Some(place) = proved.iter().position(|line| line.starts_with(list)) {
            proved.splice(place..place, first.lines().map(str::to_owned));
        }
    }
    (always, proved)
}

/// What can be tried beyond what the profile's unit holds in any case: lists of lines, of each of which the first that
/// the program lives with is to be taken.
pub fn candidates(profile: &Profile, grants: &Grants) -> Vec<Vec<String>> {
    let seen = Seen { profile, grants };
    let on_file = grants.on_file && !grants.capabilities.is_empty();
    let rows = ROWS.iter().filter(|row| row.when == Proved && !(on_file && row.filters) && !seen.has(row));
    let lines = rows.map(|row| row.open(&seen).collect::<Vec<_>>());
    lines.filter(|lines| !lines.is_empty()).collect()
}

/// Every line that may be written.
pub fn all() -> BTreeSet<String> {
    ROWS.iter().flat_map(Row::lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Format;
    use crate::grants::Choices;
    use crate::proof::ProfileProof;
    use crate::requirement::Seconds;
    use crate::ways::plan;

    fn sample(name: &str) -> Profile {
        let path = format!("{}/testdata/{name}/profile.json", env!("CARGO_MANIFEST_DIR"));
        Profile::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn unit(profile: &Profile, choices: &Choices) -> String {
        Format::SystemdDropIn.emit(profile, &plan(profile, choices)).text
    }

    fn proved(profile: &mut Profile, lives: bool, hardening: &[&str]) {
        profile.proof = Some(ProfileProof {
            lives,
            minimal: false,
            readiness: None,
            exercise: None,
            greetings: Vec::new(),
            settled: Seconds(0),
            trials: 1,
            took: None,
            flaked: 0,
            hardening: hardening.iter().map(|line| (*line).to_owned()).collect(),
            image: None,
            not_applied: Vec::new(),
        });
    }

    #[test]
    fn what_is_proved_is_written_and_nothing_that_is_no_directive_of_ours() {
        let mut profile = sample("redis");
        let plain = unit(&profile, &Choices::default());
        assert!(!plain.contains("PrivateTmp") && plain.contains("\nProtectHome=read-only\n"), "{plain}");
        let lines =
            ["PrivateTmp=yes", "ProtectHome=yes", "ExecStart=/bin/true", "SystemCallFilter=~@resources"];
        proved(&mut profile, false, &lines);
        assert_eq!(unit(&profile, &Choices::default()), plain);
        proved(&mut profile, true, &lines);
        let text = unit(&profile, &Choices::default());
        let filter = "\nSystemCallErrorNumber=EPERM\nSystemCallFilter=\nSystemCallFilter=~@resources\n";
        assert!(text.contains("\nPrivateTmp=yes\n") && text.contains(filter), "{text}");
        assert!(text.contains("\nProtectHome=yes\n") && !text.contains("ProtectHome=read-only"), "{text}");
        assert!(!text.contains("ExecStart"), "{text}");
    }

    #[test]
    fn what_is_tried_is_written_for_the_trial() {
        let profile = sample("redis");
        let harden = BTreeSet::from(["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6".to_owned()]);
        let text = unit(&profile, &Choices { harden, ..Choices::default() });
        let cleared = "\nRestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n";
        assert!(text.contains(cleared), "{text}");
    }

    #[test]
    fn what_the_record_speaks_against_is_no_candidate() {
        let of = |profile: &Profile| -> BTreeSet<String> {
            candidates(profile, &plan(profile, &Choices::default())).into_iter().flatten().collect()
        };
        let redis = of(&sample("redis"));
        assert!(
            redis.contains("PrivateTmp=yes") && redis.contains("SystemCallFilter=@system-service"),
            "{redis:?}"
        );
        assert!(of(&sample("redis")).is_subset(&all()));
        let chrony = of(&sample("chrony"));
        assert!(
            !chrony.contains("ProtectClock=yes") && !chrony.contains("SystemCallFilter=~@privileged"),
            "{chrony:?}"
        );
        let mut meets = sample("redis");
        meets.command.push(RawText::from("/tmp/socket"));
        assert!(!of(&meets).contains("PrivateTmp=yes"));
        let mut unknown = sample("redis");
        unknown.run.record = crate::event::Record::Needs;
        let unknown = of(&unknown);
        assert!(!unknown.contains("PrivateTmp=yes") && unknown.contains("PrivateDevices=yes"), "{unknown:?}");
    }
}
