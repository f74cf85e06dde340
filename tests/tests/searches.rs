//! What a search tries where the first grant does not do, and what it says where none can: scripts that are services.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Access, Need, Severity};
use nrtrace_tests::sandbox::{BIN, Finished, OUT, Sandbox};

/// `run --minimize` of a Perl script, named `watcher`; how it ended, and its profile.
fn searched(prepare: &str, script: &str, options: &str) -> (Profile, Finished) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let finished = sandbox
        .script(&format!(
            "{prepare}\ncat >/usr/local/sbin/watcher <<'X'\n#!/usr/bin/perl\n$| = 1;\n{script}\nX\n\
             chmod 755 /usr/local/sbin/watcher\ncd /\ncode=0\n\
             {BIN}/nrtrace run --minimize -v {options} -o {OUT}/result -- /usr/local/sbin/watcher || code=$?\n\
             echo \"ended with $code\"\n"
        ))
        .unwrap();
    let text = std::fs::read_to_string(sandbox.out().join("result/profile.json"));
    let text = text.unwrap_or_else(|error| panic!("{error}: {finished}"));
    (Profile::from_json(&text).unwrap(), finished)
}

const READY: &str = "--ready-log '^serving$' --settle 200ms";

fn ended_with(finished: &Finished, status: u8) -> bool {
    String::from_utf8_lossy(&finished.stdout).contains(&format!("ended with {status}\n"))
}

fn access<'a>(profile: &'a Profile, id: &str) -> impl Iterator<Item = &'a Access> {
    let of_id = profile
        .requirements
        .iter()
        .filter(move |known| known.id == id && known.severity == Severity::Required);
    let id = id.to_owned();
    of_id.flat_map(move |known| match &known.need {
        Need::Path { access, .. } => access,
        _ => panic!("{id} is no path"),
    })
}

#[test]
fn a_file_that_must_be_its_own_changes_hands_and_is_not_copied() {
    let prepare = "install -d /etc/watcher; install -m 600 /dev/null /etc/watcher/conf";
    let script = r#"
open F, '<', '/etc/watcher/conf' or die "conf: $!";
my @facts = stat '/etc/watcher/conf';
$facts[4] == $> or die "must be owned by you\n";
$facts[2] & 077 and die "may be read by others\n";
print "serving\n"; sleep 60"#;
    let (profile, finished) = searched(prepare, script, READY);
    assert!(ended_with(&finished, 0) && profile.proof.as_ref().unwrap().lives, "{finished}");
    assert!(access(&profile, "path:/etc/watcher/conf").any(|access| *access == Access::Own), "{finished}");
}

#[test]
fn a_file_that_it_must_make_itself_is_told_of() {
    let script = r#"
use Fcntl; unlink '/run/watcher.pid';
sysopen F, '/run/watcher.pid', O_WRONLY|O_CREAT|O_EXCL or die "create: $!\n";
print "serving\n"; sleep 60"#;
    let (profile, finished) = searched("", script, READY);
    assert!(ended_with(&finished, 1) && profile.proof.is_none_or(|proof| !proof.lives), "{finished}");
    let told = String::from_utf8_lossy(&finished.stderr);
    assert!(
        told.contains("Refused: path:/run/watcher.pid: ") && told.contains("a directory of its own"),
        "{told}"
    );
    assert!(!told.contains("refused all the same"), "{told}");
}

/// Reads its configuration, and makes its pid file anew where that says.
const CONFIGURED: &str = r#"
use Fcntl;
open C, '<', '/etc/watcher.conf' or die "conf: $!\n";
my ($pid) = map { /^\s*pid = (\S+)/ } <C>;
unlink $pid;
sysopen F, $pid, O_WRONLY|O_CREAT|O_EXCL or die "create $pid: $!\n";
print "serving\n"; sleep 60"#;

const CONFIGURATION: &str = "# pid = /run/other.pid\n  pid = /var/run/watcher.pid\n";

#[test]
fn a_file_that_its_configuration_names_is_put_elsewhere_by_that() {
    let prepare = format!("printf '{}' >/etc/watcher.conf", CONFIGURATION.replace('\n', "\\n"));
    let (profile, finished) = searched(&prepare, CONFIGURED, READY);
    assert!(ended_with(&finished, 0) && profile.proof.as_ref().unwrap().lives, "{finished}");
    let told = String::from_utf8_lossy(&finished.stderr);
    let words =
        "change `pid = /var/run/watcher.pid` to `pid = /run/watcher/watcher.pid` in /etc/watcher.conf";
    assert!(told.contains(words), "{told}");
    let grants = nrtrace_profiles::ways::grants(&profile);
    let edit = grants.edits.keys().next().unwrap();
    assert_eq!(
        edit.apply(CONFIGURATION).unwrap(),
        "# pid = /run/other.pid\n  pid = /run/watcher/watcher.pid\n"
    );
    assert!(grants.directories.contains_key(&"/run/watcher".into()), "{finished}");
}

#[test]
fn what_is_written_into_a_configuration_is_taken_back() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    let written = CONFIGURATION.replace('\n', "\\n");
    let finished = sandbox
        .script(&format!(
            "printf '{written}' >/etc/watcher.conf; cp /etc/watcher.conf /tmp/before\n\
             cat >/usr/local/sbin/watcher <<'X'\n#!/usr/bin/perl\n$| = 1;\n{CONFIGURED}\nX\n\
             chmod 755 /usr/local/sbin/watcher; cd /\n\
             {BIN}/nrtrace run --minimize -q {READY} -o {OUT}/result -- /usr/local/sbin/watcher\n\
             cmp /etc/watcher.conf /tmp/before && echo 'a trial leaves it alone'\n\
             NRTRACE={BIN}/nrtrace sh {OUT}/result/apply.sh; cat /etc/watcher.conf\n\
             NRTRACE={BIN}/nrtrace sh {OUT}/result/undo.sh; cmp /etc/watcher.conf /tmp/before && echo 'as before'\n"
        ))
        .unwrap();
    let told = String::from_utf8_lossy(&finished.stdout);
    for words in ["a trial leaves it alone", "  pid = /run/watcher/watcher.pid", "as before"] {
        assert!(told.contains(words), "{words}: {finished}");
    }
}

