//! `--share`: what the sandbox shows as it is on the machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use nrtrace_tracer::sandbox::Bind;

use crate::args::SandboxArgs;
use crate::failure::BadInput;

/// Where users and groups are kept; each trial adds the program's own to the sandbox's copy.
const ACCOUNTS: [&str; 6] =
    ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"];

/// What is to be shown, by its real path; what lies in another share is a part of that.
pub fn shared(args: &SandboxArgs) -> Result<Vec<Bind>> {
    let mut paths = args.share.iter().map(|path| real(path)).collect::<Result<Vec<_>>>()?;
    paths.sort_unstable();
    paths.dedup_by(|path, before| path.starts_with(before));
    Ok(paths.into_iter().map(|path| Bind { source: path.clone(), target: path, writable: true }).collect())
}

fn real(given: &Path) -> Result<PathBuf> {
    let refuse = |why: String| BadInput(format!("--share {}: {why}", given.display()));
    let path = given.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse(format!("there is no {}", given.display())),
        _ => refuse(error.to_string()),
    })?;
    match why_not(&path) {
        Some(why) => Err(refuse(why).into()),
        None => Ok(path),
    }
}

/// Why something cannot be shared.
fn why_not(path: &Path) -> Option<String> {
    for own in ["/proc", "/sys"] {
        if path.starts_with(own) {
            return Some(format!(
                "{own} is the kernel's, and the sandbox has its own view of it; share files and directories"
            ));
        }
    }
    if path == Path::new("/dev") {
        return Some("the sandbox has device nodes of its own; share the one file below /dev".into());
    }
    let account = ACCOUNTS.iter().find(|account| {
        let real = Path::new(account).canonicalize();
        real.as_deref().unwrap_or(Path::new(account)).starts_with(path)
    })?;
    Some(format!(
        "it holds {account}, where each trial adds the program's user: that must not reach the machine; share a directory \
         below it that holds the data alone"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(paths: &[&Path]) -> Result<Vec<PathBuf>> {
        let args = SandboxArgs {
            network: None,
            share: paths.iter().map(|path| path.to_path_buf()).collect(),
            file_capabilities: false,
            with: None,
        };
        Ok(shared(&args)?.into_iter().map(|bind| bind.target).collect())
    }

    #[test]
    fn what_trials_change_and_what_is_the_kernels_is_refused() {
        let refused = ["/", "/etc", "/etc/passwd", "/etc/../etc/group", "/proc", "/proc/sys", "/sys", "/dev"];
        for path in refused {
            let error = share(&[Path::new(path)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--share {path}: ")), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(share(&[&link]).unwrap_err().to_string().contains("/etc/passwd"));
    }

    #[test]
    fn a_share_is_what_its_links_lead_to_and_holds_what_is_below() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(here.join("data/below")).unwrap();
        std::fs::create_dir(here.join("data-2")).unwrap();
        std::os::unix::fs::symlink("data", here.join("link")).unwrap();
        let given = [here.join("link/below"), here.join("link"), here.join("data-2")];
        let paths: Vec<&Path> = given.iter().map(PathBuf::as_path).collect();
        assert_eq!(share(&paths).unwrap(), [here.join("data"), here.join("data-2")]);
    }
}
