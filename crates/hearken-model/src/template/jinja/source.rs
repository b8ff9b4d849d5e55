//! A template's text as minijinja reads it.
//!
//! Some things are otherwise in jinja2: every end of a line is `\n`, texts have Python's escapes, the
//! end of a line after `{% raw %}` stays, a text may be formatted with `%`, and Transformers adds the
//! block `{% generation %}`, which becomes a call block. A macro or a call block sees a namespace around
//! it whose attribute it sets, and what it slices or sets from itself; and what is set goes through a function, which makes of lists that are
//! put together on demand lists that are paid for.

use std::fmt::Write as _;

use super::EXPRESSION_BYTES_MAX;

/// The function that a block `{% generation %}` calls.
pub(super) const GENERATION: &str = "hearken_generation";

/// The function that the value of a statement `{% set … = … %}` goes through.
pub(super) const VALUE: &str = "hearken_value";
/// The filter that a text's operator `%` becomes.
pub(super) const PERCENT: &str = "hearken_percent";

/// A rewritten template. Lines stay where they are.
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) marks_generation: bool,
    /// The line of an expression that is too long, from 1.
    pub(super) too_long: Option<usize>,
}

/// Rewrites a template.
pub(super) fn rewrite(source: &str) -> Rewritten {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut rewritten = Rewritten {
        text: String::with_capacity(source.len()),
        marks_generation: false,
        too_long: None,
    };
    let reads = reads(&source);
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        rewritten.text.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with("{#") {
            let end = rest.find("#}").map_or(rest.len(), |end| end + 2);
            rewritten.text.push_str(&rest[..end]);
            end
        } else if let Some(raw) = raw_len(rest) {
            push_raw(&rest[..raw], &mut rewritten.text);
            raw
        } else if let Some((len, tag)) = macro_tag(rest, &reads) {
            rewritten.text.push_str(&tag);
            len
        } else if let Some((len, tag)) = generation_tag(rest, &reads) {
            rewritten.text.push_str(&tag);
            rewritten.marks_generation = true;
            len
        } else if rest.starts_with("{{") || rest.starts_with("{%") {
            let len = expression(rest, &mut rewritten.text);
            if EXPRESSION_BYTES_MAX < len && EXPRESSION_BYTES_MAX < without_texts(&rest[..len]) {
                let before = source.len() - rest.len();
                rewritten.too_long.get_or_insert(source[..before].matches('\n').count() + 1);
            }
            len
        } else {
            rewritten.text.push('{');
            1
        };
        rest = &rest[taken..];
    }
    rewritten.text.push_str(rest);
    rewritten
}

/// The bytes of an expression, its texts left out.
fn without_texts(expression: &str) -> usize {
    let (mut at, mut bytes) = (0, 0);
    while let Some(character) = expression[at..].chars().next() {
        if matches!(character, '\'' | '"') {
            at += literal(&expression[at..], character, &mut String::new());
        } else {
            at += character.len_utf8();
            bytes += 1;
        }
    }
    bytes
}

/// The inside of a tag `{% … %}` that holds one word, with its signs, and the tag's length.
fn word_tag(text: &str) -> Option<(&str, &str, &str, usize)> {
    let inside = text.strip_prefix("{%")?;
    let end = inside.find("%}")?;
    let inside = &inside[..end];
    let len = end + 4;
    let (before, inside) = match inside.strip_prefix(['-', '+']) {
        Some(rest) => inside.split_at(inside.len() - rest.len()),
        None => ("", inside),
    };
    let (inside, after) = match inside.strip_suffix(['-', '+']) {
        Some(rest) => inside.split_at(rest.len()),
        None => (inside, ""),
    };
    Some((before, inside.trim(), after, len))
}

fn generation_tag(text: &str, reads: &str) -> Option<(usize, String)> {
    let (before, word, after, len) = word_tag(text)?;
    let lines = "\n".repeat(text[..len].matches('\n').count());
    match word {
        "generation" => {
            let call = format!("call({reads}) {GENERATION}()");
            Some((len, format!("{{%{before} {call} {lines}{after}%}}")))
        }
        "endgeneration" => Some((len, format!("{{%{before} endcall {lines}{after}%}}"))),
        _ => None,
    }
}

/// A parameter whose default reads the variables that minijinja does not see in a macro's body: the
/// loop around it, what is only sliced (`x[1:]`), and what is set from itself (`set x = x.y`).
fn reads(source: &str) -> String {
    let keywords = ["and", "else", "if", "in", "is", "not", "or", "loop"];
    let mut names = vec!["loop"];
    let mut before = "";
    let mut at = 0;
    while let Some(character) = source[at..].chars().next() {
        let starts_name = character == '_' || character.is_alphabetic();
        let Some(len) = starts_name.then(|| primary(&source[at..])).flatten() else {
            at += character.len_utf8();
            continue;
        };
        let (name, after) = (&source[at..at + len], source[at + len..].chars().next());
        let is_read = after == Some('[') || matches!(before, "set" | "with");
        let is_own = !source[..at].ends_with('.') && name.is_ascii();
        if is_read && is_own && !keywords.contains(&name) && !names.contains(&name) {
            names.push(name);
        }
        (before, at) = (name, at + len);
    }
    format!("hearken_reads=({},)", names.join(", "))
}

