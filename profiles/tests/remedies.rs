//! Which ways there are to meet a need, which one the plan takes, and what changes that.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod samples;

use nrtrace_profiles::changes::{Action, Changes};
use nrtrace_profiles::edit::Edit;
use nrtrace_profiles::emit::{Remedy, Treatment, remedies, verdict};
use nrtrace_profiles::event::Protocol;
use nrtrace_profiles::grants::{Choices, Grade, Grants, Method};
use nrtrace_profiles::knowledge::{Fact, Setting, moved};
use nrtrace_profiles::profile::Profile;
use nrtrace_profiles::prove::ways;
use nrtrace_profiles::ways::{grants, plan};
use nrtrace_profiles::{Capability, RawText};
use samples::*;

fn prefer(methods: &[Method]) -> Choices {
    Choices { prefer: methods.to_vec(), ..Choices::default() }
}

fn of(profile: &Profile, grants: &Grants, id: &str) -> Vec<Remedy> {
    let requirement = profile.requirements.iter().find(|requirement| requirement.id == id);
    remedies(grants, requirement.unwrap_or_else(|| panic!("{id} in {}", profile.name)))
}

fn chosen(profile: &Profile, choices: &Choices, id: &str) -> Vec<Method> {
    let grants = plan(profile, choices);
    of(profile, &grants, id)
        .iter()
        .filter(|remedy| remedy.chosen)
        .filter_map(|remedy| remedy.method)
        .collect()
}

#[test]
fn every_need_has_ways_and_the_one_taken_is_marked() {
    for profile in all().into_iter().chain(HOSTILE.iter().map(|name| hostile(name))) {
        let grants = grants(&profile);
        for requirement in &profile.requirements {
            let list = remedies(&grants, requirement);
            assert!(!list.is_empty(), "{}: no way for {}", profile.name, requirement.id);
            let unmet = verdict(&grants, requirement) == Treatment::Unmet;
            let taken = |remedy: &Remedy| remedy.chosen && remedy.method.is_some();
            assert!(unmet || list.iter().any(taken), "{}: {list:#?}", requirement.id);
        }
    }
}

/// What is listed is what could be taken: of a shared directory nothing, of a socket no copy and no image.
#[test]
fn no_way_is_listed_that_is_not_one() {
    let pid = path("/run/shop.pid", File, &[Create], ("/run", root_directory(0o755)));
    let socket = inode(Socket, ROOT, ("shop", 120), 0o660);
    let socket = path("/run/shop/api.sock", Socket, &[Write], ("/run/shop/api.sock", socket));
    let profile = profile("shop", &["/usr/bin/gunicorn"], vec![pid, socket]);
    let grants = grants(&profile);
    let methods =
        |id| -> Vec<Method> { of(&profile, &grants, id).iter().filter_map(|remedy| remedy.method).collect() };
    assert_eq!(methods("path:/run/shop.pid"), [Method::Make]);
    assert_eq!(methods("path:/run/shop/api.sock"), [Method::Group]);
}

#[test]
fn a_low_port_is_opened_as_preferred() {
    const PORT: &str = "port:tcp:0.0.0.0:80";
    let profile = nginx();
    assert_eq!(chosen(&profile, &Choices::default(), PORT), [Method::Capability]);
    for method in [Method::Sysctl, Method::Socket, Method::FileCapability, Method::Configure] {
        let choices = prefer(&[method]);
        assert_eq!(chosen(&profile, &choices, PORT), [method]);
        let grants = plan(&profile, &choices);
        assert_eq!(
            grants.capabilities.contains_key(&Capability::NET_BIND_SERVICE),
            method == Method::FileCapability
        );
        assert_eq!(
            grants.sysctls.contains_key("net.ipv4.ip_unprivileged_port_start"),
            method == Method::Sysctl
        );
    }
    // The lowest of several ports is where the free ones start.
    let ports = [8, 80, 25].map(|number| port(Protocol::Tcp, "::", number)).into();
    let grants = plan(&self::profile("thing", &["/x"], ports), &prefer(&[Method::Sysctl]));
    assert_eq!(grants.sysctls["net.ipv4.ip_unprivileged_port_start"].value, "8");
}

#[test]
fn a_file_is_opened_as_preferred() {
    const KEY: &str = "path:/etc/ssl/private/host.key";
    let cases = [
        (vec![], Method::Group),
        (vec![Method::Acl], Method::Acl),
        (vec![Method::Credential, Method::Acl], Method::Credential),
        // Nothing that is the system's own changes hands, whatever is preferred.
        (vec![Method::Own], Method::Group),
    ];
    for (preferred, expected) in cases {
        assert!(chosen(&tls(), &prefer(&preferred), KEY).contains(&expected), "{preferred:?}");
    }
    let plan = plan(&tls(), &prefer(&[Method::Credential]));
    assert_eq!(plan.credentials["host.key"].path, "/etc/ssl/private/host.key".into());
    assert!(plan.advice[0].reason.contains("%d/host.key"));
}

#[test]
fn a_directory_is_opened_as_preferred() {
    const STATE: &str = "path:/var/lib/redis";
    let choose = |method| chosen(&redis(), &prefer(&[method]), STATE);
    assert_eq!(choose(Method::Own), [Method::Own]);
    assert_eq!(choose(Method::Acl), [Method::Acl]);
    let body = "path:/var/lib/nginx/body";
    assert_eq!(chosen(&nginx(), &Choices::default(), body), [Method::Make]);
    assert_eq!(chosen(&nginx(), &prefer(&[Method::Own]), body), [Method::Own]);
}

