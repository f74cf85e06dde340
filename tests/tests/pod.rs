//! `nrtrace pod`: with a kubectl whose cluster is a directory, and without one by the real podman. What is made goes away again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::time::Duration;

use nrtrace_profiles::profile::Profile;
use nrtrace_tests::podman::{ENGINE, NGINX};
use nrtrace_tests::record;
use nrtrace_tests::sandbox::Sandbox;

/// Bash: the cluster, with a namespace that is strict; `pod OPTION…` runs nrtrace on it, and `nothing_left` compares.
const CLUSTER: &str = r#"
    export KUBE=/tmp/kube; mkdir -p $KUBE/objects /srv/work; cd /srv/work
    cat >web.yaml <<'END'
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: secret}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: web
      image: web:1
      volumeMounts: [{name: key, mountPath: /key}]
  volumes:
    - name: key
      secret: {secretName: key, defaultMode: 0400}
END
    echo '{"kind":"Namespace","metadata":{"name":"default"}}' >$KUBE/objects/namespace..default
    echo '{"kind":"Namespace","metadata":{"name":"shop","labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}' >$KUBE/objects/namespace..shop
    nrtrace run -q --name web -o /tmp/profile -- mkdir /var/lib/web
    cp /tmp/profile/profile.json $KUBE/
    ls $KUBE/objects >/tmp/before
    pod() { nrtrace pod --kubectl /srv/kubectl --recorder-image recorder:1 --settle 300ms "$@"; }
    nothing_left() {
        for _ in $(seq 100); do ls $KUBE/objects | cmp -s - /tmp/before && return; sleep 0.1; done
        echo "left behind:"; ls $KUBE/objects | diff - /tmp/before; cat "$OUT"/log; exit 1
    }
    is() { status=0; "${@:2}" >"$OUT"/log 2>&1 || status=$?; [ $status = $1 ] || { echo "${*:2}: $status"; cat "$OUT"/log; exit 1; }; }
    says() { grep -q -- "$1" "$OUT"/log || { echo "not said: $1"; cat "$OUT"/log; exit 1; }; }
"#;

fn script(text: &str) -> Sandbox {
    let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kubectl.py");
    let sandbox = Sandbox::new().unwrap().deadline(Duration::from_secs(240)).bind(fake, "/srv/kubectl");
    sandbox.script(&format!("{CLUSTER}\n{text}")).unwrap().ok().unwrap();
    sandbox
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    std::fs::read_to_string(sandbox.out().join(name)).unwrap()
}

#[test]
fn from_a_manifest_to_a_pod_that_is_ready() {
    let sandbox = script(
        r#"
        is 0 pod web.yaml -n shop --prove --apply-dry-run -o "$OUT"/web
        nothing_left
        says 'namespace shop refuses it as it is'
        says 'the API server takes Pod web and its pod, in namespace shop, which enforces restricted'
        says 'proved: Pod web is Ready with the patch'
        cp $KUBE/calls "$OUT"/calls
        # As it is, it may be recorded where it is to be; and without --prove nothing is started with the patch.
        is 0 pod web.yaml
        says 'recording a copy of Pod web in namespace default'
        says 'not proved: --prove'
        grep -q 'mountPath: /var/lib/web' "$OUT"/log
        nothing_left
        # What lives in the cluster is left as it is.
        cat >$KUBE/objects/pod.default.living <<'END'
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"living","uid":"u","resourceVersion":"7"},"spec":{"nodeName":"n","containers":[{"name":"web","image":"w"}]}}
END
        ls $KUBE/objects >/tmp/before; cp $KUBE/objects/pod.default.living /tmp/living
        ln -s "$(command -v nrtrace)" /tmp/kubectl-nrtrace
        is 0 /tmp/kubectl-nrtrace pod/living --kubectl /srv/kubectl --recorder-image recorder:1 --settle 300ms --prove
        says 'proved: Pod living'
        nothing_left
        cmp $KUBE/objects/pod.default.living /tmp/living
        "#,
    );
    let profile: Profile = record::written(&sandbox, "web").unwrap();
    assert!(profile.proof.unwrap().lives);
    let patch = read(&sandbox, "web/kubernetes-patch.yaml");
    assert!(patch.contains("runAsNonRoot: true") && patch.contains("mountPath: \"/var/lib/web\""), "{patch}");
    let patched = read(&sandbox, "web/patched.yaml");
    assert!(patched.contains("defaultMode: 256") && patched.contains("secretName: key"), "{patched}");
    let calls = read(&sandbox, "calls");
    assert!(calls.contains("delete secret") || calls.contains("delete namespace nrtrace-"), "{calls}");
}

