//! What a program listens on.

use std::collections::{BTreeMap, BTreeSet};

use crate::RawText;
use crate::event::Protocol;
use crate::profile::Listen;
use crate::requirement::word;

/// One address, with who bound it.
pub(crate) fn listen(listen: &Listen) -> String {
    let address = listen.address.to_text();
    let by: Vec<String> = listen.processes.iter().map(RawText::to_text).collect();
    let place = match listen.port {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    };
    format!("{} {place} ({})", word(&listen.protocol), by.join(", "))
}

/// From which port on the kernel hands out those that nobody asked for, as `ip_local_port_range` begins where nothing else
/// was set.
const EPHEMERAL: u16 = 32768;
/// So many ephemeral ports of one protocol are chosen, and not made up.
const CHOSEN: usize = 4;

/// All ports in a line: of each protocol those that are chosen, and how many others there are.
pub(super) fn summary(listens: &[Listen]) -> Option<String> {
    let mut ports: BTreeMap<Protocol, BTreeSet<u16>> = BTreeMap::new();
    for listen in listens {
        if let Some(port) = listen.port {
            ports.entry(listen.protocol).or_default().insert(port);
        }
    }
    let mut parts: Vec<String> = ports
        .into_iter()
        .map(|(protocol, mut ports)| {
            let passing = ports.split_off(&EPHEMERAL);
            let (passing, chosen) = if passing.len() > CHOSEN {
                (passing.len(), ports)
            } else {
                ports.extend(passing);
                (0, ports)
            };
            let mut parts: Vec<String> = chosen.iter().map(u16::to_string).collect();
            if passing > 0 {
                parts.push(format!("{passing} ephemeral ports"));
            }
            format!("{} {}", word(&protocol), parts.join(", "))
        })
        .collect();
    let others = listens.iter().filter(|listen| listen.port.is_none()).count();
    match others {
        0 => {}
        1 => parts
            .extend(listens.iter().filter(|listen| listen.port.is_none()).map(|one| one.address.to_text())),
        more => parts.push(format!("{more} sockets that have no port")),
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