/// A tag `{% macro … %}` or `{% call … %}` with that parameter.
fn macro_tag(text: &str, reads: &str) -> Option<(usize, String)> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
    let (word, rest) = rest.split_at(primary(rest)?);
    let list = match word {
        "macro" => {
            let rest = rest.trim_start();
            rest[primary(rest)?..].trim_start()
        }
        "call" => rest.trim_start(),
        _ => return None,
    };
    let start = text.len() - list.len();
    let mut tag = text[..start].to_owned();
    let mut end = start;
    if list.starts_with('(') {
        let len = primary(list)?;
        let inner = list[1..len - 1].trim().trim_end_matches(',');
        let comma = if inner.is_empty() { "" } else { ", " };
        tag.push('(');
        inside(inner, "", &mut tag);
        let _ = write!(tag, "{comma}{reads})");
        end = start + len;
    } else {
        let _ = write!(tag, "({reads}) ");
    }
    let len = inside(&text[end..], "%}", &mut tag);
    Some((end + len, tag))
}

/// The length of a raw block, its tags included.
fn raw_len(text: &str) -> Option<usize> {
    let (_, word, _, start) = word_tag(text)?;
    if word != "raw" {
        return None;
    }
    let mut at = start;
    while let Some(next) = text[at..].find("{%") {
        at += next;
        match word_tag(&text[at..]) {
            Some((_, "endraw", _, len)) => return Some(at + len),
            _ => at += 2,
        }
    }
    None
}

/// Copies a raw block; without a sign at the end of its first tag, it keeps the end of that line.
fn push_raw(block: &str, out: &mut String) {
    let Some((_, _, "", len)) = word_tag(block) else { return out.push_str(block) };
    let (tag, rest) = block.split_at(len);
    out.push_str(&tag[..len - 2]);
    out.push_str("+%}");
    out.push_str(rest);
}

/// Copies an expression or statement with its texts rewritten, and gives its length.
fn expression(text: &str, out: &mut String) -> usize {
    let close = if text.starts_with("{{") { "}}" } else { "%}" };
    if let Some((name, head)) = set_head(text) {
        let mut value = String::new();
        let len = inside(&text[head..], close, &mut value);
        let value = value.strip_suffix(close).unwrap_or(&value).trim_end();
        let bare = value.strip_suffix(['-', '+']).unwrap_or(value);
        let sign = &value[bare.len()..];
        out.push_str(&text[..head]);
        let name = name.map_or_else(String::new, |name| format!(", {name}"));
        // Writing into a text does not fail.
        let _ = write!(out, " {VALUE}(({}){name}) {sign}{close}", bare.trim());
        return head + len;
    }
    out.push_str(&text[..2]);
    2 + inside(&text[2..], close, out)
}

/// Where the value of a statement `{% set … = … %}` begins, and the name whose attribute it sets, if it
/// sets one. A macro of minijinja sees a variable around it only if it reads it, so the value reads it.
fn set_head(text: &str) -> Option<(Option<&str>, usize)> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
    let rest = rest.strip_prefix("set").filter(|rest| rest.starts_with(char::is_whitespace))?;
    let rest = rest.trim_start();
    let (name, rest) = rest.split_at(primary(rest)?);
    let (attribute, rest) = match rest.strip_prefix('.') {
        Some(rest) => (Some(name), &rest[primary(rest)?..]),
        None => (None, rest),
    };
    let rest = rest.trim_start().strip_prefix('=')?;
    (!rest.starts_with('=')).then_some((attribute, text.len() - rest.len()))
}

/// Copies what stands up to `close`, and that; gives its length.
fn inside(text: &str, close: &str, out: &mut String) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let rest = &text[at..];
        if depth == 0 && !close.is_empty() && rest.starts_with(close) {
            out.push_str(close);
            return at + close.len();
        }
        let character = rest.chars().next().unwrap_or_default();
        match character {
            '\'' | '"' => {
                at += literal(rest, character, out);
                if let Some((before, len)) = operand(&text[at..]) {
                    out.push('|');
                    out.push_str(PERCENT);
                    out.push('(');
                    inside(&text[at + before..at + before + len], "", out);
                    out.push(')');
                    at += before + len;
                }
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        out.push(character);
        at += character.len_utf8();
    }
    at
}

/// Where the operand of an operator `%` begins that `text` starts with, and its length: a value with
/// the items, calls and filters after it.
fn operand(text: &str) -> Option<(usize, usize)> {
    let after = text.trim_start().strip_prefix('%').filter(|after| !after.starts_with('}'))?;
    let value = after.trim_start();
    let start = text.len() - value.len();
    let mut at = value.len() - value.trim_start_matches(['-', '+', ' ']).len();
    at += primary(&value[at..])?;
    loop {
        let rest = &value[at..];
        let next = rest.trim_start();
        let skipped = rest.len() - next.len();
        let len = match next.chars().next() {
            Some('(' | '[') => primary(next)?,
            Some('.' | '|') => {
                let name = next[1..].trim_start();
                next.len() - name.len() + primary(name)?
            }
            _ => return Some((start, at)),
        };
        at += skipped + len;
    }
}

