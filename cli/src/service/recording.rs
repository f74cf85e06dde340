//! What is on the machine while a unit is recorded: a drop-in, a unit that records, and its results. All of it is below
//! `/run`, so that the next boot knows nothing of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nrtrace_profiles::emit::escape::unit::argument;
use nrtrace_profiles::unit::Name;

use super::find::RECORDED;
use crate::artefacts::PROFILE;
use crate::failure::BadInput;
use crate::systemd::{self, UNITS, systemctl};

/// Where what is recorded goes.
const RESULTS: &str = "/run/nrtrace/service";
/// What a drop-in says that has the unit be refused nothing.
const PERMISSIVE: &str = "AmbientCapabilities=~\nCapabilityBoundingSet=~\n";

/// The recording of a unit.
pub struct Recording {
    /// The unit.
    pub unit: String,
    /// The unit that records.
    pub recorder: String,
    stem: String,
}

/// How a unit is recorded.
pub struct How {
    /// This program.
    pub nrtrace: PathBuf,
    /// Whom it is judged for, and the supplementary groups, where that is not a user made up.
    pub user: Option<(String, Vec<String>)>,
    /// Whether it is given all capabilities meanwhile: a service of root's has them.
    pub permissive: bool,
}

impl Recording {
    /// That of a unit, whether there is one or not.
    pub fn of(name: &Name) -> Self {
        let stem = name.stem();
        Self { unit: name.to_string(), recorder: format!("nrtrace-record-{stem}.service"), stem }
    }

    /// The drop-in.
    pub fn drop_in(&self) -> PathBuf {
        Path::new(UNITS).join(format!("{}.d", self.unit)).join(RECORDED)
    }

    fn recorder_file(&self) -> PathBuf {
        Path::new(UNITS).join(&self.recorder)
    }

    fn results(&self) -> PathBuf {
        Path::new(RESULTS).join(&self.unit)
    }

    /// The profile of what was recorded, once that has ended.
    pub fn profile(&self) -> PathBuf {
        self.results().join(PROFILE)
    }

    /// Whether the unit is recorded, or was until its recorder died.
    pub fn exists(&self) -> bool {
        self.recorder_file().exists()
    }

    /// Whether the unit has all capabilities meanwhile.
    pub fn is_permissive(&self) -> bool {
        fs::read_to_string(self.drop_in()).is_ok_and(|text| text.contains(PERMISSIVE))
    }

    /// The text of the drop-in.
    pub fn drop_in_text(&self, how: &How) -> String {
        let Self { unit, recorder, .. } = self;
        let mut text = format!(
            "# nrtrace records {unit}. `nrtrace service finish` or `undo` takes this away, and so does a reboot.\n\
             [Unit]\nWants={recorder}\nAfter={recorder}\n"
        );
        if how.permissive {
            text.push_str(
                "\n[Service]\n# It is refused nothing meanwhile, so that all it needs is seen at once.\n",
            );
            text.push_str(PERMISSIVE);
        }
        text
    }

    /// The text of the unit that records. However it ends, the drop-in does not outlive it.
    pub fn recorder_text(&self, how: &How) -> String {
        let Self { unit, stem, .. } = self;
        let own = how.nrtrace.display().to_string();
        let line =
            |words: &[&str]| words.iter().map(|word| argument(word.as_bytes())).collect::<Vec<_>>().join(" ");
        let results = self.results().display().to_string();
        let mut words =
            vec![&*own, "attach", "--unit", unit, "--restarts", "--name", stem, "-q", "-o", &results];
        let groups = how.user.as_ref().map(|(_, groups)| groups.join(",")).unwrap_or_default();
        if let Some((user, _)) = &how.user {
            words.extend(["--target-user", user]);
        }
        if !groups.is_empty() {
            words.extend(["--groups", &groups]);
        }
        format!(
            "# Made by `nrtrace service record`.\n[Unit]\nDescription=nrtrace records {}\n\n[Service]\nType=notify\n\
             ExecStart={}\nExecStopPost=-{}\n# 1: records were lost, which the result says.\nSuccessExitStatus=1\n",
            unit.replace('%', "%%"),
            line(&words),
            line(&[&own, "service", "undo", "--left", unit]),
        )
    }

