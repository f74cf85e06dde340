//! Names with parts that differ from run to run.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;

/// A piece of a name: letters and digits, or what separates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Word(&'a [u8]),
    Separator(&'a [u8]),
}

/// The pattern of `path`, when a component that is new (`is_new` is asked with the path up to it) has a random
/// part by its shape. `is_pid` tells whether digits are the number of a process of the run.
///
/// In the pattern `*` stands for the random part, and `*`, `?` and `[` of the name itself are written `[*]`, `[?]`
/// and `[[]` as in glob(7).
pub fn generalise(
    path: &RawText,
    is_new: impl Fn(&RawText) -> bool,
    is_pid: impl Fn(&[u8]) -> bool,
) -> Option<RawText> {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 4);
    let mut found = false;
    let mut at = 0;
    for (index, name) in bytes.split(|byte| *byte == b'/').enumerate() {
        if index > 0 {
            out.push(b'/');
            at += 1;
        }
        at += name.len();
        let general = is_new(&RawText::from(&bytes[..at])).then(|| shape(name, &is_pid)).flatten();
        match general {
            Some(general) => {
                found = true;
                out.extend(general);
            }
            None => escape(name, &mut out),
        }
    }
    found.then(|| RawText::new(out))
}

/// Writes a path so that as a pattern it matches itself alone.
pub fn literal(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    escape(path, &mut out);
    out
}

/// Writes a name so that it matches itself alone.
fn escape(name: &[u8], out: &mut Vec<u8>) {
    for byte in name {
        match byte {
            b'*' | b'?' | b'[' => out.extend([b'[', *byte, b']']),
            other => out.push(*other),
        }
    }
}

/// The pattern of one name, when it has a random part.
fn shape(name: &[u8], is_pid: &impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    if let Some(general) = python_temporary(name) {
        return Some(general);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut found = false;
    let mut rest = name;
    while !rest.is_empty() {
        if let Some((head, length)) = uuid(rest) {
            out.extend(&rest[..head]);
            star(&mut out);
            found = true;
            rest = &rest[head + length..];
            continue;
        }
        let piece = next(rest);
        match piece {
            Piece::Word(word) => found |= general_word(word, is_pid, &mut out),
            Piece::Separator(separator) => escape(separator, &mut out),
        }
        rest = &rest[piece.len()..];
    }
    found.then(|| general_numbers(&out))
}

/// Beside a random part, a number of five digits or more is one as well: `vcl_boot.*.635789`, seconds and microseconds.
fn general_numbers(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while !rest.is_empty() {
        let piece = next(rest);
        match piece {
            Piece::Word(word) if word.len() >= 5 && word.iter().all(u8::is_ascii_digit) && !is_date(word) => {
                star(&mut out);
            }
            Piece::Word(bytes) | Piece::Separator(bytes) => out.extend(bytes),
        }
        rest = &rest[piece.len()..];
    }
    out
}

fn star(out: &mut Vec<u8>) {
    if out.last() != Some(&b'*') {
        out.push(b'*');
    }
}

impl Piece<'_> {
    fn len(&self) -> usize {
        let (Self::Word(bytes) | Self::Separator(bytes)) = self;
        bytes.len()
    }
}

/// The first piece of a name that is not empty.
fn next(name: &[u8]) -> Piece<'_> {
    let is_word = name.first().is_some_and(u8::is_ascii_alphanumeric);
    let end = name.iter().position(|byte| byte.is_ascii_alphanumeric() != is_word).unwrap_or(name.len());
    if is_word { Piece::Word(&name[..end]) } else { Piece::Separator(&name[..end]) }
}

