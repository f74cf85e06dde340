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

/// One word of a command line (`ExecStart=`), which undoes C escapes, specifiers and `$`.
pub fn argument(bytes: &[u8]) -> String {
    let word = word(bytes).replace('$', "$$");
    // A lone semicolon would end the command, and a word can start with what means something.
    if word.starts_with('"') { word } else { quoted_where_needed(word) }
}

fn quoted_where_needed(word: String) -> String {
    if word == ";" || word.is_empty() { format!("\"{word}\"") } else { word }
}

/// Whether the text can be a value that is taken as a whole line and not unquoted: printable, without a backslash
/// at its end and blanks around it.
pub fn is_plain_value(bytes: &[u8]) -> bool {
    let edges = [bytes.first(), bytes.last()];
    tmpfiles::is_portable(bytes)
        && !edges.contains(&Some(&b' '))
        && bytes.last() != Some(&b'\\')
        && !bytes.is_empty()
}
