//! Variables that were set to move files, and that the program did not use.

use std::collections::BTreeSet;

use crate::RawText;
use crate::event::{Event, Record};
use crate::requirement::{Need, Requirement};

use super::context::Context;
use super::files::{self, is_at_or_below};

/// How many files are named.
const SHOWN: usize = 3;

/// A variable, and where what it moves goes without it.
struct Row {
    name: &'static str,
    /// Beginnings of paths.
    instead: &'static [&'static str],
    /// Whether only names that differ from run to run count there.
    temporary: bool,
}

const TEMPORARY: &[&str] = &["/tmp/", "/var/tmp/", "/run/", "/dev/shm/"];

/// tempnam(3), mktemp(1) and the XDG Base Directory Specification.
const ROWS: &[Row] = &[
    Row { name: "TMPDIR", instead: TEMPORARY, temporary: true },
    Row { name: "TMP", instead: TEMPORARY, temporary: true },
    Row { name: "TEMP", instead: TEMPORARY, temporary: true },
    Row { name: "XDG_RUNTIME_DIR", instead: &["/run/", "/tmp/"], temporary: false },
    Row { name: "XDG_CONFIG_HOME", instead: &["/.config/"], temporary: false },
    Row { name: "XDG_CACHE_HOME", instead: &["/.cache/"], temporary: false },
    Row { name: "XDG_DATA_HOME", instead: &["/.local/share/"], temporary: false },
    Row { name: "XDG_STATE_HOME", instead: &["/.local/state/"], temporary: false },
    Row { name: "HOME", instead: &["/root/", "/home/"], temporary: false },
];

/// Says of each such variable that nothing was done at or below its directory, and what was made elsewhere; or of one
/// for temporary files, which of them it does not move.
pub fn remark(
    events: &[&Event],
    context: &Context<'_>,
    requirements: &[Requirement],
    notes: &mut BTreeSet<String>,
) {
    // Calls that went through are not all there, so nothing can be said of what was not done.
    if context.run.record == Record::Needs || context.end.dropped_calls > 0 {
        return;
    }
    let home = value(context, "HOME");
    for (name, value) in &context.run.environment {
        let Some(row) = ROWS.iter().find(|row| row.name.as_bytes() == name.as_bytes()) else { continue };
        let absolute = value.as_bytes().starts_with(b"/") && value.as_bytes().len() > 1;
        if !absolute {
            continue;
        }
        let used = events.iter().any(|event| uses(event, value));
        let events = if used { &[] } else { events };
        let instead = instead(row, value, home, events, requirements);
        // HOME is set for every program; few look at it.
        if instead.is_empty() && (used || row.name == "HOME") || used && !row.temporary {
            continue;
        }
        notes.insert(text(row, value, &instead, used));
    }
}

fn text(row: &Row, value: &RawText, instead: &BTreeSet<RawText>, used: bool) -> String {
    let mut named: Vec<String> = instead.iter().take(SHOWN).map(RawText::to_string).collect();
    if instead.len() > SHOWN {
        named.push(format!("{} more", instead.len() - SHOWN));
    }
    let name = row.name;
    if used {
        return format!("{name}={value} was set, and the program used it, but not for {}", named.join(", "));
    }
    let told = match (named.is_empty(), row.temporary) {
        (true, _) => {
            "it looked for nothing there and made nothing elsewhere that this variable moves".to_owned()
        }
        (false, true) => format!("its temporary files are made elsewhere: {}", named.join(", ")),
        (false, false) => format!("it used {} instead", named.join(", ")),
    };
    format!("{name}={value} was set, and the program did not use it: {told}")
}

fn value<'a>(context: &Context<'a>, name: &str) -> Option<&'a RawText> {
    context
        .run
        .environment
        .iter()
        .find(|(known, _)| known.as_bytes() == name.as_bytes())
        .map(|(_, value)| value)
}

fn paths(event: &Event) -> impl Iterator<Item = &RawText> {
    let (first, second) = files::of(&event.object);
    let socket = match &event.object {
        crate::event::Object::Socket(socket) => socket.path.as_ref(),
        _ => None,
    };
    first.into_iter().chain(second).chain(socket).flat_map(|path| [&path.given, &path.seen, &path.path])
}

fn uses(event: &Event, value: &RawText) -> bool {
    paths(event).any(|path| is_at_or_below(path.as_bytes(), value.as_bytes()))
}

/// What the program made, or tried to make, where such files go without the variable.
fn instead(
    row: &Row,
    value: &RawText,
    home: Option<&RawText>,
    events: &[&Event],
    requirements: &[Requirement],
) -> BTreeSet<RawText> {
    let fits = |path: &RawText| {
        let text = path.as_bytes();
        let outside = !is_at_or_below(path.as_bytes(), value.as_bytes());
        let below = row.instead.iter().any(|start| match start.strip_prefix("/.") {
            // In the home directory, wherever that is.
            Some(_) => {
                let home = home.map_or(&b""[..], RawText::as_bytes);
                let home = home.strip_suffix(b"/").unwrap_or(home);
                text.strip_prefix(home).is_some_and(|rest| rest.starts_with(start.as_bytes()))
            }
            None => text.starts_with(start.as_bytes()),
        });
        outside && below
    };
    let mut found: BTreeSet<RawText> = BTreeSet::new();
    for requirement in requirements {
        if let Need::Path { path, pattern, .. } = &requirement.need
            && fits(path)
            && (*pattern || !row.temporary)
        {
            found.insert(path.clone());
        }
    }
    let needed = |path: &RawText| {
        let directory = files::parent(path);
        found.iter().any(|known| known == path || files::parent(known) == directory)
    };
    let made: Vec<RawText> = events
        .iter()
        .filter_map(|event| files::made(event).filter(|_| !row.temporary || files::creates_only(event)))
        .map(|object| object.path.clone())
        .filter(|path| fits(path) && !needed(path))
        .collect();
    let looked =
        events.iter().filter(|_| !row.temporary).flat_map(|event| paths(event)).filter(|path| fits(path));
    let rest: Vec<RawText> =
        if made.is_empty() && found.is_empty() { looked.cloned().collect() } else { made };
    found.extend(rest);
    found
}
