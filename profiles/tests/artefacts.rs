//! What is written beside the drop-in, given to those who read it: systemd-analyze, the shell and shellcheck, kubectl, a
//! browser. They have to be installed; what is missing is a failure.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::Deployment;
use nrtrace_profiles::emit::{Emitted, Format, PatchError, Target, patch};
use nrtrace_profiles::grants::{Choices, Method};
use nrtrace_profiles::profile::{Profile, Timeline};
use nrtrace_profiles::ways::{grants, plan};
use samples::{HOSTILE, hostile};
use tempfile::TempDir;

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; is it installed?"))
}

/// Runs a program that has to succeed, and gives what it says.
fn said(command: &mut Command) -> String {
    let output = run(command);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{complaint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn write(directory: &Path, emitted: &Emitted) -> PathBuf {
    let path = directory.join(&emitted.file_name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &emitted.text).unwrap();
    path
}

/// All samples, with a command that is there to be executed.
fn profiles() -> Vec<Profile> {
    let mut all = samples::all();
    all.extend(HOSTILE.iter().map(|name| hostile(name)));
    let mut notifies = samples::everything();
    notifies.run.timeline = Some(Timeline { notified: true, ..Timeline::default() });
    all.push(notifies);
    for profile in &mut all {
        profile.command[0] = "/usr/bin/true".into();
    }
    all
}

#[test]
fn systemd_accepts_whole_units_and_sockets() {
    let choices =
        [Choices::default(), Choices { prefer: vec![Method::Socket, Method::Manager], ..Choices::default() }];
    for (profile, choices) in profiles().iter().flat_map(|profile| choices.iter().map(move |c| (profile, c)))
    {
        let directory = TempDir::new().unwrap();
        let grants = plan(profile, choices);
        let units = [Format::SystemdUnit, Format::SystemdSocket]
            .map(|f| write(directory.path(), &f.emit(profile, &grants)));
        let notifies = profile.run.timeline.is_some_and(|timeline| timeline.notified) && !profile.run.daemon;
        let text = fs::read_to_string(&units[0]).unwrap();
        assert_eq!(text.contains("\nType=notify\n"), notifies, "{text}");
        let bound = profile.listens.iter().any(|listen| listen.port.is_some());
        let output = run(Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .args(if bound { &units[..] } else { &units[..1] }));
        let complaint = String::from_utf8_lossy(&output.stderr);
        let hostile = profile.name == "hostiled";
        let accepted = |line: &str| {
            // A hostile address is no address; and kmod is on every machine that loads modules, not on this one.
            (hostile && (line.contains("Listen") || line.contains(".socket")))
                || line.contains("Command modprobe")
        };
        assert!(complaint.lines().all(accepted), "{}: {complaint}", profile.name);
        assert!(output.status.success() || !complaint.is_empty(), "{}", profile.name);
    }
}

/// The exposure that systemd-analyze computes, from 0 (safe) to 10.
fn exposure(unit: &Path) -> f64 {
    let text =
        said(Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager"]).arg(unit));
    let line =
        text.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{text}"));
    line.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_unit_is_much_less_exposed_than_before() {
    let directory = TempDir::new().unwrap();
    let profile = samples::nginx();
    let before = directory.path().join("before.service");
    fs::write(&before, "[Unit]\nDescription=x\n[Service]\nExecStart=/usr/sbin/nginx -g 'daemon off;'\n")
        .unwrap();
    let after = write(directory.path(), &Format::SystemdUnit.emit(&profile, &grants(&profile)));
    let (before, after) = (exposure(&before), exposure(&after));
    assert!(before > 9.0 && after < 6.0, "{before} before, {after} after");
}

#[test]
fn the_shell_and_shellcheck_accept_the_scripts() {
    let prefer = vec![Method::FileCapability];
    for profile in profiles() {
        let directory = TempDir::new().unwrap();
        let grants = plan(&profile, &Choices { prefer: prefer.clone(), ..Choices::default() });
        let scripts = [Format::Apply, Format::Undo, Format::Setcap]
            .map(|f| write(directory.path(), &f.emit(&profile, &grants)));
        for script in &scripts {
            said(Command::new("sh").arg("-n").arg(script));
            said(Command::new("bash").arg("-n").arg(script));
        }
        if HOSTILE.len() < 8 || profile.name != "hostiled" {
            // Which functions are called differs, and so do the variables that are read by them.
            said(Command::new("shellcheck").args(["-S", "warning", "-e", "SC2034"]).args(&scripts));
        }
    }
}

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: "1"}]}
      containers:
        - {name: sidecar, image: busybox}
        - name: web
          image: registry.example/nginx:1.25
          securityContext: {privileged: true, capabilities: {add: [NET_ADMIN]}}
          volumeMounts: [{name: logs, mountPath: /var/log/nginx}]
      volumes: [{name: logs, hostPath: {path: /srv/logs}}]
"#;

fn check_patched(text: &str) {
    let value: serde_json::Value = serde_norway::from_str(text).unwrap();
    let deployment: Deployment = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(&deployment).unwrap(),
        value,
        "a field that the published types do not have"
    );
    let mut pod = deployment.spec.unwrap().template.spec.unwrap();
    // Versions of kubectl differ in the order they keep.
    pod.containers.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = pod.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["sidecar", "web"]);
    assert!(pod.containers[0].security_context.is_none(), "the other container is left alone");
    let context = pod.containers[1].security_context.clone().unwrap();
    assert_eq!((context.run_as_user, context.run_as_non_root), (Some(61184), Some(true)));
    assert_eq!((context.privileged, context.read_only_root_filesystem), (Some(false), Some(true)));
    let capabilities = context.capabilities.unwrap();
    assert_eq!((capabilities.add, capabilities.drop), (None, Some(vec!["ALL".to_owned()])));
    let sysctls: Vec<String> =
        pod.security_context.unwrap().sysctls.unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(sysctls, ["net.ipv4.tcp_syncookies", "net.ipv4.ip_unprivileged_port_start"]);
    let mounts = pod.containers[1].volume_mounts.clone().unwrap();
    let on_logs: Vec<String> =
        mounts.iter().filter(|m| m.mount_path == "/var/log/nginx").map(|m| m.name.clone()).collect();
    assert_eq!(on_logs, ["logs"], "what the manifest mounts stays");
    assert!(mounts.iter().any(|mount| mount.mount_path == "/run"));
}

