//! The podman that is there: how it is called, and which options it knows.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use super::Error;

/// podman, with the options that stand before its subcommand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Podman {
    words: Vec<String>,
}

impl Podman {
    /// That of a command line's first words.
    pub fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// Its name and options.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// A command of it, without input.
    pub fn command<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or("podman", String::as_str));
        command.args(words).args(arguments.iter().map(AsRef::as_ref)).stdin(Stdio::null());
        command
    }

    /// What a command answers.
    ///
    /// # Errors
    /// When it cannot be started or fails, with the last line that it said.
    pub fn ask<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String, Error> {
        let what = || arguments.iter().take(2).map(AsRef::as_ref).collect::<Vec<_>>().join(" ");
        let output = self.command(arguments).output();
        let output = output.map_err(|error| Error::Podman { what: what(), said: error.to_string() })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed").to_owned();
            return Err(Error::Podman { what: what(), said });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The options of a command, as its own help tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether each takes a value, by its long name.
    long: BTreeMap<String, bool>,
    /// Long names, by the letter.
    short: BTreeMap<char, String>,
}

/// A word of a command line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The option's long name.
    pub name: String,
    /// Its value; `None` for one that takes none.
    pub value: Option<String>,
}

impl Options {
    /// Reads the help of a command: `  -e, --env stringArray   Set …`; an option without a type is a switch.
    pub fn of_help(help: &str) -> Self {
        let mut options = Self::default();
        for line in help.lines().map(str::trim_start) {
            let (letter, rest) = match line.strip_prefix('-').and_then(|rest| rest.split_once(", --")) {
                Some((letter, rest)) if letter.chars().count() == 1 => (letter.chars().next(), rest),
                _ => match line.strip_prefix("--") {
                    Some(rest) => (None, rest),
                    None => continue,
                },
            };
            let end = rest.find(' ').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let valued = after.starts_with(' ') && !after.starts_with("  ") && after.trim() != "";
            options.long.insert(name.to_owned(), valued);
            letter.map(|letter| options.short.insert(letter, name.to_owned()));
        }
        // What a later version leaves out of its help is still an option of all.
        options.long.entry("help".into()).or_insert(false);
        options
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.long.contains_key(name)
    }

    /// Reads options from the front of `words` up to the first word that is none.
    ///
    /// # Errors
    /// What is no option of the command, in words.
    pub fn take(&self, words: &mut std::slice::Iter<'_, String>) -> Result<Vec<Given>, String> {
        let mut given = Vec::new();
        while let Some(word) = words.as_slice().first() {
            if !word.starts_with('-') || word == "-" {
                break;
            }
            words.next();
            if word == "--" {
                break;
            }
            match word.strip_prefix("--") {
                Some(long) => given.push(self.long(long, words)?),
                None => self.letters(&word[1..], words, &mut given)?,
            }
        }
        Ok(given)
    }

    fn long(&self, text: &str, words: &mut std::slice::Iter<'_, String>) -> Result<Given, String> {
        let (name, value) =
            text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
        let valued = self.long.get(name).ok_or_else(|| format!("podman has no option --{name}"))?;
        let value = match (valued, value) {
            (true, None) => Some(words.next().ok_or_else(|| format!("--{name} takes a value"))?.clone()),
            (_, value) => value,
        };
        Ok(Given { name: name.to_owned(), value })
    }

    fn letters(
        &self,
        text: &str,
        words: &mut std::slice::Iter<'_, String>,
        given: &mut Vec<Given>,
    ) -> Result<(), String> {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let name = self.short.get(&letter).ok_or_else(|| format!("podman has no option -{letter}"))?;
            if !self.long.get(name).copied().unwrap_or_default() {
                given.push(Given { name: name.clone(), value: None });
                continue;
            }
            let rest = letters.as_str();
            let value = match rest.strip_prefix('=').unwrap_or(rest) {
                "" => words.next().ok_or_else(|| format!("-{letter} takes a value"))?.clone(),
                rest => rest.to_owned(),
            };
            given.push(Given { name: name.clone(), value: Some(value) });
            break;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const HELP: &str = "Options:
      --annotation strings                       Add annotations to container (key=value)
      --cap-add strings                          Add capabilities to the container
  -d, --detach                                   Run container in background and print container ID
      --detach-keys [a-Z]                        Override the key sequence
      --entrypoint string                        Overwrite the default ENTRYPOINT of the image
  -e, --env stringArray                          Set environment variables in container
      --help                                     
  -i, --interactive                              Keep STDIN open even if not attached
      --mount stringArray                        Attach a filesystem mount to the container
      --network stringArray                      Connect a container to a network
      --passwd                                   add entries to /etc/passwd and /etc/group (default true)
      --pod string                               Run container in an existing pod
  -p, --publish strings                          Publish a container's port
      --read-only                                Make containers root filesystem read-only
      --sysctl strings                           Sysctl options
      --tmpfs tmpfs                              Mount a temporary filesystem (tmpfs) into a container
  -t, --tty                                      Allocate a pseudo-TTY for container
      --ulimit strings                           Ulimit options
  -u, --user string                              Username or UID
  -v, --volume stringArray                       Bind mount a volume into the container
";

    fn take(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let mut rest = words.iter();
        let given = Options::of_help(HELP).take(&mut rest)?;
        let shown = given.iter().map(|given| match &given.value {
            Some(value) => format!("{}={value}", given.name),
            None => given.name.clone(),
        });
        Ok((shown.collect(), rest.cloned().collect()))
    }

    #[test]
    fn options_are_read_as_podman_reads_them() {
        let (given, rest) = take("-itd -e A=b -eC=d --user=7 --read-only -v /a:/b image -v x").unwrap();
        let expected =
            ["interactive", "tty", "detach", "env=A=b", "env=C=d", "user=7", "read-only", "volume=/a:/b"];
        assert_eq!(given, expected);
        assert_eq!(rest, ["image", "-v", "x"]);
        assert_eq!(take("--passwd=false -- image").unwrap().1, ["image"]);
        assert_eq!(take("--passwd=false x").unwrap().0, ["passwd=false"]);
        for text in ["--no-such image", "-z image", "--user", "-e"] {
            assert!(take(text).is_err(), "{text}");
        }
    }
}
