//! Whether a process of the tree listens on a port: what the kernel says, without disturbing the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nrtrace_profiles::event::Protocol;

use crate::listeners;

/// Whether one of these processes listens on the port, in whatever network namespace.
pub fn listens(pids: &[i32], port: u16) -> bool {
    let mut namespaces = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    for pid in pids {
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        if !namespaces.insert(namespace) {
            continue;
        }
        let listeners = listeners::of(*pid).into_iter().filter(|listener| listener.port == port);
        sockets.extend(listeners.map(|listener| listener.socket));
    }
    if sockets.is_empty() {
        return false;
    }
    let mut readable = false;
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        readable = true;
        let mut targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        if targets.any(|target| target.to_str().is_some_and(|name| sockets.contains(name))) {
            return true;
        }
    }
    // Where nrtrace may not look at the descriptors of the program, any listener counts.
    !readable
}

/// From here on ports may be those that the kernel chose, `net.ipv4.ip_local_port_range`: others each time.
pub const FIRST_CHOSEN: u16 = 32768;

/// Where clients reach the TCP ports on which these processes listen, one address for each.
pub fn reached(pids: &[i32]) -> BTreeMap<u16, SocketAddr> {
    let mut reached = BTreeMap::new();
    let of_network = pids.first().map(|pid| listeners::of(*pid)).unwrap_or_default();
    for listener in of_network.into_iter().filter(|listener| listener.protocol == Protocol::Tcp) {
        if listener.port >= FIRST_CHOSEN || !listens(pids, listener.port) {
            continue;
        }
        let address = match listener.address {
            IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        reached.entry(listener.port).or_insert_with(|| SocketAddr::new(address, listener.port));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_must_be_one_of_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id() as i32;
        assert!(listens(&[own], port));
        assert!(!listens(&[], port));
        assert!(reached(&[own]).keys().all(|port| *port < FIRST_CHOSEN));
        drop(listener);
        assert!(!listens(&[own], port));
    }
}