fn minor_version_of_kubectl() -> u32 {
    let text = said(Command::new("kubectl").args(["version", "--client", "--output=json"]));
    let version: serde_json::Value = serde_json::from_str(&text).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+');
    minor.parse().unwrap()
}

/// Older ones take patches from files alone: the same patch, in one.
fn take_patch_apart(kustomization: &Path) {
    let text = fs::read_to_string(kustomization).unwrap();
    let whole: serde_json::Value = serde_norway::from_str(&text).unwrap();
    fs::write(kustomization.with_file_name("patch.yaml"), whole["patches"][0]["patch"].as_str().unwrap())
        .unwrap();
    let head = text.split("patches:").next().unwrap();
    fs::write(kustomization, format!("{head}patchesStrategicMerge: [patch.yaml]\n")).unwrap();
}

#[test]
fn kubectl_applies_the_patch_to_the_container_that_is_meant() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let profile = samples::nginx();
    let target = Target { manifest: MANIFEST, ..Target::default() };
    let patched = patch(&profile, &grants(&profile), &target).unwrap();
    assert!(patched.text.contains("hostPath /srv/logs: fsGroup has no effect on it"), "{}", patched.text);
    let change = write(directory.path(), &patched);
    let manifest = file("deployment.yaml", MANIFEST.split("---\n").nth(1).unwrap());
    let text = said(
        Command::new("kubectl")
            .args(["patch", "--local", "--type=strategic", "--output=yaml", "--filename"])
            .arg(&manifest)
            .arg("--patch")
            .arg(fs::read_to_string(change).unwrap()),
    );
    check_patched(&text);

    file("web.yaml", MANIFEST.split("---\n").nth(1).unwrap());
    let kustomize = Target { kustomize: Some("web.yaml"), ..target };
    let written = write(directory.path(), &patch(&profile, &grants(&profile), &kustomize).unwrap());
    if minor_version_of_kubectl() < 21 {
        take_patch_apart(&written);
    }
    check_patched(&said(Command::new("kubectl").arg("kustomize").arg(directory.path())));
}

