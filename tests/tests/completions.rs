//! What a shell is offered for a word that is being typed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::Sandbox;

/// Bash: units, an account, a container of podman's, and `offered WORD…`, which asks for the last word as bash does.
const PRELUDE: &str = r#"
    mkdir -p /etc/systemd/system /run/systemd/system
    printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/offered-one.service
    cp /etc/systemd/system/offered-one.service /run/systemd/system/offered-two.service
    cp /etc/systemd/system/offered-one.service /etc/systemd/system/offered-no@.service
    useradd --system offered-user; groupadd offered-group
    offered() {
        echo "== $*"
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$# NRTRACE_COMPLETE=bash nrtrace -- nrtrace "$@"
        echo
    }
"#;

fn run(script: &str) -> String {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(60));
    let finished = sandbox.script(&format!("set -e\n{PRELUDE}\n{script}")).unwrap().ok().unwrap();
    String::from_utf8(finished.stdout).unwrap()
}

/// What was offered for words, in order.
fn offers<'a>(said: &'a str, words: &str) -> Vec<&'a str> {
    let (_, after) = said.split_once(&format!("== {words}\n")).unwrap_or_else(|| panic!("{words}: {said}"));
    after.split("== ").next().unwrap().lines().filter(|line| !line.is_empty()).collect()
}

#[test]
fn what_there_is_on_the_machine_is_offered() {
    let container = "0123456789abcdef".repeat(4);
    let said = run(&format!(
        r#"
        mkdir -p /var/lib/docker/containers/{container}
        echo '{{"ID":"{container}","Name":"/offered-web","State":{{"Pid":1}},"Config":{{"Image":"web"}}}}' \
            >/var/lib/docker/containers/{container}/config.v2.json
        offered service offered-
        offered service record offered-o
        offered service finish offered-t
        offered attach --unit offered-
        offered attach --container offered-
        offered attach --target-user offered-
        offered run --as offered-
        offered run --as offered-user:offered-g
        offered run --groups adm,offered-g
        offered service rec
        "#
    ));
    for (words, expected) in [
        ("service offered-", vec!["offered-one", "offered-two"]),
        ("service record offered-o", vec!["offered-one"]),
        ("service finish offered-t", vec!["offered-two"]),
        ("attach --unit offered-", vec!["offered-one", "offered-two"]),
        ("attach --container offered-", vec!["offered-web"]),
        ("attach --target-user offered-", vec!["offered-user"]),
        ("run --as offered-", vec!["offered-user"]),
        ("run --as offered-user:offered-g", vec!["offered-user:offered-group"]),
        ("run --groups adm,offered-g", vec!["adm,offered-group"]),
        ("service rec", vec!["record"]),
    ] {
        assert_eq!(offers(&said, words), expected, "{words}: {said}");
    }
}

#[test]
fn needs_of_the_profile_and_known_programs_are_offered() {
    let said = run(r#"
        cd /srv
        nrtrace run -q -o out/ -- mkdir /srv/made /srv/other
        offered explain out/ path:/srv/
        offered explain out/profile.json --format json path:
        offered explain missing/ path:
        offered knowledge show ngin
        "#);
    let needs = offers(&said, "explain out/ path:/srv/");
    assert!(!needs.is_empty() && needs.iter().all(|need| need.starts_with("path:/srv")), "{said}");
    assert_eq!(offers(&said, "explain out/profile.json --format json path:"), needs, "{said}");
    assert!(offers(&said, "explain missing/ path:").is_empty(), "{said}");
    assert_eq!(offers(&said, "knowledge show ngin"), ["nginx"], "{said}");
}

/// What `nrtrace completions` prints asks nrtrace, in a real shell.
#[test]
fn bash_asks_nrtrace() {
    let said = run(r#"
        nrtrace completions bash >/tmp/completions
        source /tmp/completions
        COMP_WORDS=(nrtrace service record offered-o) COMP_CWORD=3 COMP_TYPE=9
        function_of=$(complete -p nrtrace | sed 's/.*-F \([^ ]*\).*/\1/')
        $function_of nrtrace offered-o record
        printf 'reply %s\n' "${COMPREPLY[@]}"
        "#);
    assert!(said.lines().any(|line| line.trim_end() == "reply offered-one"), "{said}");
}
