//! Ways to give access to files, directories and devices.

use super::Grade::{High, Low, Medium, None as Nothing};
use super::{List, Scope};
use crate::RawText;
use crate::event::{FileType, Inode};
use crate::grants::{Method, Place, usable_group};
use crate::requirement::{Access, Need, Requirement};
use crate::text::letters;

/// Ways to meet a need for a path.
pub(super) fn path(requirement: &Requirement, list: &mut List<'_>) {
    let Need::Path { path, access, pattern, .. } = &requirement.need else { return };
    let changes_parent = access.contains(&Access::Create) || access.contains(&Access::Delete) || *pattern;
    if changes_parent {
        entry(requirement, path, *pattern, list);
    } else {
        existing(requirement, path, access.contains(&Access::Own), list);
    }
}

/// The component that refused, and the bits of a mode that would do.
fn refused(requirement: &Requirement) -> Option<(&RawText, &Inode)> {
    requirement.evidence.refused_at.as_ref().zip(requirement.evidence.refused_inode.as_ref())
}

/// Ways to make or remove a name in a directory.
fn entry(requirement: &Requirement, path: &RawText, pattern: bool, list: &mut List<'_>) {
    let name = &list.grants.name;
    let holder =
        requirement.evidence.refused_at.as_ref().map_or_else(|| "its directory".into(), RawText::to_text);
    let at = requirement.evidence.refused_at.as_ref().unwrap_or(path);
    let own = matches!(list.grants.world.place(at), Place::Private(_));
    if !own {
        let text = format!("use the program's own option to have it elsewhere, for example in /run/{name}/");
        list.add(
            Method::Configure,
            Scope::Anywhere,
            (Low, Nothing),
            text,
            "one setting; a directory of its own is given to the service whole",
        );
    }
    if !pattern {
        let because = if own {
            "nothing else changes"
        } else {
            "the directory stays closed; the service cannot remove it"
        };
        let text = "make it beforehand for the user: StateDirectory= and its kind, or tmpfiles.d";
        list.add(Method::Make, Scope::Host, (Low, Nothing), text, because);
    }
    if own {
        if let Some((group, caution)) = refused(requirement).and_then(|(_, inode)| usable_group(inode, 3)) {
            join(&group, caution, list);
        }
        let text = format!("let {holder} belong to the user");
        list.add(
            Method::Own,
            Scope::Host,
            (Low, Low),
            text,
            "whoever else uses the directory sees another owner",
        );
        let text = format!("an ACL entry that lets the user write in {holder}");
        list.add(
            Method::Acl,
            Scope::Host,
            (Low, Low),
            text,
            "tools and backups that do not know ACLs lose it",
        );
    }
    let text = format!("a volume or tmpfs on {holder}, where the image has nothing there");
    list.add(
        Method::Volume,
        Scope::Container,
        (Low, Nothing),
        text,
        "what is written is gone with the pod, unless it is kept",
    );
    let text = "have the image hold the directory: RUN install -d -o UID, COPY --chown";
    list.add(Method::Image, Scope::Container, (Medium, Low), text, "takes a writable root file system");
    if own {
        let text = "use the program's own option to have it elsewhere";
        list.add(Method::Configure, Scope::Anywhere, (Low, Nothing), text, "one setting");
    }
}

fn join(group: &str, caution: Option<&str>, list: &mut List<'_>) {
    let risk = if caution.is_some() { Medium } else { Low };
    let because = caution.map_or_else(|| "the user gets all that the group has".into(), str::to_owned);
    list.add(
        Method::Group,
        Scope::Host,
        (Low, risk),
        format!("join group {group}, which has the access already"),
        because,
    );
}

/// Ways to open what is there.
fn existing(requirement: &Requirement, path: &RawText, owns: bool, list: &mut List<'_>) {
    let Need::Path { access, file_type, .. } = &requirement.need else { return };
    let bits = Access::bits(access);
    let writes = bits & 2 != 0;
    let searches = bits == 1 && *file_type == FileType::Directory;
    let at_itself = refused(requirement).filter(|(at, _)| *at == path).map(|(_, inode)| inode);
    if let Some((group, caution)) = at_itself.filter(|_| !owns).and_then(|inode| usable_group(inode, bits)) {
        join(&group, caution, list);
    }
    let own = |list: &mut List<'_>| {
        let because = "its old owner loses it; package updates may give it back";
        list.add(
            Method::Own,
            Scope::Host,
            (Low, Low),
            "let it belong to the user, group and mode stay",
            because,
        );
    };
    if owns || writes {
        own(list);
    }
    if !owns {
        let text = format!("an ACL entry for the user alone: {}", letters(bits));
        list.add(Method::Acl, Scope::Host, (Low, Nothing), text, "lost when the file is replaced");
    }
    if !owns && !writes && !searches {
        own(list);
    }
    if bits == 4 && *file_type == FileType::File {
        let because = "the program has to read it from another place";
        let text = "LoadCredential=: systemd reads it as root and hands a copy to this service alone";
        list.add(Method::Credential, Scope::Systemd, (Medium, Nothing), text, because);
    }
    if searches {
        let text = "move what it looks for to a directory that is open, or to one of its own";
        list.add(
            Method::Configure,
            Scope::Anywhere,
            (Medium, Nothing),
            text,
            "takes a change of configuration",
        );
    }
    let text = "have the image hold it with the right owner: COPY --chown";
    list.add(Method::Image, Scope::Container, (Low, Nothing), text, "one line of the Containerfile");
    let text = "mount it: a Secret or ConfigMap with defaultMode 0440 and fsGroup, or a volume";
    list.add(Method::Volume, Scope::Container, (Low, Low), text, "fsGroup has no effect on hostPath");
}

/// Ways to use a device node.
pub(super) fn device(path: &RawText, requirement: &Requirement, list: &mut List<'_>) {
    let Need::Device { access, file_type, .. } = &requirement.need else { return };
    let bits = Access::bits(access);
    if let Some((group, caution)) = refused(requirement).and_then(|(_, inode)| usable_group(inode, bits)) {
        join(&group, caution, list);
    }
    let risk = if *file_type == FileType::BlockDevice { High } else { Low };
    let text = format!("an ACL entry for the user on {path}, and DeviceAllow= in the unit");
    list.add(Method::Acl, Scope::Host, (Low, risk), text, "nodes that come and go need a udev rule instead");
    let text = "a device plugin, with device_ownership_from_security_context in the container runtime";
    list.add(
        Method::Volume,
        Scope::Container,
        (High, risk),
        text,
        "an administrator of the cluster has to set it up",
    );
}
