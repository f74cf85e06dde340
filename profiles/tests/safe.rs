//! What is given to a service's user takes nothing from others, and nobody else runs, loads or obeys it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use nrtrace_profiles::RawText;
use nrtrace_profiles::container::{Container, Mounted, Place};
use nrtrace_profiles::emit::{Format, artefacts, done, remedies};
use nrtrace_profiles::event::Inode;
use nrtrace_profiles::grants::{Choices, FileKind, Grants, Method};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::Requirement;
use nrtrace_profiles::ways::{grants, plan};
use samples::*;

fn plain(mode: u32) -> Inode {
    inode(File, ROOT, ROOT, mode)
}

/// A need to make a file in a directory of root's.
fn made(at: &str) -> Requirement {
    let holder = at.rsplit_once('/').map_or("/", |(holder, _)| if holder.is_empty() { "/" } else { holder });
    path(at, File, &[Create, Write], (holder, root_directory(0o755)))
}

fn written(at: &str, inode: Inode) -> Requirement {
    path(at, File, &[Write], (at, inode))
}

fn read(at: &str, inode: Inode) -> Requirement {
    path(at, File, &[Read], (at, inode))
}

fn of(name: &str, needs: Vec<Requirement>) -> Profile {
    let command = format!("/usr/sbin/{name}");
    profile(name, &[command.as_str()], needs)
}

/// Whether anything is made, given or opened at or above a path.
fn touches(grants: &Grants, path: &str) -> bool {
    let paths = grants.directories.keys().chain(grants.files.keys()).chain(grants.acls.keys());
    paths.into_iter().any(|given| path.starts_with(&given.to_text()))
}

fn refused(grants: &Grants, id: &str) -> String {
    let unmet = grants.unmet.iter().find(|unmet| unmet.need == id);
    unmet.unwrap_or_else(|| panic!("{id} is not refused: {grants:#?}")).reason.clone()
}

/// What others run, load or obey, on a machine with the usual programs.
const OBEYED: &str = "/usr/local/lib/python3.11/dist-packages/mod.py /usr/local/lib/python3.11/dist-packages/__pycache__ \
    /usr/lib/python3/dist-packages/mod2.py /usr/local/bin/tool /usr/lib/x86_64-linux-gnu/libzz.so /etc/cron.d/job \
    /etc/cron.daily/job /etc/sudoers.d/x /etc/profile.d/x.sh /etc/ld.so.conf.d/x.conf /etc/ld.so.preload \
    /etc/systemd/system/x.service /usr/lib/systemd/system/y.service /etc/apt/apt.conf.d/99x /etc/udev/rules.d/9.rules \
    /etc/modprobe.d/x.conf /etc/logrotate.d/x /etc/init.d/x /var/spool/cron/crontabs/root /etc/pam.d/x \
    /etc/rsyslog.d/x.conf /etc/nginx/conf.d/x.conf /etc/tmpfiles.d/x.conf /etc/sysctl.d/x.conf /etc/network/if-up.d/x \
    /etc/dhcp/dhclient-exit-hooks.d/x /opt/bin/x /etc/xdg/autostart/x.desktop /usr/share/perl5/X.pm \
    /usr/local/share/perl/5.36.0/X.pm /etc/ssl/certs/x.pem /usr/local/share/ca-certificates/x.crt /root/.bashrc2 \
    /etc/NetworkManager/dispatcher.d/x /usr/local/sbin/x /usr/lib/tmpfiles.d/q.conf /etc/polkit-1/rules.d/x.rules \
    /usr/share/dbus-1/system-services/x.service /etc/php/8.2/fpm/pool.d/x.conf /usr/lib/systemd/system-generators/x \
    /etc/update-motd.d/x /etc/kernel/postinst.d/x /etc/ppp/ip-up.d/x /etc/X11/Xsession.d/x /etc/shadow /etc/passwd \
    /etc/doas.conf /etc/dbus-1/system.d/x.conf /etc/alternatives/x /etc/default/x /etc/docker/daemon.json \
    /etc/kubernetes/manifests/x.yaml /etc/cni/net.d/x.conf /opt/cni/bin/x /etc/containerd/config.toml /etc/localtime \
    /etc/apparmor.d/x /var/spool/at/x /var/spool/incron/root /var/spool/anacron/x /var/lib/docker/x \
    /var/lib/kubelet/config.yaml /var/lib/containers/x /var/lib/polkit-1/x /var/lib/snapd/x /var/lib/flatpak/x \
    /var/lib/initramfs-tools/x /var/lib/dhcp/x /var/lib/AccountsService/users/x /var/lib/cloud/x /var/lib/waagent/x \
    /usr/libexec/x /usr/local/share/x /usr/local/etc/x /usr/games/x /usr/lib/binfmt.d/x /opt/app/bin/run.sh /snap/bin/x \
    /nix/store/x /efi/EFI/x /home/alice/.ssh/authorized_keys /home/alice/.bashrc /root/.ssh/authorized_keys \
    /lib/x86_64-linux-gnu/libx.so /run/systemd/system/x.service /run/dbus/x /run/docker/x /run/containerd/x \
    /run/user/0/x /run/nologin /run/initctl /run/reboot-required /var/run/docker/x /forcefsck /.autorelabel /.x/y \
    /boot/x /proc/sys/x /sys/x /var/log/auth.log /var/log/journal/x";

