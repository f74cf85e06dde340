#!/bin/bash
# Runs under systemd: living stock services are recorded by `nrtrace service record`, and are as they were afterwards.
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

# Notes yes when the command succeeds: service, what, command
whether() {
    local name=$1 what=$2
    shift 2
    if "$@" >>"/results/$name.said" 2>&1; then note "$name" "$what" yes; else note "$name" "$what" no; fi
}

serves() {
    SECONDS=0
    until /usr/lib/nrtrace-serves "$1" 2>/dev/null; do
        [ "$SECONDS" -lt 60 ] || return 1
        sleep 0.3
    done
}

# What the unit says, and how its main process lives.
how() {
    systemctl show -p Type,User,ExecStart,ExecStartPre,Restart,KillMode,AmbientCapabilities,CapabilityBoundingSet,DropInPaths,ActiveState "$1" |
        sed 's/start_time=.*//'
    # The manager tells these in no order.
    systemctl show -P Wants -P After "$1" | tr ' ' '\n' | sort
    grep -E '^(Uid|Cap|NoNewPrivs)' "/proc/$(systemctl show -P MainPID "$1")/status"
}

as_it_was() {
    how "$1" | diff "/results/$1.before" - && ! compgen -G '/run/systemd/system/nrtrace-record-*' && ! compgen -G "/run/systemd/system/$1.service.d/*" &&
        [ -z "$(systemctl --no-legend list-units --all 'nrtrace-record-*')" ]
}

waits() {
    for _ in $(seq 300); do
        "$@" && return
        sleep 0.3
    done
    return 1
}

gone() { ! systemctl is-active --quiet "$1"; }
unwatched() { ! compgen -G "/run/systemd/system/$1.service.d/*" >/dev/null; }
active() { systemctl is-active --quiet "$1"; }

# service
check() {
    local name=$1 out=/results/$1 pid recorder=nrtrace-record-$1.service
    say "$name: recording"
    systemctl start "$name"
    whether "$name" began serves "$name"
    how "$name" >"$out.before"
    nrtrace service finish "$name" -o "$out" >>"$out.said" 2>&1
    note "$name" unrecorded "$?"
    SECONDS=0
    whether "$name" recorded nrtrace service record "$name"
    note "$name" seconds "$SECONDS"
    nrtrace service record "$name" >>"$out.said" 2>&1
    note "$name" twice "$?"
    whether "$name" meanwhile serves "$name"
    how "$name" >"$out.during"
    # All but what its own hardening takes; so CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_NET_BIND_SERVICE.
    whether "$name" permissive [ $((0x$(sed -n 's/^CapEff:\t//p' "$out.during") & 0x406)) = $((0x406)) ]
    sleep 3
    nrtrace service status "$name" 2>&1 | tee "$out.status" >/dev/console
    # Its own Restart= or a restart by hand is seen as well.
    whether "$name" restarts systemctl restart "$name"
    serves "$name"
    whether "$name" finished nrtrace service finish "$name" -o "$out"
    whether "$name" served serves "$name"
    whether "$name" as-it-was as_it_was "$name"

    # The recorder is killed: the service goes on, and nothing is left of it.
    nrtrace service record "$name" >>"$out.said" 2>&1
    systemctl kill -s KILL "$recorder"
    whether "$name" let-go waits unwatched "$name"
    whether "$name" survived waits serves "$name"
    nrtrace service status "$name" >>"$out.said" 2>&1
    note "$name" told "$?"
    nrtrace service undo "$name" >>"$out.said" 2>&1
    waits active "$name"
    whether "$name" undone as_it_was "$name"

    # It is cancelled in the middle.
    nrtrace service record "$name" >>"$out.said" 2>&1 &
    pid=$!
    waits test -e "/run/systemd/system/$recorder"
    kill -TERM $pid
    wait $pid
    note "$name" cancelled "$?"
    serves "$name"
    whether "$name" taken-back as_it_was "$name"

    # What was recorded is enough.
    systemctl stop "$name"
    whether "$name" applied nrtrace apply --yes "$out"
    mkdir -p "/etc/systemd/system/$name.service.d"
    cp "$out"/*.service.d/50-nonroot.conf "/etc/systemd/system/$name.service.d/"
    systemctl daemon-reload
    timeout 300 systemctl start "$name" >>"$out.said" 2>&1
    whether "$name" enough serves "$name"
    note "$name" user "$(ps -o user:32= -p "$(systemctl show -P MainPID "$name")" | tr -d ' ')"
    systemctl stop "$name"
    rm -r "/etc/systemd/system/$name.service.d"
    systemctl daemon-reload
    nrtrace undo --yes "$out" >>"$out.said" 2>&1
    journalctl --no-pager -u "$name" -u "$recorder" >"$out.journal" 2>&1
}

ip link set lo up 2>/dev/null
# With PrivateUsers=, capabilities are worth nothing outside of it, and nrtrace gives none.
mkdir -p /etc/systemd/system/redis-server.service.d
printf '[Service]\nPrivateUsers=no\n' >/etc/systemd/system/redis-server.service.d/users.conf
check nginx
check redis-server
say end
stty -F /dev/ttyS1 raw
# A terminal is nothing that tar writes to.
tar -c -f - -C /results . | cat >/dev/ttyS1
reboot -ff
