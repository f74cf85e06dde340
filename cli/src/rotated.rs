//! Log files that logrotate(8) makes anew for somebody else: a service that owns them today cannot open them tomorrow.

use std::fs;
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::glob::matches_text;
use nrtrace_profiles::grants::Choices;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;
use nrtrace_tracer::files::read_regular;

/// Where packages put their rules.
const RULES: &str = "/etc/logrotate.d";
/// No such file is longer.
const MOST: u64 = 1 << 20;

/// Notes which of the files that are granted for writing a rule of this machine makes anew for another user.
pub fn note(profile: &mut Profile, choices: &Choices) {
    if profile.container.is_some() {
        return;
    }
    let plan = plan(profile, choices);
    let written = plan.acls.iter().filter(|(_, acl)| acl.bits & 2 != 0).map(|(path, _)| path);
    let files: Vec<&RawText> = plan.files.keys().chain(written).collect();
    let mut entries: Vec<_> = fs::read_dir(RULES).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let Ok(text) = read_regular(&path, MOST) else { continue };
        let notes = notes(&String::from_utf8_lossy(&text), &path, &files, &plan.account.user);
        profile
            .notes
            .extend(notes.into_iter().filter(|note| !profile.notes.contains(note)).collect::<Vec<_>>());
    }
}

fn notes(text: &str, rules: &Path, files: &[&RawText], user: &str) -> Vec<String> {
    let rules_of = |(patterns, body): (Vec<String>, Vec<&str>)| {
        let made = body.into_iter().rev().find_map(created).filter(|(_, owner, _)| *owner != user)?;
        let hit = |file: &&&RawText| patterns.iter().any(|pattern| matches_text(pattern, file.as_bytes()));
        let hit: Vec<String> = files.iter().filter(hit).map(|file| file.to_text()).collect();
        let (mode, owner, group) = made;
        let rules = rules.display();
        (!hit.is_empty()).then(|| {
            format!(
                "logrotate makes {} anew for {owner}: say `create {mode}{user} {group}` in {rules}, or it cannot be opened after a \
                 rotation",
                hit.join(", ")
            )
        })
    };
    stanzas(text).into_iter().filter_map(rules_of).collect()
}

/// The mode with a space behind it, owner and group of a `create` that names them.
fn created(line: &str) -> Option<(String, &str, &str)> {
    let words: Vec<&str> = line.strip_prefix("create")?.split_whitespace().collect();
    match words[..] {
        [owner, group] => Some((String::new(), owner, group)),
        [mode, owner, group] => Some((format!("{mode} "), owner, group)),
        _ => None,
    }
}

/// The patterns of each rule, and the lines between its braces.
fn stanzas(text: &str) -> Vec<(Vec<String>, Vec<&str>)> {
    let mut out = Vec::new();
    let (mut patterns, mut body) = (Vec::new(), None);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match &mut body {
            None => {
                let (before, opens) =
                    line.split_once('{').map_or((line, false), |(before, _)| (before, true));
                let words = before.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned());
                patterns.extend(words.filter(|word| word.starts_with('/')));
                body = opens.then(Vec::new);
            }
            Some(_) if line == "}" => {
                out.push((std::mem::take(&mut patterns), body.take().unwrap_or_default()));
            }
            Some(body) => body.push(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_makes_a_log_for_another_is_told_with_what_to_say_instead() {
        let text = "# web\n/var/log/web/*.log \"/srv/a b.log\"\n/srv/x.log {\n\tweekly\n\tcreate 640 root adm\n\tpostrotate\n\t\ttrue\n\
                    \tendscript\n}\n/var/log/kept/*.log { \n create\n}\n/var/log/own.log {\n create web web\n}\n";
        let files: Vec<RawText> =
            ["/var/log/web/error.log", "/var/log/kept/x.log", "/var/log/own.log", "/var/log/other"]
                .map(Into::into)
                .into();
        let files: Vec<&RawText> = files.iter().collect();
        let found = notes(text, Path::new("/etc/logrotate.d/web"), &files, "web");
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["/var/log/web/error.log anew for root", "`create 640 web adm` in /etc/logrotate.d/web"] {
            assert!(found[0].contains(part), "{found:?}");
        }
    }
}