/// What prepares the volumes of an init container comes before it, and a second patch keeps what the first one made.
#[test]
fn init_containers_are_patched_in_their_order() {
    let directory = TempDir::new().unwrap();
    let profile = samples::redis();
    let container = |name: &str| format!("{{name: {name}, image: redis}}");
    let mut manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{initContainers: [{}, {}, {}], containers: [{}]}}\n",
        container("first"),
        container("redis"),
        container("last"),
        container("main")
    );
    let looked_at = ["redis", "main"].map(str::to_owned);
    for container in &looked_at {
        let target = Target {
            manifest: &manifest,
            container: Some(container),
            kustomize: None,
            looked_at: &looked_at,
        };
        let patched = patch(&profile, &grants(&profile), &target).unwrap();
        assert!(patched.text.contains("other containers are not looked at"), "first and last are not");
        let change = write(directory.path(), &patched);
        let path = directory.path().join("pod.yaml");
        fs::write(&path, &manifest).unwrap();
        manifest = said(
            Command::new("kubectl")
                .args(["patch", "--local", "--type=strategic", "--output=yaml", "--filename"])
                .arg(&path)
                .arg("--patch")
                .arg(fs::read_to_string(change).unwrap()),
        );
    }
    let pod: serde_json::Value = serde_norway::from_str(&manifest).unwrap();
    let names = |list: &str, key: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().unwrap();
        all.iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
    };
    let inits = names("initContainers", "name");
    let at = |name: &str| inits.iter().position(|known| known == name).unwrap();
    let own = inits.iter().position(|name| name.starts_with("prepare-nonroot-") && !name.contains("main"));
    assert!(
        at("first") < own.unwrap() && own.unwrap() < at("redis") && at("redis") < at("last"),
        "{inits:?}"
    );
    assert!(inits.iter().any(|name| name.starts_with("prepare-nonroot-main-")), "{inits:?}");
    let volumes = names("volumes", "name");
    let of_main: Vec<&String> = volumes.iter().filter(|name| name.starts_with("nonroot-main-")).collect();
    assert_eq!(of_main.len() * 2, volumes.len(), "each has volumes of its own: {volumes:?}");
}

#[test]
fn a_manifest_that_leaves_a_choice_is_refused_with_the_names() {
    let profile = samples::redis();
    let refusal = |manifest: &str, container| {
        let target = Target { manifest, container, kustomize: None, looked_at: &[] };
        patch(&profile, &grants(&profile), &target).unwrap_err()
    };
    assert!(matches!(refusal(MANIFEST, None), PatchError::Ambiguous(names) if names == "sidecar, web"));
    assert!(matches!(refusal(MANIFEST, Some("db")), PatchError::NoContainer(name, _) if name == "db"));
    assert!(matches!(refusal("kind: Service\n", None), PatchError::NoWorkload));
    assert!(matches!(refusal("a: [", None), PatchError::Malformed(_)));
    let named = Target { manifest: MANIFEST, container: Some("web"), kustomize: None, looked_at: &[] };
    assert!(patch(&profile, &grants(&profile), &named).is_ok());
}

