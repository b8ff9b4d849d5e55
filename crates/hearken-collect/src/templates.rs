//! The pages, embedded in the binary.

use hearken_data::calendar;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, context};

use crate::assets::Assets;
use crate::language::Language;

/// Every template by its name.
pub(crate) const TEMPLATES: &[(&str, &str)] = &[
    ("base.html", include_str!("templates/base.html")),
    ("error.html", include_str!("templates/error.html")),
    ("login.html", include_str!("templates/login.html")),
    ("invite.html", include_str!("templates/invite.html")),
    ("reset.html", include_str!("templates/reset.html")),
    ("account.html", include_str!("templates/account.html")),
    ("projects.html", include_str!("templates/projects.html")),
    ("progress.html", include_str!("templates/progress.html")),
    ("guidelines.html", include_str!("templates/guidelines.html")),
    ("label.html", include_str!("templates/label.html")),
    ("label_bulk.html", include_str!("templates/label_bulk.html")),
    ("keys.html", include_str!("templates/keys.html")),
    ("label_item.html", include_str!("templates/label_item.html")),
    ("label_history.html", include_str!("templates/label_history.html")),
    ("review.html", include_str!("templates/review.html")),
    ("review_item.html", include_str!("templates/review_item.html")),
    ("live.html", include_str!("templates/live.html")),
    ("analysis.html", include_str!("templates/analysis.html")),
    ("rounds.html", include_str!("templates/rounds.html")),
    ("admin/items.html", include_str!("templates/admin/items.html")),
    ("admin/people.html", include_str!("templates/admin/people.html")),
    ("admin/guidelines.html", include_str!("templates/admin/guidelines.html")),
    ("admin/settings.html", include_str!("templates/admin/settings.html")),
    ("admin/audit.html", include_str!("templates/admin/audit.html")),
    ("admin/export.html", include_str!("templates/admin/export.html")),
    ("admin/tokens.html", include_str!("templates/admin/tokens.html")),
    ("admin/webhooks.html", include_str!("templates/admin/webhooks.html")),
];

/// The templates with what they may call: `base` is where the project is, `asset(name)` gives the address of a file of the program,
/// the filter `date` a time in UTC, the filter `count` an integer with thin spaces.
///
/// `lang` and `dir` say in which language they are and how it is written, the filter `t` puts words into it.
pub(crate) fn environment(language: Language, assets: &Assets, base: &str) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("invariant: the delimiters are the usual ones"));
    for (name, source) in TEMPLATES {
        environment
            .add_template_owned(*name, language.template(source))
            .expect("invariant: embedded templates parse");
    }
    let addresses = assets.addresses();
    environment.add_global("base", base.to_owned());
    environment.add_global("lang", language.code());
    environment.add_global("dir", language.direction());
    let languages = Language::ALL.map(|one| context! { code => one.code(), name => one.name() });
    environment.add_global("languages", languages.to_vec());
    environment.add_filter("t", move |english: String| language.words(&english).into_owned());
    let base = base.to_owned();
    environment.add_function("asset", move |name: String| -> Result<String, minijinja::Error> {
        addresses.get(&name).map(|address| format!("{base}{address}")).ok_or_else(|| {
            let kind = minijinja::ErrorKind::InvalidOperation;
            minijinja::Error::new(kind, format!("there is no asset {name:?}"))
        })
    });
    environment.add_filter("date", |at: i64| calendar::date_and_minute(at));
    environment.add_filter("count", |number: u64| grouped(number));
    environment
}

/// `1234567` as `1 234 567`, with thin spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for language in Language::ALL {
            environment(language, &Assets::new(), "");
        }
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
