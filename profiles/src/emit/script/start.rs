//! How the program is started, as the last words of `apply.sh`.

use crate::Capability;
use crate::emit::escape::shell::{quoted, readable};
use crate::emit::page::Page;
use crate::emit::systemd;
use crate::grants::Grants;
use crate::profile::Profile;

/// What a service is given besides its own variables. The same as systemd.exec(5) says: no home directory and no shell
/// that are none.
const VARIABLES: &str = include_str!("variables.sh");

/// The search path of a service.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes the line, and what of the unit is not in it.
pub(super) fn emit(page: &mut Page, profile: &Profile, grants: &Grants) {
    let command: Option<Vec<&str>> = profile.command.iter().map(|word| word.as_str()).collect();
    let printable = |word: &&str| crate::text::printable(word) == **word;
    let command = match command.filter(|words| words.iter().all(printable)) {
        Some(words) => words.iter().map(|word| readable(word)).collect::<Vec<_>>().join(" "),
        None => "COMMAND".into(),
    };
    let unit = format!("{}.service.d/50-nonroot.conf", systemd::name_of(profile, grants));
    page.comment("Where the unit is, if it has stayed beside this script.");
    page.line(&format!("unit=$(cd \"$here\" && pwd)/{}", quoted(&unit)));
    page.line(&format!("[ -f \"$unit\" ] || unit={}", quoted(&unit)));
    if profile.unit.is_some() {
        page.comment("How it is started, with all that its unit and the drop-in say.");
        page.line("printf '%s\\n' \"Start it with: $nrtrace start '$unit'\"");
        return;
    }
    let by_unit = format!(r#""$nrtrace start '$unit' -- "{}"#, quoted(&command));
    if takes_unit(grants) {
        page.comment("How it is started, with all that the unit says and nothing else.");
        page.line(&format!("printf '%s\\n' \"Start it with: \"{by_unit}"));
        return;
    }
    page.comment(
        "How it is started, with the capabilities it needs, the environment of a service, and no others.",
    );
    VARIABLES.lines().for_each(|line| page.line(line));
    page.line(&format!("variables {}", quoted(&grants.account.user)));
    page.line(&format!(
        "printf '%s\\n' \"Start it with: env -i PATH={PATH} $variables \"{}",
        quoted(&format!("{} {command}", setpriv(profile, grants).join(" ")))
    ));
    page.line(&format!(
        "printf '%s\\n' \"That leaves out ProtectSystem= and what else hardens in the unit; with it: \"{by_unit}"
    ));
}

/// Whether the program is given something that setpriv(1) cannot give.
fn takes_unit(grants: &Grants) -> bool {
    !grants.directives.is_empty()
        || !grants.limits.is_empty()
        || !grants.credentials.is_empty()
        || grants.oom_score.is_some()
}

fn setpriv(profile: &Profile, grants: &Grants) -> Vec<String> {
    let account = &grants.account;
    let mut words: Vec<String> = Vec::new();
    words.extend(
        systemd::variables(profile, grants).into_iter().map(|(name, value)| format!("{name}={value}")),
    );
    words.extend(grants.environment.iter().map(|(name, variable)| format!("{name}={}", variable.value)));
    if let Some((nice, _)) = &grants.nice {
        words.extend(["nice".into(), format!("--adjustment={nice}")]);
    }
    words.extend([
        "setpriv".into(),
        format!("--reuid={}", account.user),
        format!("--regid={}", account.group),
    ]);
    if grants.groups.is_empty() {
        words.push("--clear-groups".into());
    } else {
        let groups: Vec<&str> = grants.groups.keys().map(String::as_str).collect();
        words.push(format!("--groups={}", groups.join(",")));
    }
    let name = |c: Capability| format!(",+{}", c.to_string().to_lowercase().trim_start_matches("cap_"));
    let names: String = grants.capabilities.keys().copied().map(name).collect();
    let kept: String = grants.kept().map(|(capability, _)| name(capability)).collect();
    if !grants.may_gain() {
        words.push("--no-new-privs".into());
    }
    if !grants.on_file {
        words.push(format!("--inh-caps=-all{names}"));
        words.push(format!("--ambient-caps=-all{names}"));
    }
    words.push(format!("--bounding-set=-all{names}{kept}"));
    words.push("--".into());
    words.iter().map(|word| readable(word)).collect()
}
