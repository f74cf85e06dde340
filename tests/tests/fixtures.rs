//! What services do not show, on purpose: one fixture tracee each, and exactly what it must be found to need.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Need, Requirement, Severity};
use nrtrace_profiles::{Capability, RawText};
use nrtrace_tests::compare::{difference, line_of, lines};
use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};
use nrtrace_tests::scenario::{PREPARE, WRITE};
use nrtrace_tests::service::quote;

/// A tracee and what must be found.
#[derive(Default)]
struct Scenario<'a> {
    /// Subcommand and arguments of the fixture.
    words: &'a [&'a str],
    /// Bash, as root, before.
    prepare: &'a str,
    /// Options of `nrtrace run`.
    options: &'a [&'a str],
    /// All required needs, as [`nrtrace_tests::compare::line`] writes them.
    required: &'a [&'a str],
    /// Needs that must be among those of severity `probe`.
    probes: &'a [&'a str],
    /// The exit status.
    status: i32,
    /// Whether records may be lost, as long as that is said.
    may_lose: bool,
}

impl Scenario<'_> {
    /// Without nrtrace: what needs something fails as an ordinary user, and nothing else does.
    fn confirm(&self) {
        let user = "setpriv --reuid 61190 --regid 61190 --clear-groups --inh-caps=-all";
        let script = format!(
            "{PREPARE}\n{}\ncd /\n{user} {BIN}/fixture {} 2>&1 | cat",
            self.prepare,
            quoted(self.words)
        );
        let finished = Sandbox::new().unwrap().script(&script).unwrap();
        // A file gives its own rights to whoever executes it, and who is refused an echo socket goes on.
        let outlived = |need: &&str| need.starts_with("exec:") || need.ends_with(".ping_group_range");
        let (fails, known) = (finished.status != 0, !self.required.iter().all(outlived));
        assert_eq!(fails, known, "{:?} as an ordinary user: {finished}", self.words);
    }

    fn check(&self) -> (Profile, Finished) {
        let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(60));
        let script = format!(
            "{PREPARE}\n{}\ncd /\n{BIN}/nrtrace run {} -o {OUT}/result {} -- {BIN}/fixture {}\nexit",
            self.prepare,
            nrtrace_tests::scenario::place(self.words),
            quoted(self.options),
            quoted(self.words)
        );
        let finished = sandbox.script(&script).unwrap();
        assert_eq!(finished.status, self.status, "{:?}: {finished}", self.words);
        let profile = profile_at(&sandbox.out().join("result/profile.json"));
        assert_eq!(profile.run.complete, profile.run.lost == 0, "{:?}: {finished}", self.words);
        assert!(self.may_lose || profile.run.lost == 0, "{:?}: {} lost", self.words, profile.run.lost);
        assert_eq!(profile.run.unresolved, 0, "{:?}: {finished}", self.words);
        if profile.run.lost == 0 {
            let required: BTreeSet<String> = self.required.iter().map(|line| (*line).to_owned()).collect();
            if let Some(difference) = difference(&profile, &required) {
                panic!("{:?}: {difference}\n{finished}", self.words);
            }
            let probes = lines(&profile, Severity::Probe);
            for probe in self.probes {
                assert!(probes.contains(*probe), "{:?}: wanted {probe} in {probes:#?}", self.words);
            }
            assert!(profile.unexplained.is_empty(), "{:?}: {:#?}", self.words, profile.unexplained);
        }
        (profile, finished)
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn profile_at(path: &Path) -> Profile {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// How often the need of that line was seen.
fn times(profile: &Profile, line: &str) -> u64 {
    profile.requirements.iter().find(|found| line_of(found) == line).map_or(0, |found| found.evidence.count)
}

/// One test for each row: what the fixture is called with, what is made before, what it needs.
macro_rules! needs {
    ($($name:ident: [$($word:expr),*] after $prepare:literal => [$($need:expr),* $(,)?];)*) => {
        $(#[test] fn $name() {
            let scenario =
                Scenario { words: &[$($word),*], prepare: $prepare, required: &[$($need),*], ..Scenario::default() };
            scenario.confirm();
            scenario.check();
        })*
    };
}

nrtrace_tests::scenarios!(needs);

#[test]
fn checks_alone_show_the_same_needs() {
    let options = &["--record", "needs"];
    Scenario { words: &["write", "/srv/guarded/file"], options, required: &[WRITE], ..Scenario::default() }
        .check();
    let required = &["port:tcp:127.0.0.1:81", "port:tcp:::1:82", "port:udp:0.0.0.0:83"];
    Scenario { words: &["ports"], options, required, ..Scenario::default() }.check();
}

