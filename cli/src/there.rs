//! The working directory of the program, which is not that of whoever calls nrtrace.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::BadInput;

/// nrtrace is in another directory while this lives, and what it starts begins there.
pub struct There {
    back: Option<PathBuf>,
}

impl There {
    /// Goes there.
    ///
    /// # Errors
    /// When it is no directory, or closed to nrtrace itself.
    pub fn enter(directory: &Path) -> Result<Self, BadInput> {
        let back = env::current_dir().ok();
        env::set_current_dir(directory)
            .map_err(|error| BadInput(format!("--cwd: {}: {error}", directory.display())))?;
        Ok(Self { back })
    }
}

impl Drop for There {
    fn drop(&mut self) {
        // Nothing is lost where that fails: all that is written later has a name that holds everywhere, or says so.
        let _ = self.back.take().map(env::set_current_dir);
    }
}

/// The command with a program that is found from every directory: what is named from the caller's is named whole.
pub fn found_from_everywhere(command: &[OsString]) -> Vec<OsString> {
    let mut command = command.to_vec();
    if let Some(program) = command.first_mut()
        && Path::new(program).components().count() > 1
        && let Ok(whole) = std::path::absolute(&program)
    {
        *program = whole.into_os_string();
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_the_callers_directory_is_named_whole() {
        let first = |word: &str| found_from_everywhere(&[word.into(), "x/y".into()]);
        assert_eq!(first("sleep"), ["sleep", "x/y"]);
        assert_eq!(first("/bin/sleep"), ["/bin/sleep", "x/y"]);
        let own = env::current_dir().unwrap().join("bin/x");
        assert_eq!(first("./bin/x"), [own.into_os_string(), "x/y".into()]);
        assert_eq!(first("./x")[0], env::current_dir().unwrap().join("x").into_os_string());
    }
}
