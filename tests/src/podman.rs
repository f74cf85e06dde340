//! The real podman in a sandbox.

/// Bash: podman as it works in a sandbox without systemd, with a store of its own, and nothing of it left at the end.
pub const ENGINE: &str = r#"
    mkdir -p /var/lib/containers; mount -t tmpfs tmpfs /var/lib/containers
    podman() { command podman --runtime ${RUNTIME:-runc} --cgroup-manager cgroupfs --events-backend file --log-level error "$@"; }
    clean() {
        command podman rm -f -a >/dev/null 2>&1 || true
        # Its monitor takes a moment to leave its own group.
        for _ in $(seq 20); do
            find /sys/fs/cgroup -maxdepth 3 -depth -type d -path '*libpod_parent*' -exec rmdir {} + 2>/dev/null && break
            sleep 0.1
        done
    }
    trap clean EXIT
"#;

/// Bash: an image of this machine's own nginx and the libraries it takes, as `nginx`.
pub const NGINX: &str = r#"
    root=/tmp/root
    mkdir -p $root/{etc,usr/sbin,usr/bin,usr/lib,usr/lib64,var/log/nginx,var/cache/nginx,run,tmp,proc,sys,dev,data}
    for link in bin sbin lib lib64; do ln -s usr/$link $root/$link; done
    chmod 1777 $root/tmp
    for program in /usr/sbin/nginx /usr/bin/sleep; do
        install -D $program $root$program
        ldd $program | grep -o '/[^ ]*' | while read -r file; do install -D "$(readlink -f $file)" $root/usr${file#/usr}; done
    done
    printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nweb:x:1000:1000::/:/bin/false\n' >$root/etc/passwd
    printf 'root:x:0:\nnogroup:x:65534:\nnobody:x:65533:\nweb:x:1000:\n' >$root/etc/group
    mkdir $root/etc/nginx
    cat >$root/etc/nginx/nginx.conf <<'END'
worker_processes 1;
error_log stderr;
pid /run/nginx.pid;
events { worker_connections 64; }
http {
    access_log /data/access.log;
    client_body_temp_path /var/cache/nginx/client_temp;
    proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
    server { listen 80; location / { return 200 "served\n"; } }
}
END
    tar -C $root -c . | podman import - nginx >/dev/null
"#;
