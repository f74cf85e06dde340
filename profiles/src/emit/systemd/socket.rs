//! A socket unit, systemd.socket(5): systemd binds the addresses and hands the sockets over.

use std::collections::{BTreeMap, BTreeSet};

use crate::emit::escape::unit::is_plain_value;
use crate::emit::page::{Emitted, Page};
use crate::event::Protocol;
use crate::grants::Grants;
use crate::profile::{Listen, Profile};

/// The unit `NAME.socket`.
pub(in crate::emit) fn emit(profile: &Profile, grants: &Grants) -> Emitted {
    let name = &grants.name;
    let mut page = Page::new(&format!("Sockets that systemd binds for {name}."));
    page.comment("The program has to take them over: sd_listen_fds(3), LISTEN_FDS in its environment. Many do by themselves,");
    page.comment("others by an option; one that does not fails because the address is in use.");
    page.blank();
    page.line("[Unit]");
    page.line(&format!("Description=Sockets of {name}"));
    page.blank();
    page.line("[Socket]");
    let streams = profile.listens.iter().filter_map(directive);
    let mut written = BTreeSet::new();
    for (directive, value) in streams {
        let is_address = value.starts_with('/') || value.parse::<std::net::SocketAddr>().is_ok();
        if !is_address || !is_plain_value(value.as_bytes()) {
            page.comment("An address that cannot be written here:");
            page.comment(&format!("{directive}={value}"));
        } else if written.insert((directive, value.clone())) {
            page.line(&format!("{directive}={}", value.replace('%', "%%")));
        }
    }
    if written.is_empty() {
        page.comment("The run bound no address.");
    }
    if has_both(profile) {
        page.comment("The run bound a port for IPv4 and for IPv6 separately.");
        page.line("BindIPv6Only=ipv6-only");
    }
    if profile.listens.iter().any(|listen| listen.protocol == Protocol::Unix) {
        page.line(&format!("SocketUser={}", grants.account.user));
        page.line(&format!("SocketGroup={}", grants.account.group));
        page.line("SocketMode=0660");
    }
    page.blank();
    page.line("[Install]");
    page.line("WantedBy=sockets.target");
    page.finish(format!("{name}.socket"))
}

fn directive(listen: &Listen) -> Option<(&'static str, String)> {
    let address = listen.address.to_text();
    let inet = |port: u16| match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    };
    match (listen.protocol, listen.port) {
        (Protocol::Tcp, Some(port)) => Some(("ListenStream", inet(port))),
        (Protocol::Udp, Some(port)) => Some(("ListenDatagram", inet(port))),
        (Protocol::Unix, _) if listen.address.as_bytes().starts_with(b"/") => Some(("ListenStream", address)),
        _ => None,
    }
}

fn has_both(profile: &Profile) -> bool {
    let mut families: BTreeMap<(Protocol, u16), BTreeSet<bool>> = BTreeMap::new();
    for listen in &profile.listens {
        if let Some(port) = listen.port {
            families
                .entry((listen.protocol, port))
                .or_default()
                .insert(listen.address.as_bytes().contains(&b':'));
        }
    }
    families.values().any(|families| families.len() == 2)
}
