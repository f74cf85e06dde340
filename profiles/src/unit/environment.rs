//! The files of `EnvironmentFile=`, systemd.exec(5).

/// The variables that such a file sets, in order. Values go as far as the line, unless a backslash or a quote has them go on;
/// lines that are no assignment are left out.
pub fn variables(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let is_comment = rest.peek().is_some_and(|c| matches!(c, '#' | ';'));
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '\n' && (is_comment || *c != '=')) {
            name.push(c);
        }
        if is_comment || rest.next_if_eq(&'=').is_none() {
            continue;
        }
        let value = value(&mut rest);
        let name = name.trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit()) {
            found.push((name.to_owned(), value));
        }
    }
    found
}

fn value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
    let mut out = String::new();
    // Blanks at the end do not count, unless they are quoted or escaped.
    let mut kept = 0;
    let mut quote = None;
    while rest.next_if(|c| c.is_whitespace() && *c != '\n').is_some() {}
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\n', None) => break,
            ('"' | '\'', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => match rest.next() {
                Some('\n') | None => continue,
                Some(next) => {
                    if quote.is_some() && !matches!(next, '"' | '\\' | '`' | '$') {
                        out.push('\\');
                    }
                    out.push(next);
                }
            },
            _ => {
                out.push(c);
                if c.is_whitespace() && quote.is_none() {
                    continue;
                }
            }
        }
        kept = out.len();
    }
    out.truncate(kept);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_set_variables() {
        let text = "# A=0\n; B=0\nA=1\n  B = two words  \nC=\"x \\\"y\\\" \\n\" \nD='a\nb'\nE=a\\\n b\nnone\nF=\\ x\\ \n1=2\nG=\nexport H=3\n\
                    I=\"$x\"'y'z # no comment\n";
        let wanted = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "x \"y\" \\n"),
            ("D", "a\nb"),
            ("E", "a b"),
            ("F", " x "),
            ("G", ""),
            ("I", "$xyz # no comment"),
        ];
        assert_eq!(variables(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
