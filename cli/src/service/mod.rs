//! `nrtrace service`: from a unit of this machine to a drop-in for it, proved in a sandbox, or recorded as it lives.

pub mod find;
mod prove;
mod record;
mod recording;
pub mod started;

use std::process::ExitCode;

use anyhow::Result;

use crate::args::{ServiceArgs, ServiceCommand};

/// `nrtrace service`
pub fn service(args: ServiceArgs) -> Result<ExitCode> {
    match &args.command {
        Some(ServiceCommand::Record(args)) => record::record(args),
        Some(ServiceCommand::Finish(args)) => record::finish(args),
        Some(ServiceCommand::Status(args)) => record::status(args),
        Some(ServiceCommand::Undo(args)) => record::undo(args),
        None => prove::prove(args),
    }
}