#[test]
fn root_does_it_before_the_start_when_that_is_preferred() {
    let plan = plan(&k0s(), &prefer(&[Method::Manager]));
    let commands: Vec<String> = plan.before_start.iter().map(|(words, _)| words.join(" ")).collect();
    assert_eq!(commands, ["modprobe br_netfilter", "sysctl -q -w net.ipv4.conf.all.forwarding=1"]);
    assert!(plan.sysctls.is_empty() && plan.modules.is_empty());
}

#[test]
fn what_is_known_of_a_program_comes_first_and_is_taken_for_what_nothing_else_grants() {
    const CONFIG: &str = "path:/run/k0s-*-kubelet-bootstrap-kubeconfig";
    const PLUGINS: &str = "path:/var/lib/k0s";
    let known = |need: &str, fatal| Fact {
        program: "k0s".into(),
        needs: [need.to_owned()].into(),
        checks: None,
        is: "a temporary kubeconfig".into(),
        fatal,
        remedies: vec![Setting {
            edit: None,
            text: "set XDG_RUNTIME_DIR=/run/k0s; TMPDIR is not used for this file".into(),
            variable: Some(("XDG_RUNTIME_DIR".into(), "/run/k0s".into())),
            directive: None,
            directory: Some("/run/k0s".into()),
        }],
        note: None,
        sources: vec!["k0s issue 5910".into()],
    };
    let mut profile = k0s();
    profile.requirements.retain(|need| need.id != "path:/usr/libexec/kubernetes");
    profile.knowledge = vec![known(CONFIG, None), known(PLUGINS, None)];
    let grants = plan(&profile, &Choices::default());
    let list = of(&profile, &grants, CONFIG);
    assert!(list[0].chosen && list[0].source.as_deref() == Some("k0s issue 5910"), "{list:#?}");
    assert_eq!(grants.unmet, []);
    assert!(grants.directories.contains_key(&"/run/k0s".into()));
    assert_eq!(grants.environment["XDG_RUNTIME_DIR"].value, "/run/k0s");
    // What can be granted is, unless the program's own configuration is preferred.
    let list = of(&profile, &grants, PLUGINS);
    assert!(!list[0].chosen && list[0].source.is_some() && list.iter().any(|remedy| remedy.chosen));
    let configured = plan(&profile, &prefer(&[Method::Configure]));
    assert!(of(&profile, &configured, PLUGINS)[0].chosen);
    assert!(!configured.directories.contains_key(&"/var/lib/k0s".into()));
    // What the program lives without is not granted.
    profile.knowledge = vec![known(CONFIG, Some(false))];
    assert_eq!(plan(&profile, &Choices::default()).optional.len(), 1);
}

#[test]
fn a_line_of_the_configuration_is_written_once_a_trial_has_shown_it() {
    const PID: &str = "path:/run/nginx.pid";
    let file = RawText::from("/etc/nginx/nginx.conf");
    let text = "user www-data;\npid /var/run/nginx.pid;\n".to_owned();
    let mut profile = nginx();
    profile.knowledge = moved(&profile, &[(file.clone(), text)]);
    let facts: Vec<&str> =
        profile.knowledge.iter().flat_map(|fact| &fact.needs).map(String::as_str).collect();
    assert_eq!(facts, [PID], "what lies in a directory of its own stays there");
    let edits = |profile: &Profile| plan(profile, &Choices::default()).edits.into_keys().collect::<Vec<_>>();
    assert_eq!(edits(&profile), [], "nobody has tried it");
    // The last of the ways, after all that changes nothing of the program's own.
    let mut tried = ways::next(&profile, PID, &Choices::default());
    while let Some(other) = tried.take_if(|other| edits(other).is_empty()) {
        tried = ways::next(&other, PID, &Choices::default());
    }
    let tried = tried.unwrap();
    assert!(ways::next(&tried, PID, &Choices::default()).is_none());
    let line = Some("pid /var/run/nginx.pid;".to_owned());
    assert_eq!(edits(&tried), [Edit { file, line, with: "pid /run/nginx/nginx.pid;".into() }]);
    let grants = plan(&tried, &Choices::default());
    assert!(grants.directories.contains_key(&"/run/nginx".into()) && grants.advice.is_empty());
    assert!(!grants.files.contains_key(&"/run/nginx.pid".into()));
    let written = Changes::of(&tried, &grants).changes;
    assert!(
        written.iter().any(|change| matches!(&change.action, Action::Edit(_)) && change.needs.contains(PID))
    );
}

#[test]
fn dangerous_capabilities_are_named_as_such() {
    let profile =
        profile("thing", &["/x"], vec![capability(Capability::SYS_ADMIN), capability(Capability::SYS_TIME)]);
    let grants = grants(&profile);
    let grade = |id| of(&profile, &grants, id).iter().map(|remedy| remedy.risk).max();
    assert_eq!(grade("capability:CAP_SYS_ADMIN"), Some(Grade::High));
    assert_eq!(grade("capability:CAP_SYS_TIME"), Some(Grade::Medium));
}
