//! How a server answers a client that knows nothing of it. Where nobody tells how it is used, that is the least that shows
//! whether it serves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use nrtrace_profiles::event::Greeting;

/// A server that speaks first does so within this time.
const FIRST: Duration = Duration::from_millis(300);
/// One that is asked answers within this time, and takes a connection.
const LIMIT: Duration = Duration::from_secs(2);
/// So much of an answer is looked at.
const LONGEST: usize = 256;
/// What web servers answer, and most others that wait to be asked do not understand, which is an answer too.
const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// An answer, and the line that it was seen in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) greeting: Greeting,
    pub(super) line: String,
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Asking(Option<JoinHandle<Vec<Answer>>>);

impl Asking {
    /// Connects to each of these after a while. Whose server is known to wait for a question is not waited for itself.
    pub(super) fn start(servers: Vec<(SocketAddr, bool)>, after: Duration) -> Self {
        let work = move || {
            std::thread::sleep(after);
            servers.into_iter().filter_map(|(address, waits)| ask(address, waits)).collect()
        };
        Self(std::thread::Builder::new().spawn(work).ok())
    }

    /// What was answered, once that is known of all.
    pub(super) fn answers(&mut self) -> Option<Vec<Answer>> {
        match self.0.take() {
            Some(thread) if !thread.is_finished() => {
                self.0 = Some(thread);
                None
            }
            thread => Some(thread.and_then(|thread| thread.join().ok()).unwrap_or_default()),
        }
    }
}

fn ask(address: SocketAddr, waits: bool) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).ok()?;
    stream.set_write_timeout(Some(LIMIT)).ok()?;
    let mut said = [0; LONGEST];
    let mut listen = |stream: &mut TcpStream, limit| {
        stream.set_read_timeout(Some(limit)).ok()?;
        let length = stream.read(&mut said).ok()?;
        said.get(..length).map(<[u8]>::to_vec)
    };
    let first = if waits { None } else { listen(&mut stream, FIRST) };
    let waits = first.is_none();
    let said = first.or_else(|| {
        stream.write_all(QUESTION).ok()?;
        listen(&mut stream, LIMIT)
    })?;
    let (status, line) = status(&said)?;
    Some(Answer { greeting: Greeting { port: address.port(), waits, status }, line })
}

/// What of an answer is the same each time, and its first line; nothing where nothing was said.
fn status(said: &[u8]) -> Option<(String, String)> {
    let line = said.split(|byte| matches!(byte, b'\r' | b'\n')).next().filter(|_| !said.is_empty())?;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t');
    if line.is_empty() || !line.iter().all(is_text) {
        return Some(("bytes".into(), "bytes that are no text".into()));
    }
    let line = String::from_utf8_lossy(line).into_owned();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let code = line.get(..3).filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    let status = match (words.as_slice(), code) {
        ([protocol, code, ..], _) if protocol.starts_with("HTTP/") => format!("HTTP {code}"),
        (_, Some(code)) => code.to_owned(),
        // `* OK` and `* BYE` of IMAP.
        ([short, second, ..], _) if short.len() < 2 => format!("{short} {second}"),
        ([first, ..], _) => (*first).to_owned(),
        ([], _) => "bytes".to_owned(),
    };
    Some((status, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_is_the_same_each_time_is_the_status() {
        let of = |said: &str| status(said.as_bytes()).map(|(status, _)| status);
        assert_eq!(of("HTTP/1.1 403 Forbidden\r\nDate: now"), Some("HTTP 403".into()));
        assert_eq!(of("220-mail.example ESMTP 12:03\r\n"), Some("220".into()));
        assert_eq!(of("* BYE [IMAP4rev1] 12:03"), Some("* BYE".into()));
        assert_eq!(of("-ERR unknown command"), Some("-ERR".into()));
        assert_eq!(of("SSH-2.0-OpenSSH_9.2"), Some("SSH-2.0-OpenSSH_9.2".into()));
        assert_eq!(of("\u{15}\u{3}\u{1}"), Some("bytes".into()));
        assert_eq!(of(""), None);
    }

    fn answers(speaks: &'static [u8], hears: usize) -> Vec<Answer> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut asking = Asking::start(vec![(server.local_addr().unwrap(), false)], Duration::ZERO);
        let (mut client, _) = server.accept().unwrap();
        if hears > 0 {
            client.read_exact(&mut vec![0; hears]).unwrap();
        }
        client.write_all(speaks).unwrap();
        drop(client);
        loop {
            if let Some(answers) = asking.answers() {
                return answers;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_that_speaks_first_and_one_that_waits_to_be_asked_and_one_that_says_nothing() {
        let first = answers(b"220 hello\r\n", 0);
        assert!(
            matches!(first.as_slice(), [Answer { greeting: Greeting { waits: false, status, .. }, line }]
            if status == "220" && line == "220 hello")
        );
        let asked = answers(b"HTTP/1.0 200 OK\r\n\r\n", QUESTION.len());
        assert!(matches!(asked.as_slice(), [Answer { greeting: Greeting { waits: true, status, .. }, .. }]
            if status == "HTTP 200"));
        assert_eq!(answers(b"", 0), []);
    }
}
