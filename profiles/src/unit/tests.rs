use std::collections::BTreeMap;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn host() -> Host {
    Host {
        name: "box.example".into(),
        machine_id: "0123".into(),
        boot_id: "4567".into(),
        kernel: "6.1".into(),
        file: "/etc/systemd/system/x.service".into(),
    }
}

fn service(texts: &[&str], unit: &str) -> Service {
    Service::of(&Unit::read(texts.iter().copied()), &name(unit), &host()).unwrap()
}

#[test]
fn lines_go_on_and_comments_between_them_do_not_count() {
    let text = "\u{feff}[Unit]\nUser=no\n[Service]\n # User=no\n; User=no\nUser = web \nEnvironment=A=1 \\\n# between\n  B=2 \\\n\
                ; too\n  C=3\nnonsense\n=x\nExecStart=/bin/a \\\\\nGroup=data\n";
    let unit = Unit::read([text]);
    assert_eq!(unit.last("Service", "User"), Some("web"));
    assert_eq!(words(unit.last("Service", "Environment").unwrap()).unwrap(), ["A=1", "B=2", "C=3"]);
    assert_eq!(
        unit.last("Service", "ExecStart"),
        Some("/bin/a \\\\"),
        "a backslash that is escaped ends its line"
    );
    assert_eq!(unit.last("Service", "Group"), Some("data"));
    assert!(Unit::read(["# nothing\n\n"]).is_empty());
}

#[test]
fn drop_ins_add_and_an_empty_value_resets() {
    let unit = Unit::read([
        "[Service]\nExecStart=/bin/a\nUser=a\nEnvironment=A=1\n",
        "[Service]\nExecStart=\nExecStart=/bin/b\nUser=\n",
        "[Service]\nEnvironment=B=2\n",
    ]);
    assert_eq!(unit.list("Service", "ExecStart"), ["/bin/b"]);
    assert_eq!(unit.last("Service", "User"), None);
    assert_eq!(unit.list("Service", "Environment"), ["A=1", "B=2"]);
}

