//! The page "Running k0s as a non-root user", made from a run on the fixture and from what is known of k0s.

use std::fmt::Write as _;

use nrtrace_profiles::emit::Format;
use nrtrace_profiles::grants::Grants;
use nrtrace_profiles::knowledge::schema::{Program, Told};
use nrtrace_profiles::knowledge::{Fact, Library};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Need, Severity};
use nrtrace_profiles::ways::grants;

/// The page, in Markdown. Nothing in it depends on the machine. Writing to a string cannot fail.
pub fn page(profile: &Profile) -> String {
    let granted = grants(profile);
    let library = Library::built_in();
    let mut out = String::from(
        "# Running k0s as a non-root user\n\n\
         A single node, `k0s controller --enable-worker`, as a system user of its own (k0s issue 5910). This page is made from a run of nrtrace\n\
         on a fixture that makes the calls of k0s in their order, and from what is known of k0s; CI compares it. With the unit below, the fixture\n\
         starts as that user and serves, with no capability at all. `cargo xtask k0s --k0s PATH` compares it with a k0s at hand; k0s 1.36.3 is found\n\
         to need the same.\n\n\
         From a k0s at hand to one that runs so, proved in a sandbox and taken back by `nrtrace undo out/`:\n\n\
         ```sh\n\
         sudo nrtrace run --verify --ready-port 6443 -o out/ -- k0s controller --enable-worker\n\
         sudo nrtrace apply --yes out/\n\
         nrtrace start out/k0s.service.d/50-nonroot.conf -- \"$(command -v k0s)\" controller --enable-worker &\n\
         ```\n",
    );
    permissions(&mut out, &granted);
    capabilities(&mut out, &granted);
    environment(&mut out, profile, &granted);
    plugins(&mut out, profile);
    unit(&mut out, profile, &granted);
    not_granted(&mut out, profile);
    if let Some(k0s) = library.programs().find(|program| program.name == "k0s") {
        harmless(&mut out, k0s);
    }
    out
}

fn permissions(out: &mut String, granted: &Grants) {
    out.push_str("\n## Permissions\n\n| path | owner | group | mode |\n|---|---|---|---|\n");
    let (user, group) = (&granted.account.user, &granted.account.group);
    for (path, directory) in &granted.directories {
        let _ = writeln!(
            out,
            "| `{path}/` | {user} | {} | {:04o} |",
            directory.group.as_ref().unwrap_or(group),
            directory.mode
        );
    }
    for (path, file) in &granted.files {
        let _ = writeln!(
            out,
            "| `{path}` | {user} | {} | {:04o} |",
            file.group.as_ref().unwrap_or(group),
            file.mode.unwrap_or(0o600)
        );
    }
    out.push_str(
        "\n`/var/lib/k0s` has to be *owned*: k0s sets the mode of its directories at each start, which neither a group nor an ACL allows. Its run\n\
         directory is `/var/lib/k0s/run` when it is not root, and not `/run/k0s`.\n",
    );
}

fn capabilities(out: &mut String, granted: &Grants) {
    out.push_str("\n## Capabilities\n\n");
    if granted.capabilities.is_empty() {
        out.push_str("None: no port below 1024 is bound, and the rest is met without.\n");
    }
    for (capability, grant) in &granted.capabilities {
        let _ = writeln!(out, "- `{capability}`: {}", grant.why.reason);
    }
}

fn environment(out: &mut String, profile: &Profile, granted: &Grants) {
    out.push_str("\n## Environment\n\n");
    for (name, variable) in &granted.environment {
        let facts = profile
            .knowledge
            .iter()
            .filter(|fact| variable.why.needs.iter().any(|need| fact.needs.contains(need)));
        let _ = writeln!(out, "- `{name}={}`", variable.value);
        facts.for_each(|fact| told(out, fact));
    }
}

fn told(out: &mut String, fact: &Fact) {
    let note = fact.note.as_ref().map(|note| format!(" {note}.")).unwrap_or_default();
    let _ = writeln!(out, "  - {}: {}.{note} ({})", fact.program, fact.is, fact.sources.join(", "));
    for remedy in &fact.remedies {
        let _ = writeln!(out, "  - {}", remedy.text);
    }
}

/// Facts whose directories are for plugins and networks.
fn plugins(out: &mut String, profile: &Profile) {
    out.push_str("\n## Paths for plugins and CNI\n\n");
    for fact in profile.knowledge.iter().filter(|fact| fact.is.contains("FlexVolume")) {
        let _ = writeln!(
            out,
            "- {}",
            fact.needs
                .iter()
                .map(|need| need.replace("path:", ""))
                .map(|path| format!("`{path}`"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        told(out, fact);
    }
    out.push_str(
        "- CNI configuration and programs (`/etc/cni/net.d`, `/opt/cni/bin`) are written by the network's pods, which the worker starts as root: they\n  \
         need nothing of this user.\n",
    );
}

fn unit(out: &mut String, profile: &Profile, granted: &Grants) {
    out.push_str("\n## Unit\n\n```ini\n[Unit]\nDescription=k0s, without root\nWants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=simple\nExecStart=/usr/local/bin/k0s controller --enable-worker\nRestart=always\n");
    let drop_in = Format::SystemdDropIn.emit(profile, granted).text;
    let lines = drop_in.lines().skip_while(|line| *line != "[Service]").skip(1);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let _ = writeln!(out, "{line}");
    }
    out.push_str("\n[Install]\nWantedBy=multi-user.target\n```\n\nBefore it, as root, the user, what is to be there, and what the kernel is to be told:\n");
    for format in [Format::Sysusers, Format::Tmpfiles, Format::Sysctl] {
        let emitted = format.emit(profile, granted);
        let _ = writeln!(out, "\n`/etc/{}`:\n\n```text", emitted.file_name);
        let text = emitted.text;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let _ = writeln!(out, "{line}");
        }
        out.push_str("```\n");
    }
    for fact in
        profile.knowledge.iter().filter(|fact| fact.remedies.iter().any(|remedy| remedy.directive.is_some()))
    {
        out.push_str("\nThe filter is there for this:\n\n");
        told(out, fact);
    }
}

fn not_granted(out: &mut String, profile: &Profile) {
    out.push_str("\n## What cannot be granted, and why\n\n");
    let mut said = Vec::new();
    for requirement in profile.requirements.iter().filter(|need| need.severity == Severity::Required) {
        let Need::Kernel { operation, .. } = &requirement.need else { continue };
        let facts = profile
            .knowledge
            .iter()
            .filter(|fact| fact.needs.contains(&requirement.id) && fact.fatal == Some(true));
        for fact in facts.filter(|fact| !said.contains(&fact.is)).collect::<Vec<_>>() {
            said.push(fact.is.clone());
            let _ = writeln!(out, "- {}: {}", nrtrace_profiles::requirement::word(operation), fact.is);
            told(out, fact);
        }
    }
    out.push_str(
        "- Pods: containerd and the kubelet mount file systems, make namespaces and control groups, and start processes as other users. A plain user is\n  \
         refused all of that. The controller lives without them; a node that runs pods needs root, or a user namespace.\n",
    );
}

fn harmless(out: &mut String, k0s: &Program) {
    out.push_str("\n## What is refused and harms nobody\n\n");
    let harmless = |told: &Told| told.fatal == Some(false);
    for (_, fact) in k0s.told().filter(|(_, fact)| harmless(fact)) {
        let note = fact.note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
        let _ = writeln!(out, "- {}{note} ({})", fact.is, fact.sources.join(", "));
    }
}
