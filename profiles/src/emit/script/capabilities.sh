# The capabilities of a file, as setcap takes them: what getcap says after the path, with or without an equals sign.
held() {
    text=$(getcap "$1")
    text=${text#"$1"}
    text=${text# }
    printf %s "${text#= }"
}

# Effective is all that a file has, or nothing of it: capabilities(7).
joins() {
    case $1 in '' | *[=+]e*) return 0 ;; esac
    return 1
}

joined() { printf %s "${1:+$1 }${2%=ep}+ep"; }

# Gives a file capabilities beside those it has, which are kept in another file unless they hold these already.
add_capabilities() {
    before=$(held "$2")
    all=$(joined "$before" "$3")
    if [ ! -e "$1" ] || ! setcap -q -v "$all" "$2" >/dev/null 2>&1; then printf %s "$before" >"$1" || return 1; fi
    setcap -q "$all" "$2"
    setcap -q -v "$all" "$2" >/dev/null
}

# Gives a file the capabilities again that were kept.
restore_capabilities() {
    before=$(cat "$1")
    if [ -n "$before" ]; then
        setcap -q "$before" "$2"
    elif [ -n "$(held "$2")" ]; then
        setcap -q -r "$2"
    fi
}
