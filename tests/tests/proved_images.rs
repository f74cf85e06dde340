//! Images proved in containers of their own by the real podman, and what is left of that: nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use nrtrace_profiles::event::Mode;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::proof::TriedImage;
use nrtrace_profiles::requirement::Severity;
use nrtrace_tests::podman::{ENGINE, NGINX};
use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

/// Bash: `image NAME OPTION…` imports a shell and a few programs with the script of its input as `/serve`.
const TINY: &str = r#"
    image() {
        name=$1; shift
        tiny=/tmp/tiny; rm -rf $tiny
        mkdir -p $tiny/{etc,usr/bin,usr/lib,usr/lib64,var/lib/kept,tmp,proc,sys,dev}
        for link in bin lib lib64; do ln -s usr/$link $tiny/$link; done
        for program in dash cat chown cp id mkdir setpriv sleep; do
            install -D /usr/bin/$program $tiny/usr/bin/$program
            ldd /usr/bin/$program | grep -o '/[^ ]*' | while read -r file; do install -D "$(readlink -f $file)" $tiny/usr${file#/usr}; done
        done
        ln -s dash $tiny/usr/bin/sh
        printf 'root:x:0:0::/root:/bin/sh\nweb:x:33:44::/:/bin/false\n' >$tiny/etc/passwd
        printf 'root:x:0:\nweb:x:44:\n' >$tiny/etc/group
        echo here >$tiny/var/lib/kept/state
        cat >$tiny/serve
        chmod 0755 $tiny/serve
        tar -C $tiny -c . | podman import "$@" - $name >/dev/null
    }
"#;

/// Bash: how a container is run by podman alone, and what must not be left of trials.
const RUN: &str = r#"
    run="podman --runtime runc --cgroup-manager cgroupfs --events-backend file --log-level error run --network none
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
    left() {
        podman ps -a --format '{{.Names}}'
        podman images --format '{{.Repository}}' | grep nrtrace-trial || true
        ls -d /var/lib/nrtrace-trials /var/lib/nrtrace
        ls -d /proc/[0-9]*/root/serve 2>/dev/null || true
    }
    nothing_left() {
        for _ in $(seq 100); do [ -z "$(left 2>/dev/null)" ] && return; sleep 0.1; done
        echo "left behind: $(left)" >&2
        exit 1
    }
"#;

fn script(text: &str) -> Sandbox {
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240));
    sandbox.script(&format!("{ENGINE}\n{NGINX}\n{TINY}\n{RUN}\n{text}")).unwrap().ok().unwrap();
    sandbox
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    std::fs::read_to_string(sandbox.out().join(name)).unwrap()
}

fn profile(sandbox: &Sandbox, name: &str) -> Profile {
    record::written(sandbox, name).unwrap()
}

/// The ids of what is granted.
fn granted(profile: &Profile) -> Vec<&str> {
    let required = profile.requirements.iter().filter(|known| known.severity == Severity::Required);
    required.map(|known| known.id.as_str()).collect()
}

#[test]
fn an_image_is_proved_in_its_own_containers() {
    let sandbox = script(
        r#"
        nrtrace run --minimize --ready-port 80 -o "$OUT"/web -- $run -v data:/data nginx nginx -g 'daemon off;' 2>"$OUT"/screen
        nothing_left
        nrtrace verify "$OUT"/web/profile.json --ready-port 80 -- $run -v data:/data nginx nginx -g 'daemon off;' 2>"$OUT"/again
        nothing_left
        "#,
    );
    let profile = profile(&sandbox, "web");
    assert_eq!((profile.run.mode, profile.identity.uid), (Mode::Permissive, 10_001));
    let proof = profile.proof.as_ref().unwrap();
    assert!(proof.lives && proof.minimal, "{proof:?}");
    assert_eq!(proof.image, Some(TriedImage { name: "nginx".into(), built: false, namespace: None }));
    let ids = granted(&profile);
    for id in ["path:/var/cache/nginx/client_temp", "port:tcp:0.0.0.0:80"] {
        assert!(ids.contains(&id), "{id} in {ids:?}");
    }
    let container = profile.container.as_ref().unwrap();
    assert_eq!((container.name.as_deref(), container.image.as_deref()), (None, Some("nginx")));
    let pod = read(&sandbox, "web/kubernetes.yaml");
    for line in [
        "readOnlyRootFilesystem: true",
        "runAsUser: 10001",
        "level reached: restricted",
        "as it is: it lives",
    ] {
        assert!(pod.contains(line), "{line} in {pod}");
    }
    assert!(!pod.contains("nrtrace-trial"), "{pod}");
    let screen = read(&sandbox, "screen");
    let answer = format!(
        "nginx runs as 10001 with {} grants, proved in {} trials, in its image",
        ids.len(),
        proof.trials
    );
    assert!(screen.contains(&answer), "{answer} in {screen}");
    assert!(read(&sandbox, "again").contains("Proved: "), "{}", read(&sandbox, "again"));
}

