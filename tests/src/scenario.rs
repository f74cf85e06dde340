//! The scenarios: fixture tracees, one for each thing a program may need, and exactly what each must be found to need.

/// Files every fixture finds: see the `fixture` program.
pub const PREPARE: &str =
    "mkdir -m 755 /srv/guarded; echo data >/srv/guarded/file; chmod 644 /srv/guarded/file";

/// The usual single need.
pub const WRITE: &str = "path:/srv/guarded/file [write] file";

/// Hands the table to the macro `$do`, in rows of the form `name: [words] after "preparation" => [required needs];`.
///
/// Words are what the `fixture` program is called with, the preparation is made by root in bash after [`PREPARE`], and
/// needs are written as [`line`](crate::compare::line) does.
#[macro_export]
macro_rules! scenarios {
    ($do:ident) => {
        $do! {
            what_is_allowed_is_no_need: ["read", "/srv/guarded/file", "/etc/passwd", "/dev/null"] after "" => [];
            write: ["write", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            append: ["append", "/srv/guarded/file"] after "" => ["path:/srv/guarded/file [append] file"];
            read: ["read", "/srv/guarded/file"] after "chmod 600 /srv/guarded/file"
                => ["path:/srv/guarded/file [read] file"];
            read_and_write: ["read-write", "/srv/guarded/file"] after "chmod 600 /srv/guarded/file"
                => ["path:/srv/guarded/file [read write] file"];
            create: ["create", "/srv/guarded/new"] after "" => ["path:/srv/guarded/new [create] file"];
            create_through_a_link: ["create", "/srv/alias/new"] after "ln -s guarded /srv/alias"
                => ["path:/srv/guarded/new [create] file"];
            list: ["list", "/srv/guarded"] after "chmod 711 /srv/guarded" => ["path:/srv/guarded [read] directory"];
            search: ["look", "/srv/guarded/inner/a", "/srv/guarded/inner/b"]
                after "mkdir /srv/guarded/inner; touch /srv/guarded/inner/{a,b}; chmod 700 /srv/guarded"
                => ["path:/srv/guarded [search] directory"];
            unlink: ["unlink", "/srv/guarded/file"] after "" => ["path:/srv/guarded/file [delete] file"];
            unlink_what_is_somebody_elses: ["unlink", "/tmp/theirs"] after "touch /tmp/theirs"
                => ["path:/tmp/theirs [own] file"];
            truncate: ["truncate", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            set_times: ["touch", "/srv/guarded/file"] after "chmod 666 /srv/guarded/file"
                => ["path:/srv/guarded/file [own] file"];
            make_directory_and_set_its_mode: ["make-and-own"] after "mkdir -m 755 /srv/guarded/there"
                => ["path:/srv/guarded/there [own] directory"];
            symlink: ["symlink"] after "" => ["path:/srv/guarded/link [create] symlink"];
            hard_link: ["link"] after "mkdir -m 1777 /srv/open" => ["path:/srv/guarded/hard [create] file"];
            unix_socket: ["socket"] after "" => ["path:/run/fixture.sock [create] socket"];
            temporary_name_then_rename: ["rename"] after "" => ["path:/srv/guarded [write] directory"];
            random_name: ["random-name"] after ""
                => ["path:/run/k0s-*-kubelet-bootstrap-kubeconfig [create delete] file"];
            openat2: ["openat2", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            the_32_bit_entry: ["int80", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            device: ["read-write", "/dev/guarded"] after "" => ["device:/dev/guarded [read write] char-device"];
            device_of_a_group: ["read", "/dev/guarded"] after "chmod 660 /dev/guarded; chgrp kmem /dev/guarded"
                => ["device:/dev/guarded [read] char-device"];
            executable: ["spawn", "/srv/guarded/program"] after "install -m 700 /bin/true /srv/guarded/program"
                => ["path:/srv/guarded/program [execute] file"];
            executable_that_cannot_be_read: ["spawn", "/srv/guarded/program"]
                after "install -m 711 /bin/true /srv/guarded/program" => [];
            executable_with_capabilities: ["spawn", "/opt/tool", "read", "/etc/passwd"]
                after "install -m 755 $BIN/fixture /opt/tool; setcap cap_net_raw=ep /opt/tool" => ["exec:/opt/tool"];
            file_behind_a_descriptor: ["again", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            created_below_a_descriptor: ["below", "/srv/guarded", "new"] after ""
                => ["path:/srv/guarded/new [create] file"];
            mode_by_a_descriptor: ["mode-again", "/srv/guarded/file"] after ""
                => ["path:/srv/guarded/file [own] file"];
            times_of_others: ["read-no-atime", "/srv/guarded/file"] after "" => [];
            times_of_what_all_write: ["touch-now", "/srv/guarded/file"] after "chmod 666 /srv/guarded/file" => [];
            bounding_set: ["bounding-set"] after "" => ["capability:CAP_SETPCAP"];
            file_by_its_handle: ["handle"] after "" => ["capability:CAP_DAC_READ_SEARCH"];
            echo_socket: ["echo-socket"] after "echo 1 0 >/proc/sys/net/ipv4/ping_group_range"
                => ["sysctl:net.ipv4.ping_group_range"];
            signal_to_its_group: ["signal-group"] after "" => [];
            ports: ["ports"] after "" => ["port:tcp:127.0.0.1:81", "port:tcp:::1:82", "port:udp:0.0.0.0:83"];
            raw_socket: ["raw-socket"] after "" => ["capability:CAP_NET_RAW"];
            device_node_made: ["node"] after "" => ["capability:CAP_MKNOD"];
            nice_value: ["priority"] after "" => ["limit:nice"];
            real_time_policy: ["real-time"] after "" => ["limit:scheduling"];
            locked_memory: ["lock"] after "" => ["limit:locked-memory"];
            signal_to_another_user: ["signal-init"] after "" => ["capability:CAP_KILL"];
            mount: ["mount"] after "" => ["kernel:mount:CAP_SYS_ADMIN:/tmp/mounted"];
            chroot: ["chroot"] after "" => ["kernel:chroot:CAP_SYS_CHROOT:/tmp/jail"];
            sysctl: ["sysctl"] after "" => ["sysctl:net.ipv4.ip_forward"];
            identity_is_kept: ["become", "33", "/srv/guarded/file"] after ""
                => ["identity:set-group:33", "identity:set-groups:33", "identity:set-user:33", $crate::scenario::WRITE];
            gifts_are_kept: ["give", "33", "/tmp/own"] after "" => ["identity:chown:33,33:/tmp/own"];
            thread_that_executes: ["thread-exec", "write", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
            vfork: ["spawn", "/opt/nrtrace/bin/fixture", "write", "/srv/guarded/file"] after "" => [$crate::scenario::WRITE];
        }
    };
}

/// Where a scenario runs: an overlay upon an overlay gives no handles of files.
pub fn place(words: &[&str]) -> &'static str {
    if words.first() == Some(&"handle") { "--in-place" } else { "" }
}
