//! No file needs a file that needs it: what two of them share has a home below both.
//!
//! A file needs another where a path in it leads to something that the other defines. A `pub use` is no need of the file it stands
//! in: whoever names what is re-exported needs the file that defines it. So a `mod.rs` may re-export its children; one that
//! calls them is above them, and they take nothing from it. What lies below a module names its siblings themselves, not by what
//! the module re-exports or imports, since that would read as an arrow upwards. Tests are above all files and do not count.

mod crates;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};

use crates::Crate;

/// The crates without circles, by the file that each begins with.
const ROOTS: [&str; 2] = ["cli/src/main.rs", "profiles/src/lib.rs"];

/// What needs what: for each file the files it needs, each with a path that says so.
type Needs = BTreeMap<String, BTreeMap<String, String>>;

/// Fails where files of a crate need each other, or are named through a module above both.
pub fn run() -> Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut faults = Vec::new();
    for start in ROOTS {
        let read = Crate::read(root, start)?;
        faults.extend(read.detours());
        let needs = read.needs();
        faults.extend(circles(&needs).iter().map(|circle| describe(circle, &needs)));
    }
    ensure!(faults.is_empty(), "files that need each other:\n{}", faults.join("\n"));
    Ok(())
}

/// A circle as its files, and of each what it needs of the others.
fn describe(circle: &BTreeSet<String>, needs: &Needs) -> String {
    let mut lines = vec![format!("{} files in a circle:", circle.len())];
    for file in circle {
        let inside = needs[file].iter().filter(|(to, _)| circle.contains(*to));
        lines.extend(inside.map(|(to, path)| format!("  {file} -> {to} ({path})")));
    }
    lines.join("\n")
}

/// The sets of files that can each be reached from one another: those that stay when, again and again, files that need none of the
/// rest and files that none of the rest needs are taken away, parted by what reaches what.
fn circles(needs: &Needs) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        needs.keys().map(|file| (file, reach(file, needs))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, all) in &reached {
        if all.contains(file) && !found.iter().any(|circle| circle.contains(*file)) {
            let circle = all.iter().filter(|other| reached[**other].contains(file));
            found.push(circle.map(|other| (*other).clone()).collect());
        }
    }
    found
}

/// All that a file needs, and what that needs; itself only where it is in a circle.
fn reach<'a>(file: &String, needs: &'a Needs) -> BTreeSet<&'a String> {
    let mut all = BTreeSet::new();
    let mut open: Vec<&String> = needs[file].keys().collect();
    while let Some(next) = open.pop() {
        if all.insert(next) {
            open.extend(needs[next].keys());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a crate of these files, the first of which is its root.
    fn said(files: &[(&str, &str)]) -> (Vec<BTreeSet<String>>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let read = Crate::read(directory.path(), files[0].0).unwrap();
        (circles(&read.needs()), read.detours())
    }

    fn circle(names: &[&str]) -> Vec<BTreeSet<String>> {
        vec![names.iter().map(ToString::to_string).collect()]
    }

    #[test]
    fn the_tree_has_none() {
        run().unwrap_or_else(|error| panic!("{error:#}"));
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let root = ("lib.rs", "mod a; mod b;");
        for (a, b) in [
            ("use crate::b::B; pub struct A;", "use super::a::A; pub struct B;"),
            ("pub fn a() { crate::b::b() }", "pub fn b() { use crate::a; a::a() }"),
            ("use crate::b; pub fn a() { b::b() }", "pub fn b() { println!(\"{}\", crate::a::a()) }"),
            ("use crate::b::*; pub struct A;", "pub fn b(_: Vec<crate::a::A>) {}"),
            ("pub fn a(_: &dyn crate::b::B) {}", "pub trait B { fn b() -> super::a::A; }"),
        ] {
            assert_eq!(said(&[root, ("a.rs", a), ("b.rs", b)]).0, circle(&["a.rs", "b.rs"]), "{a} {b}");
        }
    }

    #[test]
    fn a_parent_is_above_its_children_but_may_re_export_them() {
        let root = ("lib.rs", "mod m;");
        let child = ("m/child.rs", "use super::Shared; pub fn f(_: Shared) {}");
        let exports = ("m/mod.rs", "mod child; pub use child::f; pub struct Shared;");
        assert!(said(&[root, exports, child]).0.is_empty());
        let calls = ("m/mod.rs", "mod child; pub struct Shared; pub fn g() { child::f(Shared) }");
        assert_eq!(said(&[root, calls, child]).0, circle(&["m/child.rs", "m/mod.rs"]));
    }

    #[test]
    fn what_is_re_exported_is_needed_of_the_file_that_defines_it() {
        let files = [
            ("lib.rs", "mod m; mod user;"),
            ("m/mod.rs", "mod child; pub use child::Child;"),
            ("m/child.rs", "use crate::user::User; pub struct Child(User);"),
            ("user.rs", "use crate::m::Child; pub struct User; fn f(_: Child) {}"),
        ];
        assert_eq!(said(&files), (circle(&["m/child.rs", "user.rs"]), vec![]));
    }

    #[test]
    fn a_sibling_named_through_the_module_above_is_a_detour() {
        let files = [
            ("lib.rs", "mod m;"),
            ("m/mod.rs", "mod a; mod b; pub use a::A;"),
            ("m/a.rs", "pub struct A;"),
            ("m/b.rs", "use super::A; pub struct B(A);"),
        ];
        let (circles, detours) = said(&files);
        assert!(circles.is_empty());
        assert_eq!(detours, ["m/b.rs names super::A of m/a.rs through m/mod.rs"]);
    }

    #[test]
    fn tests_words_and_other_crates_make_no_circle() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A(B); const TEXT: &str = \"see crate::b::B\";"),
            (
                "b.rs",
                "//! See [`crate::a::A`].\nuse std::fmt; pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }",
            ),
        ];
        assert_eq!(said(&files), (vec![], vec![]));
    }
}
