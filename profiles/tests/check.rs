//! Differences, the gate and its formats.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod samples;

use nrtrace_profiles::check::report::Format;
use nrtrace_profiles::check::{CheckResult, Input, Policy, Rule, check};
use nrtrace_profiles::diff::diff;
use nrtrace_profiles::emit::{Style, View, table};
use nrtrace_profiles::event::{Exit, FileType, Protocol};
use nrtrace_profiles::explain::{explain, find, takes_no_right};
use nrtrace_profiles::profile::{Listen, Profile, Timeline};
use nrtrace_profiles::requirement::{Access, IdentityOperation, Limit, Need, Requirement, Seconds, Severity};
use nrtrace_profiles::ways::grants;
use nrtrace_profiles::{Capability, RawText};
use proptest::prelude::*;

use samples::root_directory;

const TIME: &str = "2026-01-31T12:00:00";

fn file(path: &str, access: &[Access]) -> Requirement {
    samples::path(path, FileType::File, access, ("/run", root_directory(0o755)))
}

fn profile(requirements: Vec<Requirement>) -> Profile {
    samples::profile("demo", &["/usr/bin/demo"], requirements)
}

fn judge(new: &Profile, old: Option<&Profile>, policy: &str) -> CheckResult {
    let policy = Policy::from_toml(policy).unwrap();
    let baseline = old.map(|old| (old, "base line.json"));
    check(&Input { profile: new, profile_path: "new.json", baseline, policy: &policy, policy_path: None })
}

fn rules(verdict: &CheckResult) -> Vec<(Rule, Option<&str>)> {
    verdict.findings.iter().map(|finding| (finding.rule, finding.need.as_deref())).collect()
}

#[test]
fn what_the_baseline_has_not_is_a_finding() {
    let old = profile(vec![file("/run/a", &[Access::Create])]);
    let new = profile(vec![
        file("/run/a", &[Access::Create]),
        file("/run/b", &[Access::Create]),
        samples::capability(Capability::SYS_TIME),
    ]);
    let verdict = judge(&new, Some(&old), "");
    assert!(!verdict.passed);
    assert_eq!(
        rules(&verdict),
        [(Rule::NewNeed, Some("capability:CAP_SYS_TIME")), (Rule::NewNeed, Some("path:/run/b"))]
    );
    let finding = &verdict.findings[1];
    assert_eq!(finding.message, "new: create file /run/b");
    assert_eq!(finding.cause.as_deref(), Some("openat by daemon, refused at /run (root:root 0755)"));
    assert!(finding.accept.starts_with("nrtrace merge 'base line.json' new.json -o 'base line.json'"));
    assert!(judge(&old, Some(&new), "").passed, "needing less is fine");
    assert!(judge(&new, Some(&new), "").passed);
    let accepted =
        "[[accept]]\nneed = 'path:/run/*'\nreason = 'ours'\n[[accept]]\nneed = 'capability:CAP_SYS_TIME'";
    assert!(judge(&new, Some(&old), accepted).passed);
}

#[test]
fn a_need_that_takes_more_is_a_finding() {
    let mut old = profile(vec![
        file("/run/a", &[Access::Read]),
        samples::limit(Limit::OpenFiles, Some(1024)),
        samples::limit(Limit::Nice, Some(-5)),
    ]);
    let mut new = profile(vec![
        file("/run/a", &[Access::Read, Access::Write]),
        samples::limit(Limit::OpenFiles, Some(4096)),
        samples::limit(Limit::Nice, Some(-10)),
    ]);
    let all = [Some("limit:nice"), Some("limit:open-files"), Some("path:/run/a")];
    let verdict = judge(&new, Some(&old), "");
    assert_eq!(rules(&verdict), all.map(|need| (Rule::WiderNeed, need)));
    assert!(verdict.findings[2].message.contains("access was read, is read, write"), "{verdict:?}");
    assert!(judge(&old, Some(&new), "").passed);
    old.requirements[0].severity = Severity::Probe;
    new.requirements[0].need = old.requirements[0].need.clone();
    assert_eq!(judge(&new, Some(&old), "").findings[2].rule, Rule::WiderNeed, "from tried to required");
}

#[test]
fn names_that_a_pattern_stands_for_are_known() {
    let pattern = samples::pattern("/run/x-*.tmp", &[Access::Create], ("/run", root_directory(0o755)));
    let (general, single) =
        (profile(vec![pattern]), profile(vec![file("/run/x-123.tmp", &[Access::Create])]));
    assert!(judge(&single, Some(&general), "").passed);
    assert!(diff(&general, &single).is_empty());
    let wider = judge(&general, Some(&single), "");
    assert_eq!(rules(&wider), [(Rule::WiderNeed, Some("path:/run/x-*.tmp"))]);
}

