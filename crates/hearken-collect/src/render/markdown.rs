//! Markdown to HTML.

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, Instant};

use hearken_page::escape;
use pulldown_cmark::{
    CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html,
};

use super::math::{Formula, formulas, mathml};
use super::{clean, media};

/// Around the number of a formula while Markdown is rendered. Private-use characters, which no text
/// needs; those of the text itself become U+FFFD.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// The level of heading at which the first level of a text starts, so that a text keeps its place in
/// the outline of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heading {
    /// `h2`: a page of its own, such as the guidelines.
    Page = 2,
    /// `h3`: beside the item, under the heading of the panel.
    Panel = 3,
    /// `h4`: under the heading of an answer.
    Answer = 4,
}

/// Bytes of a text that is rendered.
const BYTES_MAX: usize = 400_000;
/// Quotations and lists in one another at the beginning of a line, and elements in one another. What is nested deeper
/// takes parsers, here and in browsers, time that grows with the square of the depth.
const DEPTH_MAX: usize = 48;
/// How long rendering may take.
const TIME_MAX: Duration = Duration::from_millis(500);

/// The HTML of a Markdown text from anyone: tables, code and LaTeX rendered, raw HTML shown as
/// text, nothing in it that acts. What is too long, too deep or takes too long is shown as it is.
pub(crate) fn markdown(text: &str, heading: Heading) -> String {
    rendered(text, heading).unwrap_or_else(|| plain(text))
}

fn plain(text: &str) -> String {
    let mut html = String::from(
        "<p><em>This text is shown as it was written: it is too long or too deeply nested to be laid out.</em></p>\n<pre>",
    );
    html.push_str(&escape(text));
    html.push_str("</pre>");
    html
}

/// The images that a text names.
pub(crate) fn images(text: &str) -> Vec<String> {
    if !text.contains("![") || !is_parsed(text) {
        return Vec::new();
    }
    let image = |event| match event {
        Event::Start(Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
        _ => None,
    };
    Parser::new_ext(text, options()).filter_map(image).collect()
}

/// Whether the parser is given the text.
fn is_parsed(text: &str) -> bool {
    text.len() <= BYTES_MAX && text.lines().all(|line| depth(line) <= DEPTH_MAX)
}

/// How many quotations and lists a line opens in one another; at most one more than may be.
fn depth(line: &str) -> usize {
    let is_rule = |mark: u8| line.bytes().all(|byte| byte == mark || byte == b' ' || byte == b'\t');
    if [b'-', b'*', b'_'].into_iter().any(is_rule) {
        return 0;
    }
    let mut rest = line.trim_start_matches([' ', '\t']);
    let mut depth = 0;
    while depth <= DEPTH_MAX {
        let after_number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_number = after_number.len() < rest.len() && after_number.starts_with(['.', ')']);
        let marked = if is_number { after_number } else { rest };
        let Some(inside) = marked.strip_prefix(['>', '-', '*', '+', '.', ')']) else { break };
        let is_quotation = marked.starts_with('>');
        if !is_quotation
            && (marked.starts_with(['.', ')']) != is_number || !inside.starts_with([' ', '\t']))
        {
            break;
        }
        depth += 1;
        rest = inside.trim_start_matches([' ', '\t']);
    }
    depth
}

fn rendered(text: &str, heading: Heading) -> Option<String> {
    if !is_parsed(text) {
        return None;
    }
    let started = Instant::now();
    let text: Cow<'_, str> = match text.contains([OPEN, CLOSE]) {
        true => text.replace([OPEN, CLOSE], "\u{fffd}").into(),
        false => text.into(),
    };
    let formulas = formulas(&text, &code_ranges(&text));
    let page = Page { text: &text, formulas: &formulas, heading };
    let source = page.with_placeholders();
    let mut out = String::with_capacity(text.len() * 2);
    html::push_html(&mut out, page.events(&source, started)?.into_iter());
    for side in ["left", "right", "center"] {
        for cell in ["td", "th"] {
            let styled = format!("<{cell} style=\"text-align: {side}\">");
            out = out.replace(&styled, &format!("<{cell} align=\"{side}\">"));
        }
    }
    Some(clean::clean(&out))
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// Where code is, which Markdown shows as it is.
fn code_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        let code = matches!(event, Event::Code(_) | Event::Start(Tag::CodeBlock(_)));
        if code && ranges.last().is_none_or(|last| last.end <= range.start) {
            ranges.push(range);
        }
    }
    ranges
}