/// What the image has in a directory that starts anew on a host, and `/var/run` where it is no link.
#[test]
fn what_an_image_holds_where_volumes_come_is_kept() {
    let sandbox = script(
        r#"
        image apart --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
if [ ! -e /var/run/app ]; then mkdir -p /var/run/app; echo kept >/var/run/app/given; exit 0; fi
cat /var/run/app/given || exit 1
mkdir -p /var/run/more && echo 1 >/var/run/app/pid && echo ready && exec sleep 100
END
        # Its own first start makes what the image is to hold; there is no /run in it.
        podman run --network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 --name made apart
        podman commit -q made apart >/dev/null; podman rm made >/dev/null
        nrtrace run --verify --ready-log '^ready' --settle 300ms -o "$OUT"/apart -- $run apart 2>"$OUT"/log || { cat "$OUT"/log; exit 1; }
        nothing_left
        "#,
    );
    let profile = profile(&sandbox, "apart");
    assert!(profile.proof.as_ref().unwrap().lives);
    let pod = read(&sandbox, "apart/kubernetes.yaml");
    for line in ["mountPath: \"/var/run/app\"", "mountPath: \"/var/run/more\"", "cp -RPp"] {
        assert!(pod.contains(line), "{line} in {pod}");
    }
    assert!(!pod.contains("mountPath: \"/run"), "{pod}");
}

/// A profile that was saved is made smaller in containers, too, and a client is one of the container.
#[test]
fn a_saved_profile_is_made_smaller_in_containers() {
    let sandbox = script(
        r#"
        image store --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
mkdir -p /var/lib/kept/spare 2>/dev/null
mkdir -p /var/lib/needed && echo ready && while sleep 0.1; do [ ! -e /var/lib/needed/asked ] || echo answer >/var/lib/needed/answer; done
END
        exercise='echo x >/var/lib/needed/asked && for i in 1 2 3 4 5; do sleep 0.2; [ ! -e /var/lib/needed/answer ] || exit 0; done; exit 1'
        nrtrace run --verify --ready-log '^ready' --settle 300ms -o "$OUT"/saved -- $run store 2>"$OUT"/saved.log
        nrtrace minimize "$OUT"/saved/profile.json --ready-log '^ready' --exercise "$exercise" --settle 300ms -o "$OUT"/small -- $run store 2>"$OUT"/small.log ||
            { cat "$OUT"/small.log; exit 1; }
        nothing_left
        # One that the client is not content with is not proved.
        status=0
        nrtrace verify "$OUT"/small/profile.json --ready-log '^ready' --exercise 'exit 3' --settle 300ms -- $run store 2>"$OUT"/refused.log || status=$?
        test $status = 1 || { cat "$OUT"/refused.log; exit 1; }
        nothing_left
        "#,
    );
    let (saved, small) = (profile(&sandbox, "saved"), profile(&sandbox, "small"));
    assert!(granted(&saved).contains(&"path:/var/lib/kept/spare"), "{:?}", granted(&saved));
    assert_eq!(granted(&small), ["path:/var/lib/needed"]);
    let proof = small.proof.as_ref().unwrap();
    assert!(proof.lives && proof.minimal && proof.exercise.is_some() && proof.image.is_some(), "{proof:?}");
}

/// What an entrypoint does for root alone, and the user that an image names.
#[test]
fn what_an_image_says_of_itself_is_kept() {
    let sandbox = script(
        r#"
        image dropping --change 'ENTRYPOINT ["/serve"]' --change 'CMD ["/bin/sh", "-c", "cat /var/lib/kept/state && mkdir -p /var/lib/kept/new && echo ready && exec sleep 100"]' <<'END'
#!/bin/sh
if [ "$(id -u)" = 0 ]; then chown -R web /var/lib/kept; exec setpriv --reuid=web --regid=web --clear-groups "$0" "$@"; fi
exec "$@"
END
        nrtrace run --minimize --ready-log '^ready' --settle 1s -o "$OUT"/dropping -- $run dropping 2>"$OUT"/dropping.log
        image named --change 'USER web' --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
id -u; id -g
echo ready; exec sleep 100
END
        nrtrace run --verify --ready 'test "$(id -u)" = 33' --settle 1s -o "$OUT"/named -- $run named 2>"$OUT"/named.log
        nothing_left
        "#,
    );
    let dropping = profile(&sandbox, "dropping");
    assert!(dropping.proof.as_ref().unwrap().lives && dropping.identity.uid == 10_001);
    assert_eq!(dropping.command[0], "/serve".into());
    let pod = read(&sandbox, "dropping/kubernetes.yaml");
    assert!(pod.contains("mountPath: \"/var/lib/kept/new\""), "{pod}");
    let named = profile(&sandbox, "named");
    assert_eq!((named.identity.user.as_str(), named.identity.uid, named.identity.gid), ("web", 33, 44));
    assert!(named.proof.as_ref().unwrap().lives);
    assert_eq!(granted(&named), [] as [&str; 0]);
}

