//! What a `podman run` asks for, and what of it every trial has, too.

use super::podman::{Given, Options, Podman};

/// A container to be run again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The engine.
    pub podman: Podman,
    /// Options that every run has.
    pub kept: Vec<String>,
    /// What is mounted.
    pub volumes: Vec<Volume>,
    /// Variables.
    pub environment: Vec<(String, String)>,
    /// Whom it was to run as.
    pub user: Option<String>,
    /// What is run in place of the image's own entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The image.
    pub image: String,
    /// What follows it.
    pub arguments: Vec<String>,
}

/// A volume that was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Volume {
    /// A path of the host, or a volume's name.
    pub source: String,
    /// Where it is mounted.
    pub target: String,
    /// Whether nothing can be written there.
    pub read_only: bool,
}

impl Volume {
    /// Whether it is a path of the host.
    pub fn is_bind(&self) -> bool {
        self.source.starts_with(['/', '.'])
    }
}

/// What the artefacts say, or what is about the client and not the program: it is said anew for each run.
const OWN: [&str; 44] = [
    "attach",
    "cap-add",
    "cap-drop",
    "cidfile",
    "conmon-pidfile",
    "detach",
    "detach-keys",
    "group-add",
    "health-cmd",
    "health-interval",
    "health-on-failure",
    "health-retries",
    "health-start-period",
    "health-timeout",
    "image-volume",
    "init",
    "init-path",
    "interactive",
    "label",
    "label-file",
    "log-driver",
    "log-opt",
    "name",
    "no-healthcheck",
    "passwd",
    "passwd-entry",
    "pidfile",
    "privileged",
    "publish",
    "publish-all",
    "pull",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "restart",
    "rm",
    "rmi",
    "sdnotify",
    "sig-proxy",
    "stop-timeout",
    "systemd",
    "timeout",
    "tty",
];
/// What would have trials reach something that is not theirs, and why not.
const REFUSED: [(&str, &str); 8] = [
    ("pod", "a trial has a network of its own: leave it out"),
    ("pod-id-file", "a trial has a network of its own: leave it out"),
    ("mount", "write it as -v SOURCE:TARGET, or --tmpfs TARGET"),
    ("volumes-from", "name what it mounts with -v"),
    ("rootfs", "import it as an image: tar -C DIR -c . | podman import - NAME"),
    ("requires", "start what it needs before"),
    ("userns", "the trials' users are the image's own"),
    ("env-host", "name the variables with -e"),
];

impl Spec {
    /// Reads a command line: podman, its options, `run`, options of that, the image, and what is run in it.
    ///
    /// # Errors
    /// What cannot be tried, in words.
    pub fn parse(words: &[String], help: &mut dyn FnMut(&[String], bool) -> Options) -> Result<Self, String> {
        let mut rest = words.get(1..).unwrap_or_default().iter();
        let all = words.get(..1).unwrap_or_default();
        help(all, false).take(&mut rest)?;
        let before = words.len() - rest.len();
        let podman = Podman::new(words.get(..before).unwrap_or_default().to_vec());
        match rest.next().map(String::as_str) {
            Some("run") => {}
            Some("container") if rest.next().is_some_and(|word| word == "run") => {}
            _ => return Err("a proof is of podman run: what it starts is started again in each trial".into()),
        }
        let given = help(podman.words(), true).take(&mut rest)?;
        let image = rest.next().ok_or("podman run takes an image")?.clone();
        let mut spec = Self {
            podman,
            kept: Vec::new(),
            volumes: Vec::new(),
            environment: Vec::new(),
            user: None,
            entrypoint: None,
            image,
            arguments: rest.cloned().collect(),
        };
        given.into_iter().try_for_each(|given| spec.take(given))?;
        Ok(spec)
    }

