//! Ports below the first that needs no privilege: they are opened all by the same way.

use crate::Capability;
use crate::grants::{Act, CapabilityGrant, Grants, Method, PORT_SYSCTL, Sysctl, Way, Why};
use crate::requirement::{Need, Requirement};

/// Opens all low ports.
pub(super) fn plan(required: &[&Requirement], grants: &mut Grants) {
    let port_of = |requirement: &&Requirement| match &requirement.need {
        Need::Port { port, .. } => Some(*port),
        _ => None,
    };
    let Some(lowest) = required.iter().filter_map(port_of).min() else { return };
    let tried = required.iter().filter(|found| port_of(found).is_some()).find_map(|found| found.way);
    let method = grants.choices.pick(tried, &METHODS).unwrap_or(Method::Capability);
    grants.port_method = method;
    for (requirement, port) in required.iter().filter_map(|found| Some((found, port_of(found)?))) {
        let id = requirement.id.as_str();
        let why = Why::new(id, format!("port {port} is below the first unprivileged one"));
        grants.ports.entry(port).or_insert_with(|| why.clone()).also(why);
        grants.choose([id], Some(method), ways(port, lowest));
    }
}

/// By what ports can be opened.
const METHODS: [Method; 5] =
    [Method::Capability, Method::FileCapability, Method::Sysctl, Method::Socket, Method::Configure];

fn ways(port: u16, lowest: u16) -> [Way; 5] {
    let bind = || CapabilityGrant { danger: None, why: Why::default() };
    let binds = "binds a port below the first unprivileged one";
    let first = Sysctl { value: lowest.to_string(), why: Why::default() };
    [
        Way::new(Act::Capability(Capability::NET_BIND_SERVICE, bind()), binds),
        Way::new(Act::FileCapability(Capability::NET_BIND_SERVICE, bind()), binds),
        Way::new(
            Act::Sysctl(PORT_SYSCTL.into(), first),
            "ports from this one on need no privilege, for every program",
        ),
        Way::new(
            Act::Listen(port),
            "systemd binds the port, where the program takes sockets that it is handed",
        ),
        Way::setting(format!(
            "have it listen on a port from 1024 on instead of {port}, and forward {port} to it"
        )),
    ]
}
