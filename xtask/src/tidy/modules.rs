//! The arrows between the modules of a crate: ARCHITECTURE.md's orders against the sources.
//!
//! A module is what a crate's root declares, with all that lies in its folder. Tests are left out. A
//! name that the root re-exports is a use of the module that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{self, Token};
use super::files::SourceFile;
use super::{DOCUMENT, Finding};

/// What the order's line of a crate begins with.
const LINE: &str = "- `hearken-";

/// The order of a crate's modules, from top to bottom.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    name: String,
    modules: Vec<String>,
}

/// A module that uses another, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    at: String,
}

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let document = files.iter().find(|file| file.path == DOCUMENT);
    let orders = orders(document.map_or("", |file| &file.text));
    let mut findings = Vec::new();
    for name in crates(files) {
        let found = Crate::read(files, &name);
        match orders.iter().find(|order| order.name == name) {
            // A crate whose modules have no order yet says so with a line that names none.
            Some(order) if order.modules.is_empty() => {}
            Some(order) => findings.extend(compare(order, &found)),
            None if found.modules.len() < 2 => {}
            None => {
                let problem =
                    format!("lacks the order of the modules of `{name}`: {}", found.proposal());
                findings.push(Finding::new(DOCUMENT, problem));
            }
        }
    }
    findings
}

/// Lines ``- `hearken-data`: `lines`, `row` ``, which may go on below.
fn orders(text: &str) -> Vec<Order> {
    let mut orders: Vec<Order> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        let mut names = line.split('`').skip(1).step_by(2).map(str::to_owned);
        if line.starts_with(LINE) && line.contains("`: ") {
            orders.extend(names.next().map(|name| Order { name, modules: names.collect() }));
            is_inside = true;
        } else if is_inside && line.starts_with("  ") {
            orders.last_mut().into_iter().for_each(|order| order.modules.extend(names.by_ref()));
        } else {
            is_inside = false;
        }
    }
    orders
}

fn crates(files: &[SourceFile]) -> BTreeSet<String> {
    let manifests = files.iter().filter_map(|file| file.path.strip_prefix("crates/"));
    manifests.filter_map(|path| path.strip_suffix("/Cargo.toml")).map(str::to_owned).collect()
}

/// What a crate's sources say.
#[derive(Debug, Default)]
struct Crate {
    modules: BTreeSet<String>,
    arrows: BTreeSet<Arrow>,
}

impl Crate {
    fn read(files: &[SourceFile], name: &str) -> Self {
        let home = format!("crates/{name}/src/");
        let sources = files.iter().filter(|file| file.is_rust() && file.path.starts_with(&home));
        let mut tests = BTreeSet::new();
        let mut read = Vec::new();
        for file in sources {
            let tokens = code::tokens(&code::strip(&file.text));
            let place = module_path(&file.path[home.len()..]);
            let own = code::test_modules(&tokens).into_iter();
            tests.extend(own.map(|test| [&place[..], &[test]].concat()));
            read.push((file, place, code::without_tests(&tokens)));
        }
        read.retain(|(_, place, _)| !(1..=place.len()).any(|len| tests.contains(&place[..len])));
        let mut modules = BTreeSet::new();
        let mut origins = BTreeMap::new();
        for (_, _, tokens) in read.iter().filter(|(_, place, _)| place.is_empty()) {
            modules.extend(declared(tokens));
            for path in uses(tokens, &[]) {
                if let [module, .., name] = &path.names[..] {
                    origins.insert(name.clone(), module.clone());
                }
            }
        }
        let mut found = Self { modules, arrows: BTreeSet::new() };
        for (file, place, tokens) in read.iter().filter(|(_, place, _)| !place.is_empty()) {
            if found.modules.contains(&place[0]) {
                found.collect(file, tokens, place, &origins);
            }
        }
        found
    }

