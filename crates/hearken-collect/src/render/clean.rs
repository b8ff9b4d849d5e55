//! The last gate: only known elements and attributes leave it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

use super::media;

/// What Markdown makes.
const HTML: [&str; 27] = [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "img",
    "li",
    "ol",
    "p",
    "pre",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "video",
];

/// What LaTeX makes: MathML Core without what embeds other markup (`annotation-xml`, `semantics`).
const MATHML: [&str; 23] = [
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "ms",
    "mtext",
    "mspace",
    "mfrac",
    "msqrt",
    "mroot",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mmultiscripts",
    "mprescripts",
    "mtable",
    "mtr",
    "mtd",
    "mpadded",
];

/// Attributes of MathML that change how a formula looks and nothing else.
const MATHML_ATTRIBUTES: [&str; 18] = [
    "display",
    "displaystyle",
    "scriptlevel",
    "mathvariant",
    "stretchy",
    "symmetric",
    "largeop",
    "movablelimits",
    "accent",
    "accentunder",
    "lspace",
    "rspace",
    "width",
    "height",
    "depth",
    "linethickness",
    "maxsize",
    "class",
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(cleaner);

/// HTML with everything taken out that is not known to be harmless.
pub(super) fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

fn cleaner() -> Builder<'static> {
    let mut attributes: HashMap<&str, HashSet<&str>> = HashMap::from([
        ("a", HashSet::from(["href", "title"])),
        ("img", HashSet::from(["src", "alt", "title"])),
        ("video", HashSet::from(["src", "title", "controls"])),
        ("ol", HashSet::from(["start"])),
        ("td", HashSet::from(["align"])),
        ("th", HashSet::from(["align"])),
    ]);
    for element in MATHML {
        attributes.insert(element, MATHML_ATTRIBUTES.into_iter().collect());
    }
    let mut builder = Builder::empty();
    builder
        .tags(HTML.into_iter().chain(MATHML).chain(["ul"]).collect())
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(attributes)
        .url_schemes(HashSet::from(["http", "https", "mailto", "data"]))
        .url_relative(UrlRelative::PassThrough)
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank")
        .attribute_filter(attribute);
    builder
}

/// Links lead to the web or to a mailbox, images are the service's own, classes are the formula
/// renderer's.
fn attribute<'u>(element: &str, name: &str, value: &'u str) -> Option<Cow<'u, str>> {
    let allowed = match (element, name) {
        ("a", "href") => {
            let lower = value.trim_start().to_ascii_lowercase();
            ["http://", "https://", "mailto:"].iter().any(|scheme| lower.starts_with(scheme))
        }
        ("img" | "video", "src") => media::address(value).is_some_and(|address| address == value),
        (_, "class") => value.split(' ').all(|class| {
            class.starts_with("menv-") || class == "cell-left" || class == "cell-right"
        }),
        _ => true,
    };
    allowed.then_some(Cow::Borrowed(value))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn what_markdown_and_latex_make_passes() {
        for html in [
            "<p>a <strong>b</strong> <em>c</em> <del>d</del> <code>e</code></p>",
            "<ul><li>a</li></ul><ol start=\"3\"><li>b</li></ol>",
            "<table><thead><tr><th align=\"right\">a</th></tr></thead></table>",
            "<img src=\"/media/cat.png\" alt=\"a cat\">",
            "<math display=\"block\"><mfrac><mi>a</mi><mn>2</mn></mfrac></math>",
            "<math><mtable class=\"menv-alignlike menv-align\"><mtr><mtd><mi>x</mi></mtd></mtr></mtable></math>",
        ] {
            assert_eq!(clean(html), html);
        }
    }

    #[test]
    fn what_could_act_does_not_pass() {
        let cases = [
            ("<script>alert(1)</script>", ""),
            ("<img src=x onerror=alert(1)>", "<img>"),
            ("<p onclick=alert(1) style=color:red id=x>a</p>", "<p>a</p>"),
            (
                "<a href=javascript:alert(1)>a</a>",
                "<a rel=\"noopener noreferrer nofollow\" target=\"_blank\">a</a>",
            ),
            ("<iframe src=/admin></iframe>", ""),
            ("<form action=/logout><button>a</button></form>", "a"),
            ("<svg onload=alert(1)></svg>", ""),
            ("<p class=actions>a</p>", "<p>a</p>"),
            ("<img src=\"https://example.org/pixel.png\">", "<img>"),
        ];
        for (html, expected) in cases {
            let out = clean(html).replace(
                "target=\"_blank\" rel=\"noopener noreferrer nofollow\"",
                "rel=\"noopener noreferrer nofollow\" target=\"_blank\"",
            );
            assert_eq!(out, expected, "{html}");
        }
    }
}
