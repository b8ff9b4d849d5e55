//! Tuples of parameters count as what they hold, so that none of them goes around the limit that `clippy.toml` sets.

use super::Finding;
use super::code::{self, Token};
use super::files::SourceFile;

/// As `too-many-arguments-threshold`.
const ARGUMENTS_MAX: usize = 7;

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let tokens = code::tokens(&code::strip(&file.text));
        for at in (0..tokens.len()).filter(|&at| tokens[at].text == "fn") {
            let Some((name, parameters)) = parameters(&tokens[at + 1..]) else { continue };
            let count: usize = parameters.iter().map(|parameter| values(parameter)).sum();
            // More parameters are clippy's to refuse, or to expect.
            if parameters.len() <= ARGUMENTS_MAX && ARGUMENTS_MAX < count {
                let problem = format!(
                    "`{name}` takes {count} values when tuples count as what they hold, at most {ARGUMENTS_MAX} are allowed"
                );
                findings.push(Finding::new(format!("{}:{}", file.path, tokens[at].line), problem));
            }
        }
    }
    findings
}

/// The name behind `fn`, and its parameters; `None` of a type of functions.
fn parameters(tokens: &[Token]) -> Option<(&str, Vec<&[Token]>)> {
    let name = &tokens.first().filter(|name| name.text != "(")?.text;
    let generics = match tokens.get(1)?.text.as_str() {
        "<" => group_len(&tokens[1..]),
        _ => 0,
    };
    let rest = &tokens[1 + generics..];
    if rest.first()?.text != "(" {
        return None;
    }
    Some((name, parts(&rest[1..group_len(rest) - 1])))
}

/// How many values a parameter brings.
fn values(parameter: &[Token]) -> usize {
    let Some(colon) = outside(parameter, ":") else { return 1 };
    let is_reference = |token: &Token| matches!(token.text.as_str(), "&" | "mut");
    let kind = &parameter[colon + 1..];
    let kind = &kind[kind.iter().take_while(|token| is_reference(token)).count()..];
    // Behind a lifetime, which is a quote and a name.
    let kind = match kind {
        [quote, _, rest @ ..] if quote.text == "'" => rest,
        kind => kind,
    };
    match kind {
        [open, inside @ .., close] if open.text == "(" && close.text == ")" => {
            parts(inside).len().max(1)
        }
        _ => 1,
    }
}

/// What stands between the commas that are outside of brackets.
fn parts(mut tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    while !tokens.is_empty() {
        let comma = outside(tokens, ",").unwrap_or(tokens.len());
        parts.push(&tokens[..comma]);
        tokens = tokens.get(comma + 1..).unwrap_or_default();
    }
    parts
}

/// Where `text` stands outside of brackets.
fn outside(tokens: &[Token], text: &str) -> Option<usize> {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            found if found == text => return Some(at),
            "(" | "[" | "{" | "<" => at += group_len(&tokens[at..]),
            _ => at += 1,
        }
    }
    None
}

/// The length of the group whose bracket `tokens` begin with.
fn group_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" | "<" => depth += 1,
            // The head of an arrow closes nothing.
            ">" if 0 < at && matches!(tokens[at - 1].text.as_str(), "-" | "=") => {}
            ")" | "]" | "}" | ">" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_count(text: &str, expected: Option<usize>) {
        let tokens = code::tokens(&code::strip(text));
        let found = parameters(&tokens[1..]);
        let count = found.map(|(_, parameters)| parameters.into_iter().map(values).sum::<usize>());
        assert_eq!(count, expected, "{text}");
    }

    #[test]
    fn tuples_count_as_what_they_hold() {
        check_count("fn f() {}", Some(0));
        check_count("fn f(&self, a: u8, (b, c): (u8, Vec<(u8, u8)>)) -> u8 {}", Some(4));
        check_count("fn f<'a, F: Fn(u8, u8) -> u8>(&mut self, a: &'a (u8, u8, u8),) {}", Some(4));
        check_count("fn f(a: impl Fn((u8, u8)) -> (u8, u8), b: [(u8, u8); 2], c: ()) {}", Some(3));
        check_count("fn(u8, u8) -> u8", None);
    }

    #[test]
    fn a_function_of_too_many_is_named_with_its_line() {
        let file = |text: &str| SourceFile { path: "a.rs".to_owned(), text: text.to_owned() };
        let text = "\nfn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: (u8, u8)) {}";
        assert!(check(&[file(text)]).is_empty());
        let found = check(&[file(&text.replace("(u8, u8)", "(u8, u8, u8)"))]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at, "a.rs:2");
        assert!(found[0].problem.contains("`f` takes 8 values"), "{}", found[0].problem);
    }
}
