//! Arguments of `nrtrace oci-runtime`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

const OCI_EXAMPLES: &str = "\
Examples:
  # podman: a link of this name is all it takes, since only a path can be passed
  sudo ln -s $(command -v nrtrace) /usr/local/bin/nrtrace-oci-runtime
  sudo podman --runtime /usr/local/bin/nrtrace-oci-runtime run --name web --user 1000 nginx

  # and, beside it, what sees the needs
  sudo nrtrace attach --container web --wait -o out/

As nrtrace-oci-runtime, it takes the runtime's arguments alone; NRTRACE_OCI_RUNTIME names the real runtime, NRTRACE_OCI_USER the user.";

/// Arguments of `oci-runtime`.
#[derive(Debug, Args)]
#[command(after_help = OCI_EXAMPLES)]
pub struct OciArgs {
    /// The real runtime [default: runc, else crun]
    #[arg(long, value_name = "PATH")]
    pub real: Option<PathBuf>,

    /// Run as this user [default: the one that the container asks for; 65532 in place of root]
    #[arg(long, value_name = "UID[:GID]")]
    pub user: Option<String>,

    /// The runtime's own arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}