/// Writes a word, random parts as stars; says whether there were any.
fn general_word(word: &[u8], is_pid: &impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) -> bool {
    let letters = word.iter().position(u8::is_ascii_digit).unwrap_or(word.len());
    let (head, tail) = word.split_at(letters);
    let is_number = !tail.is_empty() && tail.iter().all(u8::is_ascii_digit);
    // `x123456789`: what Go's os.CreateTemp makes of a name without a place for the number.
    if is_number && is_random_number(tail) {
        out.extend(head);
        star(out);
        return true;
    }
    let is_own = is_number && head.is_empty() && tail.len() >= 2 && is_pid(tail);
    if is_own || is_hexadecimal(word) || is_jumble(word) {
        star(out);
        return true;
    }
    out.extend(word);
    false
}

/// A long number that is neither a date nor a counter with leading zeros.
fn is_random_number(digits: &[u8]) -> bool {
    digits.len() >= 7 && !digits.starts_with(b"00") && !is_date(digits)
}

/// `YYYYMMDD` of this century or the last.
fn is_date(digits: &[u8]) -> bool {
    let (Some(month), Some(day)) = (digits.get(4..6), digits.get(6..8)) else { return false };
    digits.len() == 8
        && (digits.starts_with(b"19") || digits.starts_with(b"20"))
        && (b"01".as_slice()..=b"12").contains(&month)
        && (b"01".as_slice()..=b"31").contains(&day)
}

/// Eight or more hexadecimal digits of one case in which letters and numbers alternate, as they hardly do in a word
/// or in a word with a number behind it. Counters have leading zeros.
fn is_hexadecimal(word: &[u8]) -> bool {
    let one_case = !(word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase));
    let changes = word.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    word.len() >= 8
        && one_case
        && changes >= 2
        && word.iter().all(u8::is_ascii_hexdigit)
        && !word.starts_with(b"00")
}

/// Six or more letters and digits that no one would say aloud: the likes of `BEjDmtprfM`, as mkstemp(3) makes them.
///
/// The word is split where its case or kind changes, as people write `PidFile2`; two strange parts (a single
/// letter, letters without a vowel, digits between letters) make it random, three when it has no capitals.
fn is_jumble(word: &[u8]) -> bool {
    let mixed = word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
    let numbered = word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_alphabetic);
    let strange = strange_parts(word);
    (mixed && word.len() >= 6 && strange >= 2) || (numbered && word.len() >= 8 && strange >= 3)
}

fn strange_parts(word: &[u8]) -> usize {
    let parts = parts(word);
    let last = parts.len().saturating_sub(1);
    let is_strange = |(at, part): (usize, &&[u8])| match part.first() {
        Some(first) if first.is_ascii_digit() => at > 0 && at < last,
        _ => part.len() == 1 || !part.iter().any(|letter| b"aeiouyAEIOUY".contains(letter)),
    };
    parts.iter().enumerate().filter(|part| is_strange((part.0, part.1))).count()
}

/// Splits `HTTPServer2` into `HTTP`, `Server` and `2`.
fn parts(word: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 1..word.len() {
        let (before, here) = (word[at - 1], word[at]);
        let kind = before.is_ascii_digit() != here.is_ascii_digit();
        let camel = before.is_ascii_lowercase() && here.is_ascii_uppercase();
        let acronym = before.is_ascii_uppercase()
            && here.is_ascii_uppercase()
            && word.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        if kind || camel || acronym {
            parts.push(&word[start..at]);
            start = at;
        }
    }
    parts.push(&word[start..]);
    parts
}

