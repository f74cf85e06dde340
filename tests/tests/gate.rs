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
    let root = tests().parent().unwrap().to_owned();
    Sandbox::new()
        .unwrap()
        .deadline(Duration::from_secs(60))
        .bind(tests().join("gate"), "/srv/gate")
        .bind(root.join("action.yml"), "/srv/action.yml")
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
         nrtrace explain $OUT/v2/profile.json var/cache/gate >$OUT/explained.txt",
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
    for profile in ["v1/profile.json", "v2/profile.json", "accepted.json", "replayed.json"] {
        valid(&Kind::Profile.text(), &json(&out.join(profile)));
    }
    valid(&Kind::Trace.text(), &json(&out.join("v2.trace")));
    assert_eq!(json(&out.join("replayed.json")), json(&out.join("v2/profile.json")), "a replay is the same");
    let explained = fs::read_to_string(out.join("explained.txt")).unwrap();
    for part in ["mkdir", "server", "/var/cache", "root:root 0755"] {
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

/// The shell steps of the action, run as GitHub's runner does: inputs in the environment, outputs in files.
#[test]
fn the_action_does_what_the_workflow_asks_of_it() {
    let sandbox = repository();
    let action = serde_yaml(&tests().parent().unwrap().join("action.yml"));
    let workflow = serde_yaml(&tests().join("gate/.github/workflows/privileges.yml"));
    let with = &workflow["jobs"]["privileges"]["steps"][1]["with"];
    let step = &action["runs"]["steps"][1];
    let mut exports = String::new();
    for (name, value) in step["env"].as_object().unwrap() {
        let input = value.as_str().unwrap();
        let input = input.trim_start_matches("${{ inputs.").trim_end_matches(" }}");
        let given = with[input].as_str().or(action["inputs"][input]["default"].as_str());
        let value = if name == "BINARY" { "nrtrace" } else { given.unwrap() };
        exports.push_str(&format!("export {name}='{value}'\n"));
    }
    let body = step["run"].as_str().unwrap();
    script(
        &sandbox,
        &format!(
            "results=$OUT\n{exports}export GITHUB_OUTPUT=/tmp/output GITHUB_STEP_SUMMARY=/tmp/summary\n\
             cat >/tmp/step.sh <<'STEP'\n{body}\nSTEP\n\
             status=0; bash --noprofile --norc -eo pipefail /tmp/step.sh >/tmp/said || status=$?; test $status = 1\n\
             cp /tmp/output /tmp/summary /tmp/said nrtrace-out/nrtrace.sarif nrtrace-out/nrtrace-junit.xml $results/"
        ),
    );
    let read = |name: &str| fs::read_to_string(sandbox.out().join(name)).unwrap();
    assert!(
        read("said").contains("::error file=nrtrace/baseline.json,line=1,title=new-need"),
        "{}",
        read("said")
    );
    assert!(read("summary").contains("CAP_NET_RAW"), "{}", read("summary"));
    assert!(read("output").contains("sarif=nrtrace-out/nrtrace.sarif\n"), "{}", read("output"));
    valid(
        &fs::read_to_string(tests().join("standards/sarif-schema-2.1.0.json")).unwrap(),
        &json(&sandbox.out().join("nrtrace.sarif")),
    );
}

#[test]
fn the_gitlab_job_fails_and_leaves_its_reports() {
    let sandbox = repository();
    let job = serde_yaml(&tests().join("gate/.gitlab-ci.yml"));
    let lines: Vec<&str> =
        job["privileges"]["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    script(
        &sandbox,
        &format!(
            "cat >/tmp/job.sh <<'JOB'\n{}\nJOB\nstatus=0; bash -eo pipefail /tmp/job.sh || status=$?; test $status = 1\n\
             cp gl-code-quality-report.json nrtrace-junit.xml $OUT/",
            lines.join("\n")
        ),
    );
    assert_eq!(json(&sandbox.out().join("gl-code-quality-report.json")).as_array().unwrap().len(), 4);
}

fn serde_yaml(path: &Path) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