#[test]
fn words_are_quoted_and_escaped() {
    let of = |text: &str| words(text).unwrap();
    assert_eq!(of(r#"a "b c" 'd "e' f"g h"i"#), ["a", "b c", "d \"e", "fg hi"]);
    assert_eq!(
        of(r"a\x20b \u00e9 \U0001f600 \101 \s \t \\ \q \x0g"),
        ["a b", "é", "😀", "A", " ", "\t", "\\", "\\q", "\\x0g"]
    );
    assert_eq!(of("\"\" ''"), ["", ""]);
    assert_eq!(words("a \"b"), None);
    assert_eq!(of("\\"), ["\\"]);
}

#[test]
fn names_tell_prefix_and_instance() {
    let template = name("a-b@x-y.service");
    assert_eq!((template.prefix.as_str(), template.instance.as_deref()), ("a-b", Some("x-y")));
    assert_eq!(name("nginx").to_string(), "nginx.service");
    assert_eq!(template.template().unwrap().to_string(), "a-b@.service");
    assert!(name("a@.service").is_template() && name("a@.service").template().is_none());
    assert_eq!(template.drop_in_directories(), ["a-b@x-y.service.d", "a-b@.service.d", "a-.service.d"]);
    assert_eq!(name("a-b-c").drop_in_directories(), ["a-b-c.service.d", "a-b-.service.d", "a-.service.d"]);
    assert!(matches!(Name::parse("x.socket"), Err(BadName::OtherKind(_))));
    for wrong in ["", "@x", "a b", "../x", "a/b.service", &"x".repeat(300)] {
        assert!(Name::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn specifiers_stand_for_what_they_say() {
    let of = |text: &str| specifier::expand(text, &name("my-app@a-b\\x2dc"), &host());
    assert_eq!(of("%n %N"), "my-app@a-b\\x2dc.service my-app@a-b\\x2dc");
    assert_eq!(of("%p %P %j %i %I %f"), "my-app my/app app a-b\\x2dc a/b-c /a/b-c");
    assert_eq!(of("%t %S %C %L %E %T %V"), "/run /var/lib /var/cache /var/log /etc /tmp /var/tmp");
    assert_eq!(of("%u %U %h %g %%u %H %l %m %b %v"), "root 0 /root root %u box.example box 0123 4567 6.1");
    assert_eq!(
        of("%y %Y %d"),
        "/etc/systemd/system/x.service /etc/systemd/system /run/credentials/my-app@a-b\\x2dc.service"
    );
    assert_eq!(of("50% %? %"), "50% %? %");
}

#[test]
fn commands_have_prefixes_words_and_variables() {
    let unit = "[Service]\nExecStartPre=-/bin/a ; +/bin/b \"c d\" ; !/bin/e\nExecStartPre=!!/bin/f %i \\;\n\
                ExecStart=@/bin/g called $A ${A} x$A-${B}y $$A ${C} \"$A\" %%\nEnvironment=\"A=1 '2 3'\" B=4\n";
    let found = service(&[unit], "x@in");
    let told: Vec<_> = found
        .before
        .iter()
        .map(|one| (one.words.join(" "), one.prefix.may_fail, one.prefix.is_privileged()))
        .collect();
    let wanted = [
        ("/bin/a", true, false),
        ("/bin/b c d", false, true),
        ("/bin/e", false, true),
        ("/bin/f in ;", false, false),
    ];
    assert_eq!(told, wanted.map(|(text, may_fail, privileged)| (text.to_owned(), may_fail, privileged)));
    let variables: BTreeMap<String, String> = found.environment.iter().cloned().collect();
    assert_eq!(found.start.called.as_deref(), Some("called"));
    assert_eq!(
        found.start.resolved(&variables),
        ["/bin/g", "1", "2 3", "1 '2 3'", "x$A-4y", "$A", "", "1", "2 3", "%"]
    );
    let literal = service(&["[Service]\nExecStart=:/bin/a $A ${B}\n"], "x");
    assert_eq!(literal.start.resolved(&variables), ["/bin/a", "$A", "${B}"]);
}

#[test]
fn a_service_says_how_it_is_started() {
    let unit = "[Service]\nType=forking\nPIDFile=x.pid\nUser=web\nGroup=data\nSupplementaryGroups=a b\nUMask=0027\n\
                WorkingDirectory=-%S/x\nEnvironmentFile=-/etc/default/%p\nEnvironmentFile=/etc/x\nRuntimeDirectory=x:y \"a b\"\n\
                RuntimeDirectoryMode=0750\nReadWritePaths=-+/srv/%i /a%%b\nLimitNOFILE=1024:4096\nExecReload=/bin/kill $MAINPID\n\
                ExecStart=/bin/a\nDeviceAllow=/dev/null rw\nSystemCallFilter=~@mount\nRestart=always\n";
    let found = service(&[unit], "x@in");
    assert_eq!(
        (found.kind, found.user.as_deref(), found.group.as_deref()),
        (Kind::Forking, Some("web"), Some("data"))
    );
    assert_eq!(found.pid_file.as_deref(), Some("/run/x.pid"));
    assert_eq!(found.directory, Some(("/var/lib/x".into(), true)));
    assert_eq!(found.environment_files, [("/etc/default/x".to_owned(), true), ("/etc/x".to_owned(), false)]);
    assert_eq!(found.otherwise, ["ExecReload"]);
    let text = found.text();
    for line in [
        "UMask=0027",
        "RuntimeDirectory=x",
        "RuntimeDirectory=\"a b\"",
        "RuntimeDirectoryMode=0750",
        "ReadWritePaths=-/srv/in",
        "ReadWritePaths=/a%%b",
        "DeviceAllow=/dev/null rw",
        "SystemCallFilter=~@mount",
        "SupplementaryGroups=b",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line} in {text}");
    }
    assert!(!text.contains("Restart") && !text.contains("ExecStart"), "{text}");
}

#[test]
fn what_starts_nothing_is_no_service() {
    let of = |text: &str| Service::of(&Unit::read([text]), &name("x"), &host());
    assert!(matches!(of("[Service]\nType=oneshot\nExecStop=/bin/a\n"), Err(NoService::NothingStarted(_))));
    assert!(matches!(of("[Service]\nType=new\nExecStart=/bin/a\n"), Err(NoService::BadType { .. })));
    assert!(matches!(of("[Service]\nExecStart=/bin/a \"b\n"), Err(NoService::BadLine { .. })));
    assert_eq!(of("[Service]\nUser=root\nBusName=a.b\nExecStart=/bin/a\n").unwrap().kind, Kind::Dbus);
    assert_eq!(of("[Service]\nUser=root\nExecStart=/bin/a\n").unwrap().user, None);
    let several = of("[Service]\nType=oneshot\nExecStart=/bin/a\nExecStart=/bin/b\n").unwrap();
    assert_eq!((several.before.len(), several.start.words[0].as_str()), (1, "/bin/b"));
}

#[test]
fn what_the_unit_says_is_kept() {
    let unit = Unit::read([
        "[Service]\nExecStart=-!/bin/a $X \"b c\"\nRuntimeDirectory=x\nProtectHome=yes\nPrivateTmp=no\n\
                            CapabilityBoundingSet=CAP_CHOWN\n",
    ]);
    let service = Service::of(&unit, &name("x@y"), &host()).unwrap();
    let kept = service.kept(&unit);
    assert_eq!(
        (kept.name.as_str(), kept.stem(), kept.start.as_slice()),
        ("x@y.service", "x@y", ["-/bin/a $X \"b c\"".to_owned()].as_slice())
    );
    assert!(
        kept.restricts("ProtectHome") && !kept.restricts("PrivateTmp") && !kept.restricts("ProtectClock")
    );
    assert_eq!((kept.mode("RuntimeDirectory"), kept.mode("StateDirectory")), (Some(0o755), None));
    assert_eq!(kept.directives["CapabilityBoundingSet"], ["CAP_CHOWN"]);
    let may = |lines: &[&str], capability: &str| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        let directives = [("CapabilityBoundingSet".to_owned(), lines)].into();
        OfUnit { directives, ..kept.clone() }.may_have(capability)
    };
    assert!(may(&["CAP_CHOWN CAP_FOWNER", "CAP_KILL"], "CAP_KILL") && !may(&["CAP_CHOWN"], "CAP_KILL"));
    assert!(may(&["~CAP_CHOWN"], "CAP_KILL") && !may(&["~CAP_CHOWN CAP_KILL"], "CAP_KILL"));
    assert!(!may(&["CAP_KILL", "~CAP_KILL"], "CAP_KILL"));
}

#[test]
fn what_systemd_refuses_or_runs_elsewhere_is_refused() {
    let refusal = |text: &str| {
        let unit = Unit::read([format!("[Service]\n{text}\n").as_str()]);
        Service::of(&unit, &name("x"), &host()).unwrap_err().to_string()
    };
    assert!(refusal("ExecStart=/bin/a ; /bin/b").contains("more than one command"));
    assert!(refusal("ExecStart=/bin/a\nRootDirectory=/srv/jail").contains("RootDirectory="));
    let oneshot = Unit::read(["[Service]\nType=oneshot\nExecStart=/bin/a ; /bin/b\n"]);
    assert_eq!(Service::of(&oneshot, &name("x"), &host()).unwrap().before.len(), 1);
}
