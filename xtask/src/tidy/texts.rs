//! Words that do not belong into a file of this project: it speaks of itself alone.

use super::Finding;
use super::files::SourceFile;

/// A fragment, and why it has to go. They are put together here so that this file passes.
fn refused() -> Vec<(String, &'static str)> {
    let absolute = "a path of one machine; use a relative one";
    let registry = "the host of a package registry";
    let mut list: Vec<(String, &'static str)> = ["work", "home", "root", "Users"]
        .iter()
        .map(|top| (format!("/{top}/"), absolute))
        .collect();
    for host in
        ["index.crates", "static.crates", "files.pythonhosted", "registry.npmjs", "proxy.golang"]
    {
        list.push((format!("{host}."), registry));
    }
    list.push((["TO", "DO"].concat(), "an unfinished thought; do it or leave it"));
    list.push((["FIX", "ME"].concat(), "an unfinished thought; do it or leave it"));
    list
}

/// The folder beside the workspace from which some tests read larger data. Only tests know it.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/tests.rs") || path.contains("hearken-testing/")
}

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let refused = refused();
    let outside = ["sha", "red/"].concat();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !is_exempt(&file.path)) {
        for (index, line) in file.text.lines().enumerate() {
            let at = || format!("{}:{}", file.path, index + 1);
            for (fragment, why) in &refused {
                if line.contains(fragment.as_str()) {
                    findings.push(Finding::new(at(), format!("`{fragment}` is {why}")));
                }
            }
            if line.contains(&outside) && !is_test(&file.path) {
                let problem = format!("`{outside}` is no part of this project");
                findings.push(Finding::new(at(), problem));
            }
            if names_an_issue(line) {
                findings.push(Finding::new(at(), "a number of an issue; say what is the matter"));
            }
        }
    }
    findings
}

/// Files that are not written by hand, or whose lines are data.
fn is_exempt(path: &str) -> bool {
    let data = ["json", "jsonl", "svg", "html", "csv"];
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    path == "Cargo.lock" || data.contains(&extension)
}

/// An issue with its number, in words or after a number sign.
fn names_an_issue(line: &str) -> bool {
    let lower = line.to_lowercase();
    let after = |mark: &str| {
        lower.match_indices(mark).any(|(at, _)| {
            let rest = lower[at + mark.len()..].trim_start_matches(['#', ' ']);
            rest.starts_with(|first: char| first.is_ascii_digit())
        })
    };
    after("issue ") || after("issues/") || after("(#")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[SourceFile { path: path.into(), text: text.into() }]).len()
    }

    #[test]
    fn paths_of_a_machine_and_numbers_of_issues_are_found() {
        assert_eq!(findings("a.md", &format!("see /{}/me/x", "home")), 1);
        assert_eq!(findings("a.rs", &format!("// {} 12", "issue")), 1);
        assert_eq!(findings("a.rs", &format!("// fixed ({}12)", '#')), 1);
        assert_eq!(findings("a.rs", "// an issue of 12 stamps; `a/home`"), 0);
    }

    #[test]
    fn tests_may_read_the_folder_beside_the_workspace() {
        let line = format!("let data = root.join(\"../{}/data\");", ["sha", "red"].concat());
        assert_eq!(findings("crates/a/src/lib.rs", &line), 1);
        assert_eq!(findings("crates/a/tests/files.rs", &line), 0);
    }
}