#[test]
fn what_others_obey_is_neither_made_nor_given() {
    for at in OBEYED.split_ascii_whitespace() {
        // `app` begins like apparmor, and is none of it.
        for name in ["app", "python3"] {
            for need in [
                made(at),
                written(at, plain(0o644)),
                path(at, Directory, &[Create], ("/", root_directory(0o755))),
            ] {
                if need.need.id() == "path:/forcefsck"
                    && matches!(need.evidence.calls.first(), Some(call) if call == "mkdir")
                {
                    continue;
                }
                let profile = of(name, vec![need]);
                for choices in [
                    Choices::default(),
                    Choices { prefer: vec![Method::Acl, Method::Own], ..Choices::default() },
                ] {
                    let grants = plan(&profile, &choices);
                    assert!(!touches(&grants, at), "{name} is given {at}: {:#?}", grants.files);
                    assert_eq!(grants.unmet.len(), 1, "{at}");
                }
            }
        }
    }
}

#[test]
fn what_is_a_services_own_is_given() {
    let own = [
        ("app", "/run/app.pid"),
        ("app", "/run/app/app.sock.lock"),
        ("app", "/run/lock/app"),
        ("app", "/var/lib/app/state"),
        ("app", "/var/log/app/log"),
        ("app", "/var/log/app.log"),
        ("app", "/var/cache/app/x"),
        ("app", "/var/www/html/x"),
        ("app", "/srv/app/x"),
        ("app", "/tmp/app/x"),
        ("app", "/opt/app/data/x"),
        ("app", "/usr/local/app/logs/x"),
        ("app", "/data/x"),
        ("app", "/home/app/x"),
        ("app", "/etc/app/cache.db"),
        ("appd", "/etc/app.db"),
        ("rsyslogd", "/var/log/syslog"),
        ("dockerd", "/var/lib/docker/x"),
        ("kubelet", "/var/lib/kubelet/x"),
        ("postgres", "/etc/postgresql/x"),
        ("redis-server", "/etc/redis/x"),
    ];
    for (name, at) in own {
        let grants = grants(&of(name, vec![made(at)]));
        assert!(touches(&grants, at), "{name} is not given {at}: {:?}", grants.unmet);
    }
}

#[test]
fn a_program_that_others_run_is_not_made_writable() {
    let at = "/srv/app/run";
    let grants = grants(&of("app", vec![written(at, plain(0o755))]));
    assert_eq!(refused(&grants, "path:/srv/app/run"), "it is a program, which others run");
    assert!(!touches(&grants, at));
}

