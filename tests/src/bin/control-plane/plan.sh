# Recorded while they work with each other, planned, refused before the plan is applied, and started with it.
steps=$OUT/steps
step() { echo "== $1" >>$steps; }
recorded() { exec $BIN/nrtrace run --quiet --paths /etc/kubernetes --paths /var/lib/etcd --name $1 -o $OUT/$1 -- ${!1} </dev/null >$OUT/$1.log 2>&1; }
started() {
    exec setpriv --reuid=kubeadm-$1 --regid=kubeadm-$1 --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        ${!1} </dev/null >$OUT/$1.log 2>&1
}
end_all() { local name; for name in ks kcm kas etcd; do kill -INT ${pids[$name]}; wait ${pids[$name]} || true; done; }

make_files
# Words of the start lines are no patterns.
set -f
step recording
start_all recorded
sleep 5
end_all

step planning
profiles= manifests=
for name in etcd kas kcm ks; do profiles+=" $name=$OUT/$name/profile.json"; done
$BIN/nrtrace plan --prefix kubeadm- --public leave $profiles -o $OUT/plan >$OUT/screen

step refusing
systemd-sysusers $OUT/plan/sysusers.d/nrtrace-plan.conf
for name in etcd kas kcm ks; do
    status=0; (started $name) & wait $! || status=$?
    grep -q 'permission denied' $OUT/$name.log || status=0
    echo "$name $status" >>$OUT/refused
done

step applying
systemd-tmpfiles --create $OUT/plan/tmpfiles.d/nrtrace-plan.conf
find /etc/kubernetes /var/lib/etcd -printf '%p\t%04m %u %g\n' | sort >$OUT/permissions
for name in etcd kas kcm ks; do
    find /etc/kubernetes -type f | sort | while read -r path; do
        ! setpriv --reuid=kubeadm-$name --regid=kubeadm-$name --init-groups --bounding-set=-all --inh-caps=-all test -r $path ||
            printf '%s\t%s\n' $path $name
    done
done >$OUT/readers

step starting
start_all started
for name in etcd kas kcm ks; do
    status=/proc/${pids[$name]}/status
    printf '%s\t%s\t%s\t%s\n' $name "$(stat -c %U /proc/${pids[$name]})" "$(sed -n 's/^CapPrm:\t0*//p' $status)" "$(sed -n 's/^NoNewPrivs:\t//p' $status)"
done >$OUT/serving
end_all
