//! Arguments of `start`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The drop-in or unit
    #[arg(value_name = "UNIT")]
    pub unit: PathBuf,

    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