/// The length of the UUID that the text starts with, behind that of a word before it, if it does: `pod` and one is a
/// control group of the kubelet's, in which systemd wants `_` for `-`.
fn uuid(text: &[u8]) -> Option<(usize, usize)> {
    const LENGTH: usize = 36;
    let head = if text.starts_with(b"pod") { 3 } else { 0 };
    let candidate = text.get(head..head + LENGTH)?;
    let fits = candidate.iter().enumerate().all(|(at, byte)| match at {
        8 => matches!(byte, b'-' | b'_'),
        13 | 18 | 23 => *byte == candidate[8],
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = !text.get(head + LENGTH).is_some_and(u8::is_ascii_alphanumeric);
    (fits && ends).then_some((head, LENGTH))
}

/// `tmp` and eight characters of `[a-z0-9_]`, as Python's tempfile makes them.
fn python_temporary(name: &[u8]) -> Option<Vec<u8>> {
    let rest = name.strip_prefix(b"tmp")?;
    let (random, suffix) = rest.split_at_checked(8)?;
    let charset =
        random.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    let no_word = random.iter().any(|byte| !byte.is_ascii_lowercase());
    if !charset
        || !no_word
        || suffix.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return None;
    }
    let mut out = b"tmp*".to_vec();
    escape(suffix, &mut out);
    Some(out)
}

/// Sorts names of one directory that differ in one number or one mixed word into patterns: each with the indexes
/// of the names it covers. Two names are enough for words of equal length, three for plain numbers (`worker-1`,
/// `worker-2` may well be all there are).
pub fn repeated(names: &[&[u8]]) -> Vec<(Vec<u8>, Vec<usize>)> {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        for key in keys(name) {
            groups.entry(key).or_default().push(index);
        }
    }
    let mut taken = vec![false; names.len()];
    let mut found = Vec::new();
    for ((pattern, length), members) in groups {
        let members: Vec<usize> = members.into_iter().filter(|index| !taken[*index]).collect();
        let enough = if length == NUMBER { 3 } else { 2 };
        if members.len() >= enough {
            members.iter().for_each(|index| taken[*index] = true);
            found.push((pattern, members));
        }
    }
    found
}

/// Sorts names of one directory, each made by one of several runs (its number is with it), into patterns: names that
/// differ in one word, where each run has made one of them. With two runs, a word has to look as if it were not chosen by
/// a person; with three different ones of one length, hardly anything but chance is left.
pub fn varying(names: &[(&[u8], usize)]) -> Vec<(Vec<u8>, Vec<usize>)> {
    let mut groups: BTreeMap<Key, Vec<(usize, bool)>> = BTreeMap::new();
    for (index, (name, _)) in names.iter().enumerate() {
        let pieces = pieces(name);
        for (at, piece) in pieces.iter().enumerate() {
            let Piece::Word(word) = piece else { continue };
            let number = word.iter().all(u8::is_ascii_digit);
            let length = if number { NUMBER } else { word.len() };
            let telling = number || (word.len() >= 4 && is_unspoken(word));
            if number || word.len() >= 4 {
                groups.entry((with_star(&pieces, at), length)).or_default().push((index, telling));
            }
        }
    }
    let mut taken = vec![false; names.len()];
    let mut found = Vec::new();
    for ((pattern, _), members) in groups {
        let members: Vec<(usize, bool)> = members.into_iter().filter(|(index, _)| !taken[*index]).collect();
        let runs: BTreeSet<usize> = members.iter().map(|(index, _)| names[*index].1).collect();
        let chance = runs.len() >= 3 || members.iter().any(|(_, telling)| *telling);
        if runs.len() >= 2 && runs.len() == members.len() && chance {
            members.iter().for_each(|(index, _)| taken[*index] = true);
            found.push((pattern, members.into_iter().map(|(index, _)| index).collect()));
        }
    }
    found
}

/// Whether a word is of letters and digits, of capitals in the midst of small letters, or without a vowel.
fn is_unspoken(word: &[u8]) -> bool {
    let digits = word.iter().any(u8::is_ascii_digit);
    let capitals = word.iter().skip(1).any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase);
    digits || capitals || strange_parts(word) > 0
}

/// The pattern of the name `pattern` in a directory.
pub fn within(directory: &RawText, pattern: Vec<u8>) -> RawText {
    let mut path = literal(directory.as_bytes());
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend(pattern);
    RawText::new(path)
}

/// Stands for a word's length where the word is a number of any length.
const NUMBER: usize = 0;

/// A pattern, and the length of the word that its star stands for.
type Key = (Vec<u8>, usize);

