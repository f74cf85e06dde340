//! `apply.sh`, `undo.sh` and `setcap.sh`: what is typed to have `changes.json` carried out by `nrtrace apply`, or taken back.

mod call;
mod start;

use super::page::{Emitted, Page};
use super::setcap;
use crate::grants::{Grants, Method, carriers};
use crate::profile::Profile;

pub(super) use call::call;

/// The script that grants.
pub(super) fn apply(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = head(&format!("Grants what {} needs to run as {}.", grants.name, grants.account.user));
    page.comment(
        "nrtrace apply does what changes.json beside this script says, and keeps what was there before in",
    );
    page.comment("/var/lib/nrtrace, for undo.sh. It can be run again; nrtrace apply --dry-run tells what it would change.");
    call(&mut page, grants, "apply --yes");
    page.blank();
    start::emit(&mut page, profile, grants);
    if grants.on_file {
        let carriers = carriers(profile, grants, |_| true);
        setcap::left_out(&mut page, grants, &carriers);
        for (_, grant) in grants.capabilities.iter().filter(|(of, _)| carriers.unknown.contains(of)) {
            page.cannot(
                &grant.why,
                "the run did not tell which file was executed",
                "use setcap.sh, which takes it as BINARY=",
            );
        }
    }
    finish(page, "apply.sh", grants)
}

/// The script that takes it back.
pub(super) fn undo(grants: &Grants) -> Emitted {
    let mut page = head(&format!("Takes back what apply.sh granted to {}.", grants.name));
    page.comment("What holds data that was written since is left, and said; what others hold stays theirs.");
    call(&mut page, grants, "undo --yes");
    let mut emitted = page.finish("undo.sh".into());
    emitted.executable = true;
    emitted
}

fn head(title: &str) -> Page {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(title);
    page.comment("Written by nrtrace.");
    page
}

fn finish(mut page: Page, name: &str, grants: &Grants) -> Emitted {
    if let Some(why) = &grants.delegate {
        page.cannot(
            why,
            "control groups are delegated by a service manager",
            "give its group to the user by hand",
        );
    }
    for (_, why) in &grants.before_start {
        page.cannot(
            why,
            "what root does before each start is done by a service manager",
            "run it before the start",
        );
    }
    if grants.port_method == Method::Socket {
        for why in grants.ports.values() {
            page.cannot(why, "a socket unit is systemd's", "use --prefer capability");
        }
    }
    let mut emitted = page.finish(name.into());
    emitted.executable = true;
    emitted
}
