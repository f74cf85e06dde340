//! The gate on a repository in small (`tests/gate`): version 2 of a service needs one path and one capability more than
//! the baseline, and each format of the verdict holds to the schema of those who read it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nrtrace_profiles::schema::Kind;
use nrtrace_tests::sandbox::{Finished, Sandbox};
use serde_json::Value;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Runs a script in a copy of the repository.
fn repository() -> Sandbox {
    Sandbox::new().unwrap().deadline(Duration::from_secs(60)).bind(tests().join("gate"), "/srv/gate")
}

fn script(sandbox: &Sandbox, text: &str) -> Finished {
    let finished = sandbox.script(&format!("cp -r /srv/gate /srv/work; cd /srv/work\n{text}")).unwrap();
    finished.ok().unwrap()
}

fn valid(schema: &str, document: &Value) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn version_1_passes_and_version_2_does_not() {
    let sandbox = repository();
    script(
        &sandbox,
        "nrtrace run -q -o $OUT/v1 -- v1/server; nrtrace run -q -o $OUT/v2 --save-trace $OUT/v2.trace -- v2/server\n\
         nrtrace check $OUT/v1/profile.json --baseline nrtrace/baseline.json >$OUT/v1.txt\n\
         for format in text json sarif junit github markdown gitlab; do\n\
             status=0; nrtrace check $OUT/v2/profile.json --baseline nrtrace/baseline.json --policy nrtrace/policy.toml \
             --format $format >$OUT/v2.$format || status=$?; test $status = 1\n\
         done\n\
         status=0; nrtrace diff --format json nrtrace/baseline.json $OUT/v2/profile.json >$OUT/diff.json || status=$?\n\
         test $status = 1; nrtrace diff $OUT/v1/profile.json $OUT/v1/profile.json\n\
         nrtrace merge nrtrace/baseline.json $OUT/v2/profile.json -o $OUT/accepted.json\n\
         nrtrace check $OUT/v2/profile.json --baseline $OUT/accepted.json\n\
         nrtrace replay --format json $OUT/v2.trace >$OUT/replayed.json\n\
         nrtrace explain $OUT/v2/profile.json var/cache/gate >$OUT/explained.txt\n\
         for profile in v2/profile accepted; do\n\
             nrtrace explain --format json $OUT/$profile.json var/cache/gate >$OUT/explained-${profile#*/}.json\n\
         done\n\
         test $(ls $OUT/explained-*.json | wc -l) = 2",
    );
    let out = sandbox.out();
    let verdict = json(&out.join("v2.json"));
    let found: Vec<(&str, &str)> = verdict["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["rule"].as_str().unwrap(), finding["need"].as_str().unwrap()))
        .collect();
    let (capability, path) = ("capability:CAP_NET_RAW", "path:/var/cache/gate");
    let expected = [
        ("new-need", capability),
        ("new-need", path),
        ("denied-capability", capability),
        ("denied-path", path),
    ];
    assert_eq!(found, expected, "{verdict:#}");
    valid(&Kind::Check.text(), &verdict);
    valid(&Kind::Diff.text(), &json(&out.join("diff.json")));
    for explained in ["explained-profile.json", "explained-accepted.json"] {
        valid(&Kind::Explain.text(), &json(&out.join(explained)));
    }
    for profile in ["v1/profile.json", "v2/profile.json", "accepted.json", "replayed.json"] {
        valid(&Kind::Profile.text(), &json(&out.join(profile)));
    }
    valid(&Kind::Trace.text(), &json(&out.join("v2.trace")));
    let mut lived = json(&out.join("v2/profile.json"));
    // A recording holds no texts in which a path may stand.
    for requirement in lived["requirements"].as_array_mut().unwrap() {
        requirement["evidence"].as_object_mut().unwrap().remove("origins");
    }
    lived.as_object_mut().unwrap().remove("knowledge");
    assert_eq!(json(&out.join("replayed.json")), lived, "a replay is the same");
    let explained = fs::read_to_string(out.join("explained.txt")).unwrap();
    for part in ["mkdir", "/var/cache", "root:root 0755"] {
        assert!(explained.contains(part), "{part} is not in {explained}");
    }
    formats(out, &[capability, path]);
}

/// Each format tells of both needs, and is what its readers expect.
fn formats(out: &Path, needs: &[&str]) {
    for format in ["text", "json", "sarif", "junit", "github", "markdown", "gitlab"] {
        let text = fs::read_to_string(out.join(format!("v2.{format}"))).unwrap();
        for part in ["CAP_NET_RAW", "/var/cache/gate", "perl", "mkdir"] {
            let plain = text.replace('\\', "");
            assert!(plain.contains(part), "{part} is not in {format}: {text}");
        }
    }
    let standard = |name: &str| tests().join("standards").join(name);
    let sarif = json(&out.join("v2.sarif"));
    valid(&fs::read_to_string(standard("sarif-schema-2.1.0.json")).unwrap(), &sarif);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2 * needs.len());
    assert_eq!(
        results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
        "nrtrace/baseline.json"
    );
    for schema in ["junit-ant.xsd", "junit-jenkins.xsd"] {
        let checked = Command::new("xmllint")
            .args(["--noout", "--nonet", "--schema"])
            .args([standard(schema), out.join("v2.junit")])
            .output()
            .unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    let quality = json(&out.join("v2.gitlab"));
    let entries = quality.as_array().unwrap();
    assert_eq!(entries.len(), 2 * needs.len());
    for entry in entries {
        // What https://docs.gitlab.com/ci/testing/code_quality/ asks for.
        for field in ["description", "check_name", "fingerprint", "severity"] {
            assert!(entry[field].is_string(), "{field}: {entry}");
        }
        assert_eq!(entry["location"]["path"], "nrtrace/baseline.json");
        assert_eq!(entry["location"]["lines"]["begin"], 1);
    }
}

/// A value of the action as bash has it: inputs as they are given, what an earlier step put out from its file.
fn expand(value: &str, action: &Value, with: &[(&str, &str)]) -> String {
    let Some(expression) = value.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")) else {
        panic!("{value} is no single expression")
    };
    match *expression.split('.').collect::<Vec<_>>() {
        ["inputs", input] => {
            let default = &action["inputs"][input]["default"];
            let given = with.iter().find(|(name, _)| *name == input).map(|(_, given)| *given);
            format!("'{}'", given.or(default.as_str()).unwrap_or_else(|| panic!("{input} is not given")))
        }
        ["steps", step, "outputs", name] => format!("\"$(sed -n 's/^{name}=//p' /tmp/output-{step})\""),
        _ => panic!("{expression} is not known"),
    }
}