/// For each word of a name that might vary, the pattern without it and the word's length.
fn keys(name: &[u8]) -> Vec<Key> {
    let pieces = pieces(name);
    let varies = |piece: &Piece<'_>| match piece {
        Piece::Word(word) if word.iter().all(u8::is_ascii_digit) => Some(NUMBER),
        Piece::Word(word) if word.len() >= 6 && word.iter().any(u8::is_ascii_digit) => Some(word.len()),
        _ => None,
    };
    pieces
        .iter()
        .enumerate()
        .filter_map(|(at, piece)| Some((with_star(&pieces, at), varies(piece)?)))
        .collect()
}

fn pieces(name: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let piece = next(rest);
        pieces.push(piece);
        rest = &rest[piece.len()..];
    }
    pieces
}

/// The pattern with a star in place of one piece.
fn with_star(pieces: &[Piece<'_>], star_at: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            _ if at == star_at => out.push(b'*'),
            Piece::Word(bytes) | Piece::Separator(bytes) => escape(bytes, &mut out),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(name: &str) -> Option<String> {
        shape(name.as_bytes(), &|digits| digits == b"33")
            .map(|out| String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn random_parts_are_seen() {
        let table = [
            ("k0s-2957104368-kubelet-bootstrap-kubeconfig", "k0s-*-kubelet-bootstrap-kubeconfig"),
            ("k0s-12345678-kubelet", "k0s-*-kubelet"),
            (
                "systemd-private-5a0d2f8e4b7c41d09f6e3a2b1c0d9e8f-x.service-hTYRnb",
                "systemd-private-*-x.service-*",
            ),
            ("apache2.BEjDmtprfM", "apache2.*"),
            ("tmp.aB3dE9", "tmp.*"),
            ("temp-33.rdb", "temp-*.rdb"),
            ("go-build123456789", "go-build*"),
            ("6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11", "*"),
            ("vol-6b2a9f41-4c1e-4b52-9a0e-0d5a3c1f7e11.lock", "vol-*.lock"),
            ("tmpx3k2j9ab", "tmp*"),
            ("tmpx3k2j9ab.json", "tmp*.json"),
            ("pod-7d4b9c8f6d", "pod-*"),
            ("ssh-XyZ12kLmNoPq", "ssh-*"),
            ("krb5cc_1000_Xk2LpQ", "krb5cc_1000_*"),
            ("vcl_boot.1764148012.635789", "vcl_boot.*.*"),
            ("log-20240131-a3f9c1d27e.gz", "log-20240131-*.gz"),
        ];
        for (name, pattern) in table {
            assert_eq!(shape_of(name).as_deref(), Some(pattern), "{name}");
        }
    }

    #[test]
    fn names_that_people_give_stay() {
        let table = [
            "nginx.pid",
            "body",
            "client_temp",
            "fastcgi_temp",
            "x86_64",
            "aarch64-linux-gnu",
            "libssl.so.3",
            "member",
            "snap",
            "000001.log",
            "0000000000000000-0000000000000000.wal",
            "0000000000000002-000000000001e241.wal",
            "20240131",
            "access-2024-01-31.log",
            "access.log-20240131.gz",
            "postgresql.conf",
            "dump.rdb",
            "README",
            "NetworkManager",
            "HTTPServer2",
            "PidFile",
            "sha256sum",
            "base64url",
            "k0s.sock",
            "kine.sock",
            "p11-kit",
            "redis_6379.pid",
            "tty1",
            "deadbeef",
            "defaced",
            "tmpfiles.d",
            "tmpdirectory",
            "template",
            "temp-34.rdb",
            "konnectivity-server",
            "containerd.sock.ttrpc",
            "kube-apiserver-kubelet-client.crt",
            ".X11-unix",
            "ipv4",
            "PostgreSQL",
            "MySQL",
            "sessiondata",
            "S.gpg-agent",
            "system.journal",
            "lost+found",
            "a*b",
        ];
        for name in table {
            assert_eq!(shape_of(name), None, "{name}");
        }
    }
}
