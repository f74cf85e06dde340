//! Programs that run what others wrote: what is given to one of them, every script has.

use crate::RawText;

/// Programs that run what others wrote: a capability on one of them would be in every script.
const INTERPRETERS: &[&str] = &[
    "ash", "awk", "bash", "beam.smp", "bun", "busybox", "dash", "deno", "dotnet", "env", "fish", "gawk",
    "gjs", "guile", "java", "ksh", "lua", "luajit", "mawk", "mksh", "mono", "node", "nodejs", "perl", "php",
    "pypy", "python", "ruby", "sh", "tclsh", "zsh",
];

/// `/usr/bin/python3.11` is one as `python` is.
pub(crate) fn is_interpreter(path: &RawText) -> bool {
    let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_version = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let versions = name.iter().rev().take_while(|byte| is_version(byte)).count();
    let plain = name.get(..name.len() - versions).unwrap_or_default();
    INTERPRETERS.iter().any(|known| known.as_bytes() == name || known.as_bytes() == plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters() {
        for name in
            ["/bin/sh", "/usr/bin/python3.11", "/usr/bin/perl5.36.0", "/usr/lib/erlang/erts-13/bin/beam.smp"]
        {
            assert!(is_interpreter(&name.into()), "{name}");
        }
        for name in ["/usr/sbin/php-fpm8.2", "/usr/sbin/nginx", "/usr/bin/node_exporter", "/", ""] {
            assert!(!is_interpreter(&name.into()), "{name}");
        }
    }
}
