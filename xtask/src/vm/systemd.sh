#!/bin/bash
# Runs under systemd: each stock service is recorded and proved by nrtrace, and started by systemd with the very drop-in.
# The results go to the second serial port.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
export LC_ALL=C
mkdir -p /results
uname -r >/results/kernel
systemctl --version | head -1 >/results/systemd

say() {
    echo "guest: $*" >/dev/console
}

# A file for each answer: results/SERVICE.WHAT
note() {
    echo "$3" >"/results/$1.$2"
    say "$1: $2: $3"
}

# service, port, command
check() {
    local name=$1 port=$2 out=/results/$1 serves="/usr/lib/nrtrace-serves $1"
    shift 2
    say "$name: recording and proof"
    systemd-analyze --no-pager security "$name.service" 2>/dev/null | tail -n 1 >"$out.stock"
    SECONDS=0
    nrtrace run --verify --ready-port "$port" --with systemd --exercise "$serves" --ready-timeout 300s --settle 1s -v -o "$out" -- "$@" 2>&1 | tee "$out.run" >/dev/console
    note "$name" proved "${PIPESTATUS[0]}"
    note "$name" seconds "$SECONDS"
    grep -o 'exposure by .*' "$out.run" >"$out.exposure"
    # As docs/systemd-service.md has it.
    "$out/apply.sh" >"$out.apply" 2>&1
    note "$name" applied "$?"
    mkdir -p "/etc/systemd/system/$name.service.d"
    cp "$out"/*.service.d/50-nonroot.conf "/etc/systemd/system/$name.service.d/"
    systemctl daemon-reload
    timeout 300 systemctl start "$name.service" >"$out.start" 2>&1
    note "$name" started "$?"
    SECONDS=0
    until $serves 2>/dev/null || [ "$SECONDS" -gt 60 ]; do sleep 0.3; done
    if $serves; then note "$name" serves yes; else note "$name" serves no; fi
    note "$name" user "$(ps -o user:32= -p "$(systemctl show -P MainPID "$name.service")" | tr -d ' ')"
    note "$name" roots "$(ps -o user= -p "$(paste -sd, "/sys/fs/cgroup/system.slice/$name.service/cgroup.procs")" | grep -c '^root')"
    note "$name" wanted "$(sed -n 's/^User=//p' "/etc/systemd/system/$name.service.d/50-nonroot.conf")"
    systemctl show -p User,NRestarts,ActiveState,CapabilityBoundingSet,AmbientCapabilities "$name.service" >"$out.unit"
    systemd-analyze --no-pager security "$name.service" 2>/dev/null | tail -n 1 >"$out.security"
    systemctl stop "$name.service"
    journalctl --no-pager -u "$name.service" >"$out.journal" 2>&1
    "$out/undo.sh" >"$out.undo" 2>&1
    rm -r "/etc/systemd/system/$name.service.d"
    systemctl daemon-reload
    systemctl reset-failed
}

# A proof that waits for systemd's trial is interrupted: the unit and the user are gone.
interrupted() {
    local out=/results/interrupted user
    nrtrace run -q --verify --settle 1s -o $out -- /usr/bin/sleep 1000 >$out.run 2>&1
    user=$(sed -n 's/^User=//p' $out/*.service.d/50-nonroot.conf)
    nrtrace verify $out/profile.json --with systemd --ready '! ls /run/systemd/system/nrtrace-trial-*.service' --settle 1s -v >$out.verify 2>&1 &
    for n in $(seq 300); do systemctl is-active --quiet 'nrtrace-trial-*.service' && break; sleep 0.3; done
    systemctl is-active --quiet 'nrtrace-trial-*.service' && getent passwd "$user" >/dev/null && note interrupted while there
    # A shell has its background jobs ignore what a terminal interrupts by.
    kill -TERM $!
    wait $!
    note interrupted status $?
    note interrupted left "$(ls -d /run/systemd/system/nrtrace-trial-* 2>/dev/null; systemctl --no-legend list-units --all 'nrtrace-trial-*'; getent passwd "$user")"
}

ip link set lo up 2>/dev/null
check nginx 80 /usr/sbin/nginx -g 'daemon on; master_process on;'
check lighttpd 80 /usr/sbin/lighttpd -D -f /etc/lighttpd/lighttpd.conf
check redis-server 6379 /usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no
check dnsmasq 53 /usr/share/dnsmasq/systemd-helper exec
check vsftpd 21 /usr/sbin/vsftpd /etc/vsftpd.conf
interrupted
say end
stty -F /dev/ttyS1 raw
# A terminal is nothing that tar writes to.
tar -c -f - -C /results . | cat >/dev/ttyS1
reboot -ff
