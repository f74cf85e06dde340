//! Paths as they are written: what no configuration can name, and what of a pattern is fixed.

use crate::RawText;

/// Why a path cannot be named in any configuration, if it cannot: it is not absolute or not normal, or holds
/// what no file name holds.
pub(super) fn flaw(path: &RawText) -> Option<&'static str> {
    let bytes = path.as_bytes();
    let Some(rest) = bytes.strip_prefix(b"/") else {
        return Some("its path could not be made absolute");
    };
    if bytes.contains(&0) {
        return Some("its path holds a zero byte");
    }
    // PATH_MAX counts the closing zero byte.
    if bytes.len() >= 4096 || rest.split(|b| *b == b'/').any(|c| c.len() > 255) {
        return Some("its path is longer than the kernel accepts");
    }
    let odd = |c: &[u8]| c.is_empty() || c == b"." || c == b"..";
    (!rest.is_empty() && rest.split(|b| *b == b'/').any(odd)).then_some("its path is not in normal form")
}

/// The leading directories of a pattern that hold no wildcard, with `[*]` and `[?]` read as the characters they
/// stand for.
pub(super) fn fixed_part(pattern: &RawText) -> RawText {
    let mut fixed: Vec<&[u8]> = Vec::new();
    let components: Vec<&[u8]> = pattern.as_bytes().split(|b| *b == b'/').skip(1).collect();
    for component in components.iter().take(components.len().saturating_sub(1)) {
        if is_wild(component) {
            break;
        }
        fixed.push(component);
    }
    let mut out = Vec::new();
    for component in fixed {
        out.push(b'/');
        out.extend(literal(component));
    }
    if out.is_empty() { RawText::from("/") } else { RawText::new(out) }
}

fn is_wild(component: &[u8]) -> bool {
    let plain = literal_marks(component);
    plain.iter().any(|(byte, quoted)| !quoted && matches!(byte, b'*' | b'?'))
}

fn literal(component: &[u8]) -> Vec<u8> {
    literal_marks(component).into_iter().map(|(byte, _)| byte).collect()
}

/// The bytes of a component, each with whether brackets made it literal.
fn literal_marks(component: &[u8]) -> Vec<(u8, bool)> {
    let mut out = Vec::with_capacity(component.len());
    let mut rest = component;
    while let Some((&byte, tail)) = rest.split_first() {
        if let [b'[', inner @ (b'*' | b'?' | b'['), b']', after @ ..] = rest {
            out.push((*inner, true));
            rest = after;
        } else {
            out.push((byte, false));
            rest = tail;
        }
    }
    out
}
