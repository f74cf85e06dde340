variables() {
    variables="USER='$1' LOGNAME='$1'"
    home=$(getent passwd "$1" | cut -d: -f6)
    case $home in '' | / | *"'"*) ;; /*) variables="$variables HOME='$home'" ;; esac
    shell=$(getent passwd "$1" | cut -d: -f7)
    case $shell in */nologin | */false | */true | *"'"*) ;; /*) variables="$variables SHELL='$shell'" ;; esac
}
