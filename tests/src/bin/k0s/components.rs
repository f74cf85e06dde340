//! The supervised components, as far as their calls at the start matter.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use crate::files::random;
use crate::option;

/// Runs the component of that name until a signal ends it.
pub fn run(name: &str, words: &[String]) -> Result<()> {
    let keys = words.iter().filter_map(|word| word.split_once('='));
    for (_, path) in keys.filter(|(option, _)| option.ends_with("key-file") || option.ends_with("kubeconfig"))
    {
        fs::read(path).with_context(|| format!("read {path}"))?;
    }
    match name {
        "etcd" => etcd(option(words, "--data-dir").unwrap_or("default.etcd"))?,
        "kube-apiserver" => api_server(words)?,
        "kube-controller-manager" => controller_manager(words)?,
        "kube-scheduler" => self_signed(words)?,
        "konnectivity-server" => socket(option(words, "--uds-name"))?,
        "containerd" => containerd(words)?,
        "kubelet" => kubelet(words)?,
        _ => bail!("there is no component {name}"),
    }
    idle()
}

/// Waits for a signal.
pub fn idle() -> ! {
    loop {
        nix::unistd::pause();
    }
}

fn etcd(data: &str) -> Result<()> {
    fs::create_dir_all(Path::new(data).join("member/wal")).with_context(|| format!("mkdir {data}"))?;
    fs::write(Path::new(data).join("member/wal/0.wal"), "log\n")?;
    let _listener = TcpListener::bind("127.0.0.1:2379");
    std::mem::forget(_listener);
    Ok(())
}

fn api_server(words: &[String]) -> Result<()> {
    let port: u16 = option(words, "--secure-port").unwrap_or("6443").parse()?;
    if option(words, "--tls-private-key-file").is_none() {
        let directory = option(words, "--cert-dir").unwrap_or("/var/run/kubernetes");
        self_signed(&[format!("--cert-dir={directory}")])?;
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).context("failed to listen")?;
    std::mem::forget(listener);
    Ok(())
}

/// A certificate of its own, where none is given and a directory is.
fn self_signed(words: &[String]) -> Result<()> {
    if let Some(directory) = option(words, "--cert-dir") {
        fs::create_dir_all(directory).with_context(|| format!("mkdir {directory}"))?;
        fs::write(Path::new(directory).join("server.key"), "key\n")?;
    }
    Ok(())
}

/// What it cannot make of the plugin directory it logs, and goes on.
fn controller_manager(words: &[String]) -> Result<()> {
    self_signed(words)?;
    let plugins = option(words, "--flex-volume-plugin-dir");
    let plugins = plugins.unwrap_or("/usr/libexec/kubernetes/kubelet-plugins/volume/exec/");
    if let Err(error) = fs::create_dir_all(plugins) {
        eprintln!("Error initializing dynamic plugin prober: {error}");
    }
    Ok(())
}

fn socket(path: Option<&str>) -> Result<()> {
    let path = path.context("which socket?")?;
    let _ = fs::remove_file(path);
    std::mem::forget(UnixListener::bind(path).with_context(|| format!("listen on {path}"))?);
    Ok(())
}

/// Besides what it is told, it has directories of its own in places that are built in; that of its options it can do without.
fn containerd(words: &[String]) -> Result<()> {
    let _ = ["/opt/containerd/bin", "/opt/containerd/lib"].map(fs::create_dir_all);
    fs::create_dir_all("/run/containerd").context("mkdir /run/containerd")?;
    if let Err(error) = fs::create_dir("/run/nri").and_then(|()| UnixListener::bind("/run/nri/nri.sock")) {
        eprintln!("NRI interface is not served: {error}");
    }
    for name in ["--root", "--state"] {
        let directory = option(words, name).context("where?")?;
        fs::create_dir_all(directory).with_context(|| format!("mkdir {directory}"))?;
    }
    socket(option(words, "--address"))
}

/// It warns of what it may not set, and ends when it cannot mount.
fn kubelet(words: &[String]) -> Result<()> {
    let root = option(words, "--root-dir").unwrap_or("/var/lib/kubelet");
    fs::create_dir_all(root).with_context(|| format!("mkdir {root}"))?;
    if let Some(plugins) = option(words, "--volume-plugin-dir")
        && let Err(error) = fs::create_dir_all(plugins)
    {
        eprintln!("Failed to create the plugin directory: {error}");
    }
    for (path, value) in [
        ("/proc/self/oom_score_adj", "-999"),
        ("/proc/sys/vm/overcommit_memory", "1"),
        ("/proc/sys/kernel/panic", "10"),
    ] {
        if let Err(error) =
            OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()))
        {
            eprintln!("Failed to set {path}: {error}");
        }
    }
    for directory in ["/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources"] {
        fs::create_dir_all(directory).with_context(|| format!("mkdir {directory}"))?;
    }
    let probe = std::env::temp_dir().join(format!("kubelet-detect-safe-umount{}", random()));
    if fs::create_dir(&probe).is_ok() {
        let _ = fs::remove_dir(&probe);
    }
    for directory in ["/var/log/pods", "/var/log/containers"] {
        fs::create_dir_all(directory).with_context(|| format!("mkdir {directory}"))?;
    }
    mount(Some(root), root, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("bind-mount its own directory")?;
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)
        .context("share it")?;
    Ok(())
}
