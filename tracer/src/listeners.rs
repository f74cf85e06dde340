//! The sockets on which processes wait for others, by the kernel's own tables (proc_net(5)): nothing connects.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nrtrace_profiles::event::Protocol;

/// `st` of a listening TCP socket and of a bound UDP socket without a peer (`include/net/tcp_states.h`).
const TABLES: [(&str, Protocol, &str); 4] = [
    ("tcp", Protocol::Tcp, "0A"),
    ("tcp6", Protocol::Tcp, "0A"),
    ("udp", Protocol::Udp, "07"),
    ("udp6", Protocol::Udp, "07"),
];
/// `Flags` of a Unix socket that listens (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 1 << 16;

/// A socket that waits, on an address of the internet protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// As `/proc/PID/fd` names it.
    pub socket: String,
}

/// Those of the network namespace of a process; none when it is gone.
pub fn of(pid: i32) -> Vec<Listener> {
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    TABLES.iter().flat_map(|(name, protocol, state)| listening(&table(name), *protocol, state)).collect()
}

fn listening(table: &str, protocol: Protocol, state: &str) -> Vec<Listener> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let address = address_of(address).filter(|_| fields.get(3) == Some(&state))?;
        Some(Listener { protocol, address, port, socket: name(fields.get(9)?) })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The kernel prints each word of an address as a number of this machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
        }
        _ => None,
    }
}

fn name(inode: &str) -> String {
    format!("socket:[{inode}]")
}

/// Unix sockets that listen below a path of the network namespace of a process: path, and as `/proc/PID/fd` names it.
pub fn unix(pid: i32) -> Vec<(String, String)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
        let path = line.get(line.find(" /")? + 1..)?;
        (flags & ACCEPTS != 0).then(|| (path.to_owned(), name(fields[6])))
    };
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \u{20}  0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0\n\
        \u{20}  1: 0100007F:0050 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 4243 1 0\n\
        \u{20}  2: 00000000:0051 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4244 1 0\n";

    #[test]
    fn listeners_are_told_from_connections() {
        let found = listening(TCP, Protocol::Tcp, "0A");
        let sockets: Vec<_> = found.iter().map(|found| (found.port, found.socket.as_str())).collect();
        assert_eq!(sockets, [(80, "socket:[4242]"), (81, "socket:[4244]")]);
        assert_eq!(found[0].address, Ipv4Addr::LOCALHOST);
        assert!(listening("", Protocol::Tcp, "0A").is_empty());
    }

    #[test]
    fn the_kernels_tables_read_as_what_was_bound() {
        let six = std::net::UdpSocket::bind("[::1]:0")
            .or_else(|_| std::net::UdpSocket::bind("127.0.0.1:0"))
            .unwrap();
        let here = six.local_addr().unwrap();
        let found = of(std::process::id() as i32);
        let it = found.iter().find(|found| found.port == here.port() && found.protocol == Protocol::Udp);
        assert_eq!(it.map(|found| found.address), Some(here.ip()));

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(unix(std::process::id() as i32).iter().any(|(found, _)| *found == path.to_str().unwrap()));
    }
}
