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

# Bash's own client: sends $2 to port $1 and prints the first line of the answer.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf "$2" >&3
    timeout 10 head -n 1 <&3
    exec 3>&-
}

http() { ask 80 'GET / HTTP/1.0\r\n\r\n' | grep -q 'HTTP/1.* 200'; }
redis() { ask 6379 'PING\r\n' | grep -q PONG; }
memcached() { ask 11211 'version\r\nquit\r\n' | grep -q VERSION; }
# A question for localhost, over TCP: its length, then it; the answer holds 127.0.0.1.
dns() {
    exec 3<>/dev/tcp/127.0.0.1/53 || return 1
    printf '\0\033\0\7\1\0\0\1\0\0\0\0\0\0\tlocalhost\0\0\1\0\1' >&3
    timeout 10 head -c 45 <&3 | od -An -tx1 | tr -d ' \n' | grep -q 7f000001
}
export -f ask http redis memcached dns

# service, port, what tells that it serves, command
check() {
    local name=$1 port=$2 serves=$3 out=/results/$1
    shift 3
    say "$name: recording and proof"
    SECONDS=0
    nrtrace run --verify --ready-port "$port" --exercise "bash -c $serves" --ready-timeout 300s --settle 1s -v -o "$out" -- "$@" >"$out.run" 2>&1
    note "$name" proved "$?"
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
    for n in $(seq 100); do "$serves" 2>/dev/null && break; sleep 0.3; done
    if "$serves"; then note "$name" serves yes; else note "$name" serves no; fi
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

ip link set lo up 2>/dev/null
check nginx 80 http /usr/sbin/nginx -g 'daemon on; master_process on;'
check lighttpd 80 http /usr/sbin/lighttpd -D -f /etc/lighttpd/lighttpd.conf
check redis-server 6379 redis /usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no
check memcached 11211 memcached /usr/share/memcached/scripts/systemd-memcached-wrapper /etc/memcached.conf
check dnsmasq 53 dns /usr/share/dnsmasq/systemd-helper exec
say end
stty -F /dev/ttyS1 raw
tar -c -C /results . >/dev/ttyS1
reboot -ff
