fail() { printf 'undo.sh: %s\n' "$1" >&2; exit 1; }
tell() { printf 'undo.sh: %s\n' "$1" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
[ "$(id -u)" = 0 ] || fail 'needs root'
[ -d "$state" ] || fail 'nothing to undo: apply.sh was not run here'
left=0

restore() {
    [ -e "$state/$1" ] || return 0
    if [ "$(cat "$state/$1")" = none ]; then
        remove "$1" "$2"
        return 0
    fi
    [ -e "$2" ] && [ ! -L "$2" ] || { tell "$2 is gone"; return 0; }
    if [ -e "$state/$1.all" ]; then
        xargs -0 -n 3 sh -c '[ -e "$3" ] || exit 0; chown -h -- "$1" "$3"; [ -L "$3" ] || chmod -- "$2" "$3"' sh <"$state/$1.all"
    fi
    read -r owner mode <"$state/$1"
    chown -h -- "$owner" "$2"
    chmod -- "$mode" "$2"
    if [ -e "$state/$1.acl" ]; then setfacl --set-file="$state/$1.acl" -- "$2"; fi
}

remove() {
    if [ -d "$2" ] && [ ! -L "$2" ]; then
        rmdir -- "$2" 2>/dev/null || { tell "$2 is not empty: left"; left=1; }
    elif [ -f "$2" ] && [ -s "$2" ]; then
        tell "$2 is not empty: left"
        left=1
    else
        rm -f -- "$2"
    fi
    above=${2%/*}
    made=$(cat "$state/$1.parents" 2>/dev/null || echo 0)
    while [ "$made" -gt 0 ]; do
        rmdir -- "$above" 2>/dev/null || break
        above=${above%/*}
        made=$((made - 1))
    done
}

leave() {
    if [ -e "$state/$1" ]; then
        if has gpasswd; then gpasswd -d "$2" "$3" >/dev/null; else delgroup "$2" "$3"; fi
    fi
    remove_group "$1" "$3"
}

remove_user() {
    [ -e "$state/user" ] || return 0
    if [ "$left" = 1 ]; then
        tell "the user $1 is left: it owns what is left"
        return 0
    fi
    if has userdel; then userdel "$1"; else deluser "$1"; fi
}

remove_group() {
    [ -e "$state/group$1" ] || return 0
    grep -q "^$2:" /etc/group || return 0
    if has groupdel; then groupdel "$2"; else delgroup "$2"; fi || tell "the group $2 is left"
}

restore_parameter() {
    if [ -e "$state/$1" ]; then sysctl -q -w "$2=$(cat "$state/$1")"; fi
}

unload() {
    if [ -e "$state/$1" ]; then modprobe -r -- "$2" || tell "the module $2 is in use: left"; fi
}

take_capabilities() {
    [ -e "$state/$1" ] || return 0
    [ -f "$2" ] || { tell "$2 is gone"; return 0; }
    restore_capabilities "$state/$1" "$2"
}

forget() {
    rm -rf -- "$state"
    rmdir /var/lib/nrtrace 2>/dev/null || true
}
