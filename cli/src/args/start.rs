//! Arguments of `start`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Arguments of `start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The drop-in or unit
    ///
    /// The drop-in or unit. Without a command, that of the unit which a drop-in is for by the name of its directory
    /// (NAME.service.d), with all that this unit says of its start
    #[arg(value_name = "UNIT")]
    pub unit: PathBuf,

    /// The program and its arguments [default: those of the unit]
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
