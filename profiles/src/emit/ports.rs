//! The ports that are bound, as manifests name them.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Protocol;
use crate::profile::Profile;

/// The ports bound, with the addresses.
pub(super) fn bound(profile: &Profile) -> BTreeMap<(u16, &'static str), BTreeSet<String>> {
    let mut ports: BTreeMap<(u16, &'static str), BTreeSet<String>> = BTreeMap::new();
    for listen in &profile.listens {
        let protocol = match listen.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
            _ => continue,
        };
        if let Some(port) = listen.port.filter(|port| *port != 0) {
            ports.entry((port, protocol)).or_default().insert(listen.address.to_text());
        }
    }
    ports
}