/// All steps of the action and what it puts out, as bash that does what GitHub's runner does: inputs in the environment,
/// each step a file of its own, run in the repository that uses the action.
fn steps(action: &Value, with: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for step in action["runs"]["steps"].as_array().unwrap() {
        let (id, body) = (step["id"].as_str().unwrap(), step["run"].as_str().unwrap());
        assert_eq!(step["shell"], "bash");
        assert!(!body.contains("${{"), "an expression in a script is taken for commands: {body}");
        let mut variables = String::new();
        for (name, value) in step["env"].as_object().unwrap() {
            variables.push_str(&format!("{name}={} ", expand(value.as_str().unwrap(), action, with)));
        }
        out.push_str(&format!(
            "cat >/tmp/{id}.sh <<'STEP'\n{body}\nSTEP\n\
             status=0; env {variables}GITHUB_OUTPUT=/tmp/output-{id} bash --noprofile --norc -eo pipefail /tmp/{id}.sh \
             >/tmp/said-{id} || status=$?\n"
        ));
    }
    for (name, output) in action["outputs"].as_object().unwrap() {
        let value = expand(output["value"].as_str().unwrap(), action, with);
        out.push_str(&format!("cp {value} $OUT/{name}\n"));
    }
    out
}

/// A release of the program under test, on a machine without Rust.
const RELEASE: &str = r#"mkdir -p /srv/release/files/nrtrace-0.1.0/bin
            cp "$(command -v nrtrace)" /srv/release/files/nrtrace-0.1.0/bin/
            tar -C /srv/release/files -czf /srv/release/nrtrace-0.1.0-x86_64-linux.tar.gz nrtrace-0.1.0
            (cd /srv/release && sha256sum *.tar.gz >SHA256SUMS)
            export NRTRACE_RELEASES=file:///srv/release PATH=/usr/sbin:/usr/bin:/sbin:/bin
            ! command -v cargo"#;

