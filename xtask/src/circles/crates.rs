//! The modules of a crate, and where a path in one of them leads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quote::ToTokens;
use syn::{Attribute, Item};

use super::Needs;
use super::paths::{Import, imports, mentions};

/// More hops over re-exports than any path takes: those of globs that import each other have no end.
const MOST_HOPS: usize = 16;

/// A module as read.
#[derive(Default)]
struct Module {
    /// The file it stands in.
    file: String,
    imports: Vec<Import>,
    /// The imports that are re-exports do not count as mentioned.
    mentioned: Vec<Vec<String>>,
}

/// A crate's modules by their paths, the root's being empty.
#[derive(Default)]
pub struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
}

/// Where a path leads.
struct Lead {
    /// The module that defines what it names, and whether it names the module itself.
    module: Vec<String>,
    is_module: bool,
    /// The modules whose imports led on, the last met first.
    through: Vec<Vec<String>>,
}

impl Crate {
    /// Reads a crate whose first file is `start`, below `root`.
    pub fn read(root: &Path, start: &str) -> Result<Self> {
        let mut read = Self::default();
        read.file(root, Path::new(start), &[])?;
        Ok(read)
    }

    fn file(&mut self, root: &Path, name: &Path, path: &[String]) -> Result<()> {
        let text = std::fs::read_to_string(root.join(name))
            .with_context(|| format!("cannot read {}", name.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", name.display()))?;
        let owner = ["mod.rs", "lib.rs", "main.rs"].iter().any(|owner| name.ends_with(owner));
        let below = if owner { name.parent().unwrap_or(name).to_owned() } else { name.with_extension("") };
        self.items(parsed.items, &SourceFile { root, name, below }, path)
    }

    fn items(&mut self, items: Vec<Item>, place: &SourceFile, path: &[String]) -> Result<()> {
        let mut module = Module { file: place.name.display().to_string(), ..Module::default() };
        for item in items.into_iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    let path = [path, std::slice::from_ref(&name)].concat();
                    if let Some((_, items)) = inner.content {
                        let place = SourceFile { below: place.below.join(&name), ..*place };
                        self.items(items, &place, &path)?;
                    } else {
                        let flat = place.below.join(format!("{name}.rs"));
                        let nested = place.below.join(&name).join("mod.rs");
                        let file = if place.root.join(&flat).exists() { flat } else { nested };
                        self.file(place.root, &file, &path)?;
                    }
                }
                Item::Use(item) => {
                    let found = imports(&item);
                    if matches!(item.vis, syn::Visibility::Inherited) {
                        module.mentioned.extend(found.iter().map(Import::mention));
                    }
                    module.imports.extend(found);
                }
                other => {
                    let mut found = Vec::new();
                    mentions(other.into_token_stream(), &mut module.mentioned, &mut found);
                    module.mentioned.extend(found.iter().map(Import::mention));
                    module.imports.extend(found);
                }
            }
        }
        self.modules.insert(path.to_vec(), module);
        Ok(())
    }

    /// What each file needs of the others.
    pub fn needs(&self) -> Needs {
        let mut needs: Needs =
            self.modules.values().map(|module| (module.file.clone(), BTreeMap::new())).collect();
        self.each(|own, path, lead| {
            let (from, to) = (&self.modules[own], &self.modules[&lead.module].file);
            if *to != from.file {
                needs.entry(from.file.clone()).or_default().entry(to.clone()).or_insert(path.join("::"));
            }
        });
        needs
    }

    /// The paths that take the way over a module above to what is beside or below.
    pub fn detours(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.each(|own, path, lead| {
            let (from, to) = (&self.modules[own], &self.modules[&lead.module].file);
            let above = lead.through.last().filter(|through| {
                !through.is_empty() && own.starts_with(through) && self.modules[*through].file != from.file
            });
            if let Some(above) = above {
                let path = path.join("::");
                found
                    .push(format!("{} names {path} of {to} through {}", from.file, self.modules[above].file));
            }
        });
        found.sort();
        found.dedup();
        found
    }

    /// Tells of each mention that leads to something of the crate.
    fn each(&self, mut tell: impl FnMut(&[String], &[String], &Lead)) {
        for (own, module) in &self.modules {
            for path in &module.mentioned {
                let glob = path.last().is_some_and(|last| last == "*");
                let parts = if glob { &path[..path.len() - 1] } else { path };
                if let Some(lead) = self.lead(own, parts, 0)
                    && (glob || !lead.is_module)
                {
                    tell(own, path, &lead);
                }
            }
        }
    }

    /// Follows a path from a module; nothing where it leads out of the crate.
    fn lead(&self, from: &[String], path: &[String], hops: usize) -> Option<Lead> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(Vec::new(), rest, hops),
            "self" => self.descend(from.to_vec(), rest, hops),
            "super" => {
                let (_, parent) = from.split_last()?;
                if rest.first().is_some_and(|next| next == "super") {
                    return self.lead(parent, rest, hops);
                }
                self.descend(parent.to_vec(), rest, hops)
            }
            _ => {
                let child = [from, std::slice::from_ref(first)].concat();
                if self.modules.contains_key(&child) {
                    return self.descend(child, rest, hops);
                }
                self.imported(from, path, hops)
            }
        }
    }

    /// Follows the rest of a path down from a module.
    fn descend(&self, mut module: Vec<String>, path: &[String], hops: usize) -> Option<Lead> {
        for (at, part) in path.iter().enumerate() {
            module.push(part.clone());
            if !self.modules.contains_key(&module) {
                module.pop();
                let imported = self.imported(&module, &path[at..], hops);
                return imported.or(Some(Lead { module, is_module: false, through: Vec::new() }));
            }
        }
        Some(Lead { module, is_module: true, through: Vec::new() })
    }

    /// Follows a path whose first part a module imports, by name or by a glob.
    fn imported(&self, module: &[String], path: &[String], hops: usize) -> Option<Lead> {
        if hops == MOST_HOPS {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let all = &self.modules[module].imports;
        let named = all.iter().find(|import| import.name.as_ref() == Some(first) && import.path != path);
        let mut lead = if let Some(import) = named {
            self.lead(module, &[import.path.as_slice(), rest].concat(), hops + 1)?
        } else {
            let globs = all.iter().filter(|import| import.name.is_none());
            globs.filter_map(|glob| self.through_glob(module, glob, path, hops)).next()?
        };
        lead.through.push(module.to_vec());
        Some(lead)
    }

    /// Follows a path through a glob: only to modules and what is imported there, since what a module defines is not known by name.
    /// A glob is a need of the whole module anyway.
    fn through_glob(&self, module: &[String], glob: &Import, path: &[String], hops: usize) -> Option<Lead> {
        let target = self.lead(module, &glob.path, hops + 1).filter(|target| target.is_module)?;
        let child = [target.module.as_slice(), &path[..1]].concat();
        if self.modules.contains_key(&child) {
            return self.descend(child, &path[1..], hops + 1);
        }
        self.imported(&target.module, path, hops + 1)
    }
}

/// Where what is read stands.
#[derive(Clone)]
struct SourceFile<'a> {
    root: &'a Path,
    name: &'a Path,
    /// Where the files of its inner modules are.
    below: PathBuf,
}

impl Import {
    fn mention(&self) -> Vec<String> {
        let star = self.name.is_none().then(|| "*".to_owned());
        self.path.iter().cloned().chain(star).collect()
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        _ => &[],
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}