#[test]
fn policies_deny_capabilities_and_paths() {
    let user = samples::identity(IdentityOperation::SetUser, &[33], None);
    let port = samples::port(nrtrace_profiles::event::Protocol::Tcp, "::", 80);
    let new = profile(vec![file("/etc/app/key", &[Access::Read]), port, user]);
    let verdict =
        judge(&new, None, "deny-capabilities = ['CAP_SETUID', 'net_bind_service']\ndeny-paths = ['/etc']");
    assert_eq!(
        rules(&verdict),
        [
            (Rule::DeniedCapability, Some("identity:set-user:33")),
            (Rule::DeniedCapability, Some("port:tcp::::80")),
            (Rule::DeniedPath, Some("path:/etc/app/key")),
        ]
    );
    assert!(judge(&new, None, "deny-paths = ['/etc/*.conf', '/var/**']").passed);
    assert!(judge(&new, None, "deny-paths = ['/etc']\naccept = [{need = 'path:/etc/app/*'}]").passed);
    let directory =
        samples::path("/etc", FileType::Directory, &[Access::Write], ("/etc", root_directory(0o755)));
    assert!(
        !judge(&profile(vec![directory]), None, "deny-paths = ['/etc/shadow']").passed,
        "it could be replaced"
    );
    for bad in
        ["deny-path = []", "deny-paths = ['etc']", "deny-capabilities = ['CAP_X']", "accept = [{}]", "="]
    {
        assert!(Policy::from_toml(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_run_that_tells_too_little_is_a_finding() {
    let mut new = profile(vec![]);
    new.run.complete = false;
    new.run.lost = 7;
    new.run.exit = Exit::Exited { status: 1 };
    let verdict = judge(&new, None, "");
    assert_eq!(rules(&verdict), [(Rule::Incomplete, None), (Rule::FailedRun, None)]);
    new.run.said = vec!["mkdir: cannot create".into()];
    let said = &judge(&new, None, "").findings[1].message;
    assert!(said.contains("exited with status 1") && said.contains("\"mkdir: cannot create\""), "{said}");
    let allowed = judge(&new, None, "allow-incomplete = true");
    assert!(allowed.passed && allowed.findings.len() == 2);
    let verdict = judge(&new, Some(&new), "");
    assert_eq!(rules(&verdict), [(Rule::Incomplete, None)], "it always ends like that");
    let mut new = profile(vec![]);
    new.run.timeline = Some(Timeline::default());
    assert_eq!(rules(&judge(&new, Some(&new), "")), [(Rule::FailedRun, None)], "it was never ready");
    new.run.timeline = Some(Timeline { ready: Some(Seconds(1)), ..Timeline::default() });
    assert!(judge(&new, None, "").passed);
}

#[test]
fn a_level_of_the_pod_security_standards_is_held() {
    let level = |need: Requirement, level: &str| {
        let verdict = judge(&profile(vec![need]), None, &format!("max-level = '{level}'"));
        assert!(verdict.passed || rules(&verdict) == [(Rule::Level, None)], "{verdict:?}");
        verdict.passed
    };
    let path = || file("/run/a", &[Access::Create]);
    assert!(level(path(), "restricted"));
    assert!(
        !level(samples::capability(Capability::SYS_TIME), "baseline"),
        "not among those that may be added"
    );
    assert!(level(samples::capability(Capability::SYS_TIME), "privileged"));
}

#[test]
fn optional_needs_can_be_left_out() {
    let mut need = file("/run/b", &[Access::Create]);
    need.severity = Severity::Probe;
    let (old, new) = (profile(vec![]), profile(vec![need]));
    assert!(!judge(&new, Some(&old), "").passed);
    assert!(judge(&new, Some(&old), "ignore-optional = true").passed);
}

#[test]
fn one_need_is_explained() {
    let profile = samples::nginx();
    let needs = find(&profile, "nginx.pid").unwrap();
    assert_eq!(needs[0].id, "path:/run/nginx.pid");
    let found = explain(&profile, needs[0]);
    assert!(!found.remedies.is_empty());
    let text: String = found.lines().iter().map(|(name, text)| format!("{name}: {text}\n")).collect();
    for part in
        ["openat", "refused at: /run, a directory of root:root 0755", "CAP_DAC_OVERRIDE", "remedy: * "]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_port_that_takes_no_right_is_said_to_take_none() {
    let mut profile = samples::redis();
    let address = "127.0.0.1".into();
    profile.listens = vec![Listen {
        protocol: Protocol::Tcp,
        address,
        port: Some(6379),
        processes: vec!["redis-server".into()],
    }];
    let said = takes_no_right(&profile, "6379");
    assert!(
        said.len() == 1 && said[0].contains("tcp 127.0.0.1:6379") && said[0].contains("takes no right"),
        "{said:?}"
    );
    assert_eq!(takes_no_right(&profile, "tcp 6379"), said);
    assert!(takes_no_right(&profile, "80").is_empty());
    assert!(takes_no_right(&samples::nginx(), "80").is_empty(), "it needs a right");
}

/// Whatever the table prints names what it stands for.
#[test]
fn what_the_table_prints_can_be_explained() {
    let profile = samples::nginx();
    let count = |text: &str| find(&profile, text).map_or(0, |needs| needs.len());
    let names = [
        ("80", 2),
        ("tcp 80", 2),
        ("tcp [::]:80", 1),
        ("/run/nginx.pid", 1),
        ("/var/lib/nginx/", 5),
        ("/var/lib/nginx/ (5 directories)", 5),
        ("/var/log/nginx/{access.log,error.log}", 2),
        ("nonsense", 0),
        ("", 0),
    ];
    for (name, needs) in names {
        assert_eq!(count(name), needs, "{name}");
    }
    let odd = "/run/a\u{1b}b\\c";
    let odd = samples::profile("odd", &["/usr/bin/odd"], vec![file(odd, &[Access::Create])]);
    let text = table(&odd, &grants(&odd), &View::PLAIN);
    let row = text.lines().find(|line| line.starts_with("  /run")).unwrap().split("  ").nth(1).unwrap();
    assert!(row.contains("\\u{1b}"), "{row}");
    assert_eq!(find(&odd, row).unwrap().len(), 1, "{row}");
}

/// A verdict with one finding about a hostile name.
fn hostile(name: &[u8]) -> CheckResult {
    let path = RawText::new([b"/run/", name].concat());
    let mut new = profile(vec![samples::requirement(
        samples::path_need(path, FileType::File, &[Access::Create]),
        "openat",
        None,
    )]);
    new.requirements[0].evidence.processes = [RawText::new(name)].into();
    let policy = Policy::default();
    let old = profile(vec![]);
    let baseline = Some((&old, "b.json"));
    check(&Input { profile: &new, profile_path: "n.json", baseline, policy: &policy, policy_path: None })
}

fn assert_sound(verdict: &CheckResult) {
    let write = |format: Format| format.write(verdict, Style::Plain, TIME);
    for format in Format::ALL {
        let text = write(format);
        assert!(text.ends_with('\n'), "{format:?}");
        assert!(!text.chars().any(|c| c < ' ' && c != '\n'), "{format:?}: {text:?}");
        assert_eq!(text, write(format), "{format:?} is stable");
    }
    for format in [Format::Json, Format::Sarif, Format::Gitlab] {
        let value: serde_json::Value = serde_json::from_str(&write(format)).unwrap();
        assert!(value.is_object() || value.is_array());
    }
    let github = write(Format::Github);
    let commands = github.lines().filter(|line| line.starts_with("::")).count();
    assert_eq!(commands, verdict.findings.len() + verdict.cautions.len(), "{github}");
    assert_eq!(github.lines().count(), commands + 1, "{github}");
    let rows = write(Format::Markdown).lines().filter(|line| line.starts_with("| **")).count();
    assert_eq!(rows, verdict.findings.len());
    // Well-formed: every bracket is one of ours.
    let xml = write(Format::Junit);
    assert_eq!(xml.matches("<failure").count(), 1, "{xml}");
    assert_eq!(xml.matches('<').count(), xml.matches('>').count(), "{xml}");
}

#[test]
fn hostile_names_stay_text() {
    for name in samples::HOSTILE {
        assert_sound(&hostile(name));
    }
    let verdict = hostile(b"a\n::error::x]]>&<b>|`@all`%0A,:");
    let write = |format: Format| format.write(&verdict, Style::Plain, TIME);
    assert!(
        write(Format::Github).contains("title=new-need path%3A/run/a\\n%3A%3Aerror"),
        "{}",
        write(Format::Github)
    );
    assert!(!write(Format::Junit).contains("<b>"));
    let markdown = write(Format::Markdown);
    assert!(
        !markdown.contains("<b>") && !markdown.contains("@all") && !markdown.contains("|`"),
        "{markdown}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_stays_text(name in proptest::collection::vec(1u8.., 1..24)) {
        assert_sound(&hostile(&name));
    }

    #[test]
    fn any_text_is_a_policy_or_refused(text: String) {
        if let Ok(policy) = Policy::from_toml(&text) {
            let new = samples::everything();
            check(&Input { profile: &new, profile_path: "", baseline: None, policy: &policy, policy_path: None });
        }
    }
}

#[test]
fn comparing_a_profile_with_itself_finds_nothing() {
    for profile in samples::all() {
        assert!(diff(&profile, &profile).is_empty(), "{}", profile.name);
        let verdict = judge(&profile, Some(&profile), "");
        assert!(verdict.passed, "{verdict:?}");
        for need in &profile.requirements {
            assert!(matches!(&need.need, Need::Path { .. }) || !explain(&profile, need).lines().is_empty());
        }
    }
}
