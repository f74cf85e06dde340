//! The paths that a piece of source names.

use proc_macro2::{TokenStream, TokenTree};
use syn::{ItemUse, UseTree};

/// A path that is brought into a module.
#[derive(Debug)]
pub struct Import {
    /// What it is called there; nothing for a glob.
    pub name: Option<String>,
    /// The path as written, without the glob's star.
    pub path: Vec<String>,
}

/// What a `use` brings in.
pub fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        flatten(&item.tree, &mut Vec::new(), &mut found);
    }
    found
}

fn flatten(tree: &UseTree, above: &mut Vec<String>, found: &mut Vec<Import>) {
    match tree {
        UseTree::Path(part) => {
            above.push(part.ident.to_string());
            flatten(&part.tree, above, found);
            above.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, above, found)),
        UseTree::Glob(_) => found.push(Import { name: None, path: above.clone() }),
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            let mut path = above.clone();
            let called = if name == "self" { path.last().cloned() } else { Some(name.clone()) };
            if name != "self" {
                path.push(name);
            }
            found.extend(called.map(|name| Import { name: Some(name), path }));
        }
        UseTree::Rename(rename) => {
            let mut path = above.clone();
            if rename.ident != "self" {
                path.push(rename.ident.to_string());
            }
            found.push(Import { name: Some(rename.rename.to_string()), path });
        }
    }
}

/// The paths of more than one part in code, macros' arguments too, and what it imports on the way.
pub fn mentions(code: TokenStream, paths: &mut Vec<Vec<String>>, found: &mut Vec<Import>) {
    let mut tokens = code.into_iter().peekable();
    let mut before = None;
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Group(group) => mentions(group.stream(), paths, found),
            TokenTree::Ident(ident) if ident == "use" => {
                let rest = tokens.by_ref().take_while(|token| !is_punct(token, ';'));
                let text = format!("use {};", rest.collect::<TokenStream>());
                found.extend(syn::parse_str(&text).map(|item| imports(&item)).unwrap_or_default());
            }
            TokenTree::Ident(first) => {
                let mut path = vec![first.to_string()];
                while tokens.next_if(|next| is_punct(next, ':')).is_some()
                    && tokens.next_if(|next| is_punct(next, ':')).is_some()
                    && let Some(TokenTree::Ident(next)) =
                        tokens.next_if(|next| matches!(next, TokenTree::Ident(_)))
                {
                    path.push(next.to_string());
                }
                // What follows a dot is a method, and what follows colons is of another crate or of a type.
                if path.len() > 1 && !before.is_some_and(|before| before == '.' || before == ':') {
                    paths.push(path);
                }
            }
            TokenTree::Literal(literal) => paths.extend(named_by_attribute(&literal.to_string())),
            TokenTree::Punct(_) => {}
        }
        before = if let TokenTree::Punct(punct) = &token { Some(punct.as_char()) } else { None };
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// The path that is all of a string, as serde's attributes name functions.
fn named_by_attribute(literal: &str) -> Option<Vec<String>> {
    let path = syn::parse_str::<syn::LitStr>(literal).ok()?.parse::<syn::Path>().ok()?;
    (path.segments.len() > 1).then(|| path.segments.iter().map(|part| part.ident.to_string()).collect())
}
