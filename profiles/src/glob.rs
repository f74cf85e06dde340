//! Patterns of paths, as in glob(7), with `**` for any number of directories.

use crate::RawText;

/// A pattern of absolute paths.
///
/// `*` and `?` stand for any bytes and one byte of a name, `**` as a whole name for any number of names, `[*]`, `[?]`
/// and `[[]` for the characters themselves. As a set of paths ([`Pattern::covers`]) a pattern without wildcards stands
/// for the file and, if it is a directory, for all that is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    text: RawText,
    parts: Vec<Vec<Token>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Byte(u8),
    One,
    Any,
}

/// `**`
const DOUBLED: &[Token] = &[Token::Any, Token::Any];

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It does not begin with a slash.
    #[error("it is not absolute: begin it with a slash")]
    Relative,
    /// It has an empty name, `.` or `..`.
    #[error("it is not in normal form: no empty names, no . and no .. in it")]
    NotNormal,
    /// It has `**` beside other characters.
    #[error("** must be a whole name, as in /etc/**/x")]
    Doubled,
    /// It has a bracket that is not `[*]`, `[?]` or `[[]`.
    #[error("a bracket can only be [*], [?] or [[]")]
    Bracket,
    /// It has a zero byte.
    #[error("it holds a zero byte")]
    Zero,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`BadPattern`].
    pub fn new(text: &RawText) -> Result<Self, BadPattern> {
        let bytes = text.as_bytes();
        let trimmed = if bytes.len() > 1 { bytes.strip_suffix(b"/").unwrap_or(bytes) } else { bytes };
        let rest = trimmed.strip_prefix(b"/").ok_or(BadPattern::Relative)?;
        if rest.contains(&0) {
            return Err(BadPattern::Zero);
        }
        let names = rest.split(|byte| *byte == b'/').filter(|_| !rest.is_empty());
        let parts = names.map(tokens).collect::<Result<_, _>>()?;
        Ok(Self { text: RawText::from(trimmed), parts })
    }

    /// The pattern as it was given, without a closing slash.
    pub fn text(&self) -> &RawText {
        &self.text
    }

    /// Whether there is no wildcard in it.
    pub fn is_plain(&self) -> bool {
        self.parts.iter().flatten().all(|token| matches!(token, Token::Byte(_)))
    }

    /// The leading names without a wildcard, as a path; `/` where there are none.
    pub fn root(&self) -> RawText {
        let mut root = Vec::new();
        for part in &self.parts {
            let plain: Option<Vec<u8>> = part
                .iter()
                .map(|token| match token {
                    Token::Byte(byte) => Some(*byte),
                    _ => None,
                })
                .collect();
            let Some(name) = plain else { break };
            root.push(b'/');
            root.extend(name);
        }
        if root.is_empty() { RawText::from("/") } else { RawText::new(root) }
    }

    /// Whether the pattern matches the path as a whole.
    pub fn matches(&self, path: &[u8]) -> bool {
        let Some(rest) = path.strip_prefix(b"/") else { return false };
        let names: Vec<&[u8]> = rest.split(|byte| *byte == b'/').filter(|_| !rest.is_empty()).collect();
        matches_names(&self.parts, &names)
    }

    /// Whether the path is in the set that the pattern stands for.
    pub fn covers(&self, path: &[u8]) -> bool {
        let below = || {
            let root = self.root();
            let root = root.as_bytes();
            let inside = path.strip_prefix(root).is_some_and(|rest| rest.first() == Some(&b'/'));
            self.is_plain() && (root == b"/" || inside)
        };
        self.matches(path) || below()
    }
}

fn tokens(name: &[u8]) -> Result<Vec<Token>, BadPattern> {
    if matches!(name, b"" | b"." | b"..") {
        return Err(BadPattern::NotNormal);
    }
    if name == b"**" {
        return Ok(DOUBLED.to_vec());
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, rest) {
            (b'*', _) if out.last() == Some(&Token::Any) => return Err(BadPattern::Doubled),
            (b'*', _) => out.push(Token::Any),
            (b'?', _) => out.push(Token::One),
            (b'[', [inner @ (b'*' | b'?' | b'['), b']', after @ ..]) => {
                out.push(Token::Byte(*inner));
                rest = after;
            }
            (b'[', _) => return Err(BadPattern::Bracket),
            _ => out.push(Token::Byte(byte)),
        }
    }
    Ok(out)
}

