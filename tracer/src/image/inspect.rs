//! What an image says of itself.

use std::path::Path;

use serde_json::Value;

use super::{Error, Podman};
use crate::files::read_regular;

/// No file of accounts is longer.
const LONGEST: u64 = 16 << 20;

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inspected {
    /// Its id.
    pub(super) id: String,
    /// `USER`, as it is written.
    pub(super) user: String,
    /// `ENTRYPOINT`
    pub(super) entrypoint: Vec<String>,
    /// `CMD`
    pub(super) arguments: Vec<String>,
    /// `HEALTHCHECK`, as shell text.
    pub(super) health: Option<String>,
    /// `STOPSIGNAL`
    pub(super) stop: i32,
}

impl Inspected {
    /// Asks podman, which fetches an image that is not here.
    pub(super) fn of(podman: &Podman, image: &str) -> Result<Self, Error> {
        let ask = || podman.ask(&["image", "inspect", "--", image]);
        let text = ask().or_else(|_| podman.ask(&["pull", "--quiet", "--", image]).and_then(|_| ask()))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        value.get(0).map(Self::read).ok_or_else(|| Error::Input(format!("podman tells nothing of {image}")))
    }

    fn read(image: &Value) -> Self {
        let config = |name: &str| image.get("Config").and_then(|config| config.get(name));
        let text = |name: &str| config(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let health = image.pointer("/Healthcheck/Test").or_else(|| config("Healthcheck")?.get("Test"));
        Self {
            id: image.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            user: text("User"),
            entrypoint: words(config("Entrypoint")),
            arguments: words(config("Cmd")),
            health: health.and_then(|test| health_text(&words(Some(test)))),
            stop: signal(&text("StopSignal")),
        }
    }
}

fn words(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `["CMD-SHELL", TEXT]` or `["CMD", WORD, …]`.
fn health_text(test: &[String]) -> Option<String> {
    match test {
        [kind, text] if kind == "CMD-SHELL" => Some(text.clone()),
        [kind, words @ ..] if kind == "CMD" && !words.is_empty() => {
            Some(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A signal by its name or number; the one that containers are asked to end with unless told otherwise.
fn signal(text: &str) -> i32 {
    let name = text.to_ascii_uppercase();
    let named = |name: &str| name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
    text.parse()
        .ok()
        .or_else(|| named(&name))
        .or_else(|| named(&format!("SIG{name}")))
        .unwrap_or(libc::SIGTERM)
}

/// The user and group that a `USER` names in the image; nothing is root.
pub(super) fn user(root: &Path, text: &str) -> Option<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if user.is_empty() {
        return Some((0, 0));
    }
    let read = |name: &str| {
        let text = read_regular(&root.join(name), LONGEST).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect::<Vec<Vec<String>>>()
    };
    let number = |line: &[String], at: usize| line.get(at)?.parse::<u32>().ok();
    let is = |line: &[String], text: &str| {
        line.first().is_some_and(|name| name == text)
            || (number(line, 2).is_some() && line.get(2).is_some_and(|id| id == text))
    };
    let known = read("etc/passwd").into_iter().find(|line| is(line, user));
    let uid = known.as_ref().and_then(|line| number(line, 2)).or_else(|| user.parse().ok())?;
    let gid = match group {
        Some(group) => {
            let line = read("etc/group").into_iter().find(|line| is(line, group));
            line.and_then(|line| number(&line, 2)).or_else(|| group.parse().ok())?
        }
        // As podman has it: group 0 for a number without an account. A group of its own closes root's files.
        None => known.and_then(|line| number(&line, 3)).unwrap_or(uid),
    };
    Some((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_what_it_runs_and_as_whom() {
        let image = serde_json::json!({"Id": "abc", "Config": {
            "User": "web", "Entrypoint": ["/entry"], "Cmd": ["nginx"], "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["CMD", "curl", "it's"]}}});
        let read = Inspected::read(&image);
        assert_eq!((read.user.as_str(), read.stop), ("web", libc::SIGQUIT));
        assert_eq!((read.entrypoint, read.arguments), (vec!["/entry".to_owned()], vec!["nginx".to_owned()]));
        assert_eq!(read.health.as_deref(), Some(r"'curl' 'it'\''s'"));
        let plain = Inspected::read(&serde_json::json!({"Id": "a", "Config": {}}));
        assert_eq!((plain.stop, plain.health), (libc::SIGTERM, None));
        assert_eq!((signal("15"), signal("int")), (15, libc::SIGINT));
    }

    #[test]
    fn users_are_the_images_own() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:44::/:\n").unwrap();
        std::fs::write(root.path().join("etc/group"), "adm:x:4:\n").unwrap();
        for (text, expected) in [
            ("", Some((0, 0))),
            ("web", Some((33, 44))),
            ("33", Some((33, 44))),
            ("web:adm", Some((33, 4))),
            ("1000", Some((1000, 1000))),
            ("1000:0", Some((1000, 0))),
            ("nobody-here", None),
            ("web:none", None),
        ] {
            assert_eq!(user(root.path(), text), expected, "{text}");
        }
    }
}
