# A control plane as kubeadm makes it: its files, and how each component is started. Sourced by bash in the sandbox.
PKI=/etc/kubernetes/pki
GIVEN=/opt/given

# certificate NAME SUBJECT [ISSUER [EXTENSION...]]: NAME.crt and NAME.key as kubeadm has them; without an issuer, one.
certificate() {
    local name=$PKI/$1 subject=$2 issuer=${3:-} extension
    local options=(-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "$subject")
    [ -z "$issuer" ] || options+=(-CA $PKI/$issuer.crt -CAkey $PKI/$issuer.key -addext basicConstraints=critical,CA:FALSE)
    for extension in "${@:4}"; do options+=(-addext "$extension"); done
    (umask 077; openssl req "${options[@]}" -keyout $name.key -out $name.crt 2>/dev/null)
    chmod 644 $name.crt
}

# kubeconfig NAME SUBJECT: NAME.conf with a client certificate of its own.
kubeconfig() {
    certificate $1 "$2" ca extendedKeyUsage=clientAuth
    (umask 077; cat >/etc/kubernetes/$1.conf <<CONF
apiVersion: v1
kind: Config
clusters: [{name: kubernetes, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(base64 -w0 $PKI/ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 $PKI/$1.crt), client-key-data: $(base64 -w0 $PKI/$1.key)}}]
contexts: [{name: $1, context: {cluster: kubernetes, user: $1}}]
current-context: $1
CONF
    )
    rm $PKI/$1.crt $PKI/$1.key
}

make_files() {
    local client=extendedKeyUsage=clientAuth server=extendedKeyUsage=serverAuth both=extendedKeyUsage=serverAuth,clientAuth
    local here=subjectAltName=DNS:localhost,IP:127.0.0.1
    rm -rf /etc/kubernetes /var/lib/etcd
    mkdir -p $PKI/etcd
    install -d -m 700 /var/lib/etcd
    certificate ca /CN=kubernetes
    certificate apiserver /CN=kube-apiserver ca $server $here,DNS:kubernetes.default.svc,IP:10.96.0.1
    certificate apiserver-kubelet-client /O=kubeadm:cluster-admins/CN=kube-apiserver-kubelet-client ca $client
    certificate front-proxy-ca /CN=front-proxy-ca
    certificate front-proxy-client /CN=front-proxy-client front-proxy-ca $client
    certificate etcd/ca /CN=etcd-ca
    certificate etcd/server /CN=master etcd/ca $both $here
    certificate etcd/peer /CN=master etcd/ca $both $here
    certificate etcd/healthcheck-client /CN=kube-etcd-healthcheck-client etcd/ca $client
    certificate apiserver-etcd-client /CN=kube-apiserver-etcd-client etcd/ca $client
    (umask 077; openssl genrsa -out $PKI/sa.key 2048; openssl rsa -in $PKI/sa.key -pubout -out $PKI/sa.pub) 2>/dev/null
    kubeconfig admin /O=system:masters/CN=kubernetes-admin
    kubeconfig controller-manager /CN=system:kube-controller-manager
    kubeconfig scheduler /CN=system:kube-scheduler
    # For the questions below.
    certificate admin /O=system:masters/CN=kubernetes-admin ca $client
    mkdir -p /opt/admin; mv $PKI/admin.* /opt/admin/
}

# Start lines of kubeadm's manifests, on loopback.
etcd="$GIVEN/etcd --name=master --data-dir=/var/lib/etcd --client-cert-auth=true --peer-client-cert-auth=true
 --cert-file=$PKI/etcd/server.crt --key-file=$PKI/etcd/server.key --trusted-ca-file=$PKI/etcd/ca.crt
 --peer-cert-file=$PKI/etcd/peer.crt --peer-key-file=$PKI/etcd/peer.key --peer-trusted-ca-file=$PKI/etcd/ca.crt
 --listen-client-urls=https://127.0.0.1:2379 --advertise-client-urls=https://127.0.0.1:2379
 --listen-peer-urls=https://127.0.0.1:2380 --initial-advertise-peer-urls=https://127.0.0.1:2380
 --initial-cluster=master=https://127.0.0.1:2380 --listen-metrics-urls=http://127.0.0.1:2381 --snapshot-count=10000"
