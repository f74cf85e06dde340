#!/bin/sh
# Runs on each kernel, in the same tree of files: prepares what fixture.sh meets, and traces it in all ways.
PATH=/busybox:/usr/bin
export PATH
uname -r >/results/kernel

# A machine whose console is silent for long is taken for dead.
say() {
    echo "guest: $*" >"${CONSOLE:-/dev/null}"
}

prepare() {
    rm -rf /srv
    mkdir -p /srv/guarded/inner /srv/closed/below /srv/sticky /srv/www
    touch /srv/guarded/removed /srv/guarded/before /srv/sticky/theirs
    chmod 1777 /srv/sticky
    for file in secret narrow readable owned closed/file closed/below/file www/index.html; do
        echo text >/srv/$file
    done
    chmod 600 /srv/secret /srv/narrow
    chmod 700 /srv/closed
    mkdir -p /mnt/other /mnt/new
    mount -t tmpfs -o mode=755 other /mnt/other
    mkdir /mnt/other/closed
    touch /mnt/other/closed/file
    chmod 700 /mnt/other/closed
    hostname plain
    echo 0 >/proc/sys/net/ipv4/ip_forward
}

for backend in ebpf ptrace; do
    for record in needs calls; do
        prepare
        say "$backend, $record"
        run=/results/$backend-$record
        nrtrace run -q --backend $backend --record $record -o $run -- /busybox/sh /fixture.sh >$run.out 2>&1
        echo $? >$run.status
        umount /mnt/other
    done
done

# An ordinary user watches a program of his own, where Yama lets nobody trace but whom the program allows to.
prepare
say "ordinary user"
[ ! -e /proc/sys/kernel/yama/ptrace_scope ] || echo 1 >/proc/sys/kernel/yama/ptrace_scope
cat /proc/sys/kernel/yama/ptrace_scope >/results/yama 2>&1
mkdir -p -m 777 /results/user
perl -e '$) = "1000 1000"; $( = 1000; ($<, $>) = (1000, 1000); exec @ARGV' \
    nrtrace run -q --enforce --backend ptrace -o /results/user/run -- /busybox/sh -c 'echo more >>/srv/readable' \
    >/results/user.out 2>&1
echo $? >/results/user.status
umount /mnt/other

say doctor
nrtrace doctor --color never >/results/doctor 2>&1

# What takes python, and what measures time, is left to the host.
RUST_BACKTRACE=0 PATH=/usr/bin probe-tests --test-threads 1 \
    --skip children_orphans_and_threads --skip a_thread_that_runs --skip numbers_are_those --skip cost:: </dev/null 2>&1 |
    tee /results/probe-tests >"${CONSOLE:-/dev/null}"