#[test]
fn the_action_does_what_the_workflow_asks_of_it() {
    let root = tests().parent().unwrap().to_owned();
    let action = serde_yaml(&root.join("action.yml"));
    let workflow = serde_yaml(&tests().join("gate/.github/workflows/privileges.yml"));
    let asked = workflow["jobs"]["privileges"]["steps"][1]["with"].as_object().unwrap();
    let mut with: Vec<(&str, &str)> =
        asked.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    // A name that would do something, were it taken for commands.
    with.push(("directory", "out; $(touch taken) \"x"));
    let place = "/srv/actions/nrtrace v1";
    let sandbox = repository()
        .bind(root.join("action.yml"), format!("{place}/action.yml"))
        .bind(root.join("deploy"), format!("{place}/deploy"));
    script(
        &sandbox,
        &format!(
            r#"{RELEASE}
            export CI=true GITHUB_ACTIONS=true
            export GITHUB_WORKSPACE="$PWD" GITHUB_ACTION_PATH='{place}' RUNNER_TOOL_CACHE=/tmp/tools
            export GITHUB_STEP_SUMMARY=/tmp/summary GITHUB_ENV=/tmp/env
            {}
            test $status = 1; test -x /tmp/tools/nrtrace/0.1.0/bin/nrtrace;
            test "$(ls)" = "$(printf '%s\n' README.md nrtrace 'out; $(touch taken) "x' v1 v2)"
            cp /tmp/summary /tmp/said-run $OUT/"#,
            steps(&action, &with)
        ),
    );
    let read = |name: &str| fs::read_to_string(sandbox.out().join(name)).unwrap();
    let said = read("said-run");
    assert!(said.contains("::error file=nrtrace/baseline.json,line=1,title=new-need"), "{said}");
    assert!(read("summary").contains("CAP_NET_RAW"), "{}", read("summary"));
    valid(
        &fs::read_to_string(tests().join("standards/sarif-schema-2.1.0.json")).unwrap(),
        &json(&sandbox.out().join("sarif")),
    );
    valid(&Kind::Profile.text(), &json(&sandbox.out().join("profile")));
    assert!(read("junit").contains("<testsuite"));
}

#[test]
fn the_gitlab_job_fails_and_leaves_its_reports() {
    let sandbox = repository();
    let job = serde_yaml(&tests().join("gate/.gitlab-ci.yml"));
    let lines = ["before_script", "script"].map(|part| job["privileges"][part].as_array().unwrap().clone());
    let lines: Vec<String> = lines.iter().flatten().map(|line| line.as_str().unwrap().to_owned()).collect();
    let lines =
        lines.join("\n").replace("https://github.com/nrtrace/nrtrace/raw/v$NRTRACE", "file:///srv/source");
    let sandbox = sandbox.bind(tests().parent().unwrap().join("deploy"), "/srv/source/deploy");
    script(
        &sandbox,
        &format!(
            "{RELEASE}\nexport NRTRACE=0.1.0; apt-get() {{ true; }}; export -f apt-get\n\
             cat >/tmp/job.sh <<'JOB'\n{lines}\nJOB\nstatus=0; bash -eo pipefail /tmp/job.sh || status=$?; test $status = 1\n\
             cp gl-code-quality-report.json nrtrace-junit.xml $OUT/\n\
             # Another program in the archive's place is not taken, and neither is one that the list does not name.\n\
             echo x >>/srv/release/nrtrace-0.1.0-x86_64-linux.tar.gz; install=/srv/source/deploy/install.sh\n\
             ! sh $install 0.1.0 /srv/other 2>/dev/null; : >/srv/release/SHA256SUMS\n\
             ! sh $install 0.1.0 /srv/other 2>/dev/null; test ! -e /srv/other\n\
             sh $install 0.1.0 $PWD/.nrtrace",
        ),
    );
    assert_eq!(json(&sandbox.out().join("gl-code-quality-report.json")).as_array().unwrap().len(), 4);
}

fn serde_yaml(path: &Path) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
