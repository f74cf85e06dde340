//! What a new namespace does not inherit: the loopback interface and the kernel's parameters.

use std::fs;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{Layout, link, write};
use crate::launch::Error;

/// Parameters of a network namespace that decide what a service may bind and how.
const NETWORK: &[&str] = &[
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/ip_local_reserved_ports",
    "/proc/sys/net/ipv4/ip_nonlocal_bind",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ping_group_range",
    "/proc/sys/net/ipv6/bindv6only",
    "/proc/sys/net/ipv6/ip_nonlocal_bind",
    "/proc/sys/net/core/somaxconn",
];

/// Parameters of an IPC namespace.
const IPC: &[&str] = &[
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmni",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni",
    "/proc/sys/kernel/sem",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/fs/mqueue/msgsize_max",
    "/proc/sys/fs/mqueue/queues_max",
];

/// The machine's parameters.
pub struct Kept(Vec<(&'static str, String)>);

impl Kept {
    /// Reads those that the new namespaces are to have.
    pub fn read(layout: &Layout) -> Self {
        let network = if layout.private_network { NETWORK } else { &[] };
        let read = |path: &&'static str| Some((*path, fs::read_to_string(path).ok()?));
        Self(network.iter().chain(IPC).filter_map(read).collect())
    }

    /// Writes them where the new ones differ, brings the loopback interface up, and adds another one.
    pub fn restore(&self, layout: &Layout) -> Result<(), Error> {
        for (path, text) in &self.0 {
            if fs::read_to_string(path).is_ok_and(|now| now != *text) {
                write(path, text)?;
            }
        }
        if layout.private_network {
            if let Some(start) = layout.unprivileged_port_start {
                write("/proc/sys/net/ipv4/ip_unprivileged_port_start", &start.to_string())?;
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
