//! Ports.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::calls::{Operation, Socket};
use crate::event::{Event, Object, Outcome, Protocol, SocketObject};
use crate::profile::Listen;
use crate::requirement::Need;

use super::context::Context;
use super::finding::{Judged, Source, best};

/// First port of the range that the kernel chooses from (`net.ipv4.ip_local_port_range`, default 32768–60999).
const FIRST_EPHEMERAL: u16 = 32_768;

/// Finds the port behind a check in `bind`.
pub fn place(source: &Source<'_>, out: &mut Judged) -> bool {
    let Object::Socket(SocketObject { protocol, address, port: Some(port), .. }) = &source.event.object
    else {
        return false;
    };
    if !matches!(protocol, Protocol::Tcp | Protocol::Udp | Protocol::Sctp) {
        return false;
    }
    let need = Need::Port { protocol: *protocol, address: address.to_text(), port: *port };
    out.findings.push(source.finding(need));
    true
}

/// Every address bound for others to reach: what `listen` was called on, and what `bind` named.
///
/// Left out: netlink, packet and raw sockets; Unix sockets without a name; and ports of the range that the kernel
/// chooses from, unless somebody listens there: those are the near end of a client.
pub fn listens(events: &[&Event], context: &Context<'_>) -> Vec<Listen> {
    let mut found: BTreeMap<(Protocol, RawText, Option<u16>), BTreeSet<RawText>> = BTreeMap::new();
    for event in events {
        let Object::Socket(socket) = &event.object else { continue };
        let done = matches!(event.outcome, Outcome::Success { .. } | Outcome::Unknown);
        let counts = match event.call.operation() {
            Operation::Socket(Socket::Listen) => true,
            Operation::Socket(Socket::Bind) => socket.port.is_none_or(|port| port < FIRST_EPHEMERAL),
            _ => false,
        };
        if done
            && counts
            && let Some(key) = key(socket, context)
        {
            found.entry(key).or_default().insert(event.process.name.clone());
        }
    }
    let listen =
        |((protocol, address, port), processes): ((Protocol, RawText, Option<u16>), BTreeSet<RawText>)| {
            Listen { protocol, address, port, processes: processes.into_iter().collect() }
        };
    found.into_iter().map(listen).collect()
}

fn key(socket: &SocketObject, context: &Context<'_>) -> Option<(Protocol, RawText, Option<u16>)> {
    match socket.protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => {
            let port = socket.port.filter(|port| *port != 0)?;
            Some((socket.protocol, socket.address.clone(), Some(port)))
        }
        Protocol::Unix => {
            let name = socket.path.as_ref().map_or_else(|| socket.address.clone(), best);
            let is_named = !matches!(name.as_bytes(), b"" | b"@");
            // haproxy binds its socket under another name and renames it.
            is_named.then(|| (Protocol::Unix, context.new_name(&name).clone(), None))
        }
        Protocol::Raw | Protocol::Netlink | Protocol::Packet | Protocol::Other => None,
    }
}
