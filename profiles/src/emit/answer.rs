//! The answer, for every page that shows it: the result in a line, and what is done about needs, a row for those that are
//! dealt with alike.

use super::table::groups::Group;
use super::table::proved;
use super::treatment::Treatment;
use crate::event::Exit;
use crate::grants::Grants;
use crate::profile::Profile;
use crate::requirement::Need;

/// The result in a line.
pub(super) fn headline(profile: &Profile, grants: &Grants) -> String {
    let (name, identity) = (&profile.name, &profile.identity);
    let count = match grants.count() {
        0 => "no grant".to_owned(),
        1 => "1 grant".to_owned(),
        more => format!("{more} grants"),
    };
    match profile.proof.as_ref().filter(|proof| proof.lives) {
        Some(proof) => {
            let none_less = if proof.minimal { "" } else { "; none was left out to try" };
            let took = proof.took.map(|took| format!(" ({:.0} s)", took.0 as f64 / 1e9)).unwrap_or_default();
            let trials = proved::trials(proof.trials);
            format!(
                "{name} runs{} as {} with {count}, proved in {trials}{}{took}{none_less}",
                end(profile),
                who(profile),
                proved::in_image(proof),
            )
        }
        None => {
            let made_up = if identity.exists { "" } else { ", made up for the run" };
            let who = format!("to run as {} (uid {}{made_up})", identity.user, identity.uid);
            match (profile.requirements.is_empty(), grants.count()) {
                (true, _) => format!("What {name} needs {who}"),
                (false, 0) => format!("What {name} needs {who} is granted by no file"),
                (false, _) => format!("{name} needs {count} {who}"),
            }
        }
    }
}

/// As whom it runs: a user without an account in its container by its number, which is what the files say.
fn who(profile: &Profile) -> String {
    let identity = &profile.identity;
    if profile.container.is_some() && !identity.exists {
        return identity.uid.to_string();
    }
    identity.user.clone()
}

/// Whether it is no service, or did not come to be one.
pub(super) fn ends_by_itself(profile: &Profile) -> bool {
    profile.run.exit == Exit::Exited { status: 0 } && !profile.run.daemon
}

fn end(profile: &Profile) -> String {
    let took = profile.run.duration.0 as f64 / 1e9;
    if ends_by_itself(profile) { format!(" to its end ({took:.2} s, status 0)") } else { String::new() }
}

/// Rows with one verdict.
pub(super) struct Section<'a> {
    pub(super) verdict: Treatment,
    /// What stands above them; nothing above what is simply granted.
    pub(super) title: Option<&'static str>,
    pub(super) groups: Vec<&'a Group<'a>>,
}

impl Section<'_> {
    /// How many needs it is about.
    pub(super) fn needs(&self) -> usize {
        self.groups.iter().map(|group| group.needs.len()).sum()
    }
}

/// What is to be done, in the order of its weight; without what is refused and does no harm.
pub(super) fn sections<'a>(groups: &'a [Group<'a>]) -> Vec<Section<'a>> {
    const ALL: [(Treatment, Option<&str>); 5] = [
        (Treatment::Granted, None),
        (
            Treatment::Partly,
            Some("That the files for systemd cannot hold: apply.sh does it, see their comments"),
        ),
        (Treatment::Advice, Some("To settle in the program's configuration")),
        (Treatment::Withheld, Some("Withheld, to be proved with --minimize")),
        (Treatment::Unmet, Some("Cannot be granted safely")),
    ];
    let all = ALL.map(|(verdict, title)| Section { verdict, title, groups: of(groups, verdict) });
    all.into_iter().filter(|section| !section.groups.is_empty()).collect()
}

/// The rows with that verdict.
pub(super) fn of<'a>(groups: &'a [Group<'a>], verdict: Treatment) -> Vec<&'a Group<'a>> {
    let mut found: Vec<&Group<'_>> = groups.iter().filter(|group| group.verdict == verdict).collect();
    // Ports are what most ask about.
    found.sort_by_key(|group| !matches!(group.needs.first().map(|need| &need.need), Some(Need::Port { .. })));
    found
}