struct Page<'a> {
    text: &'a str,
    formulas: &'a [Formula],
    heading: Heading,
}

impl Page<'_> {
    /// The text with a placeholder for each formula, so that Markdown does not read `_` and `*` in it.
    fn with_placeholders(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut at = 0;
        for (index, formula) in self.formulas.iter().enumerate() {
            out.push_str(&self.text[at..formula.range.start]);
            out.push(OPEN);
            out.push_str(&index.to_string());
            out.push(CLOSE);
            at = formula.range.end;
        }
        out.push_str(&self.text[at..]);
        out
    }

    /// `None` where there are too many in one another, or too many for the time.
    fn events<'s>(&self, source: &'s str, started: Instant) -> Option<Vec<Event<'s>>> {
        let mut events = Vec::new();
        let mut image: Option<(CowStr<'s>, String)> = None;
        let mut depth = 0_usize;
        let mut above = HeadingLevel::H1 as usize + self.heading as usize - 2;
        for mut event in Parser::new_ext(source, options()) {
            self.settle(&mut event, &mut above);
            match &event {
                Event::Start(_) => depth += 1,
                Event::End(_) => depth -= 1,
                _ => {}
            }
            if 2 * DEPTH_MAX < depth || TIME_MAX < started.elapsed() {
                return None;
            }
            match event {
                Event::Start(Tag::Image { dest_url, .. }) => {
                    image = Some((dest_url, String::new()));
                }
                Event::End(TagEnd::Image) => {
                    events.extend(image.take().map(|(url, alt)| self.image(&url, &alt)));
                }
                Event::Text(text) | Event::Code(text) if image.is_some() => {
                    let (_, alt) = image.as_mut().expect("the arm's guard");
                    alt.push_str(&self.restored(&text));
                }
                _ if image.is_some() => {}
                other => self.push(&mut events, other),
            }
        }
        Some(events)
    }

    fn push<'s>(&self, events: &mut Vec<Event<'s>>, event: Event<'s>) {
        match event {
            Event::Text(text) => self.push_text(events, text),
            Event::Code(text) => events.push(Event::Code(self.restored(&text).into())),
            Event::InlineHtml(tag) if is_line_break(&tag) => events.push(Event::HardBreak),
            Event::InlineHtml(tag) => events.push(Event::Text(self.restored(&tag).into())),
            Event::Html(lines) => {
                events.push(Event::Text(self.restored(lines.trim_end()).into()));
                events.push(Event::HardBreak);
            }
            Event::Start(Tag::HtmlBlock) => events.push(Event::Start(Tag::Paragraph)),
            Event::End(TagEnd::HtmlBlock) => events.push(Event::End(TagEnd::Paragraph)),
            // Answers are chat: a line break that was typed is meant.
            Event::SoftBreak => events.push(Event::HardBreak),
            Event::TaskListMarker(done) => {
                events.push(Event::Text(if done { "☑ " } else { "☐ " }.into()));
            }
            Event::Start(tag) => events.push(Event::Start(self.tag(tag))),
            other => events.push(other),
        }
    }

    fn tag<'s>(&self, tag: Tag<'s>) -> Tag<'s> {
        match tag {
            Tag::Heading { level, .. } => {
                Tag::Heading { level, id: None, classes: Vec::new(), attrs: Vec::new() }
            }
            Tag::Link { link_type, dest_url, title, id } => Tag::Link {
                link_type,
                dest_url: self.restored(&dest_url).into(),
                title: self.restored(&title).into(),
                id,
            },
            Tag::CodeBlock(CodeBlockKind::Fenced(_)) => Tag::CodeBlock(CodeBlockKind::Indented),
            other => other,
        }
    }

    /// Gives a heading its level on the page: at most one below the heading `above`, so that the outline has no gaps.
    fn settle(&self, event: &mut Event<'_>, above: &mut usize) {
        let is_end = matches!(event, Event::End(_));
        let (Event::Start(Tag::Heading { level, .. }) | Event::End(TagEnd::Heading(level))) = event
        else {
            return;
        };
        let shifted = (*level as usize + self.heading as usize - 1).min(6);
        let settled = if is_end { *above } else { shifted.min(*above + 1) };
        *above = settled;
        *level = HeadingLevel::try_from(settled).expect("a level from 1 to 6");
    }

    /// The text with its formulas as MathML, or as code where they are not LaTeX.
    fn push_text<'s>(&self, events: &mut Vec<Event<'s>>, text: CowStr<'s>) {
        if !text.contains(OPEN) {
            events.push(Event::Text(text));
            return;
        }
        for (before, formula) in self.split(&text) {
            if !before.is_empty() {
                events.push(Event::Text(before.to_owned().into()));
            }
            let Some(formula) = formula else { continue };
            let latex = self.text[formula.latex.clone()].trim();
            events.push(match mathml(latex, formula.display) {
                Some(html) => Event::InlineHtml(html.into()),
                None => Event::Code(self.text[formula.range.clone()].to_owned().into()),
            });
        }
    }

    /// The pieces between placeholders, each with the formula that follows it.
    fn split<'t>(&self, text: &'t str) -> Vec<(&'t str, Option<&Formula>)> {
        text.split(CLOSE)
            .map(|piece| match piece.split_once(OPEN) {
                Some((before, index)) => {
                    (before, index.parse().ok().and_then(|index: usize| self.formulas.get(index)))
                }
                None => (piece, None),
            })
            .collect()
    }

    /// A piece of the source with its placeholders made the text again that they stand for.
    fn restored(&self, piece: &str) -> String {
        let mut out = String::new();
        for (before, formula) in self.split(piece) {
            out.push_str(before);
            out.push_str(formula.map_or("", |formula| &self.text[formula.range.clone()]));
        }
        out
    }

    fn image(&self, url: &str, alt: &str) -> Event<'static> {
        let url = self.restored(url);
        let Some(address) = media::address(&url) else {
            return Event::Text(format!("[image not shown: {}]", described(alt, &url)).into());
        };
        let (opens, named, closes) = match media::is_video(&address) {
            true => ("<video controls src=\"", "\" title=\"", "\"></video>"),
            false => ("<img src=\"", "\" alt=\"", "\">"),
        };
        let mut html = String::from(opens);
        html.push_str(&escape(&address));
        html.push_str(named);
        html.push_str(&escape(alt));
        html.push_str(closes);
        Event::InlineHtml(html.into())
    }
}

