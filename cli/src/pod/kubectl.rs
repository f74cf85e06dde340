//! The user's own kubectl: which cluster, as whom, and what is allowed there are its matter.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::interrupt::{self, Interrupted};

/// How long the API server may take to answer.
const ANSWER: &str = "--request-timeout=30s";
/// Between two looks at a kubectl that runs.
const TICK: Duration = Duration::from_millis(10);

/// kubectl, with the words that stand before its subcommand.
#[derive(Clone, Debug)]
pub struct Kubectl {
    words: Vec<String>,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// Its standard output.
    pub text: String,
    /// Lines of its standard error: warnings of the API server.
    pub warnings: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error(
        "{program}: {error}; --kubectl names another, --local proves a manifest by podman without a cluster"
    )]
    Missing {
        /// How it was called.
        program: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It failed.
    #[error("{what}: {said}{}", advice(.said))]
    Failed {
        /// What it was asked for.
        what: String,
        /// What it said.
        said: String,
    },
    /// nrtrace was asked to end.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What helps where it is not clear from what kubectl says.
fn advice(said: &str) -> &'static str {
    let is = |text: &str| said.contains(text);
    if is("current-context") || is("localhost:8080") || is("no configuration has been provided") {
        "; no cluster is configured: set KUBECONFIG, or let --local prove the manifest by podman"
    } else if is("(Forbidden)") && !is("violates PodSecurity") {
        "; docs/kubernetes.md lists what nrtrace pod has to be allowed"
    } else {
        ""
    }
}

impl Error {
    /// Whether it says that.
    pub fn says(&self, text: &str) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains(text))
    }

    /// Whether it is about something that is not there.
    pub fn is_not_found(&self) -> bool {
        self.says("(NotFound)") || self.says("the server doesn't have a resource type")
    }
}

impl Kubectl {
    /// That of a command line, split at blanks.
    pub fn new(text: &str) -> Self {
        Self { words: text.split_whitespace().map(str::to_owned).collect() }
    }

    /// Its name and options.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// What it answers, with that as its standard input.
    ///
    /// # Errors
    /// When it fails, or nrtrace is asked to end meanwhile.
    pub fn ask(&self, arguments: &[&str], input: Option<&str>) -> Result<Answer, Error> {
        self.run(Some(ANSWER), arguments, input)
    }

    /// The same of what takes its time.
    ///
    /// # Errors
    /// When it fails, or nrtrace is asked to end meanwhile.
    pub fn ask_for_long(&self, arguments: &[&str]) -> Result<Answer, Error> {
        self.run(None, arguments, None)
    }

    fn run(&self, limit: Option<&str>, arguments: &[&str], input: Option<&str>) -> Result<Answer, Error> {
        interrupt::check()?;
        let mut words = self.words.iter();
        let program = words.next().map_or("kubectl", String::as_str);
        let mut command = Command::new(program);
        command.args(words).args(limit).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The terminal's signals are for nrtrace, which ends it.
        command.process_group(0);
        let missing = |error| Error::Missing { program: program.to_owned(), error };
        let mut child = command.spawn().map_err(missing)?;
        let given = child.stdin.take().zip(input.map(str::to_owned));
        let fed = given.map(|(mut stdin, text)| thread::spawn(move || stdin.write_all(text.as_bytes())));
        let output = child.stdout.take().map(|pipe| thread::spawn(move || all(pipe)));
        let error = child.stderr.take().map(|pipe| thread::spawn(move || all(pipe)));
        let status = loop {
            if let Err(interrupted) = interrupt::check() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(interrupted.into());
            }
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => thread::sleep(TICK),
                Err(error) => return Err(missing(error)),
            }
        };
        let read = |thread: Option<thread::JoinHandle<String>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        let (text, said) = (read(output), read(error));
        let fed = fed.map(|thread| thread.join().unwrap_or(Ok(())));
        match (status.success(), fed) {
            // One that has read all it wanted closes its input.
            (true, Some(Err(error))) if error.kind() != ErrorKind::BrokenPipe => Err(missing(error)),
            (true, _) => Ok(Answer { text, warnings: warnings(&said) }),
            (false, _) => Err(Error::Failed { what: what(arguments), said: last(&said) }),
        }
    }

    /// An object, as the API server has it.
    ///
    /// # Errors
    /// When there is no answer; one that is no JSON is an empty value.
    pub fn object(&self, arguments: &[&str]) -> Result<Value, Error> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        let answer = self.ask(&arguments, None)?;
        Ok(serde_json::from_str(&answer.text).unwrap_or_default())
    }

    /// Has the API server make an object.
    ///
    /// # Errors
    /// When it does not.
    pub fn create(&self, object: &Value, options: &[&str]) -> Result<Answer, Error> {
        let mut arguments = vec!["create", "-f", "-"];
        arguments.extend(options);
        self.ask(&arguments, Some(&object.to_string()))
    }
}

fn all(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The first words of what it was asked for.
fn what(arguments: &[&str]) -> String {
    let words = arguments.iter().take_while(|word| !word.starts_with('-')).take(3);
    std::iter::once("kubectl").chain(words.copied()).collect::<Vec<_>>().join(" ")
}

fn warnings(said: &str) -> Vec<String> {
    said.lines().filter_map(|line| line.strip_prefix("Warning: ")).map(str::to_owned).collect()
}

/// What it said last, and that alone: what comes before are its attempts.
fn last(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.iter().rposition(|line| line.to_ascii_lowercase().starts_with("error"));
    let shown = lines.get(from.unwrap_or(lines.len().saturating_sub(1))..).unwrap_or_default();
    if shown.is_empty() { "it failed and said nothing".into() } else { shown.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_told_without_its_attempts() {
        let said =
            "E1129 memcache.go:265] couldn't get\nThe connection to the server localhost:8080 was refused\n";
        assert_eq!(last(said), "The connection to the server localhost:8080 was refused");
        assert!(advice(&last(said)).contains("KUBECONFIG"));
        let said = "Warning: old\nError from server (Forbidden): pods is forbidden:\n  more\n";
        assert_eq!(last(said), "Error from server (Forbidden): pods is forbidden:   more");
        assert_eq!(warnings(said), ["old"]);
        assert!(advice(&last(said)).contains("docs/kubernetes.md"));
        assert_eq!(last(""), "it failed and said nothing");
        assert_eq!(what(&["get", "pods", "-n", "x"]), "kubectl get pods");
    }
}
