//! sysusers.d(5).

use std::collections::BTreeSet;

use super::page::{Emitted, Page};
use crate::grants::Grants;
use crate::place::Class;

/// The file for `/etc/sysusers.d`. Ids are left to `systemd-sysusers`, which takes them from the system's range,
/// unless the user exists.
pub(super) fn emit(grants: &Grants) -> Emitted {
    let account = &grants.account;
    let mut page = Page::new(&format!("sysusers.d: the user that {} runs as", grants.name));
    page.comment("Apply with: systemd-sysusers FILE");
    page.blank();
    let id = |id: Option<u32>| id.map_or_else(|| "-".into(), |id| id.to_string());
    if account.uid.is_some() {
        page.comment("This user exists on the machine of the run; there the next lines change nothing.");
    }
    page.line(&format!("g {} {}", account.group, id(account.gid)));
    let home = grants
        .directories
        .iter()
        .find(|(_, directory)| directory.class == Class::State)
        .and_then(|(path, _)| path.as_str())
        .filter(|path| {
            path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'.'))
        })
        .unwrap_or("-");
    page.line(&format!(
        "u {} {}:{} \"{} without root\" {home}",
        account.user,
        id(account.uid),
        account.group,
        grants.name
    ));
    for (group, membership) in &grants.groups {
        page.blank();
        page.why(&membership.why);
        if let Some(caution) = membership.caution {
            page.comment(&format!("Note: {caution}."));
        }
        if group.bytes().all(|b| b.is_ascii_digit()) {
            page.comment(&format!("The group {group} has no name here; the unit names it by number."));
            page.cannot(
                &membership.why,
                "a group without a name cannot be joined here",
                "give the group a name",
            );
            continue;
        }
        page.line(&format!("g {group} -"));
        page.line(&format!("m {} {group}", account.user));
    }
    let kept = grants.directories.values().filter_map(|d| d.group.as_ref());
    let kept: BTreeSet<&String> =
        kept.chain(grants.files.values().filter_map(|f| f.group.as_ref())).collect();
    let named = |group: &&String| !group.bytes().all(|b| b.is_ascii_digit()) && *group != "root";
    for group in kept.into_iter().filter(named).filter(|group| !grants.groups.contains_key(*group)) {
        page.blank();
        page.comment("The group that files named in tmpfiles.d keep.");
        page.line(&format!("g {group} -"));
    }
    page.finish(format!("sysusers.d/nrtrace-{}.conf", grants.name))
}
