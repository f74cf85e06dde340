fail() { printf 'apply.sh: %s\n' "$1" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
[ "$(id -u)" = 0 ] || fail 'needs root'
umask 077
mkdir -p "$state"

# A path that goes through a symbolic link could be led elsewhere by whoever owns the link.
straight() {
    at=$1
    while [ "$at" != / ] && [ -n "$at" ]; do
        if [ -L "$at" ]; then
            case $at in
            /var/run | /var/lock | /bin | /sbin | /lib | /lib64) ;;
            *) fail "$at is a symbolic link" ;;
            esac
        fi
        at=${at%/*}
    done
}

# Keeps what is there, once: owner, mode and ACL, or that there is nothing.
remember() {
    [ ! -e "$state/$1" ] || return 0
    straight "$2"
    if [ -e "$2" ]; then
        if has getfacl; then getfacl -cnp -- "$2" >"$state/$1.acl"; fi
        if [ "${3-}" = contents ]; then
            find "$2" -xdev -exec sh -c 'for f; do
                printf "%s\0%s\0%s\0" "$(stat -c %u:%g "$f")" "$(stat -c %a "$f")" "$f"; done' sh {} + >"$state/$1.all"
        fi
        stat -c '%u:%g %a' -- "$2" >"$state/$1.new"
    else
        echo none >"$state/$1.new"
        parents "$1" "${2%/*}"
    fi
    mv "$state/$1.new" "$state/$1"
}

# Makes the directories above a path, and keeps how many there were to make.
parents() {
    made=0
    above=$2
    while [ -n "$above" ] && [ ! -e "$above" ]; do
        made=$((made + 1))
        above=${above%/*}
    done
    echo "$made" >"$state/$1.parents"
    [ "$made" = 0 ] || (umask 022 && mkdir -p -- "$2")
}

own() {
    chown -h -- "$2${3:+:$3}" "$1"
    if [ -n "$4" ]; then chmod -- "$4" "$1"; fi
}

directory() {
    remember "$1" "$2" "${6-}"
    [ -d "$2" ] || mkdir -- "$2"
    own "$2" "$4" "$5" "$3"
    if [ "${6-}" = contents ]; then find "$2" -xdev -exec chown -h -- "$4" {} +; fi
}

file() {
    remember "$1" "$2"
    [ -e "$2" ] || : >"$2"
    [ -f "$2" ] || fail "$2 is not a regular file"
    own "$2" "$4" "$5" "$3"
}

pipe() {
    remember "$1" "$2"
    [ -e "$2" ] || mkfifo -- "$2"
    own "$2" "$4" "$5" "$3"
}

existing() {
    remember "$1" "$2"
    if [ -e "$2" ]; then own "$2" "$4" "$5" "$3"; fi
}

entry() {
    has setfacl || fail 'needs setfacl, of the package acl'
    remember "$1" "$2"
    [ -e "$2" ] || { printf 'apply.sh: %s is not there: no ACL entry set\n' "$2" >&2; return 0; }
    setfacl -m "u:$3:$4" -- "$2"
}

make_group() {
    if grep -q "^$2:" /etc/group; then return 0; fi
    if has groupadd; then
        groupadd -r ${3:+-g "$3"} "$2"
    else
        addgroup -S ${3:+-g "$3"} "$2"
    fi
    : >"$state/group$1"
}

make_user() {
    if grep -q "^$1:" /etc/passwd; then return 0; fi
    if has useradd; then
        useradd -r -M -N -g "$2" -d /nonexistent -s /usr/sbin/nologin ${3:+-u "$3"} "$1"
    else
        adduser -S -D -H -G "$2" -h /nonexistent -s /sbin/nologin ${3:+-u "$3"} "$1"
    fi
    : >"$state/user"
}

join() {
    make_group "$1" "$3" ''
    if id -nG "$2" | tr ' ' '\n' | grep -qx -- "$3"; then return 0; fi
    if has usermod; then usermod -aG "$3" "$2"; else addgroup "$2" "$3"; fi
    : >"$state/$1"
}

parameter() {
    [ -e "$state/$1" ] || sysctl -n "$2" >"$state/$1"
    sysctl -q -w "$2=$3"
}

module() {
    if grep -q "^$(printf %s "$2" | tr - _) " /proc/modules; then return 0; fi
    modprobe -- "$2"
    : >"$state/$1"
}

capabilities() {
    straight "$2"
    joins "$(held "$2")" || fail "$2 has capabilities that are not effective, to which none can be added: see getcap"
    add_capabilities "$state/$1" "$2" "$3" || fail "the capabilities did not take; is the file system mounted nosuid?"
}