#[test]
fn what_belongs_to_another_service_never_changes_hands() {
    let theirs = |at: &str| {
        inode(File, ("www-data", 33), ("www-data", 33), if at.ends_with("key") { 0o600 } else { 0o644 })
    };
    for prefer in [vec![], vec![Method::Own], vec![Method::Acl], vec![Method::Make], vec![Method::Group]] {
        let choices = Choices { prefer, ..Choices::default() };
        let at = "/srv/site/index";
        let in_it = inode(Directory, ("www-data", 33), ("www-data", 33), 0o755);
        let needs =
            vec![written(at, theirs(at)), path("/srv/site/new", File, &[Create], ("/srv/site", in_it))];
        let grants = plan(&of("app", needs), &choices);
        assert!(!touches(&grants, at), "{choices:?}: {grants:#?}");
        assert_eq!(grants.unmet.len(), 2);
    }
}

/// The directory changes its time, which takes its owner; files of others lie below.
fn job() -> Profile {
    let alice = |file_type, mode| inode(file_type, ("alice", 1001), ("alice", 1001), mode);
    let postgres = inode(File, ("www-data", 33), ("www-data", 33), 0o600);
    of(
        "job",
        vec![
            path("/srv/data", Directory, &[Own], ("/srv/data", root_directory(0o755))),
            path("/srv/data/alice", Directory, &[Search], ("/srv/data/alice", alice(Directory, 0o700))),
            read("/srv/data/alice/key", alice(File, 0o600)),
            read("/srv/data/pg/V", postgres),
            written("/srv/data/ours", plain(0o644)),
        ],
    )
}

#[test]
fn owning_a_directory_takes_nothing_from_those_who_keep_files_in_it() {
    let profile = job();
    let grants = grants(&profile);
    let owned: Vec<String> = grants.directories.keys().map(RawText::to_text).collect();
    assert_eq!(owned, ["/srv/data"]);
    assert_eq!(grants.files.keys().map(RawText::to_text).collect::<Vec<_>>(), ["/srv/data/ours"]);
    for id in ["path:/srv/data/alice", "path:/srv/data/alice/key", "path:/srv/data/pg/V"] {
        assert!(refused(&grants, id).contains("belongs to the user"), "{:?}", grants.unmet);
    }
    for emitted in artefacts(&profile) {
        let recursive = |line: &str| {
            let line = line.trim_start();
            !line.starts_with('#')
                && (line.starts_with("Z ")
                    || line.starts_with("A") && line.contains(" u:")
                    || line.contains("chown -R"))
        };
        assert!(!emitted.text.lines().any(recursive), "{}: {}", emitted.file_name, emitted.text);
    }
}

#[test]
fn secrets_are_not_opened_without_a_warning() {
    let closed = [
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/sudoers",
        "/etc/wireguard/wg0.conf",
        "/etc/ssh/ssh_host_rsa_key",
        "/root/.ssh/id_rsa",
        "/home/alice/.ssh/id_rsa",
    ];
    for at in closed {
        let profile = of("app", vec![read(at, plain(0o600))]);
        for prefer in [vec![], vec![Method::Acl], vec![Method::Own]] {
            let grants = plan(&profile, &Choices { prefer, ..Choices::default() });
            assert!(!touches(&grants, at) && grants.credentials.is_empty(), "{at}");
            refused(&grants, &format!("path:{at}"));
        }
        let handed = plan(&profile, &Choices { prefer: vec![Method::Credential], ..Choices::default() });
        assert_eq!(handed.credentials.len(), 1, "{at}");
    }
    let at = "/etc/ssl/private/site.key";
    let grants = grants(&of("app", vec![read(at, plain(0o600))]));
    assert!(grants.acls[&at.into()].caution.is_some());
    let tmpfiles = Format::Tmpfiles.emit(&of("app", vec![]), &grants).text;
    assert!(tmpfiles.contains("# Note: it looks like a credential"), "{tmpfiles}");
}

