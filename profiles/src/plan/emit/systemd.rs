//! sysusers.d(5), tmpfiles.d(5), and drop-ins.

use super::super::model::{Arrangement, Entry, GroupOf};
use super::parts::{comment, components, emitted, file_name, is_kept, is_root, line, users};
use crate::RawText;
use crate::emit::Emitted;
use crate::emit::escape::tmpfiles::{field, glob_field, is_portable};
use crate::event::FileType;
use crate::grants::Why;
use crate::paths::{is_below, parent};
use crate::text::letters;

/// Users and groups, with the ids that the Kubernetes patches name too.
pub(super) fn sysusers(arrangement: &Arrangement, name: &str) -> Emitted {
    let mut out = String::new();
    comment(&mut out, 0, &format!("sysusers.d: users and groups of {}", arrangement.components.join(", ")));
    comment(&mut out, 0, "Apply with: systemd-sysusers FILE");
    for (component, user) in arrangement.components.iter().zip(&arrangement.users) {
        line(&mut out, "");
        if user.exists {
            comment(&mut out, 0, &format!("{component} keeps its user, which is there already."));
        } else {
            comment(&mut out, 0, component);
        }
        line(&mut out, &format!("g {} {}", user.group, user.gid));
        line(&mut out, &format!("u {} {}:{} \"{}\"", user.name, user.uid, user.group, file_name(component)));
    }
    for group in &arrangement.groups {
        line(&mut out, "");
        comment(&mut out, 0, &format!("What {} share.", components(arrangement, &group.members)));
        line(&mut out, &format!("g {} {}", group.name, group.gid));
        for member in group.members.iter().filter_map(|member| arrangement.users.get(*member)) {
            line(&mut out, &format!("m {} {}", member.name, group.name));
        }
    }
    emitted(format!("sysusers.d/nrtrace-{name}.conf"), out)
}

/// Owner, group and mode of everything that is there before the components start.
pub(super) fn tmpfiles(arrangement: &Arrangement, name: &str) -> Emitted {
    let mut out = String::new();
    comment(
        &mut out,
        0,
        &format!("tmpfiles.d: owners and modes of what {} share", arrangement.components.join(", ")),
    );
    comment(&mut out, 0, "Apply sysusers.d first, then: systemd-tmpfiles --create FILE");
    for (path, entry) in &arrangement.entries {
        line(&mut out, "");
        comment(&mut out, 0, &format!("used by {}", users(arrangement, entry)));
        let (owner, group) = (arrangement.owner(entry), arrangement.group(entry));
        let shown = format!("{:04o} {owner} {group}", entry.mode);
        if entry.left {
            comment(&mut out, 0, &format!("{path} stays as it is, {shown}: everybody may use it so"));
            continue;
        }
        if !is_kept(entry) {
            comment(&mut out, 0, &format!("{path} is made by the component itself, as {shown}"));
            made(&mut out, arrangement, path, entry);
            continue;
        }
        let directory = entry.file_type == FileType::Directory;
        let text = if directory { field(path.as_bytes()) } else { glob_field(path.as_bytes()) };
        let letter = if directory { 'd' } else { 'z' };
        let mut lines = vec![format!("{letter} {text} {shown}{}", if directory { " -" } else { "" })];
        if !entry.acl.is_empty() {
            lines.push(format!("a {} - - - - {}", glob_field(path.as_bytes()), acl(arrangement, entry)));
        }
        for text in lines {
            if is_portable(path.as_bytes()) {
                line(&mut out, &text);
            } else {
                comment(
                    &mut out,
                    0,
                    "Only systemd 254 and later read this name right; there, take away the mark in front:",
                );
                comment(&mut out, 0, &text);
            }
        }
        if is_root(entry) && !directory {
            comment(&mut out, 0, "root alone");
        }
    }
    emitted(format!("tmpfiles.d/nrtrace-{name}.conf"), out)
}

