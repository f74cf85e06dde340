//! Lines for a Containerfile (Dockerfile): what the image has to hold so that its user needs nothing else.

use super::escape::shell::{assignment, quoted};
use super::page::{Emitted, Page};
use super::ports::bound;
use crate::grants::{FileKind, Grants, capability_text, carriers, too_many_executables};
use crate::profile::Profile;
use crate::text::printable;
use crate::{Capability, RawText};

/// The lines, as the file `Containerfile`.
pub(super) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let mut page = Page::new(&format!(
        "Lines for the Containerfile of an image that runs {} without root.",
        grants.name
    ));
    page.comment(
        "They go after those that install it. Files that are copied in: COPY --chown with the ids below.",
    );
    let ids = Ids::of(grants);
    page.line("USER 0:0");
    account(&mut page, grants, &ids);
    directories(&mut page, grants, &ids);
    files(&mut page, grants, &ids);
    opened(&mut page, grants, &ids);
    capabilities(&mut page, profile, grants);
    for ((port, protocol), _) in bound(profile) {
        page.line(&format!("EXPOSE {port}/{}", protocol.to_lowercase()));
    }
    for (name, variable) in &grants.environment {
        page.why(&variable.why);
        page.line(&format!("ENV {name}={}", environment(&variable.value)));
    }
    page.comment("Numbers, so that runAsNonRoot can tell that it is not root.");
    page.line(&format!("USER {}", ids.user));
    not_here(&mut page, grants);
    page.finish("Containerfile".into())
}

/// Owner, group and user of the image.
struct Ids {
    owner: String,
    user: String,
    arbitrary: bool,
}

impl Ids {
    fn of(grants: &Grants) -> Self {
        let account = &grants.account;
        if grants.choices.arbitrary_uid {
            // The platform chooses another uid; group 0 is what all of them have.
            return Self {
                owner: format!("{}:0", account.run_uid),
                user: account.run_uid.to_string(),
                arbitrary: true,
            };
        }
        let ids = format!("{}:{}", account.run_uid, account.run_gid);
        Self { owner: ids.clone(), user: ids, arbitrary: false }
    }

    /// A mode; for an arbitrary user the group has what the owner has.
    fn mode(&self, mode: u32) -> String {
        let mode = if self.arbitrary { mode & 0o7707 | (mode >> 3 & 0o070) } else { mode };
        format!("{mode:04o}")
    }
}

/// Puts a command on a path, which is `$1`-like for it: `{}` stands for the quoted path.
fn run(page: &mut Page, path: &RawText, command: &str) {
    let text = path.as_str().filter(|text| printable(text) == **text);
    match text {
        Some(text) => page.line(&format!("RUN {}", command.replace("{}", &quoted(text)))),
        None => page.line(&format!(
            "RUN {}; {}",
            assignment("path", path.as_bytes()),
            command.replace("{}", "\"$path\"")
        )),
    }
}

fn account(page: &mut Page, grants: &Grants, ids: &Ids) {
    let account = &grants.account;
    if ids.arbitrary {
        return page.comment(
            "Any uid, with group 0: what it writes belongs to group 0, and the group may what the owner may.",
        );
    }
    page.comment("Some programs look their user up.");
    let (user, group, uid, gid) = (&account.user, &account.group, account.run_uid, account.run_gid);
    page.line(&format!(
        "RUN grep -q '^[^:]*:[^:]*:{gid}:' /etc/group || echo '{group}:x:{gid}:' >> /etc/group"
    ));
    page.line(&format!(
        "RUN grep -q '^[^:]*:[^:]*:{uid}:' /etc/passwd || echo '{user}:x:{uid}:{gid}::/nonexistent:/sbin/nologin' >> /etc/passwd"
    ));
}

fn directories(page: &mut Page, grants: &Grants, ids: &Ids) {
    for (path, directory) in &grants.directories {
        page.why(&directory.why);
        let (uid, gid) = ids.owner.split_once(':').unwrap_or_default();
        run(page, path, &format!("install -d -o {uid} -g {gid} -m {} {{}}", ids.mode(directory.mode)));
    }
}

fn files(page: &mut Page, grants: &Grants, ids: &Ids) {
    for (path, file) in &grants.files {
        page.why(&file.why);
        let make = match file.kind {
            FileKind::Regular => "{ [ -e {} ] || : > {}; } && ",
            FileKind::Fifo => "{ [ -e {} ] || mkfifo {}; } && ",
            FileKind::Existing => "",
            FileKind::Attribute => continue,
        };
        let mode = file.mode.map(|mode| format!(" && chmod {} {{}}", ids.mode(mode))).unwrap_or_default();
        run(page, path, &format!("{make}chown {} {{}}{mode}", ids.owner));
    }
}

