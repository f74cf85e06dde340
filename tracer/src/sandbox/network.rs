//! What a new namespace does not inherit: the loopback interface and the kernel's parameters.

use std::fs;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Layout, link, write};
use crate::launch::Error;

/// Parameters of a network namespace that decide what a service may bind and how.
const NETWORK: &[&str] = &[
    "sys/net/ipv4/ip_unprivileged_port_start",
    "sys/net/ipv4/ip_local_port_range",
    "sys/net/ipv4/ip_local_reserved_ports",
    "sys/net/ipv4/ip_nonlocal_bind",
    "sys/net/ipv4/ip_forward",
    "sys/net/ipv4/ping_group_range",
    "sys/net/ipv6/bindv6only",
    "sys/net/ipv6/ip_nonlocal_bind",
    "sys/net/core/somaxconn",
];

/// Parameters of an IPC namespace.
const IPC: &[&str] = &[
    "sys/kernel/shmmax",
    "sys/kernel/shmall",
    "sys/kernel/shmmni",
    "sys/kernel/msgmax",
    "sys/kernel/msgmnb",
    "sys/kernel/msgmni",
    "sys/kernel/sem",
    "sys/fs/mqueue/msg_max",
    "sys/fs/mqueue/msgsize_max",
    "sys/fs/mqueue/queues_max",
];

/// The machine's parameters.
pub struct Kept(Vec<(&'static str, String)>);

impl Kept {
    /// Reads those that the new namespaces are to have.
    pub fn read(layout: &Layout) -> Self {
        let network = if layout.private_network { NETWORK } else { &[] };
        let read =
            |path: &&'static str| Some((*path, fs::read_to_string(Path::new("/proc").join(path)).ok()?));
        Self(network.iter().chain(IPC).filter_map(read).collect())
    }

    /// Writes them where the new ones differ, below a `/proc` that can be written to, brings the loopback interface up, and
    /// adds another one.
    pub fn restore(&self, layout: &Layout, proc: &Path) -> Result<(), Error> {
        for (path, text) in &self.0 {
            let path = proc.join(path);
            if fs::read_to_string(&path).is_ok_and(|now| now != *text) {
                write(&path, text)?;
            }
        }
        if layout.private_network {
            if let Some(start) = layout.unprivileged_port_start {
                write(&proc.join(NETWORK[0]), &start.to_string())?;
            }
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
            socket
                .and_then(|socket| link::bring_up(&socket, b"lo"))
                .map_err(|errno| Error::system("bringing up", "the loopback interface", errno))?;
            // Where the kernel has no such device, there is none: most programs do without.
            let _ = link::make();
        }
        Ok(())
    }
}