#[test]
fn nothing_stays_however_it_ends() {
    script(
        r#"
        touch $KUBE/pending
        for signal in INT TERM KILL; do
            # What a shell starts in the background ignores the first.
            setsid env --default-signal=INT nrtrace pod web.yaml -n shop --kubectl /srv/kubectl --recorder-image r --prove >"$OUT"/log 2>&1 & own=$!
            for _ in $(seq 200); do ls $KUBE/objects | grep -q '^pod.*web-nrtrace' && break; sleep 0.1; done
            ls $KUBE/objects | grep -q '^pod.*web-nrtrace' || { cat "$OUT"/log; exit 1; }
            kill -$signal $own
            status=0; wait $own || status=$?
            [ $status != 0 ]
            nothing_left
        done
        # Whoever would take it away is killed, too: the next one does.
        setsid nrtrace pod web.yaml -n shop --kubectl /srv/kubectl --recorder-image r >"$OUT"/log 2>&1 & own=$!
        for _ in $(seq 200); do ls $KUBE/objects | grep -q '^pod.*web-nrtrace' && break; sleep 0.1; done
        kill -STOP $own
        for pid in $(ps -o pid= --ppid $own) $own; do kill -KILL $pid; done
        wait $own || true
        sleep 1
        ls $KUBE/objects | cmp -s - /tmp/before && { echo 'nothing was left'; exit 1; }
        rm $KUBE/pending
        is 0 pod web.yaml -n shop --prove
        says 'left by an nrtrace that was killed'
        nothing_left
        "#,
    );
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing() {
    script(
        r#"
        is 2 nrtrace pod web.yaml -n shop --kubectl /srv/kubectl
        says '--recorder-image'
        is 2 pod deployment/nothing
        says 'NotFound'
        is 2 pod web.yaml --container db
        says 'no container db; it has: web'
        is 2 pod nowhere
        says 'neither a file nor an object'
        echo 'kind: Service' >service.yaml
        is 2 pod service.yaml
        says 'holds no Pod'
        is 2 pod pod/web --local
        echo 'create' >$KUBE/forbidden
        is 3 pod web.yaml
        says 'docs/kubernetes.md'
        rm $KUBE/forbidden
        touch $KUBE/down
        is 3 pod pod/web
        says 'KUBECONFIG'
        is 3 pod web.yaml
        rm $KUBE/down
        is 3 nrtrace pod pod/web --recorder-image r --kubectl /no/such/kubectl
        says '--kubectl names another'
        nothing_left
        "#,
    );
}

/// A copy has nothing of what somebody's data is in, unless that is asked for and nobody uses it.
#[test]
fn data_is_left_alone() {
    script(
        r#"
        cat >data.yaml <<'END'
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers: [{name: web, image: "web:1", volumeMounts: [{name: c, mountPath: /c}, {name: h, mountPath: /h}]}]
  volumes: [{name: c, persistentVolumeClaim: {claimName: data}}, {name: h, hostPath: {path: /srv/h}}]
END
        claim='{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data"}}'
        { cat data.yaml; echo ---; echo "$claim"; } >both.yaml
        made() { : >$KUBE/created; is 0 pod "$@" --prove; nothing_left; [ -s $KUBE/created ]; }
        # It is made for this time.
        made both.yaml
        grep -q claimName $KUBE/created
        echo "$claim" >$KUBE/objects/persistentvolumeclaim.default.data; ls $KUBE/objects >/tmp/before
        for file in data.yaml both.yaml; do
            made $file
            says 'in the place of claim data: it may hold data, and --with-claims tries it'
            says 'proved: Pod web .* with an empty directory for claim data'
            if grep claimName $KUBE/created; then exit 1; fi
            grep -q /srv/h $KUBE/created
        done
        made data.yaml --with-claims
        grep -q claimName $KUBE/created
        # A pod elsewhere has the directory that this one's is in.
        cat >$KUBE/objects/pod.shop.other <<'END'
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"other","namespace":"shop"},"spec":{"containers":[],"volumes":[
 {"name":"a","hostPath":{"path":"/srv"}},{"name":"b","persistentVolumeClaim":{"claimName":"data"}}]},"status":{"phase":"Running"}}
END
        ls $KUBE/objects >/tmp/before
        made data.yaml --with-claims
        says 'in the place of hostPath /srv/h: pod other uses it'
        grep -q claimName $KUBE/created
        if grep /srv/h $KUBE/created; then exit 1; fi
        "#,
    );
}

