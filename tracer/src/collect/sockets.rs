//! Socket addresses, as in `struct sockaddr` and its kinds (ip(7), ipv6(7), unix(7)).

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr};

use nrtrace_ebpf::record::SocketRecord;
use nrtrace_profiles::RawText;
use nrtrace_profiles::event::{PathObject, Protocol, SocketObject};

/// A socket address, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// IPv4 or IPv6: the address as text, and the port.
    Ip(String, u16),
    /// A Unix socket in the file system.
    File(&'a [u8]),
    /// A Unix socket in the abstract namespace, with its leading `@`; a lone `@` for one the kernel names.
    Abstract(Vec<u8>),
    /// Of another family.
    Other,
}

const INET: u16 = libc::AF_INET as u16;
const INET6: u16 = libc::AF_INET6 as u16;
const UNIX: u16 = libc::AF_UNIX as u16;

/// Family and address in the bytes of a `struct sockaddr`; `None` when they are too few.
pub fn parse(bytes: &[u8]) -> Option<(u16, Address<'_>)> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let family = u16::from_ne_bytes(*family);
    let address = match family {
        INET => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (address, _) = rest.split_first_chunk::<4>()?;
            Address::Ip(Ipv4Addr::from(*address).to_string(), u16::from_be_bytes(*port))
        }
        INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (address, _) = rest.get(4..)?.split_first_chunk::<16>()?;
            Address::Ip(Ipv6Addr::from(*address).to_string(), u16::from_be_bytes(*port))
        }
        UNIX => match rest {
            [] => Address::Abstract(b"@".to_vec()),
            [0, name @ ..] => Address::Abstract([b"@", name].concat()),
            path => Address::File(path.split(|byte| *byte == 0).next().unwrap_or(path)),
        },
        _ => Address::Other,
    };
    Some((family, address))
}

/// The protocol of a socket of `family`; `socket` tells the rest where it is known.
pub fn protocol(family: u16, socket: Option<&SocketRecord>) -> Protocol {
    match i32::from(family) {
        libc::AF_UNIX => Protocol::Unix,
        libc::AF_NETLINK => Protocol::Netlink,
        libc::AF_PACKET => Protocol::Packet,
        libc::AF_INET | libc::AF_INET6 => socket.map_or(Protocol::Other, |socket| {
            match (i32::from(socket.ty), i32::from(socket.protocol)) {
                (libc::SOCK_STREAM | libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP) => Protocol::Sctp,
                (libc::SOCK_STREAM, _) => Protocol::Tcp,
                (libc::SOCK_DGRAM, _) => Protocol::Udp,
                (libc::SOCK_SEQPACKET, _) => Protocol::Sctp,
                (libc::SOCK_RAW, _) => Protocol::Raw,
                _ => Protocol::Other,
            }
        }),
        _ => Protocol::Other,
    }
}

/// The object of a call with this address; `path` is that of [`Address::File`].
pub fn object(
    family: u16,
    address: Address<'_>,
    socket: Option<&SocketRecord>,
    path: Option<PathObject>,
) -> SocketObject {
    let protocol = protocol(family, socket);
    let (address, port) = match address {
        Address::Ip(text, 0) => (RawText::new(text), socket.map_or(0, |socket| socket.port).into()),
        Address::Ip(text, port) => (RawText::new(text), Some(port)),
        Address::File(path) => (RawText::from(path), None),
        Address::Abstract(name) => (RawText::new(name), None),
        Address::Other => (RawText::default(), None),
    };
    SocketObject { protocol, address, port, path }
}

/// Sockets remembered by descriptor.
const BOUND: usize = 1024;

/// What sockets were bound to, for `listen`, which is not told.
#[derive(Debug, Default)]
pub struct Bound {
    sockets: HashMap<(u32, u64), SocketObject>,
    order: VecDeque<(u32, u64)>,
}

impl Bound {
    /// Process `pid` bound its descriptor `fd`.
    pub fn remember(&mut self, pid: u32, fd: u64, socket: SocketObject) {
        if self.sockets.insert((pid, fd), socket).is_none() {
            self.order.push_back((pid, fd));
        }
        if self.order.len() > BOUND
            && let Some(oldest) = self.order.pop_front()
        {
            self.sockets.remove(&oldest);
        }
    }

    /// The socket that process `pid` listens on with `fd`: as it was bound, when `socket` does not say otherwise;
    /// else the unspecified address of its family.
    pub fn listening(&self, pid: u32, fd: u64, socket: &SocketRecord) -> SocketObject {
        let protocol = protocol(socket.family, Some(socket));
        let port = matches!(socket.family, INET | INET6).then_some(socket.port);
        let known = self.sockets.get(&(pid, fd));
        if let Some(known) = known.filter(|known| known.protocol == protocol && known.port == port) {
            return known.clone();
        }
        let address = match socket.family {
            INET => RawText::from("0.0.0.0"),
            INET6 => RawText::from("::"),
            _ => RawText::default(),
        };
        SocketObject { protocol, address, port, path: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockaddr(family: i32, rest: &[u8]) -> Vec<u8> {
        [&(family as u16).to_ne_bytes(), rest].concat()
    }

    #[test]
    fn addresses_read_as_the_manuals_have_them() {
        let ip = |text: &str, port| Address::Ip(text.into(), port);
        let v6 = [&[0, 80, 0, 0, 0, 0][..], &Ipv6Addr::LOCALHOST.octets(), &[0; 4]].concat();
        let cases: &[(Vec<u8>, Address<'_>)] = &[
            (sockaddr(libc::AF_INET, &[0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), ip("127.0.0.1", 80)),
            (sockaddr(libc::AF_INET6, &v6), ip("::1", 80)),
            (sockaddr(libc::AF_UNIX, b"/run/x.sock\0\0junk"), Address::File(b"/run/x.sock")),
            (sockaddr(libc::AF_UNIX, b"run/x"), Address::File(b"run/x")),
            (sockaddr(libc::AF_UNIX, b"\0name"), Address::Abstract(b"@name".to_vec())),
            (sockaddr(libc::AF_UNIX, b""), Address::Abstract(b"@".to_vec())),
            (sockaddr(libc::AF_NETLINK, &[0; 10]), Address::Other),
        ];
        for (bytes, address) in cases {
            assert_eq!(parse(bytes).map(|found| found.1).as_ref(), Some(address));
        }
        assert_eq!(parse(&sockaddr(libc::AF_INET, &[0, 80, 127])), None);
        assert_eq!(parse(&[1]), None);
    }

    #[test]
    fn a_port_the_kernel_chose_is_known_afterwards() {
        let tcp = SocketRecord { family: INET, ty: 1, protocol: 6, port: 40_000 };
        let bytes = sockaddr(libc::AF_INET, &[0; 14]);
        let (family, address) = parse(&bytes).unwrap();
        let socket = object(family, address, Some(&tcp), None);
        assert_eq!((socket.protocol, socket.port), (Protocol::Tcp, Some(40_000)));

        let mut bound = Bound::default();
        bound.remember(7, 3, SocketObject { address: "127.0.0.1".into(), ..socket });
        assert_eq!(bound.listening(7, 3, &tcp).address, "127.0.0.1".into());
        assert_eq!(bound.listening(7, 4, &tcp).address, "0.0.0.0".into());
        let udp = SocketRecord { ty: 2, ..tcp };
        assert_eq!(bound.listening(7, 3, &udp).protocol, Protocol::Udp);
    }
}
