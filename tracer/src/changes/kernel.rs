//! Kernel parameters and modules.

use std::path::PathBuf;

use super::accounts::run;

/// The parameter of which the lowest value meets all: sysctl net.ipv4.ip_unprivileged_port_start.
const PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";

/// Where a parameter is, if that is a name of one. As in sysctl(8), dots and slashes change places when the first of
/// them is a dot.
pub fn parameter(name: &str) -> Option<PathBuf> {
    let first = name.find(['.', '/']);
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let path: String = match first.and_then(|at| name.as_bytes().get(at)) {
        Some(b'.') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '@');
    let is_name = path
        .split('/')
        .all(|part| !part.is_empty() && part != ".." && part != "." && part.chars().all(plain));
    is_name.then(|| PathBuf::from("/proc/sys").join(path))
}

/// The value of a parameter, with single spaces.
pub fn value(name: &str) -> Result<String, String> {
    let path = parameter(name).ok_or("is no name of a kernel parameter")?;
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(plain(&text))
}

/// A value with single spaces.
pub fn plain(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sets a parameter, unless it has that value.
pub fn set(name: &str, to: &str) -> Result<(), String> {
    if value(name)? == plain(to) {
        return Ok(());
    }
    let path = parameter(name).ok_or("is no name of a kernel parameter")?;
    std::fs::write(path, to).map_err(|error| error.to_string())
}

/// The value that meets all who want one; `None` when no value does.
pub fn together<'a>(name: &str, values: impl Iterator<Item = &'a String> + Clone) -> Option<String> {
    let first = values.clone().next()?;
    if values.clone().all(|value| plain(value) == plain(first)) {
        return Some(first.clone());
    }
    if name != PORT_START {
        return None;
    }
    let ports = values.map(|value| value.trim().parse::<u32>()).collect::<Result<Vec<_>, _>>().ok()?;
    ports.into_iter().min().map(|port| port.to_string())
}

/// Whether a module is there, loaded or built in.
pub fn has_module(name: &str) -> bool {
    PathBuf::from("/sys/module").join(name.replace('-', "_")).exists()
}

/// Whether that is a name of a module.
pub fn is_module(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Loads a module.
pub fn load(name: &str) -> Result<(), String> {
    run("modprobe", &["--", name])
}

/// Unloads a module.
pub fn unload(name: &str) -> Result<(), String> {
    run("modprobe", &["-r", "--", name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parameters() {
        let path = |name| parameter(name).map(|path| path.display().to_string());
        assert_eq!(path("vm.max_map_count").as_deref(), Some("/proc/sys/vm/max_map_count"));
        assert_eq!(
            path("net.ipv4.conf.eth0/1.forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/forwarding").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        for odd in ["", "..", "../../etc/passwd", "a/../b", "a b", "/etc/x", "vm."] {
            assert_eq!(path(odd), None, "{odd}");
        }
    }

    #[test]
    fn values_of_several() {
        let of = |name, values: &[&str]| {
            together(name, values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>().iter())
        };
        assert_eq!(of(PORT_START, &["80", "53"]).as_deref(), Some("53"));
        assert_eq!(of("vm.x", &["1", " 1 "]).as_deref(), Some("1"));
        assert_eq!(of("vm.x", &["1", "2"]), None);
        assert_eq!(of("vm.x", &[]), None);
    }
}