#[test]
fn another_copy_is_recorded_for_the_user_that_the_program_becomes_and_where_a_start_was_missed() {
    script(
        r#"
        nrtrace run -q --name web -o /tmp/other -- sh -c 'mkdir /var/lib/web; setpriv --reuid 5 --regid 60 --clear-groups true'
        # As the recorder tells it.
        sed 's/"mode": "permissive"/"mode": "observation"/' /tmp/other/profile.json >$KUBE/profile.json
        is 0 pod web.yaml -n shop --prove
        says 'recording a copy for another user: web as 5'
        says 'proved: Pod web'
        nothing_left
        python3 - $KUBE <<'END'
import json, sys
profile = json.load(open("/tmp/profile/profile.json"))
json.dump(profile, open(sys.argv[1] + "/profile.json", "w"))
profile["run"]["attached"] = {"target": "container web", "from_start": False, "own_refusals": True}
json.dump(profile, open(sys.argv[1] + "/first.json", "w"))
END
        is 0 pod web.yaml -n shop --prove
        says 'the start of web was missed; recording another copy'
        says 'proved: Pod web'
        nothing_left
        "#,
    );
}

/// What a manifest says of a container holds in podman's, too.
#[test]
fn a_manifest_is_proved_by_podman_where_there_is_no_cluster() {
    let sandbox = script(&format!(
        "{ENGINE}\n{NGINX}\n{}",
        r#"
        cat >nginx.yaml <<'END'
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data:
  nginx.conf: |
    worker_processes 1; error_log stderr; pid /run/nginx.pid; events { worker_connections 64; }
    http { access_log off; client_body_temp_path /var/cache/nginx/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
        uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi; server { listen 8081; } }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - name: web
          image: nginx
          command: [nginx, -c, "$(CONF)/nginx.conf"]
          args: [-g, "daemon off;"]
          env: [{name: CONF, value: /conf}]
          ports: [{name: http, containerPort: 8081}]
          readinessProbe: {httpGet: {port: http}}
          volumeMounts: [{name: conf, mountPath: /conf}, {name: tmp, mountPath: /tmp}]
      volumes: [{name: conf, configMap: {name: conf}}, {name: tmp, emptyDir: {}}]
END
        touch $KUBE/down
        run='podman --runtime runc --cgroup-manager cgroupfs --events-backend file --log-level error run --network none
            --ulimit nofile=1024:1024 --ulimit nproc=4096:4096'
        is 0 nrtrace pod nginx.yaml --kubectl /srv/kubectl --podman "$run" --settle 500ms -o "$OUT"/web
        says 'by podman'
        [ -z "$(podman ps -aq)" ]
        "#
    ));
    let profile: Profile = record::written(&sandbox, "web").unwrap();
    let proof = profile.proof.as_ref().unwrap();
    assert!(proof.lives && proof.minimal, "{proof:?}");
    let patch = read(&sandbox, "web/kubernetes-patch.yaml");
    assert!(patch.contains("kind: Deployment") || patch.contains("kind: \"Deployment\""), "{patch}");
    assert!(patch.contains("/var/cache/nginx") && !patch.contains("mountPath: \"/tmp\""), "{patch}");
}
