//! The page "Running NAME as a non-root user", for the documentation of a program.

use std::collections::BTreeSet;

use super::escape::markdown::{block, code, text};
use super::escape::shell::readable;
use super::page::Emitted;
use super::remedy::{remedies, verdict};
use super::table::rows::{access_of, by_reason, named};
use super::table::{listen, proved, unexplained};
use super::treatment::Treatment;
use super::{systemd, sysusers, tmpfiles};
use crate::RawText;
use crate::describe::{self, owner};
use crate::grants::{BEYOND, FileKind, Grants, Why, reach};
use crate::profile::Profile;
use crate::requirement::{Requirement, Seconds, Severity, word};

/// The page.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Markdown { out: String::new() };
    page.head(profile, grants);
    page.permissions(grants);
    page.capabilities(grants);
    page.ports(profile, grants);
    page.machine(grants);
    page.configuration(profile, grants);
    page.not_granted(profile, grants);
    page.beyond(profile, grants);
    page.install(profile, grants);
    page.needs(profile, grants);
    page.found(profile);
    Emitted::plain(format!("{}-non-root.md", grants.name), page.out)
}

struct Markdown {
    out: String,
}

impl Markdown {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn heading(&mut self, level: usize, title: &str) {
        self.line("");
        self.line(&format!("{} {title}", "#".repeat(level)));
        self.line("");
    }

    fn row(&mut self, cells: &[String]) {
        self.line(&format!("| {} |", cells.join(" | ")));
    }

    fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) {
        self.row(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        self.line(&format!("|{}", " --- |".repeat(head.len())));
        rows.iter().for_each(|row| self.row(row));
    }

    fn list(&mut self, items: impl IntoIterator<Item = String>) {
        items.into_iter().for_each(|item| self.line(&format!("- {item}")));
    }

    fn head(&mut self, profile: &Profile, grants: &Grants) {
        let account = &grants.account;
        self.line(&format!("# Running {} as a non-root user", text(&grants.name)));
        self.line("");
        let words: Vec<String> = profile.command.iter().map(|word| readable(&word.to_text())).collect();
        self.line(&format!(
            "{} runs as the user {} with the command",
            text(&grants.name),
            code(&account.user)
        ));
        self.line("");
        self.out.push_str(&block("sh", &crate::text::printable(&words.join(" "))));
        self.line("");
        let counts = counts(profile, grants);
        self.line(&counts);
        if let Some(shortfall) = profile.run.shortfall() {
            self.line("");
            self.line(&format!("**The record is incomplete, {shortfall}: there may be more needs.**"));
        }
    }

    fn permissions(&mut self, grants: &Grants) {
        let account = &grants.account;
        let mut rows = Vec::new();
        let own = |group: &Option<String>| code(group.as_ref().unwrap_or(&account.group));
        for (path, directory) in &grants.directories {
            rows.push(vec![
                code(&path.to_text()),
                "directory".into(),
                code(&account.user),
                own(&directory.group),
                code(&format!("{:04o}", directory.mode)),
                why(&directory.why),
            ]);
        }
        for (path, file) in &grants.files {
            let what = if file.kind == FileKind::Fifo { "named pipe" } else { "file" };
            let mode = file.mode.map_or_else(|| "as it is".into(), |mode| code(&format!("{mode:04o}")));
            let group =
                if file.existed && file.group.is_none() { "as it is".into() } else { own(&file.group) };
            rows.push(vec![
                code(&path.to_text()),
                what.into(),
                code(&account.user),
                group,
                mode,
                why(&file.why),
            ]);
        }
        for (path, acl) in &grants.acls {
            let entry = code(&format!("u:{}:{}", account.user, acl.text()));
            let stays = "as it is".to_owned();
            rows.push(vec![
                code(&path.to_text()),
                "ACL entry".into(),
                stays.clone(),
                stays,
                entry,
                why(&acl.why),
            ]);
        }
        self.heading(2, "Permissions");
        if rows.is_empty() {
            self.line("No path that an ordinary user does not have.");
        } else {
            self.table(&["Path", "What", "Owner", "Group", "Mode", "Why"], rows);
        }
        if !grants.groups.is_empty() {
            self.heading(3, "Groups");
            let rows = grants.groups.iter().map(|(group, membership)| {
                let caution = membership
                    .caution
                    .map(|caution| format!("; note: {}", text(caution)))
                    .unwrap_or_default();
                vec![code(group), format!("{}{caution}", why(&membership.why))]
            });
            let rows = rows.collect();
            self.table(&["Group", "Why"], rows);
        }
    }

    fn capabilities(&mut self, grants: &Grants) {
        self.heading(2, "Capabilities");
        if grants.capabilities.is_empty() {
            return self.line("None.");
        }
        let rows = grants.capabilities.iter().map(|(capability, grant)| {
            let danger = grant
                .danger
                .map_or_else(|| "what its name says".into(), |danger| format!("**{}**", text(danger)));
            vec![code(&capability.to_string()), why(&grant.why), danger]
        });
        let rows = rows.collect();
        self.table(&["Capability", "Why", "What it amounts to"], rows);
    }

    fn ports(&mut self, profile: &Profile, grants: &Grants) {
        if profile.listens.is_empty() {
            return;
        }
        self.heading(2, "Listens on");
        self.list(profile.listens.iter().map(|entry| text(&listen(entry))));
        if !grants.ports.is_empty() {
            let ports: Vec<String> = grants.ports.keys().map(u16::to_string).collect();
            self.line("");
            self.line(&format!(
                "Below the first unprivileged port ({}): {}.",
                profile.run.unprivileged_port_start,
                ports.join(", ")
            ));
        }
    }

    fn machine(&mut self, grants: &Grants) {
        let mut rows = Vec::new();
        for (name, sysctl) in &grants.sysctls {
            rows.push(vec![code(name), code(&sysctl.value), why(&sysctl.why)]);
        }
        for (name, module) in &grants.modules {
            rows.push(vec![format!("module {}", code(name)), "loaded at boot".into(), why(module)]);
        }
        for (limit, grant) in &grants.limits {
            let value = grant.value.map_or_else(|| "no limit".into(), |value| value.to_string());
            rows.push(vec![format!("limit {}", word(limit)), value, why(&grant.why)]);
        }
        for (name, setting) in [("nice value", &grants.nice), ("OOM score", &grants.oom_score)] {
            if let Some((value, reason)) = setting {
                rows.push(vec![name.into(), value.to_string(), why(reason)]);
            }
        }
        for (path, device) in &grants.devices {
            rows.push(vec![format!("device {}", code(&path.to_text())), "used".into(), why(&device.why)]);
        }
        if let Some(reason) = &grants.delegate {
            rows.push(vec!["control groups".into(), "delegated".into(), why(reason)]);
        }
        if !rows.is_empty() {
            self.heading(2, "Kernel, limits and devices");
            self.table(&["What", "Value", "Why"], rows);
        }
    }

    fn configuration(&mut self, profile: &Profile, grants: &Grants) {
        if !grants.environment.is_empty() || !profile.run.environment.is_empty() {
            self.heading(2, "Environment");
            let set = grants.environment.iter();
            let mut rows: Vec<Vec<String>> = set
                .map(|(name, variable)| vec![code(name), code(&variable.value), why(&variable.why)])
                .collect();
            let had = profile.run.environment.iter();
            let had = had.filter(|(name, _)| !grants.environment.contains_key(&name.to_text()));
            rows.extend(had.map(|(name, value)| {
                vec![code(&name.to_text()), code(&value.to_text()), "as the run had it".into()]
            }));
            self.table(&["Variable", "Value", "Why"], rows);
        }
        let to_configure: Vec<Why> = grants.to_configure().cloned().collect();
        if !to_configure.is_empty() {
            self.heading(2, "Configuration to change");
            self.list(each(profile, &to_configure));
        }
    }

    fn not_granted(&mut self, profile: &Profile, grants: &Grants) {
        if !grants.optional.is_empty() {
            self.heading(2, "Not granted, as it is not needed");
            self.list(each(profile, &grants.optional));
        }
        let unmet = &grants.unmet;
        let hindered = profile.unexplained.iter().map(|entry| text(&unexplained(entry)));
        let items: Vec<String> = unmet
            .iter()
            .map(|unmet| {
                format!("{}: {}. Instead: {}", code(&unmet.need), text(&unmet.reason), text(&unmet.hint))
            })
            .chain(hindered)
            .collect();
        if !items.is_empty() {
            self.heading(2, "What cannot be granted");
            self.list(items);
        }
    }

    fn beyond(&mut self, profile: &Profile, grants: &Grants) {
        let more = reach(profile, grants);
        if !more.is_empty() {
            self.heading(2, BEYOND);
            self.list(more.iter().map(|reach| text(&reach.text())));
        }
    }

    fn install(&mut self, profile: &Profile, grants: &Grants) {
        let name = &grants.name;
        self.heading(2, "With systemd");
        let files = [sysusers::emit(grants), tmpfiles::emit(grants)];
        for emitted in files {
            self.line(&format!("{}:", code(&format!("/etc/{}", emitted.file_name))));
            self.line("");
            self.out.push_str(&block("ini", &uncommented(&emitted.text)));
            self.line("");
        }
        self.line(&format!("{}:", code(&format!("/etc/systemd/system/{name}.service"))));
        self.line("");
        self.out.push_str(&block("ini", &uncommented(&systemd::unit(profile, grants).text)));
        self.line("");
        let commands = format!(
            "systemd-sysusers\nsystemd-tmpfiles --create\nsystemctl daemon-reload\nsystemctl restart {name}.service"
        );
        self.out.push_str(&block("sh", &commands));
    }

    fn needs(&mut self, profile: &Profile, grants: &Grants) {
        if profile.requirements.is_empty() {
            return;
        }
        self.heading(2, "Each need, and the ways to meet it");
        for requirement in &profile.requirements {
            self.need(requirement, grants);
        }
    }

    fn need(&mut self, requirement: &Requirement, grants: &Grants) {
        self.heading(3, &code(&named(requirement).concat()));
        let evidence = &requirement.evidence;
        let calls: Vec<&str> = evidence.calls.iter().map(String::as_str).collect();
        let processes: Vec<String> = evidence.processes.iter().map(RawText::to_text).collect();
        let mut line = format!(
            "{}: {} by {}, {} in {}",
            text(&access_of(requirement).join(", ")),
            text(&calls.join(", ")),
            text(&processes.join(", ")),
            describe::times(evidence.count),
            word(&requirement.phase),
        );
        if let Some((at, inode)) = requirement.refused() {
            let owner = inode.map(|inode| format!(" ({})", owner(inode))).unwrap_or_default();
            line.push_str(&format!("; refused at {}", code(&format!("{}{owner}", at.to_text()))));
        }
        if requirement.severity != Severity::Required {
            line.push_str(&format!("; {}", word(&requirement.severity)));
        }
        let proved = proved::of_need(requirement);
        if !proved.is_empty() {
            line.push_str(&format!("; proof: {}", text(&proved.join(", "))));
        }
        self.line(&format!("{line}."));
        self.line("");
        let rows = remedies(grants, requirement).into_iter().enumerate().map(|(n, remedy)| {
            let source = remedy.source.map(|source| format!(" ({})", text(&source))).unwrap_or_default();
            let number = if remedy.chosen { format!("**{}**", n + 1) } else { (n + 1).to_string() };
            vec![
                number,
                format!("{}{source}", text(&remedy.text)),
                if remedy.opens.is_empty() { word(&remedy.risk) } else { text(&remedy.opens.join("; ")) },
                text(&remedy.because),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if !rows.is_empty() {
            self.table(&["", "Remedy", "Opens beyond the need", "Because"], rows);
        }
    }

    fn found(&mut self, profile: &Profile) {
        let run = &profile.run;
        self.heading(2, "How this was found");
        self.line(&format!(
            "nrtrace watched a run of {} ({}, {}, kernel {}), which ended: {}.",
            seconds(run.duration),
            word(&run.mode),
            word(&run.backend),
            text(&run.kernel),
            text(&describe::exit(run.exit))
        ));
        if !profile.notes.is_empty() {
            self.line("");
            self.list(profile.notes.iter().map(|note| text(note)));
        }
    }
}

/// How many needs there are, and what is done about them.
fn counts(profile: &Profile, grants: &Grants) -> String {
    let total = profile.requirements.len();
    if total == 0 {
        return describe::no_needs(profile).unwrap_or_else(|text| format!("**{text}**"));
    }
    let of = |wanted| profile.requirements.iter().filter(|r| verdict(grants, r) == wanted).count();
    let words = [
        (Treatment::Granted, "granted by what is below"),
        (Treatment::Partly, "that the files for systemd cannot hold, before systemd 254 or at all"),
        (Treatment::Advice, "settled in its configuration"),
        (Treatment::Optional, "not needed to live"),
        (Treatment::Withheld, "withheld until they are proved"),
        (Treatment::Unmet, "not to be granted safely"),
    ];
    let parts: Vec<String> = words
        .into_iter()
        .map(|(verdict, text)| (of(verdict), text))
        .filter(|(count, _)| *count > 0)
        .map(|(count, text)| format!("{count} {text}"))
        .collect();
    format!("It needs {total} things that an ordinary user lacks: {}.", parts.join(", "))
}

/// One item for each reason, led by what it is about.
fn each(profile: &Profile, reasons: &[Why]) -> Vec<String> {
    let item = |(reason, needs): (&str, BTreeSet<String>)| {
        let needs: Vec<String> = needs.iter().map(|need| code(need)).collect();
        let lead = if needs.is_empty() { String::new() } else { format!("{}: ", needs.join(", ")) };
        format!("{lead}{}", text(reason))
    };
    by_reason(profile, reasons).into_iter().map(item).collect()
}

fn why(why: &Why) -> String {
    text(&why.reason)
}

fn seconds(seconds: Seconds) -> String {
    format!("{:.1} s", seconds.0 as f64 / 1e9)
}

/// A configuration file without its comments.
fn uncommented(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if !(line.is_empty() && (out.is_empty() || out.ends_with("\n\n"))) {
            out.push_str(line);
            out.push('\n');
        }
    }
    let trimmed = out.trim_end();
    if trimmed.is_empty() { "# nothing\n".into() } else { format!("{trimmed}\n") }
}
