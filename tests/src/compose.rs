//! Does what Compose does with a service, for the keys nrtrace writes: podman has the options, and a sandbox no engine.

use anyhow::{Context, Result, bail, ensure};
use serde_norway::Value;

/// A service, as options of `podman run` and the command.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Options, in front of the image.
    pub options: Vec<String>,
    /// What is run in it.
    pub command: Vec<String>,
    /// Options of `podman volume create` for each volume that has some, and its name.
    pub volumes: Vec<Vec<String>>,
}

impl Service {
    /// Reads the only service of `text`.
    ///
    /// # Errors
    /// When there is not exactly one, or it has a key that is not known here: what it does would be missing from the proof.
    pub fn parse(text: &str) -> Result<Self> {
        let file: Value = serde_norway::from_str(text)?;
        let services = file.get("services").and_then(Value::as_mapping).context("no services")?;
        ensure!(services.len() == 1, "wanted one service in {text}");
        let service =
            services.values().next().and_then(Value::as_mapping).context("a service is a mapping")?;
        let mut parsed = Self::default();
        for (key, value) in service {
            let key = key.as_str().context("a key is text")?;
            parsed.key(key, value).with_context(|| format!("understand {key}"))?;
        }
        for (name, volume) in file.get("volumes").and_then(Value::as_mapping).into_iter().flatten() {
            if let Some(options) = volume.get("driver_opts") {
                let mut create = Self::default();
                create.pairs("--opt", options)?;
                create.options.push(word(name)?);
                parsed.volumes.push(create.options);
            }
        }
        Ok(parsed)
    }

    fn key(&mut self, key: &str, value: &Value) -> Result<()> {
        match key {
            // The test has its own image and network.
            "image" | "ports" => {}
            "user" => self.option("--user", &word(value)?),
            "read_only" => self.option("--read-only", &format!("{}", value.as_bool().context("no boolean")?)),
            "group_add" => self.list("--group-add", value)?,
            "cap_drop" => self.list("--cap-drop", value)?,
            "cap_add" => self.list("--cap-add", value)?,
            "security_opt" => self.list("--security-opt", value)?,
            "devices" => self.list("--device", value)?,
            "tmpfs" => self.list("--tmpfs", value)?,
            "oom_score_adj" => self.option("--oom-score-adj", &word(value)?),
            "sysctls" => self.pairs("--sysctl", value)?,
            "environment" => self.pairs("--env", value)?,
            "ulimits" => self.pairs("--ulimit", value)?,
            "entrypoint" => self.command.splice(0..0, words(value)?).for_each(drop),
            "command" => self.command.extend(words(value)?),
            "volumes" => {
                for volume in value.as_sequence().context("no list")? {
                    let part = |name| volume.get(name).context("a volume lacks a key").and_then(word);
                    ensure!(part("type")? == "volume", "a bind mount reaches out of the sandbox");
                    let nocopy = volume.get("volume").and_then(|more| more.get("nocopy")?.as_bool());
                    let nocopy = if nocopy == Some(true) { ":nocopy" } else { "" };
                    self.option("--volume", &format!("{}:{}{nocopy}", part("source")?, part("target")?));
                }
            }
            _ => bail!("not known to this test: teach it what Compose does"),
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str) {
        self.options.push(format!("{name}={value}"));
    }

    fn list(&mut self, name: &str, value: &Value) -> Result<()> {
        words(value)?.iter().for_each(|item| self.option(name, item));
        Ok(())
    }

    fn pairs(&mut self, name: &str, value: &Value) -> Result<()> {
        for (key, value) in value.as_mapping().context("no mapping")? {
            self.option(name, &format!("{}={}", word(key)?, word(value)?));
        }
        Ok(())
    }
}

/// A scalar; a dollar sign is written twice in Compose.
fn word(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.replace("$$", "$")),
        Value::Number(number) => Ok(number.to_string()),
        _ => bail!("{value:?} is no word"),
    }
}

fn words(value: &Value) -> Result<Vec<String>> {
    value.as_sequence().context("no list")?.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        let service =
            Service::parse("services: {a: {user: '1:2', command: ['$$x'], entrypoint: [b]}}").unwrap();
        assert_eq!(service.options, ["--user=1:2"]);
        assert_eq!(service.command, ["b", "$x"]);
        assert!(Service::parse("services: {a: {privileged: true}}").is_err());
        assert!(Service::parse("services: {}").is_err());
    }
}