/// The length of a name, number, text or bracket that `text` starts with.
fn primary(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    match first {
        '\'' | '"' => Some(literal(text, first, &mut String::new())),
        '(' | '[' | '{' => {
            let mut depth = 0_usize;
            let mut at = 0;
            while let Some(character) = text[at..].chars().next() {
                match character {
                    '\'' | '"' => {
                        at += literal(&text[at..], character, &mut String::new());
                        continue;
                    }
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth -= 1,
                    _ => {}
                }
                at += character.len_utf8();
                if depth == 0 {
                    return Some(at);
                }
            }
            None
        }
        _ => {
            let len = text.len()
                - text.trim_start_matches(|c: char| c == '_' || c.is_alphanumeric()).len();
            (0 < len).then_some(len)
        }
    }
}

/// Copies a text with Python's escapes as minijinja's, and gives its length.
fn literal(text: &str, quote: char, out: &mut String) -> usize {
    out.push(quote);
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == quote {
            out.push(quote);
            return at + 1;
        }
        if character != '\\' {
            out.push(character);
            continue;
        }
        let Some((at, escaped)) = characters.next() else { break };
        match escaped {
            'a' => out.push_str("\\x07"),
            'v' => out.push_str("\\x0b"),
            // Python keeps the backslash.
            '/' => out.push_str("\\\\/"),
            '\n' => {}
            'U' => {
                let digits = text.get(at + 1..at + 9);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match code.and_then(char::from_u32) {
                    Some(character) => {
                        out.push(character);
                        for _ in 0..8 {
                            characters.next();
                        }
                    }
                    None => out.push_str("\\\\U"),
                }
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, expected: &str) {
        assert_eq!(rewrite(source).text, expected);
    }

    #[test]
    fn generation_becomes_a_call_block_with_its_signs() {
        check(
            "a{%- generation -%}b{% endgeneration +%}",
            "a{%- call(hearken_reads=(loop,)) hearken_generation() -%}b{% endcall +%}",
        );
        assert!(rewrite("{%generation%}").marks_generation);
        check("{% raw %}{% generation %}{% endraw %}", "{% raw +%}{% generation %}{% endraw %}");
        check("{# {% generation %} #}", "{# {% generation %} #}");
        check("{{ '{% generation %}' }}", "{{ '{% generation %}' }}");
    }

    #[test]
    fn what_is_set_goes_through_a_function_and_its_namespace_is_read() {
        check("{%- set ns.x = 'a-' -%} b", "{%- set ns.x = hearken_value(('a-'), ns) -%} b");
        check("{% set ns.x=ns.x+1%}", "{% set ns.x= hearken_value((ns.x+1), ns) %}");
        check(
            "{% set x = 1, 2 %}{{ ns.x == 1 }}",
            "{% set x = hearken_value((1, 2)) %}{{ ns.x == 1 }}",
        );
        check("{% set x %}{% set a, b = c %}", "{% set x %}{% set a, b = c %}");
    }

    #[test]
    fn macros_read_what_would_not_be_seen_in_them() {
        check(
            "{%- macro m(a, b='x') -%}{{ y[1:] }}{% set z = z.a %}{% endmacro %}",
            "{%- macro m(a, b='x', hearken_reads=(loop, y, z,)) -%}{{ y[1:] }}\
             {% set z = hearken_value((z.a)) %}{% endmacro %}",
        );
        check("{% call(x) m() %}", "{% call(x, hearken_reads=(loop,)) m() %}");
        check("{% call m() %}", "{% call (hearken_reads=(loop,)) m() %}");
    }

    #[test]
    fn a_formatted_text_becomes_a_filter() {
        check("{{ '%s' % x }}", "{{ '%s'|hearken_percent(x) }}");
        check(
            "{{ 'a' ~ '%s%d' % (a, b['c'](1)|int) ~ 'd' }}",
            "{{ 'a' ~ '%s%d'|hearken_percent((a, b['c'](1)|int)) ~ 'd' }}",
        );
        check("{% if x == 'a' %}{% if 'b' -%}", "{% if x == 'a' %}{% if 'b' -%}");
        check("{{ '%s' % x.y[0]|upper + '' }}", "{{ '%s'|hearken_percent(x.y[0]|upper) + '' }}");
    }

    #[test]
    fn ends_of_lines_and_escapes_are_those_of_python() {
        check("a\r\nb\rc", "a\nb\nc");
        check(r#"{{ "\a\/\U0001F600" }}"#, "{{ \"\\x07\\\\/😀\" }}");
        check("{{ {'a': '}}'} }}{", "{{ {'a': '}}'} }}{");
    }
}