/// After each part of the pattern: how many of the names it and those before it can stand for.
fn matches_names(parts: &[Vec<Token>], names: &[&[u8]]) -> bool {
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for (index, part) in parts.iter().enumerate() {
        let mut next = vec![false; names.len() + 1];
        if part.as_slice() == DOUBLED {
            // At the end it stands for at least one name: what is in a directory, not the directory.
            let least = usize::from(index + 1 == parts.len());
            let first = reached.iter().position(|reached| *reached);
            let from = first.map_or(next.len(), |first| (first + least).min(next.len()));
            next[from..].fill(true);
        } else {
            for (at, name) in names.iter().enumerate().filter(|(at, _)| reached[*at]) {
                next[at + 1] = matches_name(part, name);
            }
        }
        reached = next;
    }
    reached[names.len()]
}

/// One name, with the last wildcard remembered and lengthened where the rest does not fit.
fn matches_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while at < name.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                again = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::One) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            Some(Token::Byte(byte)) if *byte == name[at] => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = again else { return false };
        again = Some((star, from + 1));
        (token, at) = (star + 1, from + 1);
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

/// Whether a text matches a pattern in which `*` stands for any bytes, slashes too.
pub fn matches_text(pattern: &str, text: &[u8]) -> bool {
    let tokens: Vec<Token> =
        pattern.bytes().map(|byte| if byte == b'*' { Token::Any } else { Token::Byte(byte) }).collect();
    matches_name(&tokens, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(&RawText::from(text)).unwrap()
    }

    #[test]
    fn wildcards_stay_within_a_name_unless_doubled() {
        for (text, path, expected) in [
            ("/run/k0s-*-kubelet", "/run/k0s-123-kubelet", true),
            ("/run/k0s-*-kubelet", "/run/k0s-*-kubelet", true),
            ("/run/*", "/run/a/b", false),
            ("/etc/**", "/etc", false),
            ("/etc/**", "/etc/a", true),
            ("/etc/**", "/etc/a/b", true),
            ("/etc/**/x", "/etc/x", true),
            ("/etc/**/x", "/etc/a/b/x", true),
            ("/etc/**/x", "/etc/a/b/y", false),
            ("/**", "/", false),
            ("/a?c", "/abc", true),
            ("/a[*]c", "/a*c", true),
            ("/a[*]c", "/abc", false),
            ("/etc/", "/etc", true),
            ("/**/pki/**", "/etc/k/pki/a/b", true),
            ("/**/pki/**", "/etc/k/pki", false),
        ] {
            assert_eq!(pattern(text).matches(path.as_bytes()), expected, "{text} on {path}");
        }
    }

    #[test]
    fn a_plain_directory_covers_what_is_in_it() {
        let etc = pattern("/etc/kubernetes");
        assert!(etc.covers(b"/etc/kubernetes") && etc.covers(b"/etc/kubernetes/pki/ca.crt"));
        assert!(!etc.covers(b"/etc/kubernetes2") && !etc.covers(b"/etc"));
        assert_eq!(pattern("/etc/kubernetes/**/x").root(), RawText::from("/etc/kubernetes"));
        assert!(pattern("/").covers(b"/etc"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let error = |text: &str| Pattern::new(&RawText::from(text)).unwrap_err();
        assert_eq!(error("etc"), BadPattern::Relative);
        assert_eq!(error("/etc/../x"), BadPattern::NotNormal);
        assert_eq!(error("/etc//x"), BadPattern::NotNormal);
        assert_eq!(error("/etc/a**"), BadPattern::Doubled);
        assert_eq!(error("/etc/[ab]"), BadPattern::Bracket);
    }

    proptest! {
        #[test]
        fn a_literal_path_matches_itself_alone(names in proptest::collection::vec("[a-c]{1,3}", 1..4), other in "/[a-c/]{0,8}") {
            let path = format!("/{}", names.join("/"));
            let literal = pattern(&path);
            prop_assert!(literal.matches(path.as_bytes()));
            prop_assert_eq!(literal.matches(other.as_bytes()), other == path);
            prop_assert!(pattern("/**").matches(path.as_bytes()));
        }
    }
}