#[test]
fn what_is_no_right_is_not_proved_and_what_cannot_be_tried_is_refused() {
    let sandbox = script(
        r#"
        image fails --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
echo 'no such thing' >&2; exit 7
END
        refused() { status=0; timeout 60 "$@" >"$OUT"/log 2>&1 || status=$?; }
        refused nrtrace run --minimize -o "$OUT"/fails -- $run fails
        test $status = 1 || { echo "status $status"; cat "$OUT"/log; exit 1; }
        cp "$OUT"/log "$OUT"/fails.log
        refused nrtrace run --minimize -- $run fails /no/such/program
        test $status = 127 || { echo "status $status"; cat "$OUT"/log; exit 1; }
        for options in '--pod p' '--mount type=tmpfs,dst=/x' '--pid=host' '--no-such-option'; do
            refused nrtrace run --minimize -- $run $options fails
            test $status = 2 || { echo "$options: $status"; cat "$OUT"/log; exit 1; }
        done
        refused nrtrace run --verify --share /srv -- $run fails
        test $status = 2
        refused nrtrace run --verify -- podman build .
        test $status = 2
        nothing_left
        "#,
    );
    let said = read(&sandbox, "fails.log");
    assert!(said.contains("no such thing") && said.contains("status 7"), "{said}");
    assert!(!profile(&sandbox, "fails").proof.is_some_and(|proof| proof.lives));
}

/// What is mounted is not written to, and is there.
#[test]
fn volumes_are_seen_and_stay_as_they_are() {
    let sandbox = script(
        r#"
        image data --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
cat /host/given /volume/given || exit 1
echo changed >/host/given; echo changed >/volume/given; echo new >/volume/new || exit 1
echo ready; exec sleep 100
END
        install -d -o 10001 /srv/host; echo host >/srv/host/given; chown 10001 /srv/host/given
        podman volume create data >/dev/null
        volume=$(podman volume inspect -f '{{.Mountpoint}}' data)
        echo volume >$volume/given
        nrtrace run --verify --ready-log '^ready' --settle 1s -o "$OUT"/data -- $run -v /srv/host:/host -v data:/volume data 2>"$OUT"/log
        nothing_left
        test "$(cat /srv/host/given $volume/given)" = "$(printf 'host\nvolume')"
        test ! -e $volume/new
        "#,
    );
    assert!(profile(&sandbox, "data").proof.unwrap().lives);
}

#[test]
fn nothing_stays_when_it_is_ended() {
    script(
        r#"
        image slow --change 'CMD ["/serve"]' <<'END'
#!/bin/sh
mkdir -p /var/lib/kept/new && echo ready && exec sleep 1000
END
        # What a shell starts in the background ignores the first.
        for signal in INT TERM KILL; do
            # In the run that is refused nothing, and in a trial.
            for trial in 0 1; do
                setsid env --default-signal=INT nrtrace run --verify --ready-log '^ready' --settle 30s -o "$OUT"/$signal-$trial -- $run slow >"$OUT"/log 2>&1 & nrtrace=$!
                for _ in $(seq 600); do
                    podman ps --format '{{.Names}}' | grep -q "^nrtrace-trial-.*-$trial" && break
                    [ $trial = 1 ] && break
                    sleep 0.1
                done
                [ $trial = 0 ] || sleep 3
                kill -$signal $nrtrace
                for _ in $(seq 600); do kill -0 $nrtrace 2>/dev/null || break; sleep 0.1; done
                kill -0 $nrtrace 2>/dev/null && { echo "alive after $signal"; cat "$OUT"/log; exit 1; }
                wait $nrtrace || true
                nothing_left
            done
        done
        # When all was reached and it is being ended, too: it ignores what asks it to end.
        setsid env --default-signal=INT nrtrace run --verify --ready-log '^ready' --settle 1s -o "$OUT"/late -- $run slow >"$OUT"/log 2>&1 & nrtrace=$!
        for _ in $(seq 600); do podman ps --format '{{.Names}}' | grep -q '^nrtrace-trial-.*-0' && break; sleep 0.1; done
        sleep 3
        kill -TERM $nrtrace
        status=0; wait $nrtrace || status=$?
        test $status != 0 || { echo 'not interrupted'; cat "$OUT"/log; exit 1; }
        nothing_left
        # What was left by one that could not sweep up is removed by the next.
        podman create --label nrtrace.trial=1 --name nrtrace-trial-999999-0 slow >/dev/null
        install -d -m 0700 /var/lib/nrtrace-trials/999999/0
        nrtrace run --verify --ready-log '^ready' --settle 1s -o "$OUT"/next -- $run slow 2>"$OUT"/log
        nothing_left
        "#,
    );
}
