//! The controller: pre-flight, directories, certificates, components, and then the worker.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::User;

use crate::files::{atomic, certificate, give, init_dir, random};
use crate::{Vars, is_root, worker};

/// Runs until it is told to stop.
pub fn run(vars: &Vars, words: &[String]) -> Result<()> {
    pre_flight();
    configuration()?;
    for (directory, mode) in [
        (vars.data.clone(), 0o755),
        (vars.run.clone(), 0o755),
        (vars.data.join("bin"), 0o755),
        (vars.data.join("pki"), 0o751),
    ] {
        init_dir(&directory, mode)?;
    }
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(vars.run.join("k0s.yaml.lock"))?;
    let _lock =
        Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).context("lock")?;
    fs::write(vars.run.join("k0s.yaml"), "runtime\n")?;
    certificates(vars)?;
    let mut children = Vec::new();
    init_components(vars)?;
    let status = status_socket(vars)?;
    start(vars, &mut children)?;
    manifests(vars)?;
    if words.iter().any(|word| word == "--enable-worker") {
        worker::run(vars, &mut children)?;
    }
    serve(&status);
    for mut child in children {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    fs::remove_file(vars.run.join("status.sock"))?;
    fs::remove_file(vars.run.join("k0s.yaml"))?;
    Ok(())
}

/// What cannot be found out counts as unknown for who is not root.
fn pre_flight() {
    let _ = fs::read_dir("/proc");
    let _ = fs::read("/proc/config.gz");
    for name in ["devices", "freezer"] {
        let group = format!("/sys/fs/cgroup/k0s-{name}-detection-{}", random());
        if fs::create_dir(&group).is_ok() {
            let _ = fs::remove_dir(&group);
        }
    }
}

fn configuration() -> Result<()> {
    match fs::read("/etc/k0s/k0s.yaml") {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("/etc/k0s/k0s.yaml"),
        _ => Ok(()),
    }
}

/// A user of the system, root where there is none of that name.
fn user(name: &str) -> u32 {
    User::from_name(name).ok().flatten().map_or(0, |user| user.uid.as_raw())
}

fn certificates(vars: &Vars) -> Result<()> {
    let pki = vars.data.join("pki");
    let api = user("kube-apiserver");
    certificate(&pki, "ca", api)?;
    certificate(&pki, "front-proxy-ca", 0)?;
    certificate(&pki, "front-proxy-client", api)?;
    certificate(&pki, "admin", 0)?;
    // Root is asked for in so many words, so that a refusal is fatal.
    atomic(&pki.join("admin.conf"), 0o600, Some(0))?;
    for name in ["sa.key", "sa.pub"] {
        atomic(&pki.join(name), 0o640, None)?;
        give(&pki.join(name), api, 0o640)?;
    }
    certificate(&pki, "konnectivity", user("konnectivity-server"))?;
    atomic(&pki.join("konnectivity.conf"), 0o640, Some(user("konnectivity-server")))?;
    certificate(&pki, "ccm", api)?;
    atomic(&pki.join("ccm.conf"), 0o600, Some(api))?;
    certificate(&pki, "scheduler", user("kube-scheduler"))?;
    atomic(&pki.join("scheduler.conf"), 0o600, Some(user("kube-scheduler")))?;
    for name in ["apiserver-kubelet-client", "server", "k0s-api"] {
        certificate(&pki, name, api)?;
    }
    Ok(())
}

fn init_components(vars: &Vars) -> Result<()> {
    let etcd = user("etcd");
    for (directory, mode) in [(vars.data.join("etcd"), 0o700), (vars.data.join("pki/etcd"), 0o711)] {
        init_dir(&directory, mode)?;
        give(&directory, etcd, mode)?;
    }
    for name in ["ca", "server", "peer"] {
        certificate(&vars.data.join("pki/etcd"), name, etcd)?;
    }
    certificate(&vars.data.join("pki"), "apiserver-etcd-client", user("kube-apiserver"))?;
    init_dir(&vars.run.join("konnectivity-server"), 0o755)?;
    give(&vars.run.join("konnectivity-server"), user("konnectivity-server"), 0o755)?;
    atomic(&vars.data.join("konnectivity.conf"), 0o644, None)
}

