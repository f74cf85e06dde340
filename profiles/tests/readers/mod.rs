//! Readers of the formats, and what they must find in what was written for [`hostile`](crate::samples::hostile).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use nrtrace_profiles::RawText;
use nrtrace_profiles::emit::Emitted;
use nrtrace_profiles::grants::{FileKind, Grants};
use nrtrace_profiles::place::Class;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::text::printable;

/// The lines that are no comments.
pub fn lines(emitted: &Emitted) -> Vec<&str> {
    emitted.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Which systemd reads: before 254 a backslash only makes the next character literal.
#[derive(Clone, Copy, PartialEq)]
enum Systemd {
    V252,
    V254,
}

/// Splits a line as systemd's extract_first_word() does with EXTRACT_UNQUOTE, and from 254 EXTRACT_CUNESCAPE.
fn words(line: &str, version: Systemd) -> Vec<Vec<u8>> {
    let bytes = line.as_bytes();
    let (mut words, mut word, mut quote, mut at) = (Vec::new(), None::<Vec<u8>>, None::<u8>, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, quote) {
            (b'\\', _) => {
                let (escaped, length) = match bytes[at] {
                    literal if version == Systemd::V252 => (literal, 1),
                    b'x' => (u8::from_str_radix(&line[at + 1..at + 3], 16).unwrap(), 3),
                    plain @ (b'\\' | b'"' | b'\'') => (plain, 1),
                    other => panic!("unknown escape {other:#x} in {line}"),
                };
                word.get_or_insert_default().push(escaped);
                at += length;
            }
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (_, Some(open)) if byte == open => quote = None,
            (b' ' | b'\t', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    assert_eq!(quote, None, "open quote in {line}");
    words.extend(word);
    words
}

/// Expands specifiers, of which only `%%` may appear.
fn specifiers(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'%' {
            assert_eq!(bytes.next(), Some(&b'%'), "a specifier in {:?}", RawText::new(word));
        }
        out.push(byte);
    }
    out
}

/// The one path a glob(7) pattern matches.
fn matched(pattern: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = pattern.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.push(*bytes.next().unwrap()),
            b'*' | b'?' | b'[' | b'{' => panic!("a wildcard in {:?}", RawText::new(pattern)),
            _ => out.push(byte),
        }
    }
    out
}

/// What a tmpfiles.d line does: type and path.
fn entry(line: &str, version: Systemd) -> (String, RawText) {
    let words = words(line, version);
    let letter = String::from_utf8(words[0].clone()).unwrap();
    let path = specifiers(&words[1]);
    let path = if ["z", "a+"].contains(&letter.as_str()) { matched(&path) } else { path };
    assert_eq!(words.len(), if letter == "a+" { 7 } else { 6 }, "{line}");
    (letter, RawText::new(path))
}

/// Every version of systemd reads the same from the lines; a newer one also the rest, which is in comments.
pub fn check_tmpfiles(emitted: &Emitted, plan: &Grants) {
    let live: BTreeSet<_> = lines(emitted).iter().map(|line| entry(line, Systemd::V254)).collect();
    let old: BTreeSet<_> = lines(emitted).iter().map(|line| entry(line, Systemd::V252)).collect();
    assert_eq!(live, old);
    let text: Vec<&str> = emitted.text.lines().collect();
    let commented = text.windows(2).filter(|pair| pair[0].starts_with("# Only systemd 254"));
    let commented: BTreeSet<_> = commented.map(|pair| entry(&pair[1][2..], Systemd::V254)).collect();
    let plain = |(_, path): &(String, RawText)| path.as_str().is_some_and(|text| printable(text) == text);
    let (portable, other): (BTreeSet<_>, BTreeSet<_>) = intended(plan).into_iter().partition(plain);
    assert_eq!(live, portable);
    assert_eq!(commented, other);
    assert_eq!(emitted.unmet.is_empty(), other.is_empty());
}

fn intended(plan: &Grants) -> BTreeSet<(String, RawText)> {
    let mut out = BTreeSet::new();
    for path in plan.directories.keys() {
        out.insert(("d".to_owned(), path.clone()));
    }
    for (path, file) in &plan.files {
        let letter = match file.kind {
            FileKind::Regular => "f",
            FileKind::Fifo => "p",
            FileKind::Existing | FileKind::Attribute => "z",
        };
        out.insert((letter.to_owned(), path.clone()));
    }
    out.extend(plan.acls.keys().map(|path| ("a+".to_owned(), path.clone())));
    out
}

