//! What the system obeys, whoever put it there.

use super::trees::{ACCOUNTS, CRON, OBEYED, RUNS};
use super::{components, real};
use crate::RawText;
use crate::paths::{is_at_or_below, is_below};

/// Why what is put at `path` has a say beyond whoever put it there: others run, load or obey it. A program's name makes
/// no difference, for it can take any.
pub fn obeyed(path: &RawText) -> Option<&'static str> {
    let path = real(path);
    let bytes = path.as_bytes();
    if components(bytes).any(|part| part == b".ssh") {
        return Some(ACCOUNTS);
    }
    let row =
        OBEYED.iter().find(|(trees, ..)| trees.iter().any(|tree| is_at_or_below(bytes, tree.as_bytes())));
    match row.map(|(_, why, _)| *why) {
        Some(why) if why == ACCOUNTS || why == CRON => Some(why),
        Some(why) if why != RUNS => None,
        None if !is_below(bytes, b"/usr") => None,
        _ => Some("others run, load or obey what is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_obeys_is_known_by_where_it_is() {
        let why = |path: &str| obeyed(&path.into());
        for path in ["/etc/cron.d/job", "/etc/crontab", "/var/spool/cron/crontabs/root", "/etc/cron.daily/x"]
        {
            assert_eq!(why(path), Some(CRON), "{path}");
        }
        for path in ["/etc/sudoers.d/x", "/etc/passwd", "/etc/pam.d/su", "/home/a/.ssh/authorized_keys"] {
            assert_eq!(why(path), Some(ACCOUNTS), "{path}");
        }
        for path in [
            "/etc/systemd/system/x.service",
            "/run/systemd/system/x.service",
            "/usr/lib/systemd/system/x.service",
            "/etc/ld.so.preload",
            "/etc/ld.so.conf.d/x.conf",
            "/etc/profile.d/x.sh",
            "/etc/init.d/x",
            "/etc/udev/rules.d/x.rules",
            "/etc/apt/apt.conf.d/x",
            "/etc/modprobe.d/x.conf",
            "/usr/local/bin/x",
        ] {
            assert_eq!(why(path), Some("others run, load or obey what is there"), "{path}");
        }
        for path in
            ["/srv/x", "/var/lib/x", "/run/x.pid", "/etc/x.conf", "/proc/sys/kernel/x", "/var/log/syslog"]
        {
            assert_eq!(why(path), None, "{path}");
        }
    }
}
