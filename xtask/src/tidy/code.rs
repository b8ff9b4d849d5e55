//! Rust code without its comments and literals.

/// The text with comments, strings and characters blanked out; lines stay where they are.
pub(super) fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at).unwrap_or(at);
        if end == at {
            code.push(bytes[at]);
            at += 1;
            continue;
        }
        let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
        code.extend(bytes[at..end].iter().map(blank));
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `None` if none starts there.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(at + comment_len(rest));
    }
    let inside_name = 0 < at && is_name(bytes[at - 1]);
    match rest[0] {
        b'"' => Some(at + string_len(rest)),
        b'r' if !inside_name || bytes[at - 1] == b'b' => raw_string_len(rest).map(|len| at + len),
        b'\'' => character_len(rest).map(|len| at + len),
        _ => None,
    }
}

fn comment_len(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"` or `r#"…"#`; `None` for a name that starts with r.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &rest[1..=hashes]].concat();
    let body = 2 + hashes;
    let found = rest[body..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(rest.len(), |start| body + start + close.len()))
}

/// The length of a character literal; `None` for a lifetime.
fn character_len(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|&byte| byte == b'\'')?;
        return Some(close + 4);
    }
    // A lifetime's quote does not close after one character, which takes up to four bytes.
    let close = rest.iter().take(6).skip(2).position(|&byte| byte == b'\'')? + 2;
    let body = std::str::from_utf8(&rest[1..close]).ok()?;
    (body.chars().count() == 1).then_some(close + 1)
}

/// Every name in stripped code with its line, counted from 1.
pub(super) fn identifiers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = code.lines().enumerate();
    lines.flat_map(|(index, line)| {
        let names = line.split(|character: char| !is_name_character(character));
        let names = names
            .filter(|name| !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()));
        names.map(move |name| (index + 1, name))
    })
}

/// A name, `::`, or one other character of stripped code, with its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The tokens of stripped code.
pub(super) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let name = rest.find(|c: char| !is_name_character(c)).unwrap_or(rest.len());
            let len = match name {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                name => name,
            };
            tokens.push(Token { text: rest[..len].to_owned(), line: index + 1 });
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

const TEST_ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test(tokens: &[Token]) -> bool {
    TEST_ATTRIBUTE.len() <= tokens.len()
        && tokens.iter().zip(TEST_ATTRIBUTE).all(|(token, text)| token.text == text)
}

/// What is left without the items under `#[cfg(test)]`.
pub(super) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if is_test(&tokens[at..]) {
            at += TEST_ATTRIBUTE.len();
            at += item_len(&tokens[at..]);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The names of the modules in files of their own that only tests have.
pub(super) fn test_modules(tokens: &[Token]) -> Vec<String> {
    let mut names = Vec::new();
    for at in (0..tokens.len()).filter(|&at| is_test(&tokens[at..])) {
        let item = &tokens[at + TEST_ATTRIBUTE.len()..];
        let item = &item[..item_len(item)];
        if let [.., module, name, end] = item
            && (module.text.as_str(), end.text.as_str()) == ("mod", ";")
        {
            names.push(name.text.clone());
        }
    }
    names
}

/// The length of the item that `tokens` begin with: up to a semicolon, or a block, outside of brackets.
fn item_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && (token.text == ";" || token.text == "}") {
            return index + 1;
        }
    }
    tokens.len()
}

fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

fn is_name_character(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let code = strip(text);
        let names: Vec<&str> = identifiers(&code).map(|(_, name)| name).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn comments_and_literals_hold_no_names() {
        check("let a = \"x \\\" y\"; // z", &["let", "a"]);
        check("/* a /* b */ c */ d", &["d"]);
        check("r#\"a \" b\"# c br\"d\" e", &["c", "b", "e"]);
        check("'a' '\\'' '\\n' 'π' b", &["b"]);
        check("fn f<'a>(x: &'a str) {}", &["fn", "f", "a", "x", "a", "str"]);
        check("'\\u{1F600}' c", &["c"]);
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let code = strip("let a = \"\n\n\";\nlet b;");
        assert_eq!(identifiers(&code).last(), Some((4, "b")));
    }
}
