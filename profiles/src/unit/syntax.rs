//! The lines of a unit file and the words of a value, systemd.syntax(7).

use std::iter::Peekable;
use std::str::Chars;

/// A directive with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub section: String,
    pub key: String,
    pub value: String,
}

/// The assignments of a file, in order. Lines that are none are left out, as systemd does.
pub(super) fn assignments(text: &str) -> Vec<Assignment> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=').filter(|(key, _)| !key.trim().is_empty()) {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            found.push(Assignment { section: section.clone(), key, value });
        }
    }
    found
}

/// The lines that are no comments. One that ends in a backslash goes on in the next that is no comment, with a space in its
/// place.
fn lines(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\').filter(|_| goes_on(line)) {
            Some(part) => begun.extend([part, " "]),
            None => {
                begun.push_str(line);
                all.push(std::mem::take(&mut begun));
            }
        }
    }
    all.push(begun);
    all
}

/// Whether the last backslash is not itself escaped.
fn goes_on(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// The words of a value: quotes group, C escapes stand for what they say, and one that is none for itself. `None` when a
/// quote is not closed.
pub fn words(value: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = value.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Some(found);
        }
        // Several characters of an escape may make one, so that bytes are gathered.
        let mut word: Vec<u8> = Vec::new();
        let mut quote = None;
        while let Some(c) = rest.next() {
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (_, Some(open)) if c == open => quote = None,
                ('\\', _) => escape(&mut rest, &mut word),
                (_, None) if c.is_whitespace() => break,
                _ => put(&mut word, c),
            }
        }
        if quote.is_some() {
            return None;
        }
        found.push(String::from_utf8_lossy(&word).into_owned());
    }
}

fn put(word: &mut Vec<u8>, c: char) {
    word.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<Chars<'_>>, word: &mut Vec<u8>) {
    let Some(kind) = rest.next() else { return word.push(b'\\') };
    let mut numbered = |count: usize, radix: u32, first: Option<char>| {
        let ahead: String = first.into_iter().chain(rest.clone()).take(count).collect();
        let number = u32::from_str_radix(&ahead, radix).ok().filter(|_| ahead.len() == count)?;
        for _ in 0..count - usize::from(first.is_some()) {
            rest.next();
        }
        Some(number)
    };
    let byte = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        's' => b' ',
        '\\' | '"' | '\'' => kind as u8,
        _ => {
            let number = match kind {
                'x' => numbered(2, 16, None),
                'u' => numbered(4, 16, None),
                'U' => numbered(8, 16, None),
                '0'..='7' => numbered(3, 8, Some(kind)),
                _ => None,
            };
            let byte = number.and_then(|number| u8::try_from(number).ok());
            match (kind, number.filter(|number| *number != 0)) {
                ('u' | 'U', Some(number)) => match char::from_u32(number) {
                    Some(c) => return put(word, c),
                    None => word.extend([b'\\', kind as u8]),
                },
                (_, Some(_)) if byte.is_some() => word.extend(byte),
                _ => {
                    word.push(b'\\');
                    put(word, kind);
                }
            }
            return;
        }
    };
    word.push(byte);
}

/// A boolean as systemd has it; `None` for what is none.
pub fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}
