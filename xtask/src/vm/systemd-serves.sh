#!/bin/bash
# Whether a service serves: $1 names it. Bash's own client sends something, and looks at the answer.

# Sends $2 to port $1, and prints the first line of the answer.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf "$2" >&3
    timeout 10 head -n 1 <&3
}

case $1 in
nginx | lighttpd) ask 80 'GET / HTTP/1.0\r\n\r\n' | grep -q 'HTTP/1.* 200' ;;
vsftpd) ask 21 '' | grep -q '^220' ;;
redis-server) ask 6379 'PING\r\n' | grep -q PONG ;;
dnsmasq)
    # A question for localhost, over TCP: its length, then it; the answer holds 127.0.0.1.
    exec 3<>/dev/tcp/127.0.0.1/53 || exit 1
    printf '\0\033\0\7\1\0\0\1\0\0\0\0\0\0\tlocalhost\0\0\1\0\1' >&3
    timeout 10 head -c 45 <&3 | od -An -tx1 | tr -d ' \n' | grep -q 7f000001
    ;;
*) exit 2 ;;
esac
