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
