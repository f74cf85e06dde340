//! Ways to meet needs that are not for files.

use super::Grade::{High, Low, Medium, None as Nothing};
use super::{Grade, List, Scope};
use crate::Capability;
use crate::grants::{Method, danger, is_never_granted};
use crate::requirement::{IdentityOperation, KernelOperation, Limit, Need, Requirement};

/// Adds the ways for a need.
pub(super) fn add(requirement: &Requirement, list: &mut List<'_>) {
    match &requirement.need {
        Need::Port { port: number, .. } => port(*number, list),
        Need::Exec { capabilities, set_user, set_group, .. } => {
            exec(!capabilities.is_empty(), *set_user, *set_group, list);
        }
        Need::Capability { capability } => capability_alone(*capability, list),
        Need::Identity { operation, .. } => identity(*operation, list),
        Need::Sysctl { name, .. } => sysctl(&name.to_text(), list),
        Need::Limit { limit: which, .. } => limit(*which, list),
        Need::Kernel { operation, capability, .. } => kernel(*operation, *capability, list),
        Need::Path { .. } | Need::Device { .. } => {}
    }
}

fn exec(carries: bool, set_user: Option<u32>, set_group: Option<u32>, list: &mut List<'_>) {
    let text = "have it call a program that gives no rights, or do that step by a service of its own";
    list.add(Method::Configure, Scope::Anywhere, (Medium, Nothing), text, "nothing is opened");
    if set_group.is_some() {
        let text = "the group of the file as a supplementary group of the service";
        list.add(Method::Group, Scope::Anywhere, (Low, Medium), text, "the whole service has the group");
    }
    if carries {
        let text = "the capabilities of the file in CapabilityBoundingSet=, and not in AmbientCapabilities=";
        let because =
            "nobody has them but the program whose file gives them, and not under NoNewPrivileges=yes";
        list.add(Method::Unit, Scope::Systemd, (Low, Nothing), text, because);
    }
    let risk = if set_user == Some(0) { High } else { Medium };
    let because = "other set-id programs give the service what they give to every user";
    list.add(Method::Unit, Scope::Systemd, (Low, risk), "no NoNewPrivileges= in the unit", because);
}

fn port(port: u16, list: &mut List<'_>) {
    let text = format!("have it listen on a port from 1024 on, and let a proxy or Service map {port} to it");
    list.add(Method::Configure, Scope::Anywhere, (Low, Nothing), text, "clients or a proxy have to know");
    let text = "a socket unit: systemd binds the port and hands the socket over";
    list.add(
        Method::Socket,
        Scope::Systemd,
        (Medium, Nothing),
        text,
        "the program has to support socket activation",
    );
    let text = "CAP_NET_BIND_SERVICE as an ambient capability";
    list.add(
        Method::Capability,
        Scope::Systemd,
        (Low, Low),
        text,
        "opens every port below 1024 to this service",
    );
    let text = "CAP_NET_BIND_SERVICE on the executable: setcap";
    list.add(
        Method::FileCapability,
        Scope::Anywhere,
        (Low, Medium),
        text,
        "whoever runs the file has it; lost with package updates; no effect with NoNewPrivileges=",
    );
    let text = format!("net.ipv4.ip_unprivileged_port_start={port}; in a pod, a safe sysctl");
    list.add(
        Method::Sysctl,
        Scope::Anywhere,
        (Low, Medium),
        text,
        "on a host, opens these ports to every program",
    );
}

/// How much a capability opens.
fn risk(capability: Capability) -> Grade {
    match danger(capability) {
        Some(words) if words.starts_with("amounts to root") => High,
        Some(_) => Medium,
        None => Low,
    }
}

fn capability_alone(capability: Capability, list: &mut List<'_>) {
    if let Some(why) = is_never_granted(capability) {
        let text = format!("nothing stands for {capability}: find the call that consulted it");
        return list.add(Method::Configure, Scope::Anywhere, (High, Nothing), text, why);
    }
    let because = danger(capability).map_or_else(|| "what its name says".into(), str::to_owned);
    let grades = |cost| (cost, risk(capability));
    list.add(
        Method::Capability,
        Scope::Systemd,
        grades(Low),
        format!("{capability} as an ambient capability"),
        because.clone(),
    );
    let text = format!("{capability} on the executable: setcap");
    list.add(Method::FileCapability, Scope::Anywhere, grades(Low), text, because);
    let text = "find out whether the program does without (nrtrace verify)";
    list.add(Method::Nothing, Scope::Anywhere, (Medium, Nothing), text, "takes a trial");
}

