//! A script that sets file capabilities, for starts without systemd: setcap(8).

use super::escape::shell::{assignment, quoted};
use super::{Emitted, Page};
use crate::grants::{FileKind, Grants};
use crate::profile::Profile;

/// The script `setcap.sh`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page { text: "#!/bin/sh\n".into(), unmet: Vec::new() };
    page.comment(&format!(
        "Sets the file capabilities that {} needs when it is started without systemd.",
        grants.name
    ));
    page.comment("Written by nrtrace. Usage: setcap.sh [--undo]");
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
    let names: Vec<String> = grants.capabilities.keys().map(|c| c.to_string().to_lowercase()).collect();
    if names.is_empty() {
        page.line(&format!(
            "echo {}",
            quoted(&format!("{} needs no capability: nothing to do", grants.name))
        ));
    } else {
        binary(&mut page, profile);
        page.line(&format!("capabilities={}", quoted(&format!("{}=ep", names.join(",")))));
        for line in BODY.lines() {
            page.line(line);
        }
    }
    other_needs(&mut page, grants);
    let mut emitted = page.finish("setcap.sh".into(), grants);
    emitted.executable = true;
    emitted
}

fn binary(page: &mut Page, profile: &Profile) {
    match profile.executable.as_ref().filter(|path| path.as_bytes().first() == Some(&b'/')) {
        Some(path) if !path.as_bytes().contains(&0) => page.line(&assignment("binary", path.as_bytes())),
        _ => {
            page.comment(
                "The run did not tell which file was executed: give its absolute path as BINARY=… in front.",
            );
            page.line("binary=${BINARY:?set BINARY to the absolute path of the executable}");
            page.line(
                "case $binary in /*) ;; *) echo \"BINARY must be an absolute path\" >&2; exit 1 ;; esac",
            );
        }
    }
}

const BODY: &str = r#"
fail() { printf '%s: %s\n' "$binary" "$1" >&2; exit 1; }
[ ! -L "$binary" ] || fail 'is a symbolic link now; trace the program again'
[ -f "$binary" ] || fail 'is not a regular file'
if [ "${1-}" = --undo ]; then
    setcap -q -r "$binary"
    exit 0
fi
if [ "$(head -c 2 "$binary" | tr -d '\000')" = '#!' ]; then
    fail 'is a script: file capabilities have no effect on it; use AmbientCapabilities= in the unit'
fi
setcap -q "$capabilities" "$binary"
setcap -q -v "$capabilities" "$binary" >/dev/null || fail 'the capabilities did not take; is the file system mounted nosuid?'
getcap "$binary""#;

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