#[test]
fn a_home_is_passed_through_only_for_what_is_granted_in_it() {
    for (home, file) in [("/root", "/root/app.conf"), ("/home/alice", "/home/alice/app.conf")] {
        let search = || path(home, Directory, &[Search], (home, root_directory(0o700)));
        let grants = grants(&of("app", vec![search()]));
        assert!(!touches(&grants, home), "{grants:#?}");
        refused(&grants, &format!("path:{home}"));
        let listed = nrtrace_profiles::ways::grants(&of(
            "app",
            vec![path(home, Directory, &[Read], (home, root_directory(0o700)))],
        ));
        assert!(!touches(&listed, home));
        if home == "/home/alice" {
            let both = nrtrace_profiles::ways::grants(&of("app", vec![search(), read(file, plain(0o640))]));
            assert_eq!(both.acls[&home.into()].bits, 1);
        }
    }
}

#[test]
fn files_in_shared_directories_bear_a_name_of_their_own() {
    let mut profile = k0s();
    profile.requirements.extend(nginx().requirements);
    for emitted in artefacts(&profile) {
        if let Some((directory, name)) =
            emitted.file_name.split_once('/').filter(|(d, _)| !d.ends_with(".service.d"))
        {
            assert!(name.starts_with("nrtrace-"), "{directory}/{name}");
        }
    }
}

#[test]
fn an_attribute_of_the_kernel_is_opened_by_its_mode() {
    let at = "/sys/module/page_alloc/parameters/shuffle";
    let profile = of("exporter", vec![read(at, plain(0o400))]);
    let grants = grants(&profile);
    assert_eq!(grants.files[&at.into()].kind, FileKind::Attribute);
    let text = Format::Tmpfiles.emit(&profile, &grants).text;
    assert!(text.contains(&format!("\nz {at} 0440 root exporter -\n")), "{text}");
    // What is written there is the kernel's matter.
    let grants = nrtrace_profiles::ways::grants(&of("exporter", vec![written(at, plain(0o600))]));
    assert!(!touches(&grants, at));
}

#[test]
fn what_a_run_with_a_made_up_user_left_counts_as_not_there() {
    let left = |file_type, mode| Inode {
        user: None,
        group: None,
        ..inode(file_type, ("", 61184), ("", 61184), mode)
    };
    let mut profile = of(
        "mysqld",
        vec![
            path("/var/lib/app", Directory, &[Search, Write], ("/var/lib/app", left(Directory, 0o770))),
            written("/run/app.pid", left(File, 0o660)),
        ],
    );
    profile.identity = nrtrace_profiles::event::Identity {
        user: "mysql".into(),
        group: "mysql".into(),
        uid: 110,
        gid: 110,
        groups: vec![],
        exists: true,
    };
    let grants = grants(&profile);
    assert!(grants.groups.is_empty(), "{:?}", grants.groups);
    assert!(!grants.directories[&"/var/lib/app".into()].existed);
    assert!(!grants.files[&"/run/app.pid".into()].existed);
    assert!(grants.present_owners.is_empty());
}

#[test]
fn a_container_shares_its_image_with_nobody() {
    let mut missing = path("/var", Directory, &[Create], ("/", root_directory(0o755)));
    missing.evidence.objects.insert("/var/run/x".into());
    let mut profile = of("app", vec![missing]);
    profile.container = Some(Container {
        mounts: vec![Mounted {
            at: "/".into(),
            place: Place::Image,
            volume: None,
            host: None,
            read_only: false,
        }],
        ..Container::default()
    });
    let grants = grants(&profile);
    assert!(grants.directories.contains_key(&"/var/run/x".into()), "{grants:#?}");
    assert!(!touches(&grants, "/var/log"));
    let own = of("app", vec![made("/etc/other/cache")]);
    let inside = Profile { container: profile.container.clone(), ..own.clone() };
    assert!(!touches(&nrtrace_profiles::ways::grants(&own), "/etc/other/cache"));
    assert!(touches(&nrtrace_profiles::ways::grants(&inside), "/etc/other/cache"));
}

