//! POSIX ACLs as the kernel takes them: the extended attribute `system.posix_acl_access`, `linux/posix_acl_xattr.h`.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::accounts;

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NOBODY: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// Adds entries in the form of setfacl(1): `u:NAME:r-x`, separated by commas; `d:` in front for the default ACL.
pub fn add(path: &Path, text: &str) -> Result<(), String> {
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (default, entry) = match part.strip_prefix("default:").or_else(|| part.strip_prefix("d:")) {
            Some(entry) => (true, entry),
            None => (false, part),
        };
        let added = parse(entry).ok_or_else(|| format!("{part} is no ACL entry that is known here"))?;
        let name = if default { c"system.posix_acl_default" } else { c"system.posix_acl_access" };
        let target = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let mut entries = match read(&target, name) {
            Some(entries) => entries,
            None => from_mode(path.metadata().map_err(|error| error.to_string())?.mode()),
        };
        entries.retain(|entry| {
            (entry.tag, entry.id) != (added.tag, added.id) && (entry.tag != MASK || added.tag == MASK)
        });
        entries.push(added);
        if added.tag != MASK {
            let classes = entries.iter().filter(|entry| matches!(entry.tag, USER | GROUP | GROUP_OBJ));
            let perm = classes.fold(0, |all, entry| all | entry.perm);
            entries.push(Entry { tag: MASK, perm, id: NOBODY });
        }
        entries.sort_by_key(|entry| (entry.tag, entry.id));
        write(&target, name, &entries)?;
    }
    Ok(())
}

fn parse(entry: &str) -> Option<Entry> {
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
    let (tag, id) = match kind {
        "u" | "user" if name.is_empty() => (USER_OBJ, NOBODY),
        "u" | "user" => (USER, accounts::user_by_name(name).map(|user| user.uid.as_raw()).or_else(number)?),
        "g" | "group" if name.is_empty() => (GROUP_OBJ, NOBODY),
        "g" | "group" => {
            (GROUP, accounts::group_by_name(name).map(|group| group.gid.as_raw()).or_else(number)?)
        }
        "m" | "mask" => (MASK, NOBODY),
        "o" | "other" => (OTHER, NOBODY),
        _ => return None,
    };
    Some(Entry { tag, perm, id })
}

fn from_mode(mode: u32) -> Vec<Entry> {
    let classes = [(USER_OBJ, 6), (GROUP_OBJ, 3), (OTHER, 0)];
    classes.map(|(tag, shift)| Entry { tag, perm: (mode >> shift & 7) as u16, id: NOBODY }).into()
}

fn read(path: &CString, name: &std::ffi::CStr) -> Option<Vec<Entry>> {
    let mut value = [0_u8; 8192];
    // SAFETY: both strings are NUL-terminated, and the buffer is as long as is said.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let value = value.get(4..usize::try_from(length).ok()?)?;
    let entries = value.chunks_exact(8).map(|bytes| Entry {
        tag: u16::from_le_bytes([bytes[0], bytes[1]]),
        perm: u16::from_le_bytes([bytes[2], bytes[3]]),
        id: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    });
    Some(entries.collect())
}

fn write(path: &CString, name: &std::ffi::CStr, entries: &[Entry]) -> Result<(), String> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        value.extend(entry.tag.to_le_bytes());
        value.extend(entry.perm.to_le_bytes());
        value.extend(entry.id.to_le_bytes());
    }
    // SAFETY: both strings are NUL-terminated, and the value is as long as is said.
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        assert_eq!(parse("u:daemon:r-x"), Some(Entry { tag: USER, perm: 5, id: 1 }));
        assert_eq!(parse("u:61184:--x"), Some(Entry { tag: USER, perm: 1, id: 61184 }));
        assert_eq!(parse("m::rwx"), Some(Entry { tag: MASK, perm: 7, id: NOBODY }));
        for wrong in ["u:daemon", "q:x:r", "u:no such user:r", "u:daemon:rq"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(from_mode(0o640).iter().map(|entry| entry.perm).collect::<Vec<_>>(), [6, 4, 0]);
    }
}