/// Nothing in any text moves the cursor, changes colours or reverses the line.
pub fn check_plain(emitted: &Emitted) {
    let hidden = emitted.text.split('\n').find(|line| printable(line) != *line);
    assert_eq!(hidden, None, "{}", emitted.file_name);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    assert!(emitted.file_name.chars().all(plain) && !emitted.file_name.starts_with('/'));
    assert!(!emitted.file_name.split('/').any(|part| part.is_empty() || part == ".."));
}

const DIRECTIVES: &[&str] = &[
    "User",
    "Group",
    "SupplementaryGroups",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "NoNewPrivileges",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "RuntimeDirectory",
    "StateDirectoryMode",
    "StateDirectory",
    "DeviceAllow",
    "ProtectSystem",
    "ReadWritePaths",
    "ProtectHome",
    "ProtectKernelTunables",
    "ProtectKernelModules",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "ProtectHostname",
    "RestrictRealtime",
    "LockPersonality",
    "SocketBindAllow",
    "SocketBindDeny",
    // Of the whole unit alone.
    "Description",
    "After",
    "Type",
    "ExecStart",
    "Restart",
    "WorkingDirectory",
    "Environment",
    "WantedBy",
];

pub fn check_service(emitted: &Emitted, profile: &Profile, plan: &Grants) {
    let mut devices = BTreeSet::new();
    let mut writable = BTreeSet::new();
    for line in lines(emitted).into_iter().filter(|line| !line.starts_with('[')) {
        let (directive, value) = line.split_once('=').unwrap();
        assert!(DIRECTIVES.contains(&directive), "{line}");
        match directive {
            "DeviceAllow" => {
                let words = words(value, Systemd::V252);
                assert_eq!((words.len(), words[1].as_slice()), (2, b"r".as_slice()));
                devices.insert(RawText::new(specifiers(&words[0])));
            }
            "ReadWritePaths" => {
                let words = words(value, Systemd::V252);
                assert_eq!((words.len(), words[0][0]), (1, b'-'), "{line}");
                writable.insert(RawText::new(specifiers(&words[0])[1..].to_vec()));
            }
            "ExecStart" => {
                let words = words(value, Systemd::V254);
                let words = words.iter().map(|word| dollars(&specifiers(word)));
                let command: Vec<Vec<u8>> =
                    profile.command.iter().map(|word| word.as_bytes().to_vec()).collect();
                assert_eq!(words.collect::<Vec<_>>(), command, "{line}");
            }
            _ => {}
        }
    }
    let plain = |path: &&RawText| path.as_str().is_some_and(|text| printable(text) == text);
    assert_eq!(devices, plan.devices.keys().filter(plain).cloned().collect());
    let known = |path: &RawText| {
        plan.directories.contains_key(path)
            || plan.files.contains_key(path)
            || plan.acls.contains_key(path)
            // The directory of a file, where it is the service's own.
            || plan.files.keys().any(|file| file.as_bytes().starts_with(&[path.as_bytes(), b"/"].concat()))
    };
    assert!(writable.iter().all(known), "{writable:?}");
}

/// Expands variables of a command line, of which only `$$` may appear.
fn dollars(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = word.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'$' {
            assert_eq!(bytes.next(), Some(&b'$'), "a variable in {:?}", RawText::new(word));
        }
        out.push(byte);
    }
    out
}

/// The mounts a container has and those that what is made takes.
pub fn check_mounts(mounts: &BTreeSet<String>, plan: &Grants) {
    let mountable =
        |path: &&RawText| path.as_str().is_some_and(|p| !p.contains(':') && !p.contains(char::is_control));
    let made =
        plan.directories.iter().filter(|(_, grant)| grant.class != Class::Config).map(|(path, _)| path);
    for path in made.filter(mountable) {
        let path = path.as_str().unwrap();
        let covers = |mount: &String| path == mount || path.starts_with(&format!("{mount}/"));
        assert!(mounts.iter().any(covers), "{path} is not in {mounts:?}");
    }
    let holds = |mount: &&String| {
        let inside = format!("{mount}/");
        plan.files
            .keys()
            .chain(plan.directories.keys())
            .map(RawText::to_text)
            .any(|path| path.starts_with(&inside))
            || plan.directories.keys().any(|path| path.as_str() == Some(mount))
            || plan.unmet.iter().any(|unmet| unmet.need.contains(&inside))
    };
    assert!(mounts.iter().all(|mount| holds(&mount)), "{mounts:?}");
}

/// What an API server would keep of a manifest: it is decoded as the published types, strictly.
fn decoded<T: serde::Serialize + serde::de::DeserializeOwned>(text: &str) -> serde_json::Value {
    let value: serde_json::Value = serde_norway::from_str(text).expect("YAML");
    let typed: T = serde_json::from_value(value.clone()).expect("the published types");
    let kept = serde_json::to_value(&typed).unwrap();
    assert_eq!(kept, value, "a field that the published types do not have");
    value
}

