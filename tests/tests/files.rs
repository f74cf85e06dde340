//! Files that are too large, cut off, damaged, hostile or of another version: a clear error, and bounded memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::Sandbox;

/// Each command that reads a profile, on `$1`.
const READERS: &str = r#"
    readers() {
        for command in "report $1" "emit --format tmpfiles $1" "merge $1 /tmp/good.json" "diff /tmp/good.json $1" \
            "check $1 --baseline /tmp/good.json" "check /tmp/good.json --baseline $1" "explain $1 x"; do
            refused "$command" "$2"
        done
    }
    refused() {
        status=0
        (ulimit -v "${3:-400000}"; nrtrace $1) >/tmp/said 2>&1 || status=$?
        test $status = 2 || { echo "nrtrace $1: status $status"; cat /tmp/said; exit 1; }
        grep -q "$2" /tmp/said || { echo "nrtrace $1 does not say $2:"; cat /tmp/said; exit 1; }
        test $(wc -c </tmp/said) -lt 2000 || { echo "nrtrace $1 says too much"; exit 1; }
    }
    nrtrace run -q -o /tmp/run --save-trace /tmp/good.trace -- true
    cp /tmp/run/profile.json /tmp/good.json
"#;

fn run(script: &str) {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(100));
    sandbox.script(&format!("{READERS}\n{script}")).unwrap().ok().unwrap();
}

#[test]
fn damaged_profiles_are_refused() {
    run(r#"
        head -c 700 /tmp/good.json >/tmp/short.json; readers /tmp/short.json 'cut off'
        : >/tmp/empty.json; readers /tmp/empty.json 'cut off'
        sed 's|nrtrace/profile/v1|nrtrace/profile/v99|' /tmp/good.json >/tmp/later.json; readers /tmp/later.json 'v99'
        readers /tmp/good.trace 'nrtrace/trace/v1'
        readers /tmp/missing.json 'No such file'
        readers /tmp 'directory'
        head -c 4096 /dev/urandom >/tmp/noise.json; readers /tmp/noise.json 'cannot read'
        refused 'replay /tmp/good.json' 'nrtrace/profile/v1'
        head -c 500 /tmp/good.trace >/tmp/short.trace; refused 'replay /tmp/short.trace' 'cut off'
        echo 'deny = 1' >/tmp/policy.toml; refused 'check /tmp/good.json --policy /tmp/policy.toml' 'unknown field'
    "#);
}

#[test]
fn huge_files_take_no_more_memory_than_a_large_one() {
    run(r#"
        truncate -s 50G /tmp/huge.json; readers /tmp/huge.json 'larger than'
        refused 'replay /tmp/huge.json' 'larger than' 1300000
        { printf '{"schema":"nrtrace/profile/v1","notes":['; yes '"",' | head -c 20000000; } >/tmp/many.json || true
        readers /tmp/many.json 'values'
        { printf '{"schema":"nrtrace/profile/v1","notes":'; yes '[' | tr -d '\n' | head -c 10000000
            yes ']' | tr -d '\n' | head -c 10000000; printf '}'; } >/tmp/deep.json || true
        readers /tmp/deep.json 'cannot read'
        { printf '{"schema":"nrtrace/profile/v1","name":"'; yes a | tr -d '\n' | head -c 20000000; } >/tmp/long.json || true
        readers /tmp/long.json 'cut off'
    "#);
}