/// The page as a browser has it in the end.
fn shown(directory: &Path, address: &str, options: &[&str]) -> String {
    said(
        Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--user-data-dir={}", directory.join("browser").display()))
            .args(options)
            .arg(address),
    )
}

#[test]
fn a_browser_fits_the_report_to_a_narrow_screen_and_filters_it() {
    const MEASURE: &str = r#"<script>
        const filter = document.getElementById("filter");
        filter.value = document.querySelector("details.need code").textContent;
        filter.dispatchEvent(new Event("input"));
        const needs = Array.from(document.querySelectorAll("details.need"));
        const wide = Array.from(document.querySelectorAll("body *")).filter((element) =>
            !element.closest(".scroll, pre") && element.getBoundingClientRect().right > innerWidth + 1);
        document.title = JSON.stringify({
            width: innerWidth, wide: wide.map((element) => element.outerHTML.slice(0, 80)),
            hidden: needs.filter((need) => need.offsetHeight === 0).length, needs: needs.length,
            dark: matchMedia("(prefers-color-scheme: dark)").matches,
            lightness: ["backgroundColor", "color"].map((what) =>
                Number(getComputedStyle(document.body)[what].match(/[0-9]+/)[0])),
        });
    </script></body>"#;
    let directory = TempDir::new().unwrap();
    for profile in [samples::everything(), hostile(HOSTILE[0])] {
        let text = Format::Html.emit(&profile, &grants(&profile)).text;
        // Its own policy would not let the measuring script run.
        let (before, policy) = text.split_once("<meta http-equiv").unwrap();
        let text = format!("{before}{}", policy.split_once('>').unwrap().1);
        let page = directory.path().join("measured.html");
        fs::write(&page, text.replace("</body>", MEASURE)).unwrap();
        let address = format!("file://{}", page.display());
        // Blink's own numbers for what a user prefers: 0 is dark.
        for (width, scheme) in [390, 768, 1280].into_iter().flat_map(|width| [(width, 0), (width, 1)]) {
            let window = format!("--window-size={width},800");
            let scheme_option = format!("--blink-settings=preferredColorScheme={scheme}");
            let text = shown(directory.path(), &address, &[&window, &scheme_option]);
            let title =
                text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).unwrap().0;
            let found: serde_json::Value = serde_json::from_str(&title.replace("&amp;", "&")).unwrap();
            assert_eq!(found["wide"], serde_json::json!([]), "beyond the edge of a screen of {width}");
            let lightness = [0, 1].map(|at| found["lightness"][at].as_u64().unwrap());
            let is_dark = lightness[0] + 128 < lightness[1];
            assert_eq!((found["dark"].as_bool(), is_dark), (Some(scheme == 0), scheme == 0), "{found}");
            assert!(is_dark || lightness[1] + 128 < lightness[0], "text is hard to read: {found}");
            assert!(found["width"].as_u64().unwrap().abs_diff(width) < 120, "{found}");
            assert!(
                found["hidden"].as_u64() >= Some(1) && found["hidden"].as_u64() < found["needs"].as_u64(),
                "{found}"
            );
        }
    }
}

#[test]
fn a_browser_shows_the_report_and_runs_its_script_alone() {
    let directory = TempDir::new().unwrap();
    let page =
        write(directory.path(), &Format::Html.emit(&samples::everything(), &grants(&samples::everything())));
    let shown = |address: String| shown(directory.path(), &address, &[]);
    // The page's policy names the script by its hash; the script opens what the address names.
    let text = shown(format!("file://{}#need-0", page.display()));
    let opened = text.matches("<details class=\"need").count();
    assert!(opened > 10 && text.matches(" open=\"\"").count() == 1, "the script did not run");
    // Another script does not run under the policy.
    let injected =
        fs::read_to_string(&page).unwrap().replace("<main>", "<main><script>document.title='owned'</script>");
    fs::write(&page, injected).unwrap();
    assert!(!shown(format!("file://{}", page.display())).contains("<title>owned"));
}
