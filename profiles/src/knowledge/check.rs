//! What is wrong with a knowledge file.

use super::schema::{Program, Remedy, SCHEMA, Told};
use crate::RawText;
use crate::glob::Pattern;
use crate::text::toml_error;

/// Names that `{…}` may hold in what is written.
const PLACES: &[&str] = &["name", "user", "group", "uid"];
/// The most a knowledge file may hold, in bytes.
pub const LARGEST: usize = 1 << 20;

/// Reads the file `NAME.toml`, or says all that is wrong with it: its form, patterns, sources and templates.
pub fn check(name: &str, text: &str) -> Result<Program, Vec<String>> {
    if text.len() > LARGEST {
        return Err(vec![format!("it is larger than {LARGEST} bytes")]);
    }
    let program: Program = toml::from_str(text).map_err(|error| vec![toml_error(text, &error)])?;
    let mut flaws = Vec::new();
    head(&program, name, &mut flaws);
    for (at, told) in program.told() {
        if let Err(flaw) = self::told(told) {
            flaws.push(format!("{at} ({}): {flaw}", told.is));
        }
    }
    subjects(&program, &mut flaws);
    defaults(&program, &mut flaws);
    if flaws.is_empty() { Ok(program) } else { Err(flaws) }
}

fn head(program: &Program, name: &str, flaws: &mut Vec<String>) {
    if program.schema != SCHEMA {
        flaws.push(format!("its schema is {:?}, and this nrtrace reads {SCHEMA:?}", program.schema));
    }
    if program.name != name {
        flaws.push(format!("its name is {:?}, and that of the file {name:?}", program.name));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if program.name.is_empty() || !program.name.chars().all(plain) {
        flaws.push("its name may hold small letters, digits and - alone".into());
    }
    for (what, text) in [("title", &program.title), ("documentation", &program.documentation)] {
        if !is_line(text) {
            flaws.push(format!("its {what} is not one line of text"));
        }
    }
    if program.recognise.is_empty() {
        flaws.push("it does not say how the program is recognised".into());
    }
    for way in &program.recognise {
        let bad = |name: &&String| {
            name.is_empty() || name.contains('/') || name.trim_matches('*').is_empty() || !is_line(name)
        };
        if way.executables.is_empty() || way.executables.iter().any(|name| bad(&name)) {
            flaws.push("executables are names without a directory, and not a wildcard alone".into());
        }
        if way.arguments.iter().any(|word| !is_line(word)) {
            flaws.push("an argument to be recognised by is not one line of text".into());
        }
    }
    if program.told().next().is_none() {
        flaws.push("it holds no fact".into());
    }
}

fn subjects(program: &Program, flaws: &mut Vec<String>) {
    let lists = program
        .paths
        .iter()
        .map(|fact| (&fact.told, &fact.patterns, true))
        .chain(program.identities.iter().map(|fact| (&fact.told, &fact.patterns, false)))
        .chain(program.checks.iter().map(|fact| (&fact.told, &fact.patterns, false)));
    for (told, patterns, needed) in lists {
        if needed && patterns.is_empty() {
            flaws.push(format!("{}: it has no pattern", told.is));
        }
        for text in patterns {
            match Pattern::new(&RawText::from(text.as_str())) {
                Err(error) => flaws.push(format!("{}: the pattern {text:?}: {error}", told.is)),
                Ok(pattern) if pattern.root().as_bytes() == b"/" => {
                    flaws.push(format!("{}: the pattern {text:?} begins with a wildcard", told.is));
                }
                Ok(_) => {}
            }
        }
    }
    for fact in &program.ports {
        if fact.ports.is_empty() || fact.ports.contains(&0) {
            flaws.push(format!("{}: it needs ports from 1 to 65535", fact.told.is));
        }
    }
    for fact in &program.identities {
        if fact.operations.is_empty() {
            flaws.push(format!("{}: it has no operation", fact.told.is));
        }
    }
    for fact in &program.needs {
        let known = ["sysctl:", "limit:", "kernel:", "capability:", "device:"];
        let is_known = |id: &String| known.iter().any(|kind| id.starts_with(kind));
        if fact.ids.is_empty() || !fact.ids.iter().all(is_known) {
            flaws.push(format!("{}: its ids begin with one of {}", fact.told.is, known.join(" ")));
        }
    }
    for fact in &program.checks {
        if fact.says.is_empty() && fact.patterns.is_empty() {
            flaws.push(format!("{}: it needs `says` or `patterns` to be recognised by", fact.told.is));
        }
        if fact.says.iter().any(|text| text.trim().len() < 6) {
            flaws.push(format!("{}: a text to be recognised by has at least six characters", fact.told.is));
        }
    }
}

/// A remedy whose value can equal what it is to replace is none: services are often called as their program is.
fn defaults(program: &Program, flaws: &mut Vec<String>) {
    let executables = program.recognise.iter().flat_map(|way| &way.executables);
    let names: Vec<&String> = executables.filter(|name| !name.contains('*')).chain([&program.name]).collect();
    for fact in &program.paths {
        let patterns: Vec<Pattern> = fact
            .patterns
            .iter()
            .filter_map(|text| Pattern::new(&RawText::from(text.as_str())).ok())
            .collect();
        for (remedy, name) in
            fact.told.remedies.iter().flat_map(|remedy| names.iter().map(move |name| (remedy, name)))
        {
            let written = remedy.write.replace("{name}", name);
            let same = super::paths(&written)
                .into_iter()
                .find(|path| patterns.iter().any(|pattern| pattern.matches(path.as_bytes())));
            if let Some(path) = same {
                flaws.push(format!(
                    "{}: for a service called {name}, {path} is what was refused",
                    fact.told.is
                ));
            }
        }
    }
}

fn told(told: &Told) -> Result<(), String> {
    if !is_line(&told.is) || told.note.as_ref().is_some_and(|note| !is_line(note)) {
        return Err("`is` and `note` are one line of text each".into());
    }
    if told.sources.is_empty() {
        return Err("it has no source".into());
    }
    if let Some(bad) = told.sources.iter().find(|source| !is_source(source)) {
        return Err(format!(
            "the source {bad:?} is neither a manual page as name(section), nor an address with https://, nor an absolute path"
        ));
    }
    told.remedies.iter().try_for_each(remedy)
}

fn remedy(remedy: &Remedy) -> Result<(), String> {
    let named = [&remedy.option, &remedy.variable, &remedy.key, &remedy.directive];
    let names: Vec<&String> = named.into_iter().flatten().collect();
    if names.len() > 1 {
        return Err("a remedy names one of option, variable, key and directive".into());
    }
    let is_text = if remedy.key.is_some() { is_lines } else { is_line };
    if names.iter().any(|name| !is_line(name)) || !is_text(&remedy.write) {
        return Err("a remedy is one line of text, or for a key some".into());
    }
    if let Some(option) = &remedy.option
        && !remedy.write.contains(option.as_str())
    {
        return Err(format!("what is written does not hold the option {option}"));
    }
    if let Some(name) = &remedy.variable
        && !name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err(format!("{name:?} is no name of a variable"));
    }
    if let Some(name) = &remedy.directive
        && !(name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        return Err(format!("{name:?} is no name of a directive"));
    }
    if remedy.key.is_some() && remedy.file.is_none() {
        return Err("a key needs the file that it is in".into());
    }
    if remedy.unit.is_some() && remedy.variable.is_none() {
        return Err("`unit` is for variables".into());
    }
    if let Some(directory) = &remedy.directory {
        let bad = |error| format!("the directory {directory:?}: {error}");
        let pattern =
            Pattern::new(&RawText::from(directory.as_str())).map_err(|error| bad(error.to_string()))?;
        if !pattern.is_plain() {
            return Err(bad("it holds a wildcard".into()));
        }
    }
    let texts = [Some(&remedy.write), remedy.unit.as_ref(), remedy.directory.as_ref()];
    texts.into_iter().flatten().try_for_each(|text| template(text))
}

