#!/bin/bash
# Installs, on Debian 12, the packages that the end-to-end tests use, or those that are named. Needs root; can be run
# again at any time. Services are kept from starting.
set -euo pipefail

packages=(
    # The services that are traced.
    apache2 bind9 containerd dnsmasq dovecot-imapd etcd-server haproxy knot lighttpd mosquitto nginx openssh-server postgresql
    redis-server squid ssl-cert unbound vsftpd
    # Containers.
    docker.io podman runc conmon containernetworking-plugins golang-github-containers-common
    # What the tests try them and prepare their files with.
    acl busybox-static curl dpkg-dev fish libxml2-utils libcap2-bin lintian procps redis-tools strace systemd util-linux zsh
)
# Those who read what is written.
packages+=(chromium shellcheck)
# kubectl, unless it is there from elsewhere.
command -v kubectl >/dev/null || packages+=(kubernetes-client)

if [ $# -gt 0 ]; then
    packages=("$@")
fi

if [ "$(id -u)" != 0 ]; then
    echo "setup.sh: needs root, to install packages: run it with sudo" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [ "$state" = "ii " ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
    exit 0
fi

# A policy of this machine's own stays as it is; otherwise there is one for as long as this takes, so that no service starts.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