/// What a host opens by an ACL entry is opened by the group: in an image nobody else relies on it.
fn opened(page: &mut Page, grants: &Grants, ids: &Ids) {
    let (_, gid) = ids.owner.split_once(':').unwrap_or_default();
    for (path, acl) in grants.acls.iter().filter(|(path, _)| !path.as_bytes().starts_with(b"/dev/")) {
        page.why(&acl.why);
        let letters: String = acl.text().chars().filter(|c| *c != '-').collect();
        run(page, path, &format!("chgrp {gid} {{}} && chmod g+{letters} {{}}"));
    }
    for (name, credential) in &grants.credentials {
        page.why(&credential.why);
        page.comment(&format!("Mount the secret {name}; it does not belong into an image."));
    }
}

fn capabilities(page: &mut Page, profile: &Profile, grants: &Grants) {
    if let Some((port, _)) = grants.ports.first_key_value() {
        grants.ports.values().for_each(|why| page.why(why));
        page.comment(&format!(
            "The runtime opens low ports: --sysctl net.ipv4.ip_unprivileged_port_start={port} (docker does it unasked), the same in a pod."
        ));
        page.comment("No setcap for them: a file with a capability that the container lacks cannot be executed at all.");
    }
    let by_sysctl = |c: &Capability| *c == Capability::NET_BIND_SERVICE && !grants.ports.is_empty();
    for (capability, why) in grants.kept() {
        page.why(why);
        page.comment(&format!(
            "Start the container with {capability} (cap_add), or take it off the file: setcap -r."
        ));
    }
    grants.executes.gains.iter().for_each(|why| page.why(why));
    if !grants.executes.gains.is_empty() {
        page.comment("Start the container without no-new-privileges.");
    }
    let on_file: Vec<_> = grants.capabilities.iter().filter(|(c, _)| !by_sysctl(c)).collect();
    if on_file.is_empty() {
        return;
    }
    for (capability, grant) in &on_file {
        page.why(&grant.why);
        if let Some(danger) = grant.danger {
            page.comment(&format!("Danger: {capability} {danger}."));
        }
    }
    let carriers = carriers(profile, grants, |capability| !by_sysctl(&capability));
    if !carriers.files.is_empty() {
        page.comment("Takes the package libcap2-bin (Debian) or libcap (others); has no effect on scripts. The container has to be");
        page.comment("started with the same capabilities (cap_add), or the file cannot be executed, and without no-new-privileges.");
    }
    for (path, capabilities) in &carriers.files {
        run(page, path, &format!("setcap {} {{}}", capability_text(capabilities)));
    }
    if !carriers.unknown.is_empty() {
        page.comment("The run did not tell which file was executed: RUN setcap … on it.");
    }
    for (_, grant) in on_file.iter().filter(|(capability, _)| carriers.too_many.contains(capability)) {
        page.cannot(&grant.why, &too_many_executables(), "set it on the others as well");
    }
    for (path, why) in &carriers.interpreters {
        let reason = format!("{path} is an interpreter, and a capability on it would be in every script");
        page.cannot(why, &reason, "have the image run it by a copy of the interpreter that carries it");
    }
}

/// A value of `ENV`: in double quotes, with what the builder expands escaped.
fn environment(value: &str) -> String {
    let mut out = String::from("\"");
    for c in printable(value).chars() {
        if matches!(c, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

fn not_here(page: &mut Page, grants: &Grants) {
    for (group, membership) in &grants.groups {
        let hint =
            format!("start it with --group-add {} ({group}), supplementalGroups in a pod", membership.gid);
        page.cannot(&membership.why, "a numeric USER has no further groups", &hint);
    }
    let runtime = "set it where the container is started";
    let settings = grants.limits.values().map(|limit| &limit.why);
    let settings = settings.chain(grants.nice.iter().chain(&grants.oom_score).map(|(_, why)| why));
    for why in settings.chain(grants.sysctls.values().map(|sysctl| &sysctl.why)) {
        page.cannot(why, "an image holds no settings of the kernel", runtime);
    }
    for why in
        grants.modules.values().chain(&grants.delegate).chain(grants.before_start.iter().map(|(_, why)| why))
    {
        page.cannot(why, "the host's kernel is not the image's", "set it on the host");
    }
    for device in grants.devices.values() {
        page.cannot(&device.why, "devices are the host's", "pass it with --device, or a device plugin");
    }
}
