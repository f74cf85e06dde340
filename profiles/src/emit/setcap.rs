//! A script that sets file capabilities, for starts without systemd: setcap(8).

use super::escape::shell::quoted;
use super::page::{Emitted, Page};
use super::script;
use crate::grants::{Carriers, FileKind, Grants, capability_text, carriers, too_many_executables};
use crate::profile::Profile;

/// The script `setcap.sh`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(&format!(
        "Sets the file capabilities that {} needs when it is started without systemd.",
        grants.name
    ));
    page.comment("Written by nrtrace. Usage: setcap.sh [--undo], which takes back what it added.");
    page.comment(
        "Everybody who may run the file then has these capabilities. The unit's AmbientCapabilities= reach",
    );
    page.comment("one service only, so where systemd starts it this script is not needed.");
    page.comment("File capabilities are lost when the file is replaced (package updates), and have no effect on scripts,");
    page.comment("on file systems mounted nosuid, under NoNewPrivileges=yes, nor with allowPrivilegeEscalation: false.");
    page.blank();
    for (capability, grant) in &grants.capabilities {
        page.why(&grant.why);
        if let Some(danger) = grant.danger {
            page.comment(&format!("Danger: {capability} {danger}."));
        }
    }
    let carriers = carriers(profile, grants, |_| true);
    if grants.capabilities.is_empty() {
        page.line(&format!(
            "echo {}",
            quoted(&format!("{} needs no capability: nothing to do", grants.name))
        ));
    } else {
        body(&mut page, &carriers, grants);
    }
    left_out(&mut page, grants, &carriers);
    other_needs(&mut page, grants);
    let mut emitted = page.finish("setcap.sh".into());
    emitted.executable = true;
    emitted
}

fn body(page: &mut Page, carriers: &Carriers<'_>, grants: &Grants) {
    for (path, capabilities) in &carriers.files {
        page.comment(&format!("setcap {} {path}", capability_text(capabilities)));
    }
    for path in carriers.interpreters.keys() {
        page.comment(&format!(
            "{path} is an interpreter: every script would have the capabilities, so it gets none."
        ));
    }
    if !carriers.unknown.is_empty() {
        page.comment(
            "The run did not tell which file was executed: give its absolute path as BINARY=… in front.",
        );
    }
    page.line("case ${1-} in");
    page.line("--undo) set -- undo ;;");
    page.line("*) set -- apply ${BINARY:+--binary \"$BINARY\"} ;;");
    page.line("esac");
    script::call(page, grants, "\"$@\" --yes --only capabilities");
}

/// Says whose capabilities are left out.
pub(super) fn left_out(page: &mut Page, grants: &Grants, carriers: &Carriers<'_>) {
    for (capability, grant) in &grants.capabilities {
        let is_carried = carriers.files.values().chain([&carriers.unknown]).any(|of| of.contains(capability));
        if !is_carried {
            page.cannot(
                &grant.why,
                "a file capability on an interpreter would be in every script",
                "use AmbientCapabilities= in the unit",
            );
        }
        if carriers.too_many.contains(capability) {
            page.cannot(&grant.why, &too_many_executables(), "use AmbientCapabilities= in the unit");
        }
    }
}

/// Says what file capabilities do not cover.
fn other_needs(page: &mut Page, grants: &Grants) {
    let hint = "use the tmpfiles.d and sysusers.d files as well";
    for directory in grants.directories.values() {
        page.cannot(&directory.why, "a capability does not stand in for a directory", hint);
    }
    for file in grants.files.values() {
        let kind = if file.kind == FileKind::Fifo { "pipe" } else { "file" };
        page.cannot(&file.why, &format!("a capability does not stand in for a {kind}"), hint);
    }
    for acl in grants.acls.values() {
        page.cannot(&acl.why, "a capability does not stand in for an ACL entry", hint);
    }
    for membership in grants.groups.values() {
        page.cannot(&membership.why, "a capability does not stand in for a group", hint);
    }
    let unit = "use the drop-in for the service unit";
    for limit in grants.limits.values() {
        page.cannot(&limit.why, "a limit is not a property of a file", unit);
    }
    for (_, why) in grants.nice.iter().chain(&grants.oom_score) {
        page.cannot(why, "a priority is not a property of a file", unit);
    }
    if let Some(why) = &grants.delegate {
        page.cannot(why, "control groups are delegated by systemd", unit);
    }
}