/// A directory that its component makes is not made beforehand, but where it is there already, it gets its owner, with all that
/// is in it.
fn made(out: &mut String, arrangement: &Arrangement, path: &RawText, entry: &Entry) {
    let alone = |entry: &Entry| entry.acl.is_empty() && matches!(entry.group, GroupOf::Component(_));
    let mut below =
        arrangement.entries.iter().filter(|(other, _)| is_below(other.as_bytes(), path.as_bytes()));
    let whole = alone(entry) && below.all(|(_, other)| other.owner == entry.owner && alone(other));
    let directory = entry.file_type == FileType::Directory;
    let above = arrangement.entries.get(&parent(path));
    // With the directory above all of it is given already.
    if above.is_some_and(|above| above.made && above.owner == entry.owner) {
        return;
    }
    if directory && whole && is_portable(path.as_bytes()) {
        let (owner, group) = (arrangement.owner(entry), arrangement.group(entry));
        line(out, &format!("Z {} - {owner} {group}", glob_field(path.as_bytes())));
    }
}

/// The whole ACL: with entries for some, the group's digit in the mode is the mask for all of them.
fn acl(arrangement: &Arrangement, entry: &Entry) -> String {
    let mask = entry.mode >> 3 & 7;
    let mut parts = vec![
        format!("u::{}", letters(entry.mode >> 6 & 7)),
        format!("g::{}", letters(entry.group_bits)),
        "o::---".to_owned(),
        format!("m::{}", letters(mask)),
    ];
    for (user, bits) in &entry.acl {
        let name = arrangement.users.get(*user).map_or("root", |user| &user.name);
        parts.push(format!("u:{name}:{}", letters(*bits)));
    }
    parts.join(",")
}

/// The drop-in of a component.
pub(super) fn drop_in(arrangement: &Arrangement, component: usize) -> Emitted {
    let name = arrangement.components.get(component).map_or("component", String::as_str);
    let service = file_name(name);
    let mut out = String::new();
    comment(
        &mut out,
        0,
        &format!("Runs {service}.service as a user of its own, with the groups of what it shares."),
    );
    comment(
        &mut out,
        0,
        "Goes to /etc/systemd/system/, with sysusers.d and tmpfiles.d in place; then: systemctl daemon-reload",
    );
    line(&mut out, "[Service]");
    if let Some(user) = arrangement.users.get(component) {
        line(&mut out, &format!("User={}", user.name));
        line(&mut out, &format!("Group={}", user.group));
    }
    comment(&mut out, 0, "A first empty assignment clears what the unit itself sets.");
    line(&mut out, "SupplementaryGroups=");
    for group in arrangement.groups_of(component) {
        line(&mut out, &format!("SupplementaryGroups={}", group.name));
    }
    line(&mut out, "AmbientCapabilities=");
    line(&mut out, "CapabilityBoundingSet=");
    for capability in arrangement.capabilities.get(component).into_iter().flatten() {
        line(&mut out, &format!("AmbientCapabilities={capability}"));
        line(&mut out, &format!("CapabilityBoundingSet={capability}"));
    }
    let executes = arrangement.executes.get(component);
    for (capability, why) in executes.into_iter().flat_map(|executes| &executes.kept) {
        comment(&mut out, 0, &why.reason);
        line(&mut out, &format!("CapabilityBoundingSet={capability}"));
    }
    let gains: Vec<&Why> = executes.into_iter().flat_map(|executes| &executes.gains).collect();
    gains.iter().for_each(|why| comment(&mut out, 0, &why.reason));
    line(&mut out, if gains.is_empty() { "NoNewPrivileges=yes" } else { "NoNewPrivileges=no" });
    for note in arrangement.notes.iter().filter(|note| note.text.starts_with(&format!("{name} "))) {
        comment(&mut out, 0, &format!("{}: {}", note.path, note.text));
    }
    emitted(format!("{service}.service.d/50-plan.conf"), out)
}
