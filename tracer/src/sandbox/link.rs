//! A network interface besides the loopback one, for programs that want an address which others could reach: a pair of
//! Ethernet devices that lead to each other, veth(4).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socket};

/// The ends, as the kernel names the first pair of a network.
const ENDS: [&[u8]; 2] = [b"veth0", b"veth1"];
/// From the first range for documentation (RFC 5737), which belongs to nobody.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Makes the pair in this network namespace, which has none, and gives one end the address.
///
/// # Errors
/// Where the kernel has no such devices.
pub fn make() -> Result<(), Errno> {
    new_pair()?;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    set_address(&socket, ENDS[0], libc::SIOCSIFADDR as _, ADDRESS)?;
    set_address(&socket, ENDS[0], libc::SIOCSIFNETMASK as _, MASK)?;
    ENDS.into_iter().try_for_each(|name| bring_up(&socket, name))
}

/// Brings an interface up.
pub fn bring_up(socket: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is valid for the whole call, and this ioctl reads no further than it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    Errno::result(result).map(drop)
}

fn set_address(
    socket: &OwnedFd,
    name: &[u8],
    operation: libc::Ioctl,
    address: Ipv4Addr,
) -> Result<(), Errno> {
    let mut request = request(name);
    let bytes = address.octets().map(|byte| byte as libc::c_char);
    // SAFETY: an address is plain data, for which zero is a valid value.
    let mut of_family: libc::sockaddr = unsafe { std::mem::zeroed() };
    of_family.sa_family = libc::AF_INET as libc::sa_family_t;
    // After the port, which is none (struct sockaddr_in).
    of_family.sa_data.iter_mut().skip(2).zip(bytes).for_each(|(to, from)| *to = from);
    request.ifr_ifru.ifru_addr = of_family;
    // SAFETY: the request is valid for the whole call, and these ioctls read no further than it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), operation, &request) };
    Errno::result(result).map(drop)
}

fn request(name: &[u8]) -> libc::ifreq {
    // SAFETY: an interface request is plain data, for which zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    request
}

/// Asks for a pair, rtnetlink(7).
fn new_pair() -> Result<(), Errno> {
    /// `IFLA_INFO_KIND` of `linux/if_link.h`.
    const INFO_KIND: u16 = 1;
    let kind = attribute(INFO_KIND, b"veth");
    // struct ifinfomsg: nothing is said of the interface itself.
    let body = [vec![0; 16], attribute(libc::IFLA_LINKINFO, &kind)].concat();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr, behind the header: the negative error, or 0.
    let error = answer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(Errno::from_raw(-error)),
        None => Err(Errno::EBADMSG),
    }
}

/// struct rtattr and its value, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
