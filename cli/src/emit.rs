//! `nrtrace emit`: artefacts from a saved profile.

use std::process::ExitCode;

use anyhow::Result;
use nrtrace_profiles::emit::{Emitted, Format, Target, files, patch};
use nrtrace_profiles::grants::Grants;
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::ways::plan;

use crate::args::{EmitArgs, EmitFormat};
use crate::artefacts::{self, Guard};
use crate::failure::BadInput;
use crate::output::{Losses, OutputDir};
use crate::{input, show, terminal};

/// What a manifest can hold: far more than an API server takes as one object.
const MANIFEST: u64 = 16 << 20;

/// Writes artefacts.
pub fn emit(args: &EmitArgs) -> Result<ExitCode> {
    let profile = show::load(&args.profile, &args.more)?;
    let grants = plan(&profile, &args.shape.choices());
    let emitted = wanted(args, &profile, &grants)?;
    let mut losses = Losses::default();
    match (&args.output, &emitted[..]) {
        (Some(path), _) => {
            let output = OutputDir::open(path)?;
            let is_source = artefacts::is_of(path, &input::in_directory(&args.profile));
            let guard = Guard::of(&output, args.files.force).with_source(is_source);
            if args.format.is_empty() && args.patch.is_none() {
                guard.write(&emitted, &mut losses);
            } else {
                guard.add(&emitted, &mut losses);
            }
        }
        (None, [only]) => terminal::print(&only.text)?,
        (None, _) => {
            let names: Vec<&str> = emitted.iter().map(|file| file.file_name.as_str()).collect();
            let message =
                format!("these are several files ({}): name a directory for them with -o", names.join(", "));
            return Err(BadInput(message).into());
        }
    }
    Ok(losses.status(ExitCode::SUCCESS))
}

fn wanted(args: &EmitArgs, profile: &Profile, grants: &Grants) -> Result<Vec<Emitted>> {
    let mut emitted = Vec::new();
    if let Some(path) = &args.patch {
        let manifest = input::text(path, MANIFEST)?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let target = Target {
            manifest: &manifest,
            container: args.container.as_deref(),
            kustomize: args.kustomize.then_some(file.as_str()),
            looked_at: &[],
        };
        let patched = patch(profile, grants, &target)
            .map_err(|error| BadInput(format!("{}: {error}", path.display())))?;
        emitted.push(patched);
    }
    for format in &args.format {
        match format.format() {
            Some(format) => emitted.push(format.emit(profile, grants)),
            None => emitted.extend(Format::ALL.iter().map(|format| format.emit(profile, grants))),
        }
    }
    if args.whole.unit && !args.format.iter().any(|f| matches!(f, EmitFormat::Unit | EmitFormat::All)) {
        emitted.push(Format::SystemdUnit.emit(profile, grants));
    }
    if args.format.is_empty() && args.patch.is_none() && args.output.is_some() {
        emitted.push(Format::Json.emit(profile, grants));
        emitted.extend(files(profile, grants, &args.files.platforms(profile, grants)));
    }
    Ok(emitted)
}
