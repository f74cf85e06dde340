//! Where paths lie, by their bytes.

use crate::RawText;

/// The directory that holds `path`: the root holds itself, and a path that is not absolute is in none that is known.
pub fn parent(path: &RawText) -> RawText {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => RawText::from(&bytes[..at.max(1)]),
        None => RawText::default(),
    }
}

/// The last component of `path`.
pub fn name(path: &RawText) -> &[u8] {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Whether `path` is below `directory`.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

/// Whether `path` is `directory` or below it.
pub fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_suffix(b"/").unwrap_or(path) == directory.strip_suffix(b"/").unwrap_or(directory)
        || is_below(path, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_itself_and_all_else_but_not_itself() {
        let of = |path: &str| parent(&path.into()).to_text();
        assert_eq!(["/a/b", "/a", "/", "a", ""].map(of), ["/a", "/", "/", "", ""]);
        for (path, directory, below) in [
            ("/a", "/", true),
            ("/", "/", false),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/ab", "/a", false),
            ("/a", "/a", false),
            ("a", "/", false),
        ] {
            assert_eq!(is_below(path.as_bytes(), directory.as_bytes()), below, "{path} below {directory}");
        }
        assert!(is_at_or_below(b"/a", b"/a") && is_at_or_below(b"/a/b", b"/a"));
    }
}
