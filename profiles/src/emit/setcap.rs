//! A script that sets file capabilities, for starts without systemd: setcap(8).

use super::escape::shell::{assignment, quoted};
use super::script::CAPABILITIES;
use super::{Emitted, Page};
use crate::grants::{Carriers, FileKind, Grants, capability_text, carriers, too_many_executables};
use crate::profile::Profile;

/// The script `setcap.sh`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(&format!(
        "Sets the file capabilities that {} needs when it is started without systemd.",
        grants.name
    ));
    page.comment("Written by nrtrace. Usage: setcap.sh [--undo], which restores what each file had before.");
    page.comment(
        "Everybody who may run the file then has these capabilities. The unit's AmbientCapabilities= reach",
    );
    page.comment("one service only, so where systemd starts it this script is not needed.");
    page.comment("File capabilities are lost when the file is replaced (package updates), and have no effect on scripts,");
    page.comment("on file systems mounted nosuid, under NoNewPrivileges=yes, nor with allowPrivilegeEscalation: false.");
    page.line("set -eu");
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
        body(&mut page, &carriers, &grants.name);
    }
    left_out(&mut page, grants, &carriers);
    other_needs(&mut page, grants);
    let mut emitted = page.finish("setcap.sh".into(), grants);
    emitted.executable = true;
    emitted
}

fn body(page: &mut Page, carriers: &Carriers<'_>, name: &str) {
    page.line(&format!("state=/var/lib/nrtrace/{}.setcap", quoted(name)));
    page.blank();
    CAPABILITIES.lines().chain(FUNCTIONS.lines()).for_each(|line| page.line(line));
    page.blank();
    page.comment("Does something with each executable that made one of these calls.");
    page.line("each() {");
    for (path, capabilities) in &carriers.files {
        page.line(&format!("    {}", assignment("binary", path.as_bytes())));
        page.line(&format!("    \"$1\" {}", quoted(&capability_text(capabilities))));
    }
    for path in carriers.interpreters.keys() {
        page.line(&format!("    {}", assignment("binary", path.as_bytes())));
        page.line(
            "    fail 'is an interpreter: every script would have the capabilities; use AmbientCapabilities= in the unit'",
        );
    }
    if !carriers.unknown.is_empty() {
        page.indented_comment(
            4,
            "The run did not tell which file was executed: give its absolute path as BINARY=… in front.",
        );
        page.line("    binary=${BINARY:?set BINARY to the absolute path of the executable}");
        page.line("    case $binary in /*) ;; *) fail 'is no absolute path' ;; esac");
        page.line(&format!("    \"$1\" {}", quoted(&capability_text(&carriers.unknown))));
    }
    page.line("}");
    page.blank();
    ACTIONS.lines().for_each(|line| page.line(line));
}

const FUNCTIONS: &str = r#"
fail() { printf '%s: %s\n' "$binary" "$1" >&2; exit 1; }

check() {
    [ ! -L "$binary" ] || fail 'is a symbolic link now; trace the program again'
    [ -f "$binary" ] || fail 'is not a regular file'
    if [ "$(head -c 2 "$binary" | tr -d '\000')" = '#!' ]; then
        fail 'is a script: file capabilities have no effect on it; use AmbientCapabilities= in the unit'
    fi
    joins "$(held "$binary")" || fail 'has capabilities that are not effective, to which none can be added: see getcap'
}

# What the file had before is kept under its name's checksum.
kept() { printf '%s/%s' "$state" "$(printf %s "$binary" | cksum | tr ' ' -)"; }

grant() {
    (umask 077; mkdir -p "$state")
    add_capabilities "$(kept)" "$binary" "$1" ||
        fail 'the capabilities did not take; is the file system mounted nosuid?'
    getcap "$binary"
}

take_back() {
    [ -e "$(kept)" ] || return 0
    if [ -f "$binary" ]; then
        restore_capabilities "$(kept)" "$binary"
    else
        printf '%s: is gone\n' "$binary" >&2
    fi
    rm -f -- "$(kept)"
}"#;

/// All are looked at before the first is changed.
const ACTIONS: &str = r#"if [ "${1-}" != --undo ]; then
    each check
    each grant
elif [ -d "$state" ]; then
    each take_back
    rmdir -- "$state" /var/lib/nrtrace 2>/dev/null || true
else
    echo 'nothing to take back: setcap.sh has not set anything here' >&2
    exit 1
fi"#;

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
