//! ACL entries in the form of setfacl(1), as tmpfiles.d(5) has them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::accounts;
use crate::acl::{ACCESS, Acl, DEFAULT, Tag};

/// Adds entries: `u:NAME:r-x`, separated by commas; `d:` in front for the default ACL.
pub fn add(path: &Path, text: &str) -> Result<(), String> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, entry) = match part.strip_prefix("default:").or_else(|| part.strip_prefix("d:")) {
            Some(entry) => (DEFAULT, entry),
            None => (ACCESS, part),
        };
        let (tag, perm) = parse(entry).ok_or_else(|| format!("{part} is no ACL entry that is known here"))?;
        let mut value = [0_u8; 8192];
        let present = getxattr(path, name, &mut value).ok().and_then(|length| value.get(..length));
        let mut acl = match present.and_then(Acl::decode) {
            Some(acl) => acl,
            None => Acl::from_mode(path.metadata().map_err(|error| error.to_string())?.mode()),
        };
        acl.set_and_mask(tag, perm);
        setxattr(path, name, &acl.encode(), XattrFlags::empty()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn parse(entry: &str) -> Option<(Tag, u16)> {
    let mut parts = entry.split(':');
    let (kind, name, perm) = (parts.next()?, parts.next()?, parts.next()?);
    let perm = perm.chars().try_fold(0, |bits, letter| {
        Some(
            bits | match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            },
        )
    })?;
    let number = || name.parse::<u32>().ok();
    let tag = match kind {
        "u" | "user" if name.is_empty() => Tag::UserObj,
        "u" | "user" => {
            Tag::User(accounts::user_by_name(name).map(|user| user.uid.as_raw()).or_else(number)?)
        }
        "g" | "group" if name.is_empty() => Tag::GroupObj,
        "g" | "group" => {
            Tag::Group(accounts::group_by_name(name).map(|group| group.gid.as_raw()).or_else(number)?)
        }
        "m" | "mask" => Tag::Mask,
        "o" | "other" => Tag::Other,
        _ => return None,
    };
    Some((tag, perm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        assert_eq!(parse("u:daemon:r-x"), Some((Tag::User(1), 5)));
        assert_eq!(parse("u:61184:--x"), Some((Tag::User(61184), 1)));
        assert_eq!(parse("m::rwx"), Some((Tag::Mask, 7)));
        for wrong in ["u:daemon", "q:x:r", "u:no such user:r", "u:daemon:rq"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