#[test]
fn no_option_is_named_that_nobody_gave() {
    let mut profile = of("app", vec![]);
    profile.identity.groups = vec![0];
    profile.container = Some(Container::default());
    let grants = grants(&profile);
    assert!(!grants.unmet[0].hint.contains("--groups"), "{:?}", grants.unmet);
}

#[test]
fn the_group_of_a_socket_is_joined_by_who_asks_for_groups() {
    let at = "/run/docker.sock";
    let need = path(at, Socket, &[Write], (at, inode(Socket, ROOT, ("docker", 999), 0o660)));
    let profile = of("app", vec![need]);
    refused(&grants(&profile), "path:/run/docker.sock");
    let grants = plan(&profile, &Choices { prefer: vec![Method::Group], ..Choices::default() });
    assert!(grants.groups["docker"].caution.is_some());
    assert!(done(&grants, &profile.requirements[0])[0].text.contains("note:"));
}

#[test]
fn what_amounts_to_much_is_withheld_until_a_trial_has_failed_without() {
    use nrtrace_profiles::Capability;
    use nrtrace_profiles::emit::Treatment;
    use nrtrace_profiles::requirement::{Finding, Proof};
    let mut profile = of("k0s", vec![capability(Capability::BPF), capability(Capability::SYS_TIME)]);
    let of_files = |profile: &Profile| {
        artefacts(profile)
            .into_iter()
            .filter(|emitted| {
                let live = emitted.text.lines().filter(|line| !line.trim_start().starts_with('#'));
                emitted.file_name.contains(".service.d")
                    && live.into_iter().any(|line| line.contains("CAP_BPF"))
            })
            .count()
    };
    assert_eq!(of_files(&profile), 0);
    let grants = grants(&profile);
    assert_eq!(done(&grants, &profile.requirements[0])[0].verdict, Treatment::Withheld);
    assert!(grants.capabilities.contains_key(&Capability::SYS_TIME));
    // For the trials that are to prove it, and when they have.
    assert!(
        plan(&profile, &Choices { prove: true, ..Choices::default() })
            .capabilities
            .contains_key(&Capability::BPF)
    );
    let proof = |finding| Proof {
        finding,
        failed: 1,
        lived: 0,
        without: None,
        together: Default::default(),
        tolerated: Default::default(),
    };
    profile.requirements[0].proof = Some(proof(Finding::Granted));
    assert_eq!(of_files(&profile), 0);
    profile.requirements[0].proof = Some(proof(Finding::Removal));
    assert_eq!(of_files(&profile), 1);
}

#[test]
fn a_capability_that_the_program_is_known_to_go_on_without_is_withheld() {
    use nrtrace_profiles::Capability;
    use nrtrace_profiles::knowledge::Library;
    let mut profile = of("squid", vec![capability(Capability::NET_RAW)]);
    Library::built_in().annotate(&mut profile);
    let grants = grants(&profile);
    assert!(grants.capabilities.is_empty());
    assert!(
        grants.withheld[0].reason.contains("squid is known to go on without it"),
        "{:?}",
        grants.withheld
    );
}

#[test]
fn advice_names_another_place_than_the_one_that_was_refused() {
    use nrtrace_profiles::knowledge::Library;
    let at = |paths: &[&str]| paths.iter().map(|path| made(path)).collect::<Vec<_>>();
    let cases = [
        ("nginx", at(&["/var/lib/nginx/body", "/run/nginx.pid", "/var/log/nginx/access.log"])),
        ("squid", at(&["/var/log/squid/access.log", "/var/spool/squid/x", "/var/log/squid/cache.log"])),
        ("redis-server", at(&["/var/lib/redis/dump.rdb", "/run/redis/redis-server.pid"])),
        ("etcd", at(&["/var/lib/etcd/member", "/default.etcd/x"])),
        ("k0s", at(&["/var/lib/k0s/x"])),
        ("haproxy", at(&["/run/haproxy/admin.sock"])),
        ("unbound", at(&["/var/lib/unbound/root.key"])),
    ];
    for (name, needs) in cases {
        let mut profile = of(name, needs);
        Library::built_in().annotate(&mut profile);
        let grants = grants(&profile);
        for requirement in &profile.requirements {
            let path = requirement.id.strip_prefix("path:").unwrap();
            for way in remedies(&grants, requirement) {
                let known = way.source.is_some();
                assert!(!known || !way.text.contains(path), "{name}: {}", way.text);
            }
        }
    }
}

