//! What the run made and left behind.

use std::collections::BTreeSet;

use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{Event, Object, Outcome, PathObject};

use super::calls::traits;
use super::structure;

/// Names told of.
const TOLD: usize = 12;

/// The names that `event` may have made.
pub fn made(event: &Event) -> Option<&PathObject> {
    if matches!(event.outcome, Outcome::Failure { .. }) {
        return None;
    }
    let name = &*event.call.name;
    let args = structure::in_place(name, &event.call.args, &event.call.structure);
    let object = match &event.object {
        Object::Path(path) if makes(name, &args) => path,
        Object::TwoPaths { from, .. } if name.starts_with("symlink") => from,
        Object::TwoPaths { to, .. } if name.starts_with("rename") || name.starts_with("link") => to,
        Object::Socket(socket) if name == "bind" => socket.path.as_ref()?,
        _ => return None,
    };
    object.resolved.then_some(object)
}

/// Whether a call of this name makes the file it names, where that is not there.
pub fn makes(name: &str, args: &[u64; 6]) -> bool {
    traits(name).creates(name, args) || matches!(name, "mkdir" | "mkdirat" | "mknod" | "mknodat" | "bind")
}

/// A remark on the names that are still there, if there are any.
pub fn note(names: &BTreeSet<RawText>, uid: u32) -> Option<String> {
    let inside = |name: &&RawText| {
        let bytes = name.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
        ends.into_iter().any(|(at, _)| names.contains(&RawText::from(&bytes[..at])))
    };
    let tops: Vec<&RawText> = names.iter().filter(|name| !inside(name)).collect();
    if tops.is_empty() {
        return None;
    }
    let mut told: Vec<String> = tops.iter().take(TOLD).map(|name| name.to_text()).collect();
    if tops.len() > TOLD {
        told.push(format!("and {} more", tops.len() - TOLD));
    }
    Some(format!(
        "the run made these and left them, owned by uid {uid}, which belongs to nobody: {}; remove them before the \
         service runs as its own user",
        told.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_directory_is_not_told_again() {
        let names = |names: &[&str]| names.iter().map(|name| RawText::from(*name)).collect::<BTreeSet<_>>();
        assert_eq!(note(&names(&[]), 7), None);
        let text = note(&names(&["/run/x", "/run/x/y", "/run/xy"]), 7).unwrap();
        assert!(text.contains("uid 7, which belongs to nobody: /run/x, /run/xy;"), "{text}");
        let many: Vec<String> = (0..20).map(|n| format!("/srv/{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(note(&names(&many), 7).unwrap().contains("/srv/11, and 8 more;"));
    }
}