fn identity(operation: IdentityOperation, list: &mut List<'_>) {
    let (text, because) = match operation {
        IdentityOperation::Chown => {
            ("remove the directive that names another owner", "the files belong to the user beforehand")
        }
        _ => ("start it as its user, and remove the option or directive that names one", "one setting"),
    };
    list.add(Method::Configure, Scope::Anywhere, (Low, Nothing), text, because);
    if operation == IdentityOperation::Chown {
        let text = "ExecStartPre=+chown …: systemd sets the owner as root before the start";
        let because = "only for what is there before the program makes its own";
        list.add(Method::Manager, Scope::Systemd, (Medium, Low), text, because);
    }
}

fn sysctl(name: &str, list: &mut List<'_>) {
    let text = format!("set {name} in sysctl.d");
    list.add(
        Method::Boot,
        Scope::Host,
        (Low, Low),
        text,
        "holds for the whole machine, as when the program sets it",
    );
    let text = format!("ExecStartPre=+sysctl -w {name}=…");
    list.add(
        Method::Manager,
        Scope::Systemd,
        (Low, Low),
        text,
        "holds for the whole machine once the service started",
    );
    let text = "the pod's sysctls, where it is a safe or an allowed one; else the node's configuration";
    list.add(
        Method::Volume,
        Scope::Container,
        (Medium, Low),
        text,
        "others need an administrator of the cluster",
    );
}

fn limit(limit: Limit, list: &mut List<'_>) {
    let text = match limit {
        Limit::Nice => "Nice= in the unit",
        Limit::OomScore => "OOMScoreAdjust= in the unit",
        Limit::Scheduling => "LimitRTPRIO= in the unit, or CPUSchedulingPolicy=",
        _ => "the Limit…= directive in the unit, or /etc/security/limits.d for logins",
    };
    list.add(Method::Unit, Scope::Systemd, (Low, Low), text, "the program starts with what it would ask for");
    let text = "ulimits of the container runtime";
    list.add(Method::Volume, Scope::Container, (Medium, Low), text, "a pod cannot set it by itself");
    let capability = match limit {
        Limit::Nice | Limit::Scheduling => Capability::SYS_NICE,
        Limit::LockedMemory => Capability::IPC_LOCK,
        _ => Capability::SYS_RESOURCE,
    };
    let because = danger(capability).unwrap_or("more than the one limit");
    list.add(
        Method::Capability,
        Scope::Systemd,
        (Low, High.min(risk(capability).max(Medium))),
        capability.to_string(),
        because,
    );
}

fn kernel(operation: KernelOperation, capability: Capability, list: &mut List<'_>) {
    let machine = "an administrator sets it once for the machine";
    match operation {
        KernelOperation::Module => {
            list.add(
                Method::Boot,
                Scope::Host,
                (Low, Nothing),
                "load the module at boot: modules-load.d",
                machine,
            );
            let text = "ExecStartPre=+modprobe …";
            list.add(
                Method::Manager,
                Scope::Systemd,
                (Low, Low),
                text,
                "systemd loads it as root before each start",
            );
        }
        KernelOperation::Cgroup => {
            let text = "Delegate=yes: the control groups below its own are the service's";
            list.add(Method::Unit, Scope::Systemd, (Low, Nothing), text, "nothing above them is opened");
        }
        KernelOperation::Chroot => {
            let text = "RootDirectory= in the unit: systemd does it before the start";
            list.add(
                Method::Manager,
                Scope::Systemd,
                (Medium, Nothing),
                text,
                "the program must not do it itself",
            );
        }
        KernelOperation::Mount => {
            let text = "have systemd mount it before the start: a mount unit, or ExecStartPre=+mount …";
            list.add(
                Method::Manager,
                Scope::Systemd,
                (Medium, Low),
                text,
                "the program must not do it itself",
            );
        }
        KernelOperation::Namespace => namespace(list),
        KernelOperation::Sysfs => {
            let text = "set the value at boot: a `w` line in tmpfiles.d, or a udev rule";
            list.add(Method::Boot, Scope::Host, (Low, Nothing), text, machine);
        }
    }
    if operation != KernelOperation::Cgroup && is_never_granted(capability).is_none() {
        let because = danger(capability).unwrap_or("more than this one operation");
        list.add(
            Method::Capability,
            Scope::Systemd,
            (Low, risk(capability)),
            capability.to_string(),
            because,
        );
    }
}

fn namespace(list: &mut List<'_>) {
    let text = "have systemd make it: PrivateMounts=, PrivateNetwork=, PrivateUsers=";
    list.add(Method::Manager, Scope::Systemd, (Medium, Nothing), text, "the program must not do it itself");
    let text =
        "unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)";
    list.add(Method::Boot, Scope::Host, (Low, Medium), text, "opens more of the kernel to every user");
}