kas="$GIVEN/kube-apiserver --advertise-address=127.0.0.1 --bind-address=127.0.0.1 --secure-port=6443 --allow-privileged=true
 --endpoint-reconciler-type=none
 --authorization-mode=Node,RBAC --client-ca-file=$PKI/ca.crt --enable-admission-plugins=NodeRestriction
 --enable-bootstrap-token-auth=true --etcd-servers=https://127.0.0.1:2379 --etcd-cafile=$PKI/etcd/ca.crt
 --etcd-certfile=$PKI/apiserver-etcd-client.crt --etcd-keyfile=$PKI/apiserver-etcd-client.key
 --kubelet-client-certificate=$PKI/apiserver-kubelet-client.crt --kubelet-client-key=$PKI/apiserver-kubelet-client.key
 --proxy-client-cert-file=$PKI/front-proxy-client.crt --proxy-client-key-file=$PKI/front-proxy-client.key
 --requestheader-allowed-names=front-proxy-client --requestheader-client-ca-file=$PKI/front-proxy-ca.crt
 --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group
 --requestheader-username-headers=X-Remote-User --service-account-issuer=https://kubernetes.default.svc.cluster.local
 --service-account-key-file=$PKI/sa.pub --service-account-signing-key-file=$PKI/sa.key
 --service-cluster-ip-range=10.96.0.0/12 --tls-cert-file=$PKI/apiserver.crt --tls-private-key-file=$PKI/apiserver.key"
kcm="$GIVEN/kube-controller-manager --authentication-kubeconfig=/etc/kubernetes/controller-manager.conf
 --authorization-kubeconfig=/etc/kubernetes/controller-manager.conf --kubeconfig=/etc/kubernetes/controller-manager.conf
 --bind-address=127.0.0.1 --client-ca-file=$PKI/ca.crt --cluster-name=kubernetes --cluster-signing-cert-file=$PKI/ca.crt
 --cluster-signing-key-file=$PKI/ca.key --controllers=*,bootstrap-signer-controller,token-cleaner-controller --leader-elect=true
 --requestheader-client-ca-file=$PKI/front-proxy-ca.crt --root-ca-file=$PKI/ca.crt
 --service-account-private-key-file=$PKI/sa.key --use-service-account-credentials=true"
ks="$GIVEN/kube-scheduler --authentication-kubeconfig=/etc/kubernetes/scheduler.conf
 --authorization-kubeconfig=/etc/kubernetes/scheduler.conf --kubeconfig=/etc/kubernetes/scheduler.conf
 --bind-address=127.0.0.1 --leader-elect=true"

# Where each says that it serves, as its probes ask, and what it does for that.
ask() { curl --silent --fail --insecure --max-time 3 --output /dev/null "$@"; }
admin() { ask --cert /opt/admin/admin.crt --key /opt/admin/admin.key https://127.0.0.1:6443$1; }
serves() {
    case $1 in
        etcd) ask http://127.0.0.1:2381/readyz ;;
        kas) ask https://127.0.0.1:6443/readyz ;;
        kcm) ask https://127.0.0.1:10257/healthz && admin /api/v1/namespaces/default/serviceaccounts/default ;;
        ks) ask https://127.0.0.1:10259/readyz && admin /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler ;;
    esac
}
until_serves() {
    local attempt
    for attempt in $(seq 120); do ! serves $1 || return 0; sleep 0.5; done
    echo "$1 does not serve"; tail -n 20 $OUT/*.log; return 1
}

# In the order in which each finds what it needs: START NAME starts one in the background.
start_all() {
    local name
    for name in etcd kas kcm ks; do $1 $name & pids[$name]=$!; until_serves $name || return 1; done
}
declare -A pids
