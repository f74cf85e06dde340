//! What `run --verify` and `run --minimize` are about.

use std::sync::Arc;

use nrtrace_profiles::event::Identity;
use nrtrace_profiles::knowledge::Library;
use nrtrace_tracer::image::Image;
use nrtrace_tracer::launch::IdentityPolicy;

use crate::args::RunArgs;
use crate::output::OutputDir;
use crate::service::started::Started;

/// What is run and proved.
pub struct ProofTask<'a> {
    pub args: &'a RunArgs,
    pub name: String,
    pub identity: Identity,
    pub policy: IdentityPolicy,
    pub library: Library,
    pub output: Option<OutputDir>,
    /// The unit that starts it.
    pub unit: Option<Started>,
    /// Whose containers are run, where it is an image.
    pub image: Option<Arc<Image>>,
}
