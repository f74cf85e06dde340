//! Values of systemd unit files, systemd.syntax(7).

use super::tmpfiles;

/// One word of a value that is split into words: quoted, and with `%` doubled against specifiers. As in
/// tmpfiles.d, not every directive undoes more than `\\` and `\"`, so the bytes have to be
/// [portable](tmpfiles::is_portable) where that matters.
pub fn word(bytes: &[u8]) -> String {
    tmpfiles::field(bytes)
}

/// Whether a relative path can be a value of `StateDirectory=` and its kind, which neither unescape it nor
/// allow a colon in it.
pub fn is_plain_directory(bytes: &[u8]) -> bool {
    let plain =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+' | b'@' | b'=');
    !bytes.is_empty() && bytes.iter().all(plain)
}