    /// Begins it, with the unit that records. No other recording of the unit is begun from here on.
    ///
    /// # Errors
    /// When there is one, or the file cannot be written.
    pub fn claim(&self, how: &How) -> Result<()> {
        let path = self.recorder_file();
        let file =
            File::create_new(&path).and_then(|mut file| file.write_all(self.recorder_text(how).as_bytes()));
        match file {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(BadInput(format!("{} is being recorded", self.unit)).into())
            }
            written => written.with_context(|| path.display().to_string()),
        }
    }

    /// Writes the drop-in, and has the manager read it.
    ///
    /// # Errors
    /// When that fails.
    pub fn add_drop_in(&self, how: &How) -> Result<()> {
        let path = self.drop_in();
        let directory = path.parent().unwrap_or(Path::new(UNITS));
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        fs::write(&path, self.drop_in_text(how)).with_context(|| path.display().to_string())?;
        systemctl(&["daemon-reload"]).map(drop)
    }

    /// Takes the drop-in away, after which the next start of the unit is as it was before.
    ///
    /// # Errors
    /// When it cannot be removed, or the manager does not read that.
    pub fn take_drop_in(&self) -> Result<()> {
        let path = self.drop_in();
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed.with_context(|| path.display().to_string())?,
        }
        // Other drop-ins may be beside it.
        let _ = path.parent().map(fs::remove_dir);
        systemctl(&["daemon-reload"]).map(drop)
    }

    /// Ends the recording, and waits until its result is written.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub fn end(&self) -> Result<()> {
        // One that the manager does not know is none that it could stop.
        let state = systemd::property(&self.recorder, "ActiveState")?;
        if ["inactive", "failed"].contains(&state.as_str()) {
            return Ok(());
        }
        systemctl(&["stop", &self.recorder]).map(drop)
    }

    /// Takes the rest away: what was recorded, too.
    ///
    /// # Errors
    /// When it cannot be removed, or the manager does not read that.
    pub fn take_away(&self) -> Result<()> {
        self.take_drop_in()?;
        self.end()?;
        let file = self.recorder_file();
        fs::remove_file(&file).with_context(|| file.display().to_string())?;
        // There are none where nothing was recorded.
        let _ = fs::remove_dir_all(self.results());
        systemctl(&["daemon-reload"])?;
        // One that did not fail has nothing to be reset.
        let _ = systemctl(&["reset-failed", &self.recorder]);
        Ok(())
    }

    /// Whether the unit runs, or is about to.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    pub fn is_active(&self) -> Result<bool> {
        let state = systemd::property(&self.unit, "ActiveState")?;
        Ok(["active", "activating", "reloading", "refreshing"].contains(&state.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(unit: &str, user: Option<&str>, permissive: bool) -> (String, String) {
        let recording = Recording::of(&Name::parse(unit).unwrap());
        let user = user.map(|user| (user.to_owned(), vec!["adm".to_owned()]));
        let how = How { nrtrace: "/usr/bin/nrtrace".into(), user, permissive };
        (recording.drop_in_text(&how), recording.recorder_text(&how))
    }

    #[test]
    fn a_unit_of_root_keeps_all_that_it_says() {
        let (drop_in, recorder) = texts("nginx.service", None, false);
        let said: Vec<&str> = drop_in.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            said,
            ["[Unit]", "Wants=nrtrace-record-nginx.service", "After=nrtrace-record-nginx.service"]
        );
        assert!(
            recorder.contains(
                "\nExecStart=/usr/bin/nrtrace attach --unit nginx.service --restarts --name nginx -q \
                 -o /run/nrtrace/service/nginx.service\n\
                 ExecStopPost=-/usr/bin/nrtrace service undo --left nginx.service\n"
            ),
            "{recorder}"
        );
    }

    #[test]
    fn a_unit_of_a_user_is_refused_nothing_and_judged_for_that_user() {
        let (drop_in, recorder) = texts("db@a\\x2db.service", Some("db:db"), true);
        assert!(drop_in.ends_with("\nAmbientCapabilities=~\nCapabilityBoundingSet=~\n"), "{drop_in}");
        assert!(recorder.contains(" --target-user db:db --groups adm\n"), "{recorder}");
        // systemd undoes the escape once.
        assert!(recorder.contains("--unit \"db@a\\\\x2db.service\""), "{recorder}");
    }
}
