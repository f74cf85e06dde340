//! How systemd's files are split into words: quotes, C escapes, and `%%`.

/// The words of a line, as bytes; `None` when a quote is not closed or an escape is none. Specifiers other than `%%`,
/// which nrtrace does not write, stay as they are.
pub fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.bytes().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        if rest.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        while let Some(byte) = rest.next() {
            match (byte, quote) {
                (b'"' | b'\'', None) => quote = Some(byte),
                (_, Some(open)) if byte == open => quote = None,
                (b'\\', _) => word.push(escape(&mut rest)?),
                (b'%', _) => {
                    word.push(b'%');
                    rest.next_if_eq(&b'%');
                }
                (_, None) if byte.is_ascii_whitespace() => break,
                _ => word.push(byte),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

fn escape(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match rest.next()? {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b's' => b' ',
        b'x' => {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? << 4 | digit()?).ok()?
        }
        other => other,
    })
}

/// A word that is a glob pattern of a single name: what it names. `None` for one that matches several.
pub fn literal(pattern: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => out.push(*rest.next()?),
            b'*' | b'?' | b'[' | b'{' => return None,
            byte => out.push(*byte),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nrtrace_profiles::emit::escape::tmpfiles::{field, glob_field};

    #[test]
    fn words_come_back_as_they_were_written() {
        let names: [&[u8]; 6] =
            [b"/run/x", b"/a b/%u", b"/q\"'\\", b"/line\nend", b"/\xff\x01", b"/star*[x]?{y}~"];
        for name in names {
            let line = format!("d {} 0750 u g -", field(name));
            assert_eq!(split(&line).unwrap()[1], name, "{line}");
            let line = format!("z {}", glob_field(name));
            assert_eq!(literal(&split(&line).unwrap()[1]).unwrap(), name, "{line}");
        }
        assert_eq!(split("a \"b"), None);
        assert_eq!(split("  "), Some(vec![]));
        assert_eq!(literal(b"/run/*"), None);
    }
}