    /// An order that holds, or what is in a cycle.
    fn proposal(&self) -> String {
        let mut left: Vec<&String> = self.modules.iter().collect();
        let mut order = Vec::new();
        // The next one is used by none of those that are left.
        while let Some(next) = left.iter().position(|module| {
            !self.arrows.iter().any(|arrow| arrow.to == **module && left.contains(&&arrow.from))
        }) {
            order.push(left.remove(next));
        }
        let is_cycle = !left.is_empty();
        // What the cycle uses is in none.
        while let Some(below) = left.iter().position(|module| {
            !self.arrows.iter().any(|arrow| arrow.from == **module && left.contains(&&arrow.to))
        }) {
            left.remove(below);
        }
        let listed = |names: &[&String]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        match is_cycle {
            true => format!("cycles between {}", listed(&left)),
            false => format!("one that holds is {}", listed(&order)),
        }
    }

    /// Adds the arrows that start in a file.
    fn collect(
        &mut self,
        file: &SourceFile,
        tokens: &[Token],
        place: &[String],
        origins: &BTreeMap<String, String>,
    ) {
        let from = &place[0];
        for path in uses(tokens, place) {
            let Some(first) = path.names.first() else { continue };
            let to = if self.modules.contains(first) { Some(first) } else { origins.get(first) };
            let Some(to) = to.filter(|&to| to != from && self.modules.contains(to)) else {
                continue;
            };
            let at = format!("{}:{}", file.path, path.line);
            self.arrows.insert(Arrow { from: from.clone(), to: to.clone(), at });
        }
    }
}

/// `a/b.rs` is the module `a::b`, `a/mod.rs` is `a`, a root has no name.
fn module_path(file: &str) -> Vec<String> {
    let names = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut names: Vec<String> = names.collect();
    let is_folder = 1 < names.len() && names.last().is_some_and(|last| last == "mod");
    if is_folder || names == ["lib"] || names == ["main"] {
        names.pop();
    }
    names
}

/// The modules that a root declares.
fn declared(tokens: &[Token]) -> Vec<String> {
    let triples = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    triples.map(|three| three[1].text.clone()).collect()
}

/// A path from the root of the crate, and its line.
#[derive(Debug)]
struct UsedPath {
    names: Vec<String>,
    line: usize,
}

/// Every path in `tokens` that starts at the crate's root or climbs there from `place`; in the root
/// itself, where `place` is empty, those of its re-exports too.
fn uses(tokens: &[Token], place: &[String]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_start = at == 0 || tokens[at - 1].text != "::";
        let climbs = match tokens[at].text.as_str() {
            "crate" if is_start => Some(place.len()),
            "super" if is_start => {
                let supers = tokens[at..].iter().step_by(2).take_while(|one| one.text == "super");
                let count = supers.count();
                at += 2 * (count - 1);
                Some(count)
            }
            "use" if place.is_empty() => {
                tree(tokens, &mut (at + 1), &mut Vec::new(), &mut found);
                None
            }
            _ => None,
        };
        at += 1;
        let Some(climbs) = climbs.filter(|_| tokens.get(at).is_some_and(|one| one.text == "::"))
        else {
            continue;
        };
        at += 1;
        let mut prefix = place[..place.len().saturating_sub(climbs)].to_vec();
        tree(tokens, &mut at, &mut prefix, &mut found);
    }
    found
}

/// Reads a path, or a list of paths in braces, behind `prefix`.
fn tree(tokens: &[Token], at: &mut usize, prefix: &mut Vec<String>, found: &mut Vec<UsedPath>) {
    let Some(token) = tokens.get(*at) else { return };
    let depth = prefix.len();
    if token.text == "{" {
        *at += 1;
        while tokens.get(*at).is_some_and(|token| token.text != "}") {
            let before = *at;
            tree(tokens, at, prefix, found);
            if tokens.get(*at).is_some_and(|token| token.text == ",") || *at == before {
                *at += 1;
            }
        }
        *at += 1;
        return;
    }
    *at += 1;
    // `a::{self}` is `a`.
    if token.text != "self" {
        prefix.push(token.text.clone());
    }
    if tokens.get(*at).is_some_and(|next| next.text == "::") {
        *at += 1;
        tree(tokens, at, prefix, found);
    } else {
        if tokens.get(*at).is_some_and(|next| next.text == "as") {
            *at += 2;
        }
        found.push(UsedPath { names: prefix.clone(), line: token.line });
    }
    prefix.truncate(depth);
}

