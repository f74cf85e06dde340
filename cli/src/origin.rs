//! Where a path or a port comes from: the command, the environment, or a line of a file that the run read.

use nrtrace_profiles::RawText;
use nrtrace_profiles::event::Trace;
use nrtrace_profiles::place::real;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::requirement::{Need, Requirement};

use crate::configuration;

/// Places that are told of one need.
const TOLD: usize = 2;

/// Notes with each path and port where it is written, for a program that ran on this machine's files.
pub fn note(profile: &mut Profile, trace: &Trace) {
    let command: Vec<String> = profile.command.iter().map(RawText::to_text).collect();
    let environment: Vec<(String, String)> =
        profile.run.environment.iter().map(|(name, value)| (name.to_text(), value.to_text())).collect();
    let texts = configuration::files(trace);
    for requirement in &mut profile.requirements {
        let found = match subject(requirement) {
            Some(wanted) => origins(&wanted, &command, &environment, &texts),
            None => continue,
        };
        requirement.evidence.origins =
            found.into_iter().take(TOLD).map(|place| RawText::from(place.as_str())).collect();
    }
}

/// What is looked for.
enum Sought {
    Path(String),
    Port(u16),
}

fn subject(requirement: &Requirement) -> Option<Sought> {
    match &requirement.need {
        Need::Path { path, pattern: false, .. } | Need::Device { path, .. } => {
            Some(Sought::Path(path.to_text()))
        }
        Need::Port { port, .. } => Some(Sought::Port(*port)),
        _ => None,
    }
}

fn origins(
    wanted: &Sought,
    command: &[String],
    environment: &[(String, String)],
    texts: &[(RawText, String)],
) -> Vec<String> {
    let mut out = Vec::new();
    for (place, word) in command.iter().enumerate().skip(1) {
        let (name, value) = word.split_once('=').unwrap_or(("", word));
        if is_it(wanted, value) {
            let before = command.get(place - 1).filter(|before| before.starts_with("--"));
            // A short option may take no value.
            let option = if name.starts_with('-') { Some(name) } else { before.map(String::as_str) };
            out.push(option.map_or("the command".to_owned(), |option| format!("{option} in the command")));
        }
    }
    let variables = environment.iter().filter(|(_, value)| is_it(wanted, value));
    out.extend(variables.map(|(name, _)| format!("{name} in the environment")));
    for (path, text) in texts {
        let lines = text.lines().enumerate().filter(|(_, line)| says(wanted, line));
        out.extend(lines.map(|(number, _)| format!("{path}:{}", number + 1)));
    }
    out
}

/// Whether a value is the path, or ends with the port: `80`, `0.0.0.0:80`, `[::]:80`.
fn is_it(wanted: &Sought, value: &str) -> bool {
    match wanted {
        Sought::Path(path) => real(&RawText::from(value)).as_str() == Some(path),
        Sought::Port(port) => value.rsplit(':').next() == Some(port.to_string().as_str()),
    }
}

/// Whether a line of a file sets it. A number alone may be anything, so the line has to speak of ports.
fn says(wanted: &Sought, line: &str) -> bool {
    const PORTS: [&str; 4] = ["port", "listen", "bind", "addr"];
    let line = line.trim_start();
    if line.starts_with(['#', ';']) || line.starts_with("//") {
        return false;
    }
    let lower = line.to_ascii_lowercase();
    let speaks = matches!(wanted, Sought::Path(_)) || PORTS.iter().any(|word| lower.contains(word));
    let separators = |c: char| c.is_whitespace() || "\"'=;,(){}<>".contains(c);
    speaks && line.split(separators).any(|word| is_it(wanted, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let command: Vec<String> =
            ["x", "--pid", "/run/x.pid", "--port=80", "/etc/x.conf"].map(String::from).to_vec();
        let environment = [("X_LOG".to_owned(), "/var/log/x".to_owned())];
        let lines = [
            "# pid /run/x.pid",
            "pid \"/var/run/x.pid\";",
            "workers 80",
            "listen [::]:80 default;",
            "port = 443",
        ];
        let texts = [(RawText::from("/etc/x.conf"), lines.join("\n"))];
        let find = |wanted: Sought| origins(&wanted, &command, &environment, &texts);
        assert_eq!(find(Sought::Path("/run/x.pid".into())), ["--pid in the command", "/etc/x.conf:2"]);
        assert_eq!(find(Sought::Port(80)), ["--port in the command", "/etc/x.conf:4"]);
        assert_eq!(find(Sought::Port(443)), ["/etc/x.conf:5"]);
        assert_eq!(find(Sought::Path("/var/log/x".into())), ["X_LOG in the environment"]);
        assert_eq!(find(Sought::Path("/var/log/x/y".into())), [""; 0]);
    }
}
