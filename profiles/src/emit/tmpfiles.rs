//! tmpfiles.d(5).

use super::escape::tmpfiles::{field, glob_field, is_portable};
use super::page::{Emitted, Page};
use super::treatment::Treatment;
use crate::RawText;
use crate::grants::{Directory, FileKind, Grants, Shipped, Why};

/// The file for `/etc/tmpfiles.d`. Directories come before what is in them.
pub(super) fn emit(grants: &Grants) -> Emitted {
    let mut page = Page::new(&format!("tmpfiles.d: what {} needs to exist or to own", grants.name));
    page.comment("Apply sysusers.d first, then: systemd-tmpfiles --create FILE");
    let user = &grants.account.user;
    let group_or_own = |group: &Option<String>| group.clone().unwrap_or_else(|| grants.account.group.clone());
    for (path, directory) in &grants.directories {
        page.blank();
        page.why(&directory.why);
        let group = group_or_own(&directory.group);
        let wanted = format!("{:04o} {user} {group} -", directory.mode);
        let shipped = grants.shipped.get(path);
        if let Some(shipped) = shipped.filter(|shipped| gives(shipped, directory, user, &group)) {
            page.comment(&format!("{} of a package makes {path} so.", shipped.file));
            continue;
        }
        put(&mut page, path, &directory.why, &format!("d {} {wanted}", field(path.as_bytes())));
        if let Some(shipped) = shipped {
            page.comment(&format!(
                "{} of a package makes it otherwise; this line comes after:",
                shipped.file
            ));
            put(&mut page, path, &directory.why, &format!("z {} {wanted}", glob_field(path.as_bytes())));
        }
    }
    for (path, file) in &grants.files {
        page.blank();
        page.why(&file.why);
        let mode = file.mode.map_or_else(|| "-".into(), |mode| format!("{mode:04o}"));
        let group = if file.existed {
            file.group.clone().unwrap_or_else(|| "-".into())
        } else {
            group_or_own(&file.group)
        };
        let (letter, name) = match file.kind {
            FileKind::Regular => ("f", field(path.as_bytes())),
            FileKind::Fifo => ("p", field(path.as_bytes())),
            FileKind::Existing | FileKind::Attribute => ("z", glob_field(path.as_bytes())),
        };
        let owner = if file.kind == FileKind::Attribute { "root" } else { user };
        put(&mut page, path, &file.why, &format!("{letter} {name} {mode} {owner} {group} -"));
    }
    for (path, acl) in &grants.acls {
        page.blank();
        page.why(&acl.why);
        if let Some(caution) = acl.caution {
            page.comment(&format!("Note: {caution}."));
        }
        let name = glob_field(path.as_bytes());
        put(&mut page, path, &acl.why, &format!("a+ {name} - - - - u:{user}:{}", acl.text()));
    }
    if grants.directories.is_empty() && grants.files.is_empty() && grants.acls.is_empty() {
        page.comment("Nothing: it needs no path that its user does not have.");
    }
    page.finish(format!("tmpfiles.d/nrtrace-{}.conf", grants.name))
}

/// Whether a package's line gives the user what is wanted of a directory.
fn gives(shipped: &Shipped, directory: &Directory, user: &str, group: &str) -> bool {
    let mode = shipped.mode & directory.mode == directory.mode;
    shipped.user == user && shipped.group == group && mode
}

/// Why systemd-tmpfiles would not do what a line for some path says, or would do it to another path.
pub(super) struct Misfit {
    /// What that makes of the need.
    pub(super) verdict: Treatment,
    /// What grants it instead, or why nothing does.
    pub(super) instead: &'static str,
    reason: &'static str,
    hint: &'static str,
    /// What is said above the line, which is a comment then.
    comment: &'static str,
}

/// `PATH_MAX` of Linux, with the zero byte at the end.
const LONGEST_PATH: usize = 4096;
/// `NAME_MAX` of Linux.
const LONGEST_NAME: usize = 255;

/// What keeps the file from holding a line for a path, where something does.
pub(super) fn misfit(path: &RawText) -> Option<Misfit> {
    let bytes = path.as_bytes();
    if bytes.len() >= LONGEST_PATH || bytes.split(|byte| *byte == b'/').any(|name| name.len() > LONGEST_NAME)
    {
        return Some(Misfit {
            verdict: Treatment::Unmet,
            instead: "nothing can, since the path is longer than the kernel takes",
            reason: "the path, or a name in it, is longer than the kernel takes",
            hint: "have the program use a shorter one",
            comment: "The kernel takes no path or name of this length:",
        });
    }
    (!is_portable(bytes)).then_some(Misfit {
        verdict: Treatment::Partly,
        instead: "apply.sh, or by hand in tmpfiles.d from systemd 254 on",
        reason: "before systemd 254, tmpfiles.d cannot hold this name",
        hint: "have the program use another name; with systemd 254 or later see the comment in tmpfiles.d",
        comment: "Only systemd 254 and later read this name right; there, take away the mark in front:",
    })
}

/// Writes a line, or, where it would not do what it says, a comment that holds it.
fn put(page: &mut Page, path: &RawText, why: &Why, line: &str) {
    let Some(misfit) = misfit(path) else { return page.line(line) };
    page.comment(misfit.comment);
    page.comment(line);
    page.cannot(why, misfit.reason, misfit.hint);
}