#[test]
fn bystanders_are_not_recorded() {
    // The same user, refused and not refused, before, during and after the run.
    let prepare = "touch /srv/guarded/other /srv/guarded/third
        user='setpriv --reuid 61184 --regid 61184 --clear-groups'
        (while sleep 0.002; do $user --inh-caps=-all dd if=/dev/null of=/srv/guarded/other conv=notrunc; done) 2>/dev/null &
        (while sleep 0.002; do
            $user --inh-caps=+dac_override --ambient-caps=+dac_override dd if=/dev/null of=/srv/guarded/third conv=notrunc
        done) 2>/dev/null &
        sleep 0.2";
    let (profile, _) =
        Scenario { words: &["relative", "300"], prepare, required: &[WRITE], ..Scenario::default() }.check();
    assert_eq!(times(&profile, WRITE), 300);
}

#[test]
fn in_a_pid_namespace_within_a_pid_namespace() {
    let sandbox = Sandbox::new().unwrap();
    let script = format!(
        "{PREPARE}\ncd /\nunshare --pid --fork --mount-proc --kill-child \
         nrtrace run -q -o {OUT}/result -- fixture relative 10"
    );
    sandbox.script(&script).unwrap().ok().unwrap();
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    assert_eq!(difference(&profile, &BTreeSet::from([WRITE.to_owned()])), None);
    assert_eq!((times(&profile, WRITE), profile.run.unresolved), (10, 0));
}

#[test]
fn own_streams_reopened() {
    // As an ordinary user on root's pipes this fails; the streams nrtrace hands out are the user's.
    Scenario { words: &["reopen"], ..Scenario::default() }.check();
}

#[test]
fn a_daemon_outlives_its_parents() {
    Scenario { words: &["daemon"], required: &[WRITE], ..Scenario::default() }.check();
}

#[test]
fn a_limit_beyond_the_hard_one() {
    // Where nrtrace lacks CAP_SYS_RESOURCE itself, the refusal is real and the fixture lives with it.
    let sandbox = Sandbox::new().unwrap();
    sandbox.script("nrtrace run -q -o \"$OUT\" -- fixture open-files").unwrap().ok().unwrap();
    let profile = profile_at(&sandbox.out().join("profile.json"));
    let lacking = profile.run.missing_capabilities.contains(&Capability::SYS_RESOURCE);
    let need = profile.requirements.iter().find(|need| need.id == "limit:open-files");
    // The fixture asks for one file more than it may have.
    let raised =
        |need: &Requirement| matches!(need.need, Need::Limit { value: Some(value), .. } if value > 1024);
    assert!(
        need.is_some_and(|need| raised(need) && (lacking || need.severity == Severity::Required)),
        "{:#?}",
        profile.requirements
    );
}

#[test]
fn a_call_that_fails_anyway_is_a_probe() {
    let probes = &["capability:CAP_SYS_TIME"];
    Scenario { words: &["clock"], options: &["--in-place"], probes, ..Scenario::default() }.check();
    let prepare = "chmod 700 /srv/guarded";
    let probes = &["path:/srv/guarded [search] directory"];
    Scenario { words: &["absent", "/srv/guarded/absent"], prepare, probes, ..Scenario::default() }.check();
}

#[test]
fn identity_can_be_refused() {
    let (words, options) = (&["expect-refusal", "33", "-"], &["--identity", "deny"]);
    let required = &["identity:set-user:33"];
    Scenario { words, options, required, ..Scenario::default() }.check();
}

#[test]
fn relative_paths_of_processes_that_are_gone() {
    for words in [&["relative", "1000"], &["dirfd", "1000"]] {
        let (profile, _) = Scenario { words, required: &[WRITE], ..Scenario::default() }.check();
        assert_eq!(times(&profile, WRITE), 1000, "{words:?}");
    }
}

#[test]
fn ten_thousand_children_lose_nothing() {
    let (profile, _) =
        Scenario { words: &["children", "10000"], required: &[WRITE], ..Scenario::default() }.check();
    assert_eq!((profile.run.lost, times(&profile, WRITE)), (0, 10_000));
}

#[test]
fn a_flood_of_failures_is_survived_and_its_loss_counted() {
    let scenario =
        Scenario { words: &["flood", "1000000"], required: &[WRITE], may_lose: true, ..Scenario::default() };
    let (profile, finished) = scenario.check();
    if profile.run.lost > 0 {
        let said = String::from_utf8_lossy(&finished.stderr).contains(&profile.run.lost.to_string());
        assert!(said, "{} lost, and the user is not told: {finished}", profile.run.lost);
    }
}