#[test]
fn a_directory_that_was_only_looked_for_is_made() {
    let script = r#"-d '/run/watcher' or die "no valid directory\n"; print "serving\n"; sleep 60"#;
    let (profile, finished) = searched("", script, READY);
    assert!(ended_with(&finished, 0) && profile.proof.as_ref().unwrap().lives, "{finished}");
    assert!(access(&profile, "path:/run/watcher").any(|access| *access == Access::Create), "{finished}");
}

#[test]
fn what_was_made_for_a_second_run_is_a_need_of_the_first() {
    let script = r#"
$SIG{TERM} = sub { unlink '/run/watcher.lock'; exit };
open F, '>', '/run/watcher.lock' or die "lock: $!\n";
$> == 0 or die "must be root\n";
print "serving\n"; sleep 1 while 1"#;
    let (profile, finished) = searched("", script, READY);
    assert!(ended_with(&finished, 0) && profile.proof.as_ref().unwrap().lives, "{finished}");
    assert!(access(&profile, "path:/run/watcher.lock").any(|access| *access == Access::Create), "{finished}");
    assert!(profile.requirements.iter().any(|known| known.id == "identity:be-root:0"), "{finished}");
}

/// One that is never ready is waited for less each time.
#[test]
fn waits_in_vain_are_bounded() {
    let script = "sleep 600";
    let start = std::time::Instant::now();
    let (_, finished) = searched("useradd -r watcher", script, "--ready-port 9 --ready-timeout 16s");
    assert!(ended_with(&finished, 1), "{finished}");
    assert!(start.elapsed() < Duration::from_secs(110), "{:?}: {finished}", start.elapsed());
}

#[test]
fn ctrl_c_in_a_search_says_where_it_goes_on() {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(120));
    let minimize = format!(
        "{BIN}/nrtrace minimize {OUT}/result/profile.json --ready-log serving --settle 500ms -v -o {OUT}/min -- \
         {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b"
    );
    let finished = sandbox
        .script(&format!(
            "mkdir -m 755 /srv/guarded; touch /srv/guarded/a /srv/guarded/b; chmod 600 /srv/guarded/*; cd /\n\
             {BIN}/nrtrace run -q --ready-log serving --for 1s -o {OUT}/result -- {BIN}/fixture looks-only /srv/guarded/a /srv/guarded/b\n\
             {{ until [ -e {OUT}/min/minimize.journal ]; do sleep 0.02; done; pkill -INT -x nrtrace; }} &\n\
             status=0; {minimize} || status=$?; test $status = 130; test -e {OUT}/min/minimize.journal\n{minimize}\n"
        ))
        .unwrap();
    let said = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status, 0, "{finished}");
    let kept = format!(
        "interrupted: what trials showed is kept in {OUT}/min/minimize.journal; the same command goes on there"
    );
    assert!(said.contains(&kept) && said.contains("trials of an earlier search"), "{finished}");
}

/// A server that is ready once it listens on port 4000, and what it does for each client.
fn serves(client: &str) -> String {
    format!(
        r#"
use IO::Socket::INET;
my $all = IO::Socket::INET->new(Listen => 5, LocalPort => 4000, ReuseAddr => 1) or die "listen: $!\n";
while (my $client = $all->accept) {{ {client}; close $client }}"#
    )
}

const LISTENS: &str = "--ready-port 4000 --settle 200ms";

#[test]
fn who_listens_and_does_not_serve_as_before_is_not_proved() {
    let script = serves(r#"print $client $> == 0 ? "220 welcome\r\n" : "500 must be root\r\n""#);
    let (profile, finished) = searched("", &script, LISTENS);
    assert!(ended_with(&finished, 1) && !profile.proof.unwrap().lives, "{finished}");
    let told = String::from_utf8_lossy(&finished.stderr);
    let answered = "answered a client on tcp 4000 with `500 must be root`, where it answered 220 before";
    assert!(told.contains(answered), "{told}");
}

#[test]
fn what_it_takes_to_answer_a_client_is_a_need() {
    let script =
        serves(r#"print $client open(F, '<', '/etc/watcher.motd') ? "220 welcome\r\n" : "421 not now\r\n""#);
    let (profile, finished) = searched("install -m 600 /dev/null /etc/watcher.motd", &script, LISTENS);
    let proof = profile.proof.as_ref().unwrap();
    assert!(ended_with(&finished, 0) && proof.lives, "{finished}");
    assert!(access(&profile, "path:/etc/watcher.motd").any(|access| *access == Access::Read), "{finished}");
    let [greeting] = proof.greetings.as_slice() else { panic!("{proof:?}") };
    assert_eq!((greeting.port, greeting.waits, greeting.status.as_str()), (4000, false, "220"));
}

#[test]
fn who_ends_with_the_first_client_is_not_asked_by_one() {
    let script = serves(r#"print $client "bye\r\n"; exit 3"#);
    let (profile, finished) = searched("", &script, LISTENS);
    let proof = profile.proof.as_ref().unwrap();
    assert!(ended_with(&finished, 0) && proof.lives && proof.greetings.is_empty(), "{finished}");
}
