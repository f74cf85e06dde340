//! Values of systemd unit files, systemd.syntax(7): quoted, with C escapes, and `%` doubled against specifiers.

use super::tmpfiles;

/// One word of a value that is split into words and unescaped (`DeviceAllow=`, `ReadWritePaths=`, `ExecStart=`).
pub fn word(bytes: &[u8]) -> String {
    // The two families agree on words; `;` by itself would separate commands.
    let word = tmpfiles::field(bytes);
    if word.contains([';', '$']) && !word.starts_with('"') { format!("\"{word}\"") } else { word }
}

/// Whether a relative path can be a value of `StateDirectory=` and its kind, which neither unescape it nor
/// allow a colon in it.
pub fn is_plain_directory(bytes: &[u8]) -> bool {
    let plain =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@' | b'=');
    !bytes.is_empty() && bytes.iter().all(plain)
}