    fn take(&mut self, given: Given) -> Result<(), String> {
        let Given { name, value } = given;
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(format!("--{name} cannot be tried: {why}"));
        }
        if OWN.contains(&name.as_str()) {
            return Ok(());
        }
        let text = value.clone().unwrap_or_default();
        match name.as_str() {
            "volume" => self.volumes.push(volume(&text)?),
            "env" => {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name.to_owned(), value.to_owned()),
                    None => (text.clone(), std::env::var(&text).unwrap_or_default()),
                };
                self.environment.push((name, value));
            }
            "user" => self.user = Some(text),
            "entrypoint" => self.entrypoint = Some(entrypoint(&text)),
            // The pod has its own: a port there is nobody else's.
            "network" if text == "host" => self.kept.push("--network=none".into()),
            "pid" | "ipc" | "uts" if text == "host" => {
                return Err(format!("--{name}=host cannot be tried: a trial is apart from the host"));
            }
            // The runtime's own profile is what a pod has.
            "security-opt" if text.starts_with("seccomp") || text.starts_with("no-new-privileges") => {}
            _ => self.kept.push(match value {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            }),
        }
        Ok(())
    }
}

/// `SOURCE:TARGET[:OPTIONS]`
fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(format!("-v {text} cannot be tried: write it as SOURCE:TARGET")),
    };
    let source = match source.starts_with('.') {
        true => std::path::absolute(source).map_err(|error| error.to_string())?.display().to_string(),
        false => source.to_owned(),
    };
    let read_only = options.split(',').any(|option| option == "ro");
    Ok(Volume { source, target: target.to_owned(), read_only })
}

/// A word, or a list of words as JSON has it.
fn entrypoint(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::super::podman::tests::HELP;
    use super::*;

    fn parse(text: &str) -> Result<Spec, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Spec::parse(&words, &mut |_, run| match run {
            true => Options::of_help(HELP),
            false => Options::of_help("  --runtime string   Path\n  --noout     do not output\n"),
        })
    }

    #[test]
    fn what_the_artefact_says_is_not_kept_and_the_rest_is() {
        let spec = parse(
            "podman --runtime crun --noout run -d -p 80:80 --user 1000 --cap-add=all --network=host --tmpfs /tmp \
             -v data:/data -v /etc/x:/x:ro -e A=b --sysctl net.core.somaxconn=9 web nginx -g off;",
        )
        .unwrap();
        assert_eq!(spec.podman.words(), ["podman", "--runtime", "crun", "--noout"]);
        assert_eq!(spec.kept, ["--network=none", "--tmpfs=/tmp", "--sysctl=net.core.somaxconn=9"]);
        assert_eq!((spec.image.as_str(), spec.user.as_deref()), ("web", Some("1000")));
        assert_eq!(spec.arguments, ["nginx", "-g", "off;"]);
        assert_eq!(spec.environment, [("A".to_owned(), "b".to_owned())]);
        let of = |volume: &Volume| (volume.is_bind(), volume.read_only, volume.target.clone());
        assert_eq!(
            spec.volumes.iter().map(of).collect::<Vec<_>>(),
            [(false, false, "/data".into()), (true, true, "/x".into())]
        );
        assert_eq!(parse("podman run --entrypoint [\"a\",\"b\"] x").unwrap().entrypoint.unwrap(), ["a", "b"]);
        assert_eq!(parse("podman run --entrypoint a x").unwrap().entrypoint.unwrap(), ["a"]);
    }

    #[test]
    fn what_reaches_beyond_the_trial_is_refused_with_a_way_out() {
        for (text, way) in [
            ("podman run --pod p web", "network of its own"),
            ("podman run --mount type=bind,src=/,dst=/h web", "-v SOURCE:TARGET"),
            ("podman build .", "podman run"),
            ("podman run", "takes an image"),
            ("podman run -v /x web", "SOURCE:TARGET"),
            ("podman run --nothing web", "no option --nothing"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(way), "{text}: {refused}");
        }
    }
}