fn compare(order: &Order, found: &Crate) -> Vec<Finding> {
    let place = |name: &str| order.modules.iter().position(|module| module == name);
    let mut findings = Vec::new();
    for module in &found.modules {
        if place(module).is_none() {
            let problem = format!("its order of `{}` lacks the module `{module}`", order.name);
            findings.push(Finding::new(DOCUMENT, problem));
        }
    }
    for module in &order.modules {
        if !found.modules.contains(module) {
            let problem = format!("`{}` has no module `{module}`", order.name);
            findings.push(Finding::new(DOCUMENT, problem));
        }
    }
    for Arrow { from, to, at } in &found.arrows {
        if place(from).zip(place(to)).is_some_and(|(from, to)| to <= from) {
            let problem =
                format!("`{from}` uses `{to}`, which stands above it in {DOCUMENT}'s order");
            findings.push(Finding::new(at, problem));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: format!("crates/hearken-x/{path}"), text: text.into() }
    }

    fn arrows(sources: &[SourceFile]) -> Vec<(String, String)> {
        let found = Crate::read(sources, "hearken-x");
        found.arrows.into_iter().map(|arrow| (arrow.from, arrow.to)).collect()
    }

    #[test]
    fn an_order_may_go_on_below() {
        let text = "- `hearken-x`: `a`, `b`,\n  `c`\n\n  `d`\n- `hearken-y`: `e`\n";
        assert_eq!(
            orders(text),
            [order("hearken-x", &["a", "b", "c"]), order("hearken-y", &["e"])]
        );
    }

    fn order(name: &str, modules: &[&str]) -> Order {
        let modules = modules.iter().map(|&module| module.into()).collect();
        Order { name: name.into(), modules }
    }

    #[test]
    fn every_way_to_name_another_module_is_an_arrow() {
        let root = file("src/lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\npub use c::{C, inner::I};");
        let empty = |name: &str| file(&format!("src/{name}.rs"), "");
        for text in [
            "use crate::b::B;",
            "use crate::{c::C, b::{self, B}};",
            "fn f() { crate::b::g(); }",
            "fn f() -> Vec<super::b::B> { vec![] }",
        ] {
            let found = arrows(&[root_of(&root), file("src/a.rs", text), empty("b"), empty("c")]);
            assert!(found.contains(&("a".into(), "b".into())), "{text}: {found:?}");
        }
        let nested = file("src/a/deep.rs", "use super::super::b::B; use super::other::X;");
        assert_eq!(arrows(&[root_of(&root), nested]), [("a".into(), "b".into())]);
        // Names that the root gives on.
        for text in ["use crate::C;", "use super::I;"] {
            let found = arrows(&[root_of(&root), file("src/a.rs", text)]);
            assert_eq!(found, [("a".into(), "c".into())], "{text}");
        }
    }

    fn root_of(root: &SourceFile) -> SourceFile {
        SourceFile { path: root.path.clone(), text: root.text.clone() }
    }

    #[test]
    fn tests_comments_and_a_module_itself_are_no_arrows() {
        let root = file("src/lib.rs", "mod a;\nmod b;\n#[cfg(test)]\nmod tests;");
        let text = "// crate::b::B\nuse crate::a::inner;\n#[cfg(test)]\nuse crate::b::B;\n\
                    #[cfg(test)]\nmod tests { use crate::b::B; }";
        let tests = file("src/tests.rs", "use crate::b::B;");
        let own = file("src/a/tests.rs", "use crate::b::B;");
        let a = file("src/a.rs", &format!("{text}\n#[cfg(test)] mod tests;"));
        assert_eq!(arrows(&[root, a, tests, own]), []);
    }

    #[test]
    fn an_arrow_that_points_up_and_modules_that_differ_are_found() {
        let sources = [
            file("src/lib.rs", "mod a; mod b; mod c;"),
            file("src/a.rs", "use crate::b::B;"),
            file("src/b.rs", "use crate::a::A;"),
        ];
        let found = Crate::read(&sources, "hearken-x");
        let order = order("hearken-x", &["a", "b", "gone"]);
        let problems: Vec<String> =
            compare(&order, &found).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[2].contains("`b` uses `a`"), "{problems:?}");
        assert_eq!(found.proposal(), "cycles between `a`, `b`");
    }
}
