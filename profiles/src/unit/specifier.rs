//! Specifiers: `%i` and its kind, systemd.unit(5).

use super::name::{Name, unescaped};

/// What specifiers tell of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// `%H`
    pub name: String,
    /// `%m`
    pub machine_id: String,
    /// `%b`
    pub boot_id: String,
    /// `%v`
    pub kernel: String,
    /// `%y`: the file of the unit.
    pub file: String,
}

/// A text with what its specifiers stand for, for the manager of the system. One that is not known stays as it is.
pub(super) fn expand(text: &str, name: &Name, host: &Host) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(kind) = rest.next() else {
            out.push('%');
            break;
        };
        match value(kind, name, host) {
            Some(value) => out.push_str(&value),
            None => out.extend(['%', kind]),
        }
    }
    out
}

fn value(kind: char, name: &Name, host: &Host) -> Option<String> {
    let instance = name.instance.as_deref().unwrap_or_default();
    let last = name.prefix.rsplit('-').next().unwrap_or_default();
    let fixed = match kind {
        '%' => "%",
        'C' => "/var/cache",
        'E' => "/etc",
        'L' => "/var/log",
        'S' => "/var/lib",
        'T' => "/tmp",
        'V' => "/var/tmp",
        't' => "/run",
        // Of the manager, and not of `User=`.
        'g' | 'u' => "root",
        'G' | 'U' => "0",
        'h' => "/root",
        's' => "/bin/sh",
        'H' => &host.name,
        'l' => host.name.split('.').next().unwrap_or_default(),
        'm' => &host.machine_id,
        'b' => &host.boot_id,
        'v' => &host.kernel,
        'y' => &host.file,
        'Y' => host.file.rsplit_once('/').map_or("", |(directory, _)| directory),
        'p' => &name.prefix,
        'i' => instance,
        'j' => last,
        _ => {
            return match kind {
                'n' => Some(name.to_string()),
                'N' => Some(name.stem()),
                'P' => Some(unescaped(&name.prefix)),
                'I' => Some(unescaped(instance)),
                'J' => Some(unescaped(last)),
                'f' => {
                    Some(format!("/{}", unescaped(if instance.is_empty() { &name.prefix } else { instance })))
                }
                'd' => Some(format!("/run/credentials/{name}")),
                _ => None,
            };
        }
    };
    Some(fixed.to_owned())
}
