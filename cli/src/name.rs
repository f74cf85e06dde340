//! What a program is called: of an interpreter what it runs says more.

use std::ffi::OsString;
use std::path::Path;

use nrtrace_profiles::RawText;
use nrtrace_profiles::prove::users::is_interpreter;

/// The name of what a command runs: its program's, or of an interpreter that of the script, module, archive or class.
pub fn of(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((program, rest)) = words.split_first() else { return String::new() };
    let own = base(program);
    if !is_interpreter(&RawText::from(program.as_str())) {
        return own;
    }
    within(&own, rest).filter(|name| !name.is_empty()).unwrap_or(own)
}

/// What an interpreter runs, as far as its arguments tell.
fn within(interpreter: &str, arguments: &[String]) -> Option<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-m" if interpreter.starts_with("python") => return words.next().map(|module| base(module)),
            "-jar" => return words.next().map(|archive| without_ending(&base(archive))),
            // A program in its arguments has no name.
            "-c" | "-e" => return None,
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-modules" => {
                words.next();
            }
            word if word.starts_with('-') => {}
            word if interpreter == "env" && word.contains('=') => {}
            word if interpreter == "java" => return word.rsplit(['.', '/']).next().map(str::to_owned),
            word if interpreter == "env" => {
                let rest: Vec<OsString> =
                    std::iter::once(word).chain(words.map(String::as_str)).map(OsString::from).collect();
                return Some(of(&rest));
            }
            script => return Some(without_ending(&base(script))),
        }
    }
    None
}

fn base(path: &str) -> String {
    let path = Path::new(path);
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The name of a file of a program's text, without what tells its language.
fn without_ending(name: &str) -> String {
    let endings =
        [".sh", ".bash", ".py", ".pl", ".rb", ".js", ".mjs", ".cjs", ".php", ".lua", ".jar", ".war"];
    let ending = endings.iter().find_map(|ending| name.strip_suffix(ending)).filter(|name| !name.is_empty());
    ending.unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interpreter_runs_says_more_than_its_name() {
        for (command, name) in [
            ("/usr/sbin/nginx -g x", "nginx"),
            ("/bin/sh /usr/libexec/tomcat10/tomcat-start.sh", "tomcat-start"),
            ("python3 -u -m http.server 80", "http.server"),
            ("/usr/bin/python3.11 /srv/app/main.py --port 80", "main"),
            ("java -Xmx1g -jar /opt/thing/thing-1.2.jar", "thing-1.2"),
            ("java -cp a:b org.apache.catalina.startup.Bootstrap start", "Bootstrap"),
            ("node --inspect server.mjs", "server"),
            ("env A=1 /usr/bin/redis-server x", "redis-server"),
            ("sh -c true", "sh"),
            ("bash", "bash"),
            ("./server", "server"),
        ] {
            let words: Vec<OsString> = command.split(' ').map(OsString::from).collect();
            assert_eq!(of(&words), name, "{command}");
        }
    }
}
