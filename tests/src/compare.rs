//! Compares what a run reported with what is known.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use nrtrace_profiles::event::FileType;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Access, Need, Requirement, Severity, word};

/// A need as one line: its id, and for files what they are and what is done with them.
pub fn line(id: &str, file_type: Option<FileType>, access: &BTreeSet<Access>) -> String {
    let mut line = id.to_owned();
    if let Some(file_type) = file_type {
        let access: Vec<String> = access.iter().map(word).collect();
        // Writing to a string cannot fail.
        let _ = write!(line, " [{}] {}", access.join(" "), word(&file_type));
    }
    line
}

/// The line of a requirement.
pub fn line_of(requirement: &Requirement) -> String {
    match &requirement.need {
        Need::Path { file_type, access, .. } | Need::Device { file_type, access, .. } => {
            line(&requirement.id, Some(*file_type), access)
        }
        _ => line(&requirement.id, None, &BTreeSet::new()),
    }
}

/// The lines of all requirements with a severity.
pub fn lines(profile: &Profile, severity: Severity) -> BTreeSet<String> {
    profile.requirements.iter().filter(|found| found.severity == severity).map(line_of).collect()
}

/// What is missing (`-`) and what is too much (`+`), with the evidence; nothing when both agree.
///
/// `expected` is the exact list of required needs.
pub fn difference(profile: &Profile, expected: &BTreeSet<String>) -> Option<String> {
    let found = lines(profile, Severity::Required);
    if found == *expected {
        return None;
    }
    let mut text = String::from("the run's required needs are not the known ones (- missing, + too much):\n");
    for known in expected.union(&found) {
        let mark = match (expected.contains(known), found.contains(known)) {
            (true, true) => ' ',
            (true, false) => '-',
            _ => '+',
        };
        let _ = writeln!(text, "{mark} {known}");
    }
    for surplus in profile.requirements.iter().filter(|found| found.severity == Severity::Required) {
        if !expected.contains(&line_of(surplus)) {
            let _ = writeln!(text, "evidence: {surplus:?}");
        }
    }
    for rest in profile.requirements.iter().filter(|found| found.severity != Severity::Required) {
        let _ = writeln!(text, "{}: {}", word(&rest.severity), line_of(rest));
    }
    for unexplained in &profile.unexplained {
        let _ = writeln!(text, "unexplained: {unexplained:?}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_access_and_type() {
        let access = BTreeSet::from([Access::Create, Access::Delete]);
        assert_eq!(line("path:/x", Some(FileType::File), &access), "path:/x [create delete] file");
        assert_eq!(line("port:tcp:::80", None, &BTreeSet::new()), "port:tcp:::80");
    }
}
