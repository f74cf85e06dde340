//! What the program's own configuration tells of a run's needs: the line that names what lies in a shared directory.

use std::collections::BTreeSet;

use super::{Fact, Setting};
use crate::RawText;
use crate::edit::Edit;
use crate::grants::safe_name;
use crate::place::{World, parent, real};
use crate::profile::Profile;
use crate::requirement::{Access, Need, Requirement, Severity};

/// Shared directories below which a service has one of its own.
const OWN: [&str; 4] = ["/run", "/var/log", "/var/lib", "/var/cache"];

/// What `files`, the configuration that the program read, says of files that are made in shared directories: each has a line
/// there that can name another place.
pub fn moved(profile: &Profile, files: &[(RawText, String)]) -> Vec<Fact> {
    let world = World::of(profile, &profile.identity.user);
    let made = profile.requirements.iter().filter(|need| need.severity == Severity::Required);
    made.filter_map(|requirement| {
        let (path, holder) = in_shared(requirement, &world)?;
        let own = OWN.iter().find(|own| holder.as_bytes() == own.as_bytes()).unwrap_or(&OWN[0]);
        let directory = format!("{own}/{}", safe_name(&profile.name));
        let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let to = format!("{directory}/{}", std::str::from_utf8(name).ok()?);
        let forms = forms(&path, requirement);
        let edit = files
            .iter()
            .find_map(|(file, text)| forms.iter().find_map(|from| Edit::moved(file, text, from, &to)))?;
        Some(fact(requirement, edit, &directory))
    })
    .collect()
}

/// The path of what is made in a directory that is given to no single service, and that directory.
fn in_shared(requirement: &Requirement, world: &World) -> Option<(RawText, RawText)> {
    let Need::Path { path, access, pattern: false, .. } = &requirement.need else { return None };
    let changes = [Access::Create, Access::Delete].iter().any(|change| access.contains(change));
    let path = real(path);
    let holder = parent(&path);
    (changes && world.is_common(&holder)).then_some((path, holder))
}

/// How the file may be called in a configuration.
fn forms(path: &RawText, requirement: &Requirement) -> BTreeSet<String> {
    let mut forms: BTreeSet<String> = [path]
        .into_iter()
        .chain(&requirement.evidence.objects)
        .filter(|form| real(form) == *path)
        .filter_map(|form| form.as_str().map(str::to_owned))
        .collect();
    let old = forms.iter().filter(|form| form.starts_with("/run/")).map(|form| format!("/var{form}"));
    forms.extend(old.collect::<Vec<_>>());
    forms
}

fn fact(requirement: &Requirement, edit: Edit, directory: &str) -> Fact {
    let file = edit.file.to_text();
    Fact {
        program: file.clone(),
        needs: [requirement.id.clone()].into(),
        checks: None,
        is: "the line of its configuration that names it".into(),
        fatal: None,
        remedies: vec![Setting {
            text: edit.text(),
            variable: None,
            directive: None,
            directory: Some(RawText::from(directory)),
            edit: Some(edit),
        }],
        note: None,
        sources: vec![file],
    }
}
