//! Whether a process of the tree listens on a port: what the kernel says, without disturbing the program.

use std::collections::BTreeSet;
use std::fs;

/// `st` of a listening TCP socket and of a bound UDP socket without a peer (`include/net/tcp_states.h`).
const TABLES: [(&str, &str); 4] = [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")];

/// Whether one of these processes listens on the port, in whatever network namespace.
pub fn listens(pids: &[i32], port: u16) -> bool {
    let mut namespaces = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    for pid in pids {
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        if !namespaces.insert(namespace) {
            continue;
        }
        for (table, state) in TABLES {
            let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            sockets.extend(bound(&text, state, port));
        }
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

/// The sockets of a table (proc_net(5)) that are bound to the port, as `/proc/PID/fd` names them.
fn bound<'a>(table: &'a str, state: &'a str, port: u16) -> impl Iterator<Item = String> + 'a {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == state;
        here.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
    })
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
        assert_eq!(bound(TCP, "0A", 80).collect::<Vec<_>>(), ["socket:[4242]"]);
        assert_eq!(bound(TCP, "0A", 82).count(), 0);
        assert_eq!(bound("", "0A", 80).count(), 0);
    }

    #[test]
    fn the_listener_must_be_one_of_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::process::id() as i32;
        assert!(listens(&[own], port));
        assert!(!listens(&[], port));
        drop(listener);
        assert!(!listens(&[own], port));
    }
}