/// Braces are for the known names alone; those of a configuration file's own are left as they are.
fn template(text: &str) -> Result<(), String> {
    for part in text.split('{').skip(1) {
        let Some((word, _)) = part.split_once('}') else { continue };
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        if is_word && !PLACES.contains(&word) {
            return Err(format!("{{{word}}} is none of {{{}}}", PLACES.join("}, {")));
        }
    }
    Ok(())
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control) && text.chars().count() <= 500
}

/// Lines of a configuration file.
fn is_lines(text: &str) -> bool {
    let mut lines = text.lines();
    !text.ends_with('\n') && lines.clone().count() <= 30 && lines.all(is_line)
}

fn is_source(text: &str) -> bool {
    let page = || {
        let (name, section) = text.strip_suffix(')')?.split_once('(')?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b'+' | b':');
        let section_ok = section.starts_with(|c: char| ('1'..='9').contains(&c))
            && section.bytes().all(|b| b.is_ascii_alphanumeric());
        (!name.is_empty() && name.bytes().all(plain) && section_ok).then_some(())
    };
    let address = || {
        let rest = text.strip_prefix("https://")?;
        (rest.contains('.') && !rest.contains(char::is_whitespace)).then_some(())
    };
    is_line(text)
        && (page().is_some() || address().is_some() || (text.starts_with('/') && !text.ends_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        schema = "nrtrace/knowledge/v1"
        name = "thing"
        title = "A thing"
        documentation = "https://thing.example/"
        [[recognise]]
        executables = ["thing*"]
        [[path]]
        patterns = ["/run/thing/*.pid"]
        is = "its pid file"
        fatal = true
        sources = ["thing(8)", "https://thing.example/pid", "/usr/share/doc/thing/README"]
        [[path.remedy]]
        variable = "THING_DIR"
        write = "/run/user/{uid}"
        unit = "/run/{name}"
        directory = "/run/{name}"
    "#;

    #[test]
    fn a_sound_file_is_read() {
        let program = check("thing", SOUND).unwrap();
        assert_eq!(program.paths[0].told.remedies[0].variable.as_deref(), Some("THING_DIR"));
    }

    #[test]
    fn each_flaw_is_said() {
        let cases = [
            ("nrtrace/knowledge/v1", "nrtrace/knowledge/v9", "its schema"),
            ("name = \"thing\"", "name = \"other\"", "that of the file"),
            ("\"thing*\"", "\"*\"", "wildcard alone"),
            ("\"thing*\"", "\"/bin/thing\"", "without a directory"),
            ("/run/thing/*.pid", "run/thing.pid", "not absolute"),
            ("/run/thing/*.pid", "/**/thing.pid", "begins with a wildcard"),
            ("\"thing(8)\", ", "\"the manual\", ", "neither a manual page"),
            ("\"thing(8)\", \"https://thing.example/pid\", \"/usr/share/doc/thing/README\"", "", "no source"),
            ("{uid}", "{pid}", "is none of"),
            ("variable = \"THING_DIR\"", "key = \"dir\"", "needs the file"),
            ("variable = \"THING_DIR\"", "variable = \"thing dir\"", "no name of a variable"),
            ("variable = \"THING_DIR\"", "variable = \"A\"\nkey = \"b\"", "names one of"),
            ("directory = \"/run/{name}\"", "directory = \"run\"", "the directory"),
            ("fatal = true", "deadly = true", "deadly"),
            ("[[path.remedy]]", "[[path.remedies]]", "remedies"),
            ("patterns = [\"/run/thing/*.pid\"]", "patterns = []", "no pattern"),
            ("write = \"/run/user/{uid}\"", "write = \"/run/{name}/thing.pid\"", "is what was refused"),
        ];
        for (from, to, expected) in cases {
            assert!(SOUND.contains(from), "{from}");
            let flaws = check("thing", &SOUND.replace(from, to)).unwrap_err();
            assert!(flaws.iter().any(|flaw| flaw.contains(expected)), "{to}: {flaws:#?}");
        }
        assert!(check("thing", "not toml at all [").is_err());
        assert!(check("thing", &"#".repeat(LARGEST + 1)).unwrap_err()[0].contains("larger"));
    }
}
