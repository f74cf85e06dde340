//! Results that cannot be written, and records that are not complete: what else there is is written and shown, and the
//! exit status tells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_tests::sandbox::{Finished, Sandbox};

/// `expect STATUS COMMAND...` runs a command, whose output goes to `/tmp/said`.
const HELPERS: &str = r#"
    expect() {
        wanted=$1; shift
        status=0; "$@" >/tmp/said 2>&1 || status=$?
        test $status = "$wanted" || { echo "$*: status $status"; cat /tmp/said; exit 1; }
    }
    said() { grep -q -- "$1" /tmp/said || { echo "not said: $1"; cat /tmp/said; exit 1; }; }
    # A file system with room for one page of 64.
    full() { mkdir -p "$1"; mount -t tmpfs -o size=64k tmpfs "$1"; }
    fill() { head -c 60K /dev/zero >"$1"/filler; }
"#;

fn run(script: &str) -> Finished {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(200));
    sandbox.script(&format!("{HELPERS}\n{script}")).unwrap().ok().unwrap()
}

#[test]
fn a_path_that_cannot_be_written_to_is_told_before_the_start() {
    run(r#"
        mkdir /tmp/closed; mount -t tmpfs -o ro tmpfs /tmp/closed
        for path in /proc/foo/bar /dev/null/x /tmp/closed/x; do
            expect 3 nrtrace run --save-trace $path -- touch /tmp/ran; said 'cannot '
            expect 3 nrtrace run -o $path -- touch /tmp/ran; said 'cannot '
            expect 3 nrtrace attach $$ --for 100s -o $path; said 'cannot '
        done
        expect 3 nrtrace run -o /tmp/closed -- touch /tmp/ran; said 'cannot write to the directory /tmp/closed'
        expect 3 nrtrace run --save-trace /tmp -- touch /tmp/ran; said 'no name of a file'
        test ! -e /tmp/ran
        expect 127 nrtrace run -o /tmp/new/out --save-trace /tmp/other/trace -- no-such-program
        test ! -e /tmp/new; test ! -e /tmp/other
    "#);
}

#[test]
fn what_cannot_be_written_at_the_end_costs_nothing_else() {
    run(r#"
        full /tmp/small
        expect 3 nrtrace run --in-place -o /tmp/small --save-trace /tmp/one.trace -- sh -c 'head -c 60K /dev/zero >/tmp/small/filler; mkdir /srv/needed'
        said 'sh needs 1 grant'; said /srv/needed; said 'cannot write /tmp/small/.*No space'
        if grep -q 'nrtrace apply' /tmp/said; then exit 1; fi
        nrtrace replay /tmp/one.trace | grep -q /srv/needed
        rm -r /srv/needed
        expect 3 nrtrace run -o /tmp/out --save-trace /tmp/small/trace -- mkdir /srv/needed
        said /srv/needed; said 'cannot write /tmp/small/trace'; grep -q /srv/needed /tmp/out/profile.json
        expect 3 nrtrace run --in-place -o /tmp/gone -- sh -c 'rm -r /tmp/gone; mkdir /srv/other'
        said /srv/other; said 'cannot write /tmp/gone/'
        mkdir /tmp/later; mount -t tmpfs tmpfs /tmp/later
        (sleep 2; mount -o remount,ro /tmp/later) & expect 3 nrtrace run --for 4s -o /tmp/later -- sh -c 'mkdir /srv/third; sleep 60'
        said /srv/third; said 'Read-only'
        sleep 60 & expect 3 nrtrace attach $! --for 1s -o /tmp/small; said 'What sleep needs'; said 'No space'
    "#);
}

#[test]
fn a_full_disk_costs_only_what_goes_there() {
    run(r#"
        nrtrace run -q -o /tmp/out --save-trace /tmp/one.trace -- mkdir -p /srv/needed
        profile=/tmp/out/profile.json
        full /tmp/small; fill /tmp/small
        expect 3 nrtrace emit -o /tmp/small $profile; said 'cannot write /tmp/small/report.html'
        test $(grep -c 'cannot write' /tmp/said) -gt 5
        expect 3 nrtrace merge $profile $profile -o /tmp/small/all.json; said 'No space'
        expect 3 nrtrace replay /tmp/one.trace -o /tmp/small; said 'mkdir needs 1 grant'; said 'No space'
        expect 3 nrtrace check $profile --baseline $profile --write json=/tmp/small/x --write json=/tmp/there
        said 'No space'; test -s /tmp/there
        expect 3 nrtrace verify $profile -o /tmp/small --settle 200ms -- mkdir -p /srv/needed; said Proved; said 'No space'
        expect 3 nrtrace minimize $profile -o /tmp/small --settle 200ms -- mkdir -p /srv/needed
        said 'mkdir runs to its end'; said 'No space'; said 'begins anew'
        expect 0 nrtrace minimize $profile --settle 200ms -- mkdir -p /srv/needed
        test ! -e $profile.journal
        nrtrace merge $profile $profile -o /dev/stdout >/tmp/merged; grep -q srv /tmp/merged; test -L /dev/stdout
    "#);
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    run(r#"
        nrtrace run -q -o /tmp/out -- mkdir -p /srv/needed
        profile=/tmp/out/profile.json
        for make in mkfifo 'ln -s /dev/zero' mkdir 'ln -s x.toml'; do
            rm -rf /tmp/known; mkdir /tmp/known; $make /tmp/known/x.toml
            expect 2 timeout 20 nrtrace report --knowledge /tmp/known $profile; said 'cannot read /tmp/known/x.toml'
        done
        for make in mkfifo 'ln -s /dev/zero' mkdir 'truncate -s 50G'; do
            rm -rf /tmp/min; mkdir /tmp/min; $make /tmp/min/minimize.journal
            (ulimit -v 1000000; expect 0 timeout 60 nrtrace minimize $profile -o /tmp/min --settle 200ms -- mkdir -p /srv/needed)
        done
        nrtrace report <(cat $profile) | grep -q /srv/needed
        nrtrace report - <$profile | grep -q /srv/needed
        cat $profile | nrtrace report /dev/stdin | grep -q /srv/needed
    "#);
}

#[test]
fn an_incomplete_record_is_a_finding() {
    run(r#"
        nrtrace run -q -o /tmp/out --save-trace /tmp/whole.trace -- true
        expect 0 nrtrace replay /tmp/whole.trace
        sed 's/"lost":0/"lost":7/' /tmp/whole.trace >/tmp/part.trace
        expect 1 nrtrace replay /tmp/part.trace; said 'incomplete: 7 records lost'
        for given in 0 5; do
            status=0
            nrtrace run -q --buffer 1 -o /tmp/flood -- sh -c "fixture flood 200000; exit $given" 2>/tmp/said || status=$?
            lost=0; grep -q '"complete": true' /tmp/flood/profile.json || lost=1
            test $status = $((given ? given : lost)) || { echo "status $status, lost $lost"; exit 1; }
            if [ $lost = 1 ]; then said 'incomplete: '; fi
        done
    "#);
}
