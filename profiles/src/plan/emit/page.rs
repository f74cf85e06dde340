//! The page for people: the table as KEP-2568 has it, and what is to be known besides.

use super::super::model::{Arrangement, GroupOf, Remark};
use super::parts::{components, line};
use crate::event::FileType;
use crate::text::{letters, printable};

/// The arrangement in Markdown.
pub fn markdown(arrangement: &Arrangement, name: &str) -> String {
    let mut out = String::new();
    line(&mut out, &format!("# {}: users, groups and files\n", cell(name)));
    accounts(&mut out, arrangement);
    line(&mut out, "\n## Files\n");
    line(&mut out, "| file/directory | component(s) | permission |");
    line(&mut out, "|---|---|---|");
    for (path, entry) in &arrangement.entries {
        let slash = if entry.file_type == FileType::Directory && path.as_bytes() != b"/" { "/" } else { "" };
        let components = components(arrangement, entry.uses.keys());
        let acl: Vec<String> = entry
            .acl
            .iter()
            .filter_map(|(user, bits)| {
                Some(format!("{}:{}", arrangement.users.get(*user)?.name, letters(*bits)))
            })
            .collect();
        let acl = if acl.is_empty() { String::new() } else { format!(" and ACL {}", acl.join(" ")) };
        let left = if entry.left { ", as it is" } else { "" };
        line(
            &mut out,
            &format!(
                "| {}{slash} | {} | {:04o} {} {}{acl}{left} |",
                cell(&path.to_text()),
                cell(&components),
                entry.mode,
                cell(&arrangement.owner(entry)),
                cell(&arrangement.group(entry))
            ),
        );
    }
    remarks(
        &mut out,
        "Conflicts",
        "These wishes contradict each other, or cannot be met by owners and modes:",
        &arrangement.conflicts,
    );
    remarks(&mut out, "To see to", "", &arrangement.notes);
    surplus(&mut out, arrangement);
    today(&mut out, arrangement);
    out
}

fn accounts(out: &mut String, arrangement: &Arrangement) {
    line(out, "| user or group | id | for |");
    line(out, "|---|---|---|");
    for (component, user) in arrangement.components.iter().zip(&arrangement.users) {
        let kept = if user.exists { ", as today" } else { "" };
        let gid = if user.gid == user.uid { String::new() } else { format!(":{}", user.gid) };
        line(out, &format!("| {} | {}{gid} | {}{kept} |", user.name, user.uid, cell(component)));
    }
    for (index, group) in arrangement.groups.iter().enumerate() {
        let members = components(arrangement, &group.members);
        let opens: Vec<String> = arrangement
            .entries
            .iter()
            .filter(|(_, entry)| entry.group == GroupOf::Shared(index))
            .map(|(path, _)| cell(&path.to_text()))
            .collect();
        line(
            out,
            &format!("| {} | {} | {} share {} |", group.name, group.gid, cell(&members), opens.join(", ")),
        );
    }
}

fn remarks(out: &mut String, title: &str, lead: &str, remarks: &[Remark]) {
    if remarks.is_empty() {
        return;
    }
    line(out, &format!("\n## {title}\n"));
    if !lead.is_empty() {
        line(out, &format!("{lead}\n"));
    }
    for remark in remarks {
        line(out, &format!("- {}: {}", cell(&remark.path.to_text()), cell(&remark.text)));
    }
}

fn surplus(out: &mut String, arrangement: &Arrangement) {
    if arrangement.surplus.is_empty() {
        return;
    }
    line(out, "\n## Allowed beyond what is done\n");
    for surplus in &arrangement.surplus {
        let name = arrangement.components.get(surplus.component).map_or("", String::as_str);
        let what = match surplus.bits {
            0 => "remove or replace".to_owned(),
            bits => {
                let verbs = [(4, "read"), (2, "write"), (1, "run")];
                verbs
                    .iter()
                    .filter(|(bit, _)| bits & bit != 0)
                    .map(|(_, verb)| *verb)
                    .collect::<Vec<_>>()
                    .join(" and ")
            }
        };
        line(
            out,
            &format!(
                "- {} could {what} {}, as it {}",
                cell(name),
                cell(&surplus.path.to_text()),
                cell(&surplus.why)
            ),
        );
    }
}

fn today(out: &mut String, arrangement: &Arrangement) {
    if arrangement.today.is_empty() {
        return;
    }
    line(out, "\n## What today's arrangement grants too much\n");
    for excess in &arrangement.today {
        let who = match excess.component {
            Some(component) => arrangement.components.get(component).map_or("", String::as_str),
            None => "every user of the machine",
        };
        let verb = if excess.writes { "read and write" } else { "read" };
        let paths: Vec<String> = excess.paths.iter().map(|path| cell(&path.to_text())).collect();
        line(
            out,
            &format!(
                "- {} can {verb} what it does not use, because {}: {}",
                cell(who),
                cell(&excess.because),
                paths.join(", ")
            ),
        );
    }
}

/// Text in a cell or an item: nothing of it is markup.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '~' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