fn status_socket(vars: &Vars) -> Result<UnixListener> {
    let path = vars.run.join("status.sock");
    if UnixStream::connect(&path).is_err() {
        let _ = fs::remove_file(&path);
    }
    UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))
}

/// Puts a component's program in place; it is this one under another name.
pub fn stage(vars: &Vars, name: &str) -> Result<std::path::PathBuf> {
    let path = vars.data.join("bin").join(name);
    if !path.exists() {
        let temporary = vars.data.join("bin").join(format!(".{name}.{}.tmp", random()));
        fs::copy("/proc/self/exe", &temporary)?;
        fs::set_permissions(&temporary, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
        fs::rename(&temporary, &path)?;
    }
    Ok(path)
}

/// Starts a component. Only root starts it as another user.
pub fn supervise(vars: &Vars, name: &str, arguments: &[String], as_user: Option<&str>) -> Result<Child> {
    let pid_file = vars.run.join(format!("{name}.pid"));
    let _ = fs::read(&pid_file);
    let mut command = Command::new(stage(vars, name)?);
    command.args(arguments).current_dir(&vars.data).env("_K0S_MANAGED", "yes");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", vars.data.join("bin").display()));
    if let Some(name) = as_user.filter(|_| is_root()) {
        use std::os::unix::process::CommandExt;
        command.gid(0).uid(user(name));
    }
    let child = command.spawn().with_context(|| format!("start {name}"))?;
    // A pid file that cannot be written is worth a warning.
    let _ = fs::write(pid_file, child.id().to_string());
    Ok(child)
}

fn start(vars: &Vars, children: &mut Vec<Child>) -> Result<()> {
    let at = |name: &str, path: &Path| format!("{name}={}", path.display());
    let data = &vars.data;
    let pki = |name: &str| data.join("pki").join(name);
    let components: [(&str, Vec<String>, &str); 5] = [
        (
            "etcd",
            vec![at("--data-dir", &data.join("etcd")), at("--key-file", &pki("etcd/server.key"))],
            "etcd",
        ),
        (
            "kube-apiserver",
            vec![
                at("--tls-private-key-file", &pki("server.key")),
                at("--service-account-key-file", &pki("sa.pub")),
            ],
            "kube-apiserver",
        ),
        (
            "kube-controller-manager",
            vec![
                at("--service-account-private-key-file", &pki("sa.key")),
                at("--kubeconfig", &pki("ccm.conf")),
            ],
            "kube-apiserver",
        ),
        ("kube-scheduler", vec![at("--kubeconfig", &pki("scheduler.conf"))], "kube-scheduler"),
        (
            "konnectivity-server",
            vec![at("--uds-name", &vars.run.join("konnectivity-server/konnectivity-server.sock"))],
            "konnectivity-server",
        ),
    ];
    for (name, arguments, as_user) in components {
        children.push(supervise(vars, name, &arguments, Some(as_user))?);
    }
    Ok(())
}

fn manifests(vars: &Vars) -> Result<()> {
    for name in ["", "coredns", "kubeproxy", "kuberouter", "metrics", "metricserver", "konnectivity"] {
        init_dir(&vars.data.join("manifests").join(name), 0o755)?;
        if !name.is_empty() {
            atomic(&vars.data.join("manifests").join(name).join(format!("{name}.yaml")), 0o644, None)?;
        }
    }
    // Tool links are made anew at each start.
    for name in
        ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"]
    {
        let link = vars.data.join("bin").join(name);
        let _ = fs::remove_file(&link);
        symlink("xtables-nft-multi", &link).with_context(|| format!("link {}", link.display()))?;
    }
    let helm = std::env::temp_dir().join(format!("k0s-helm-{}", random()));
    fs::create_dir(&helm).with_context(|| format!("mkdir {}", helm.display()))?;
    fs::remove_dir(&helm)?;
    Ok(())
}

/// Answers on the status socket until a signal ends it.
fn serve(status: &UnixListener) {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    let blocked = set.thread_block().is_ok();
    let listener = status.try_clone();
    if let Ok(listener) = listener {
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 64]);
                let _ = stream.write_all(b"ok\n");
            }
        });
    }
    if blocked {
        let _ = set.wait();
    }
}