fn described<'a>(alt: &'a str, url: &'a str) -> &'a str {
    if alt.trim().is_empty() { url } else { alt }
}

fn is_line_break(tag: &str) -> bool {
    matches!(tag.to_ascii_lowercase().as_str(), "<br>" | "<br/>" | "<br />")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let html = markdown(text, Heading::Answer);
        assert_eq!(html.trim_end(), expected, "{text}");
    }

    #[test]
    fn markdown_is_rendered() {
        check(
            "**a** *b* ~~c~~ `d`",
            "<p><strong>a</strong> <em>b</em> <del>c</del> <code>d</code></p>",
        );
        check("one\ntwo", "<p>one<br>\ntwo</p>");
        check("# a\n#### b\n## c", "<h4>a</h4>\n<h5>b</h5>\n<h5>c</h5>");
        check("### a", "<h4>a</h4>");
        check("```rust\nlet a = \"<b>\";\n```", "<pre><code>let a = \"&lt;b&gt;\";\n</code></pre>");
        check("- [x] a\n- b", "<ul>\n<li>☑ a</li>\n<li>b</li>\n</ul>");
        let table = markdown("|a|b|\n|-|-:|\n|1|2<br>3|", Heading::Answer);
        assert!(table.contains("<td align=\"right\">2<br>"), "{table}");
    }

    #[test]
    fn latex_becomes_mathml_and_code_stays() {
        let html = markdown(r"so $a_1*b*c_2$ and `$x$`", Heading::Answer);
        assert!(html.contains("<math") && html.contains("<msub>"), "{html}");
        assert!(html.contains("<code>$x$</code>") && !html.contains("<em>"), "{html}");
        let broken = markdown(r"\(\frac{a\)", Heading::Answer);
        assert_eq!(broken, "<p><code>\\(\\frac{a\\)</code></p>\n");
        let link = markdown("[a](https://example.org/?q=$x$)", Heading::Answer);
        assert!(link.contains("href=\"https://example.org/?q=$x$\""), "{link}");
        assert!(markdown("\u{e000}0\u{e001} $x$", Heading::Answer).contains("\u{fffd}0\u{fffd}"));
    }

    #[test]
    fn raw_html_is_text() {
        check("<b>a</b>", "<p>&lt;b&gt;a&lt;/b&gt;</p>");
        check("<div>\n<p>a\n</div>", "<p>&lt;div&gt;<br>\n&lt;p&gt;a<br>\n&lt;/div&gt;<br>\n</p>");
    }

    #[test]
    fn images_are_own_or_in_the_text() {
        check("![a cat](cat.png)", "<p><img src=\"/media/cat.png\" alt=\"a cat\"></p>");
        check(
            "![p](data:image/gif;base64,R0lG)",
            "<p><img src=\"data:image/gif;base64,R0lG\" alt=\"p\"></p>",
        );
        check(
            "![a clip](cat.mp4)",
            "<p><video controls=\"\" src=\"/media/cat.mp4\" title=\"a clip\"></video></p>",
        );
        check("![a cat](https://example.org/cat.png)", "<p>[image not shown: a cat]</p>");
        check("![](//example.org/p.png)", "<p>[image not shown: //example.org/p.png]</p>");
    }

    /// The elements and attributes of the output are counted by reading it as a browser would.
    #[test]
    fn attacks_stay_text() {
        for attack in crate::render::tests_attacks::ATTACKS {
            for text in [
                attack.to_string(),
                format!("a {attack} b"),
                format!("> {attack}"),
                format!("|a|\n|-|\n|{attack}|"),
                format!("${attack}$"),
                format!("# {attack}"),
                format!("$\\text{{{attack}}}$"),
                format!("[{attack}]({attack})"),
                format!("![{attack}]({attack})"),
                format!("```{attack}\n{attack}\n```"),
            ] {
                let html = markdown(&text, Heading::Answer);
                let found = crate::render::tests_attacks::dangers(&html);
                assert!(found.is_empty(), "{text:?} gave {html:?}: {found:?}");
            }
        }
    }

    /// Each of these takes seconds, or never ends, where nothing limits it.
    #[test]
    fn deep_and_long_texts_take_no_time() {
        for n in [16_000, 200_000] {
            for text in [
                ">".repeat(n),
                "> ".repeat(n),
                "- ".repeat(n),
                "1. ".repeat(n),
                "> - ".repeat(n / 2),
                format!("a\n{}", ">".repeat(n)),
                "[".repeat(n),
                "![".repeat(n),
                "[a](".repeat(n / 2),
                "*a_".repeat(n),
                "*a ".repeat(n),
                "**a*".repeat(n),
                "$".repeat(n + 1),
                "$a".repeat(n),
                "\\(".repeat(n),
                "`".repeat(n + 1),
                "`a``".repeat(n),
                "<a ".repeat(n),
                "<!--".repeat(n),
                "&".repeat(n),
                "|a".repeat(n),
                format!("|a\n|-\n{}", "|".repeat(n)),
                "- a\n".repeat(n),
                (0..n.min(800)).fold(String::new(), |text, at| text + &"  ".repeat(at) + "- a\n"),
            ] {
                let started = Instant::now();
                assert!(!markdown(&text, Heading::Page).is_empty());
                let took = started.elapsed();
                let start: String = text.chars().take(20).collect();
                assert!(took < Duration::from_secs(3), "{n} of {start:?} took {took:?}");
            }
        }
    }

    #[test]
    fn what_is_too_deep_is_shown_as_it_is_and_what_is_not_is_laid_out() {
        let deep = format!("{} <b>", ">".repeat(49));
        let html = markdown(&deep, Heading::Answer);
        assert!(html.contains("<pre>&gt;&gt;") && html.contains("&lt;b&gt;</pre>"), "{html}");
        assert_eq!(markdown(&">".repeat(48), Heading::Answer).matches("<blockquote>").count(), 48);
        let rule = format!("a\n\n{}", "- ".repeat(60));
        assert!(markdown(&rule, Heading::Answer).contains("<hr>"));
        assert_eq!(depth("1. > - a"), 3);
        assert_eq!(depth("1.5 is - a number"), 0);
        assert_eq!(depth("**bold**"), 0);
    }

    #[test]
    fn images_that_a_text_names_are_known() {
        assert_eq!(images("a ![b](c.png) ![d][e]\n\n[e]: f.gif"), ["c.png", "f.gif"]);
        assert!(images("`![b](c.png)` [d](e.png)").is_empty());
    }
}