pub fn check_kubernetes(emitted: &Emitted, profile: &Profile, plan: &Grants) {
    let pod = decoded::<k8s_openapi::api::core::v1::Pod>(&emitted.text);
    let container = &pod["spec"]["containers"][0];
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    check_mounts(&mounts.map(|mount| mount["mountPath"].as_str().unwrap().to_owned()).collect(), plan);
    let command: Option<Vec<String>> =
        profile.command.iter().map(|word| Some(word.as_str()?.replace("$(", "$$("))).collect();
    let written: Option<Vec<String>> = serde_json::from_value(container["command"].clone()).unwrap();
    assert_eq!(written, command);
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
}

pub fn check_compose(emitted: &Emitted, profile: &Profile, plan: &Grants) {
    let compose: serde_json::Value = serde_norway::from_str(&emitted.text).expect("YAML");
    let service = &compose["services"]["hostiled"];
    let memory = service["tmpfs"].as_array().into_iter().flatten();
    let memory =
        memory.map(|mount| mount.as_str().unwrap().rsplit_once(":uid=").unwrap().0.replace("$$", "$"));
    let named = service["volumes"].as_array().into_iter().flatten();
    let named = named.map(|volume| volume["target"].as_str().unwrap().replace("$$", "$"));
    check_mounts(&memory.chain(named).collect(), plan);
    let command: Option<Vec<String>> =
        profile.command.iter().map(|word| Some(word.as_str()?.replace('$', "$$"))).collect();
    let words =
        ["entrypoint", "command"].map(|key| service[key].as_array().cloned().unwrap_or_default()).concat();
    let words: Vec<String> = words.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    assert_eq!((!words.is_empty()).then_some(words), command);
}

pub fn check_containerfile(emitted: &Emitted) {
    for line in lines(emitted) {
        let known = ["USER ", "RUN ", "EXPOSE "].iter().any(|instruction| line.starts_with(instruction));
        assert!(known && !line.ends_with('\\'), "{line}");
    }
}

/// Markdown is read back by its parser: there is no markup but what the page is made of, and the names are there.
pub fn check_markdown(emitted: &Emitted, plan: &Grants) {
    use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
    let mut cells = BTreeSet::new();
    let mut cell = None;
    for event in Parser::new_ext(&emitted.text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
        match event {
            Event::Html(html) | Event::InlineHtml(html) => panic!("HTML: {html}"),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                panic!("link: {dest_url}")
            }
            Event::Start(Tag::Emphasis | Tag::Strikethrough | Tag::BlockQuote(_)) | Event::Rule => {
                panic!("markup of the tracee's")
            }
            Event::Start(Tag::TableCell) => cell = Some(String::new()),
            Event::End(TagEnd::TableCell) => cells.extend(cell.take()),
            Event::Text(text) | Event::Code(text) => cell.iter_mut().for_each(|cell| cell.push_str(&text)),
            _ => {}
        }
    }
    for path in plan.directories.keys().chain(plan.files.keys()).chain(plan.acls.keys()) {
        let text = printable(&path.to_text()).into_owned();
        assert!(cells.contains(&text), "{text:?} is not in {cells:?}");
    }
}

/// HTML is read back by its tokeniser: the tags and attributes are those of an ordinary page.
pub fn check_html(emitted: &Emitted, profile: &Profile) {
    use html5gum::{Token, Tokenizer};
    const TAGS: &str = "html head meta title style body header main footer section div p button h1 h2 h3 span pre code ul li b a \
                        svg line text rect circle details summary input dl dt dd table thead tbody tr th td script";
    let mut text = String::new();
    let mut scripts = 0;
    for token in Tokenizer::new(&emitted.text) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                assert!(TAGS.split(' ').any(|known| known.trim() == name), "<{name}>");
                scripts += usize::from(name == "script");
                for (attribute, value) in &tag.attributes {
                    assert!(!attribute.starts_with(b"on"), "{:?}", tag.name);
                    assert!(attribute.as_slice() != b"href" || value.value.starts_with(b"#"), "a link");
                }
            }
            Token::String(string) => text.push_str(&String::from_utf8_lossy(&string.value)),
            Token::Error(error) => panic!("{error:?}"),
            Token::Comment(comment) => panic!("{comment:?}"),
            _ => {}
        }
    }
    assert_eq!(scripts, 1);
    for requirement in &profile.requirements {
        let id = printable(&requirement.id).into_owned();
        assert!(text.contains(&id), "{id:?} is not in the page");
    }
}
