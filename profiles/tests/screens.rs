//! What people see of real services, on a terminal of 80 and one of 120 columns. `UPDATE=1` writes the screens anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::{Path, PathBuf};

use nrtrace_profiles::emit::{View, table};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::grants;

/// Programs, and how many lines the answer may take on 80 columns.
const SERVICES: [(&str, usize); 5] =
    [("nginx", 15), ("lighttpd", 15), ("bind9", 15), ("tomcat", 40), ("rabbitmq", 40)];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/screens")
}

fn profile(name: &str) -> Profile {
    let text = std::fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
    Profile::from_json(&text).unwrap()
}

#[test]
fn the_screens_are_as_they_were() {
    for (name, most) in SERVICES {
        let profile = profile(name);
        let grants = grants(&profile);
        for width in [80, 120] {
            let text = table(&profile, &grants, &View { width: Some(width), ..View::PLAIN });
            let path = directory().join(format!("{name}.{width}.txt"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            let known = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(text, known, "{name} at {width} columns: UPDATE=1 writes it anew");
            assert!(text.lines().count() <= most, "{name} takes more than {most} lines:\n{text}");
        }
    }
}

/// Whatever is to be pasted stands in one piece on the narrowest screen: each word is one of the lines that are not broken.
#[test]
fn nothing_that_is_to_be_pasted_is_broken() {
    for (name, _) in SERVICES {
        let profile = profile(name);
        let grants = grants(&profile);
        for all in [false, true] {
            let words = |width| -> Vec<String> {
                let text = table(&profile, &grants, &View { width, all, ..View::PLAIN });
                text.split_whitespace().map(str::to_owned).collect()
            };
            let whole = words(None);
            for word in words(Some(60)) {
                assert!(whole.contains(&word), "{name}: {word} is a piece of something");
            }
        }
    }
}