#[test]
fn what_a_program_is_known_to_end_without_is_a_need_though_it_only_asks() {
    use nrtrace_profiles::knowledge::Library;
    use nrtrace_profiles::requirement::Severity;
    let at = "/var/cache/bind";
    let mut need = path(at, Directory, &[Write], (at, inode(Directory, ROOT, ("bind", 110), 0o755)));
    need.severity = Severity::Probe;
    need.evidence.calls = ["access".to_owned()].into();
    let mut profile = of("named", vec![need]);
    assert!(!touches(&grants(&profile), at));
    Library::built_in().annotate(&mut profile);
    assert!(touches(&grants(&profile), at));
}

#[test]
fn what_was_only_asked_about_is_one_line() {
    use nrtrace_profiles::emit::{View, table};
    use nrtrace_profiles::requirement::Severity;
    let mut profile =
        of("rabbitmq", (0..168).map(|n| written(&format!("/usr/lib/x{n}"), plain(0o644))).collect());
    for need in &mut profile.requirements {
        need.evidence.calls = ["faccessat2".to_owned()].into();
        need.severity = Severity::Probe;
    }
    profile.requirements.push(made("/run/app.pid"));
    let grants = grants(&profile);
    assert_eq!((grants.unmet.len(), grants.optional.len()), (0, 1));
    let table = table(&profile, &grants, &View { width: Some(80), ..View::PLAIN });
    assert!(table.lines().count() < 25 && table.contains("nothing followed: 168"), "{table}");
}

/// Who may write in a directory decides what others run from it.
#[test]
fn a_directory_with_programs_of_others_is_not_given_away() {
    let lib = "/var/lib/watcher";
    let holder = || (lib, root_directory(0o755));
    let state = |name: &str| path(&format!("{lib}/{name}"), File, &[Create, Delete], holder());
    let mut watcher = of("watcher", vec![state("state"), state("id")]);
    assert!(grants(&watcher).directories.contains_key(&RawText::from(lib)));
    watcher.programs = vec![lib.into()];
    let plan = grants(&watcher);
    assert!(plan.directories.is_empty(), "{plan:#?}");
    let files: Vec<String> = plan.files.keys().map(RawText::to_text).collect();
    assert_eq!(files, ["/var/lib/watcher/id", "/var/lib/watcher/state"]);
    watcher.requirements = vec![path(lib, Directory, &[Write], holder())];
    refused(&grants(&watcher), "path:/var/lib/watcher");
}

/// run-parts(8) and its kind run all that a directory holds.
#[test]
fn nothing_is_put_beside_programs_that_others_run() {
    let hooks = "/etc/hooky/hooks.d";
    let mut hooky = of("hooky", vec![made(&format!("{hooks}/20-x"))]);
    assert!(!touches(&grants(&hooky), "/etc/shadow"));
    hooky.programs = vec![hooks.into()];
    let plan = grants(&hooky);
    refused(&plan, &format!("path:{hooks}/20-x"));
    assert!(plan.files.is_empty() && plan.directories.is_empty(), "{plan:#?}");
}

/// Its mode is what keeps the files in it, whatever their own modes are.
#[test]
fn a_directory_that_another_keeps_for_itself_is_not_opened() {
    let listed = |mode: u32| {
        let directory = inode(Directory, ("alpha", 61_999), ("alpha", 61_999), mode);
        let need = path("/var/lib/alpha", Directory, &[Read], ("/var/lib/alpha", directory));
        grants(&of("ww", vec![need]))
    };
    refused(&listed(0o700), "path:/var/lib/alpha");
    assert!(listed(0o700).acls.is_empty() && !listed(0o750).acls.is_empty());
}
