//! What the run made and left behind.

use std::collections::{BTreeMap, BTreeSet};

use nrtrace_profiles::RawText;
use nrtrace_profiles::calls::{File, Operation, Part, Socket};
use nrtrace_profiles::event::{Event, Outcome, PathObject};
use nrtrace_profiles::place::obeyed;

use crate::changes::node::{Kind, NodeFacts};

/// Names told of.
const TOLD: usize = 12;
/// Names told of that give rights or are obeyed.
const POWERS_TOLD: usize = 200;

/// What a call may have done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It may have made it.
    Made,
    /// It may have written to it.
    Written,
    /// It has set its mode, or one of its attributes.
    Set,
}

/// What is still there of what the run touched.
#[derive(Debug, Default)]
pub struct Left {
    /// What gives rights or is obeyed, with what it is.
    pub powers: BTreeMap<RawText, BTreeSet<&'static str>>,
    /// What else it made, and the made-up user owns.
    pub made: BTreeSet<RawText>,
}

/// The name that `event` may have made or changed.
pub fn touched(event: &Event) -> Option<(&PathObject, Touch)> {
    if matches!(event.outcome, Outcome::Failure { .. }) {
        return None;
    }
    let operation = event.call.operation();
    let flags = event.call.opened_with().unwrap_or(0) as i32;
    let (part, touch) = match operation {
        Operation::File(File::Open(_)) if flags & libc::O_CREAT != 0 => (Part::First, Touch::Made),
        Operation::File(File::Open(_)) if flags & libc::O_ACCMODE != libc::O_RDONLY => {
            (Part::First, Touch::Written)
        }
        Operation::File(File::MakeDirectory(_) | File::MakeNode(_) | File::MakeLink) => {
            (Part::First, Touch::Made)
        }
        Operation::File(File::Rename | File::Link) => (Part::Second, Touch::Made),
        Operation::File(File::Truncate) => (Part::First, Touch::Written),
        Operation::File(File::Mode(_) | File::SetAttribute(_)) => (Part::First, Touch::Set),
        Operation::Socket(Socket::Bind) => (Part::Address, Touch::Made),
        _ => return None,
    };
    let object = part.of(&event.object)?;
    object.resolved.then_some((object, touch))
}

/// What makes `path`, which the run touched so, more than a file: the rights that it gives, and who obeys it.
pub fn power(path: &RawText, touch: Touch, facts: Option<&NodeFacts>) -> Vec<&'static str> {
    let mut what = Vec::new();
    // Of a directory, the bit says whose group its files get, which gives no rights.
    if let Some(facts) = facts.filter(|facts| facts.kind == Kind::Regular) {
        let rights = &facts.rights;
        let has = [
            (rights.capabilities.is_some(), "file capabilities"),
            (rights.mode & libc::S_ISUID != 0, "set-user-ID"),
            (rights.mode & libc::S_ISGID != 0, "set-group-ID"),
        ];
        what.extend(has.into_iter().filter_map(|(has, what)| has.then_some(what)));
    }
    // A mode that is set there changes nothing of what is obeyed.
    what.extend(obeyed(path).filter(|_| touch != Touch::Set));
    what
}

impl Left {
    /// Remarks on what is there, what gives rights or is obeyed first.
    pub fn notes(&self, uid: u32) -> Vec<String> {
        self.powers_note().into_iter().chain(self.made_note(uid)).collect()
    }

    fn powers_note(&self) -> Option<String> {
        let named = self.powers.iter().map(|(name, what)| {
            let what: Vec<&str> = what.iter().copied().collect();
            format!("{} ({})", name.to_text(), what.join("; "))
        });
        let told = told(named, POWERS_TOLD)?;
        Some(format!(
            "the run made or changed these and left them, and they give rights or are obeyed by others: {told}; remove \
             them unless they are wanted"
        ))
    }

    fn made_note(&self, uid: u32) -> Option<String> {
        let inside = |name: &&RawText| {
            let bytes = name.as_bytes();
            let ends = bytes.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0);
            ends.into_iter().any(|(at, _)| self.made.contains(&RawText::from(&bytes[..at])))
        };
        let tops: Vec<&RawText> = self.made.iter().filter(|name| !inside(name)).collect();
        let told = told(tops.into_iter().map(RawText::to_text), TOLD)?;
        Some(format!(
            "the run made these and left them, owned by uid {uid}, which belongs to nobody: {told}; remove them before \
             the service runs as its own user"
        ))
    }
}

/// The first `most` of the names; `None` when there are none.
fn told(names: impl ExactSizeIterator<Item = String>, most: usize) -> Option<String> {
    let count = names.len();
    let mut told: Vec<String> = names.take(most).collect();
    if count > most {
        told.push(format!("and {} more", count - most));
    }
    (count > 0).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_directory_is_not_told_again() {
        let note = |names: &[&str]| {
            let made = names.iter().map(|name| RawText::from(*name)).collect();
            Left { made, ..Left::default() }.notes(7)
        };
        assert!(note(&[]).is_empty());
        let notes = note(&["/run/x", "/run/x/y", "/run/xy"]);
        assert!(notes[0].contains("uid 7, which belongs to nobody: /run/x, /run/xy;"), "{notes:?}");
        let many: Vec<String> = (0..20).map(|n| format!("/srv/{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(note(&many)[0].contains("/srv/11, and 8 more;"));
    }

    #[test]
    fn what_gives_rights_is_told_first_and_within_bounds() {
        let powers = (0..205).map(|n| (RawText::new(format!("/srv/\\{n:03}")), ["set-user-ID"].into()));
        let notes = Left { powers: powers.collect(), made: ["/run/x".into()].into() }.notes(7);
        assert!(
            notes[0].contains(r"others: /srv/\\000 (set-user-ID), /srv/\\001 (set-user-ID), "),
            "{notes:?}"
        );
        assert!(notes[0].contains("199 (set-user-ID), and 5 more;"), "{notes:?}");
        assert!(notes[1].contains("nobody: /run/x;"), "{notes:?}");
    }
}
