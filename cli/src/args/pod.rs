//! Arguments of `nrtrace pod`.

use std::time::Duration;

use clap::Args;

use super::common::Results;
use super::value;
use super::{EXIT_STATUS, MORE};

const EXAMPLES: &str = "\
Examples:
  # From a manifest to a patch with which its pod is Ready, tried on the cluster that kubectl points to
  nrtrace pod web.yaml -n shop --recorder-image registry.example/nrtrace:0.1.0 --prove -o out/

  # The same of what runs there, one of its containers; as a plugin of kubectl
  kubectl nrtrace deployment/web -n shop --container web --recorder-image registry.example/nrtrace:0.1.0 --prove -o out/

  # Without a cluster, by podman and the local image
  sudo nrtrace pod web.yaml --local -o out/";

/// Arguments of `pod`.
#[derive(Debug, Args)]
#[command(after_help = MORE, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub struct PodArgs {
    /// A manifest, or an object of the cluster
    ///
    /// A manifest (`-`: standard input), or an object of the cluster: a pod, or what makes pods. Nothing of it is changed: a copy
    /// of its pod is recorded, by a recorder on the same node, and all that was made is gone in the end
    #[arg(value_name = "FILE|TYPE/NAME")]
    pub object: String,

    /// The namespace [default: the manifest's, else that of kubectl's context]
    #[arg(help_heading = "Cluster", short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// One container [default: all, init containers and sidecars too]
    #[arg(help_heading = "Cluster", long, value_name = "NAME")]
    pub container: Option<String>,

    /// The image of the recorder
    ///
    /// The image of the recorder, which deploy/Containerfile builds
    #[arg(
        help_heading = "Cluster",
        long,
        value_name = "IMAGE",
        env = "NRTRACE_RECORDER_IMAGE",
        hide_env_values = true,
        conflicts_with = "local"
    )]
    pub recorder_image: Option<String>,

    /// Where the recorder runs [default: a namespace of its own]
    ///
    /// Where the recorder runs: a namespace that takes privileged pods [default: one that is made for it, and deleted]
    #[arg(
        hide_short_help = true,
        help_heading = "Cluster",
        long,
        value_name = "NAMESPACE",
        conflicts_with = "local"
    )]
    pub recorder_namespace: Option<String>,

    /// The node [default: as it is scheduled]
    ///
    /// The node on which the pod is tried [default: the one that the recorder is scheduled to, by the pod's own selectors]
    #[arg(
        hide_short_help = true,
        help_heading = "Cluster",
        long,
        value_name = "NAME",
        conflicts_with = "local"
    )]
    pub node: Option<String>,

    /// kubectl, with its options: 'kubectl --context test', 'k0s kubectl'
    #[arg(help_heading = "Cluster", long, value_name = "WORDS", default_value = "kubectl")]
    pub kubectl: String,

    /// Have the API server check the patched object
    ///
    /// Have the API server check the patched object, and its pod under the namespace's level of the Pod Security Standards
    /// (`--dry-run=server`): nothing of it is kept
    #[arg(help_heading = "Proof", long, conflicts_with = "local")]
    pub apply_dry_run: bool,

    /// Start a copy with the patch, and wait until it is Ready
    ///
    /// Start a copy of the pod with the patch in its own namespace, and wait until it is Ready and stays so. What it is refused
    /// is added to the patch, and tried again
    #[arg(help_heading = "Proof", long, conflicts_with = "local")]
    pub prove: bool,

    /// Have copies mount claims that are there, and may hold data
    ///
    /// Have copies mount the claims that are in the cluster already. They are somebody's data: the program writes to them, and
    /// the kubelet gives what they hold to fsGroup; without it, copies have empty directories there. What a pod that runs has
    /// mounted is never tried
    #[arg(hide_short_help = true, help_heading = "Proof", long, conflicts_with = "local")]
    pub with_claims: bool,

    /// How long it has to stay Ready
    #[arg(help_heading = "Proof", long, value_name = "DURATION", value_parser = value::duration, default_value = "5s")]
    pub settle: Duration,

    /// How long it may take to be Ready
    #[arg(hide_short_help = true, help_heading = "Proof", long, value_name = "DURATION", value_parser = value::duration, default_value = "2m")]
    pub ready_timeout: Duration,

    /// Judge for this user [default: a fresh one]
    ///
    /// Judge for this user: a name of the image's, or a number; with a group after a colon [default: the container's own, where
    /// it is not root, else a fresh one]
    #[arg(help_heading = "Proof", long, value_name = "USER|UID[:GID]")]
    pub target_user: Option<String>,

    /// By podman and the local image, without a cluster
    ///
    /// Prove the manifest by podman and its image as it is on this machine, without a cluster: command, environment, volumes and
    /// probes are the manifest's. Takes root; what happens where kubectl has no cluster to talk to
    #[arg(help_heading = "Proof", long)]
    pub local: bool,

    /// podman, with its options, for --local: 'podman --runtime crun', 'podman run --network none'
    #[arg(
        hide_short_help = true,
        help_heading = "Proof",
        long,
        value_name = "WORDS",
        default_value = "podman"
    )]
    pub podman: String,

    #[command(flatten)]
    pub results: Results,
}
