#!/bin/sh
# Tries the Job and the DaemonSet of this directory on the cluster that kubectl points to, and takes all of it away again:
#
#   deploy/try.sh RECORDER-IMAGE
#
# KUBECTL: another kubectl, with its options. IMAGE: that of the pod which is recorded, with a shell and sleep.
# PULL: when images are fetched (Never for those that are on the nodes alone).
set -eu
recorder=${1:?the image of the recorder, which deploy/Containerfile builds}
image=${IMAGE:-docker.io/library/busybox:1}
pull=${PULL:-IfNotPresent}
here=$(dirname "$0")
kubectl() { command ${KUBECTL:-kubectl} "$@"; }

if kubectl get namespace nrtrace >/dev/null 2>&1; then
  echo "try.sh: the namespace nrtrace is there already: it may be in use" >&2
  exit 1
fi
end() {
  status=$?
  trap - EXIT
  # What was recorded here stays on no node.
  for pod in $(kubectl -n nrtrace get pods -l app.kubernetes.io/name=nrtrace -o name 2>/dev/null); do
    kubectl -n nrtrace exec "${pod#pod/}" -- sh -c 'rm -rf /var/lib/nrtrace/*/nrtrace-tried-*' 2>/dev/null || true
  done
  kubectl delete namespace nrtrace nrtrace-try --ignore-not-found --wait=true >/dev/null 2>&1 || true
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# until SECONDS TEXT COMMAND...: waits until the command succeeds.
until_() {
  seconds=$1 text=$2; shift 2
  while ! "$@" >/dev/null 2>&1; do
    seconds=$((seconds - 1))
    [ $seconds -gt 0 ] || { echo "try.sh: not in time: $text" >&2; return 1; }
    sleep 1
  done
}
logs() { kubectl -n nrtrace logs -l "app.kubernetes.io/name=$1" --tail=-1; }
says() { logs "$1" | grep -q -- "$2"; }
succeeded() { [ "$(kubectl -n nrtrace get job nrtrace -o 'jsonpath={.status.succeeded}')" = 1 ]; }
has_account() { kubectl -n nrtrace-try get serviceaccount default; }

# record KIND LABEL: the recorder, a pod for it to record, and what it says of that.
record() {
  sed -e "s,image: registry.example/nrtrace:.*,image: $recorder\n          imagePullPolicy: $pull," "$here/$1.yaml" | kubectl apply -f - >/dev/null
  until_ 120 "the recorder waits: $(logs "$2" 2>&1 | tail -n 1)" says "$2" 'nrtrace: waiting for container'
  kubectl apply -f - >/dev/null <<POD
apiVersion: v1
kind: Pod
metadata: { name: tried, namespace: nrtrace-try }
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: nrtrace-tried
      image: $image
      imagePullPolicy: $pull
      command: ["/bin/sh", "-c", "mkdir -p /nrtrace-tried && sleep 60"]
POD
  until_ 90 "the recorder tells of the pod" says "$2" '/nrtrace-tried'
  echo "$1: $(logs "$2" | grep -- '/nrtrace-tried ' | head -n 1)"
  kubectl -n nrtrace-try delete pod tried --wait=true >/dev/null
}

kubectl apply -f "$here/namespace.yaml" >/dev/null
kubectl -n nrtrace patch configmap nrtrace --type merge \
  -p '{"data":{"CONTAINER":"nrtrace-tried","DURATION":"5s","OPTIONS":"--record calls"}}' >/dev/null
kubectl create namespace nrtrace-try >/dev/null
until_ 60 "the account of a namespace" has_account
record job nrtrace-job
until_ 30 "the end of the Job" succeeded
# As docs/nodes.md fetches it, from a pod that has ended.
logs nrtrace-job | sed '1,/^nrtrace: the profile:$/d' | grep -q '"/nrtrace-tried"' || { echo "try.sh: the Job's log has no profile" >&2; exit 1; }
kubectl -n nrtrace delete job nrtrace --wait=true >/dev/null
record daemonset nrtrace
echo "try.sh: both work"