#[test]
fn paths_longer_than_a_component_may_be() {
    let part = "d".repeat(200);
    let first = format!("/srv/guarded/{}", [part.as_str(); 9].join("/"));
    let second = [part.as_str(); 9].join("/");
    let prepare = format!("mkdir -p {first}/{second}; touch {first}/{second}/file");
    let need = format!("path:{first}/{second}/file [write] file");
    Scenario {
        words: &["deep", &first, &second],
        prepare: &prepare,
        required: &[&need],
        ..Scenario::default()
    }
    .check();
}

/// Names that break out of files, terminals and patterns when they are not escaped, as `RawText` writes them.
fn hostile_names() -> Vec<String> {
    let long = "n".repeat(255);
    let names: [&[u8]; 13] = [
        b"new\nline",
        b"quote'\"`$(touch x)",
        b"per%ncent%%",
        b"esc\x1b[31mred\x1b]0;title\x07",
        b"bad\xff\xfeutf8",
        b"back\\slash",
        b"star*and?",
        b" blanks ",
        b"-dash",
        b"#hash",
        b"\xe2\x80\xaemirror",
        b"tab\tfeed",
        long.as_bytes(),
    ];
    names.iter().map(|name| RawText::new(*name).to_text()).collect()
}

#[test]
fn hostile_names_come_out_as_they_are() {
    let texts = hostile_names();
    let words: Vec<&str> = ["hostile"].into_iter().chain(texts.iter().map(String::as_str)).collect();
    let needs: Vec<String> =
        texts.iter().map(|text| format!("path:/srv/guarded/{text} [create] file")).collect();
    let required: Vec<&str> = needs.iter().map(String::as_str).collect();
    let sandbox = Sandbox::new().unwrap();
    let script =
        format!("{PREPARE}\ncd /\n{BIN}/nrtrace run -o {OUT}/result -- {BIN}/fixture {}", quoted(&words));
    let finished = sandbox.script(&script).unwrap().ok().unwrap();
    let shown = [finished.stdout.as_slice(), &finished.stderr].concat();
    assert!(!shown.contains(&0x1b) && !shown.contains(&7), "an escape reaches the terminal: {finished}");
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    let known = required.iter().map(|line| (*line).to_owned()).collect();
    if let Some(difference) = difference(&profile, &known) {
        panic!("{difference}");
    }
}

#[test]
fn hostile_names_are_granted_as_they_are() {
    let texts = hostile_names();
    let words: Vec<&str> = ["hostile"].into_iter().chain(texts.iter().map(String::as_str)).collect();
    let sandbox = Sandbox::new().unwrap();
    // The files are there, and are root's.
    let prepare = format!("{PREPARE}\ncd /\numask 022\n{BIN}/fixture {}", quoted(&words));
    let script =
        format!("{prepare}\n{BIN}/nrtrace run -q -o {OUT}/result -- {BIN}/fixture {}", quoted(&words));
    sandbox.script(&script).unwrap().ok().unwrap();
    let profile = profile_at(&sandbox.out().join("result/profile.json"));
    let known = texts.iter().map(|text| format!("path:/srv/guarded/{text} [write] file")).collect();
    if let Some(difference) = difference(&profile, &known) {
        panic!("{difference}");
    }
    // With what was written, an ordinary user can write each that tmpfiles.d(5) can name: it has no escape for other
    // characters than these. Nothing else has come into being.
    let plain = |text: &&str| {
        RawText::from_text(text).unwrap().as_bytes().iter().all(|byte| matches!(byte, b' '..=b'~'))
    };
    let granted: Vec<&str> =
        ["hostile"].into_iter().chain(words[1..].iter().copied().filter(plain)).collect();
    let script = format!(
        "{prepare}\nbefore=$(ls -b /srv/guarded)\nsystemd-sysusers {OUT}/result/sysusers.d/*.conf\n\
         systemd-tmpfiles --create {OUT}/result/tmpfiles.d/*.conf\ntest \"$before\" = \"$(ls -b /srv/guarded)\"\n\
         setpriv --reuid {user} --regid {group} --clear-groups --inh-caps=-all {BIN}/fixture {}",
        quoted(&granted),
        user = profile.identity.user,
        group = profile.identity.group,
    );
    sandbox.script(&script).unwrap().ok().unwrap();
}
