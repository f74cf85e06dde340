//! tmpfiles.d(5), for machines without `systemd-tmpfiles`: the lines that nrtrace writes.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use super::{acl, lines, words};
use crate::accounts;

/// Applies the lines; what could not be done, in words.
pub fn apply(text: &str) -> Vec<String> {
    let mut failed = Vec::new();
    for line in lines(text) {
        if let Err(reason) = Line::parse(line).and_then(|parsed| parsed.apply()) {
            failed.push(format!("tmpfiles.d `{line}`: {reason}"));
        }
    }
    failed
}

struct Line {
    letter: char,
    plus: bool,
    path: PathBuf,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    argument: Vec<u8>,
}

fn failed(error: std::io::Error) -> String {
    error.to_string()
}

impl Line {
    fn parse(line: &str) -> Result<Self, String> {
        let words = words::split(line).ok_or("cannot be read")?;
        let kind = words.first().map(|kind| String::from_utf8_lossy(kind).into_owned()).unwrap_or_default();
        let letter = kind.chars().next().ok_or("is empty")?;
        let name = words.get(1).ok_or("names no path")?;
        let path = match letter {
            'z' | 'Z' | 'a' | 'A' => words::literal(name).ok_or("is a pattern")?,
            _ => name.clone(),
        };
        let text = |index: usize| {
            words.get(index).map(|word| String::from_utf8_lossy(word).into_owned()).filter(|word| word != "-")
        };
        let mode = text(2).map(|mode| u32::from_str_radix(mode.trim_start_matches(['~', ':']), 8));
        Ok(Self {
            letter,
            plus: kind.contains('+'),
            path: OsString::from_vec(path).into(),
            mode: mode.transpose().map_err(|_| "its mode is none")?,
            uid: text(3).map(|name| uid(&name)).transpose()?,
            gid: text(4).map(|name| gid(&name)).transpose()?,
            argument: words.get(6).cloned().unwrap_or_default(),
        })
    }

    fn apply(&self) -> Result<(), String> {
        let exists = self.path.symlink_metadata().is_ok();
        match self.letter {
            'd' | 'D' => {
                if let Some(parent) = self.path.parent() {
                    fs::create_dir_all(parent).map_err(failed)?;
                }
                if !exists {
                    fs::create_dir(&self.path).map_err(failed)?;
                }
                self.adjust(&self.path, Some(0o755))
            }
            'f' | 'F' => {
                if !exists || self.letter == 'F' || self.plus {
                    let mode = self.mode.unwrap_or(0o644);
                    let mut options = OpenOptions::new();
                    let options = options.write(true).create(true).truncate(true).mode(mode);
                    let mut file = options.open(&self.path).map_err(failed)?;
                    file.write_all(&self.argument).map_err(failed)?;
                }
                self.adjust(&self.path, Some(0o644))
            }
            'p' => {
                if !exists {
                    nix::unistd::mkfifo(&self.path, Mode::from_bits_truncate(self.mode.unwrap_or(0o644)))
                        .map_err(|errno| errno.to_string())?;
                }
                self.adjust(&self.path, Some(0o644))
            }
            'z' if exists => self.adjust(&self.path, None),
            'Z' if exists => self.adjust_all(&self.path),
            'a' if exists => acl::add(&self.path, &String::from_utf8_lossy(&self.argument)),
            // What is to be adjusted may not be there.
            'z' | 'Z' | 'a' => Ok(()),
            'L' => {
                if exists && self.plus {
                    fs::remove_file(&self.path).map_err(failed)?;
                } else if exists {
                    return Ok(());
                }
                symlink(PathBuf::from(OsString::from_vec(self.argument.clone())), &self.path).map_err(failed)
            }
            _ => Err("is of a kind that is not known here".into()),
        }
    }

    /// Sets owner and mode; `default` is the mode of something that is made.
    fn adjust(&self, path: &Path, default: Option<u32>) -> Result<(), String> {
        if self.uid.is_some() || self.gid.is_some() {
            lchown(path, self.uid, self.gid).map_err(failed)?;
        }
        match self.mode.or(default) {
            Some(mode) if !path.is_symlink() => {
                fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    fn adjust_all(&self, path: &Path) -> Result<(), String> {
        self.adjust(path, None)?;
        if path.is_symlink() || !path.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(path).map_err(failed)? {
            self.adjust_all(&entry.map_err(failed)?.path())?;
        }
        Ok(())
    }
}

fn uid(name: &str) -> Result<u32, String> {
    let known = accounts::user_by_name(name).map(|user| user.uid.as_raw());
    known.or_else(|| name.parse().ok()).ok_or_else(|| format!("there is no user {name}"))
}

fn gid(name: &str) -> Result<u32, String> {
    let known = accounts::group_by_name(name).map(|group| group.gid.as_raw());
    known.or_else(|| name.parse().ok()).ok_or_else(|| format!("there is no group {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_lines_that_nrtrace_writes() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("there"), "kept").unwrap();
        fs::create_dir_all(at("tree/below")).unwrap();
        let here = directory.path().display();
        let text = format!(
            "# A comment.\nd {here}/made 0750 1 1 -\nf \"{here}/a b\" 0640 1 1 -\np {here}/pipe 0600 1 1 -\n\
             z {here}/there 0600 1 - -\nZ {here}/tree - 1 - -\nz {here}/missing 0600 1 1 -\n\
             a+ {here}/there - - - - u:2:r-x\nf {here}/there 0644 1 1 -\nL {here}/link - - - - there\nq {here}/x\n"
        );
        // As an ordinary user the test has nothing to give away.
        if !nix::unistd::geteuid().is_root() {
            return assert!(!apply(&text).is_empty());
        }
        let failed = apply(&text);
        assert!(failed.len() == 1 && failed[0].contains("not known here"), "{failed:?}");
        let facts = |name: &str| {
            let metadata = at(name).symlink_metadata().unwrap();
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
        };
        assert_eq!(facts("made"), (0o750, 1, 1));
        assert_eq!(facts("a b"), (0o640, 1, 1));
        assert_eq!(facts("pipe"), (0o600, 1, 1));
        assert_eq!(facts("tree/below").1, 1);
        assert_eq!(facts("there"), (0o644, 1, 1));
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "kept");
    }
}
