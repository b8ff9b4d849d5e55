//! The pages in German and in Arabic: nothing of them is left in English but what is not theirs.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use hearken_collect::ProjectSettings;
use hearken_data::feedback::{Candidate, Item, Judgement, Task, Verdict};
use hearken_data::{Message, Role};
use serde_json::{Value, json};
use support::{Answer, Browser, World};

/// What may stand beside a text of a page.
const MARKS: [char; 5] = [',', '.', ';', '·', ' '];

/// What the catalogue has in a language.
fn catalogue(code: &str) -> Vec<&'static str> {
    let lines = include_str!("../src/words.txt").lines();
    lines.filter_map(|line| line.strip_prefix(code)?.strip_prefix('\t')).collect()
}

/// Whether `text` is `words` with something in its holes.
fn is_like(text: &str, words: &str) -> bool {
    let mut literals = words.split('{').enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once('}').map_or(part, |(_, rest)| rest),
    });
    let Some(mut rest) = literals.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let literals: Vec<&str> = literals.collect();
    let Some((last, between)) = literals.split_last() else { return rest.is_empty() };
    for literal in between {
        let Some(at) = rest.find(literal) else { return false };
        rest = &rest[at + literal.len()..];
    }
    rest.ends_with(last)
}

/// The texts of a page that have words.
fn texts(html: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in html.split('<').skip(1) {
        let Some((tag, text)) = part.split_once('>') else { continue };
        let is_words = |text: &str| {
            let letters = text.chars().zip(text.chars().skip(1));
            letters.into_iter().any(|(one, next)| one.is_alphabetic() && next.is_alphabetic())
        };
        for name in ["aria-label", "title", "alt", "placeholder"] {
            let value =
                tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next());
            out.extend(value.map(str::to_owned));
        }
        out.push(text.to_owned());
        out.retain(|text| is_words(text));
    }
    let plain = |text: &String| {
        let text = text.replace("&quot;", "\"").replace("&#x27;", "'").replace("&#x2f;", "/");
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&amp;", "&")
            .trim()
            .trim_matches(MARKS)
            .trim()
            .to_owned()
    };
    out.iter().map(plain).collect()
}

/// What stands on pages and is not theirs: names of data, formats, settings and people, what people wrote.
fn is_data(text: &str) -> bool {
    const OTHERS: [&str; 6] =
        ["English", "Deutsch", "العربية", "Hearken", "quality: 1 to 5", "UTC"];
    let is_name = text.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_./:,# ".contains(&byte)
    });
    let is_one_word = is_name && !text.contains(' ');
    is_one_word
        || OTHERS.contains(&text)
        || text.contains("Zwetschge")
        || text.starts_with("hearken collect")
}

const PAGES: [&str; 15] = [
    "/label",
    "/label/history",
    "/live",
    "/guidelines",
    "/progress",
    "/account",
    "/review",
    "/admin/items",
    "/admin/people",
    "/admin/guidelines",
    "/admin/settings",
    "/admin/export?format=trl",
    "/admin/tokens",
    "/admin/webhooks",
    "/nothing",
];

/// What ada's browser gets in a language.
async fn ask(ada: &Browser<'_>, code: &str, path: &str, body: Option<Value>) -> Answer {
    let method = if body.is_some() { "POST" } else { "GET" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "text/html")
        .header(header::ACCEPT_LANGUAGE, code)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-csrf-token", &ada.csrf)
        .header(header::COOKIE, ada.cookie.as_deref().unwrap_or_default());
    let body = Body::from(body.map_or_else(String::new, |body| body.to_string()));
    ada.world.send(request.body(body).unwrap()).await
}

/// Pages and items by their names, in a language.
async fn shown(ada: &Browser<'_>, code: &str) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    for path in PAGES {
        let answer = ask(ada, code, path, None).await;
        assert!(answer.text().contains(&format!("<html lang=\"{code}\" dir=")), "{path}");
        shown.push((path.to_owned(), answer.text()));
    }
    for item in 0..3 {
        let next = ask(ada, code, "/label/next", Some(json!({"held": []}))).await.json();
        shown.push((format!("item {item}"), next["html"].as_str().unwrap().to_owned()));
        let skipped = json!({"assignment": next["assignment"]});
        let answer = ask(ada, code, "/label/skip", Some(skipped)).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
    shown.push(("/login".into(), ask(&ada.world.browser(), code, "/login", None).await.text()));
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_left_in_english() {
    let world = World::with_accounts();
    let settings = ProjectSettings {
        title: "Zwetschge".into(),
        better_answers: true,
        partial_rankings: true,
        ..ProjectSettings::default()
    };
    settings.put(&*world.store).unwrap();
    let answers = || vec![Candidate::text("Zwetschge 1"), Candidate::text("Zwetschge 2")];
    let ada = world.signed_in("ada").await;
    for code in ["de", "ar"] {
        let prompt = || vec![Message::new(Role::User, format!("Zwetschge {code}?"))];
        let tasks = [Task::Pairwise, Task::Ranking, Task::Rating];
        world.add(&tasks.map(|task| Item::new(task, prompt(), answers())));
        let words = catalogue(code);
        let is_known = |text: &str| {
            let is_one =
                |words: &&str| is_like(text, words) || is_like(text, words.trim_matches(MARKS));
            is_data(text) || words.iter().any(is_one)
        };
        let mut left = Vec::new();
        for (path, html) in shown(&ada, code).await {
            let unknown = texts(&html).into_iter().filter(|text| !is_known(text));
            left.extend(unknown.map(|text| format!("{path}: {text}")));
        }
        assert_eq!(left, Vec::<String>::new(), "in {code}");
    }
}

/// What the report says is tested beside the catalogue; here that its page has it, in the language of the one who asks.
#[tokio::test(flavor = "multi_thread")]
async fn the_analysis_is_told_in_the_language_of_the_reader() {
    let world = World::with_accounts();
    let items = support::pairs(12);
    world.add(&items);
    let said = (0..24).map(|at| {
        let who = format!("Zwetschge-{}", at / 12);
        Judgement::new(format!("j{at}"), &items[at % 12], who, Verdict::preferred(0))
    });
    world.store.add_judgements(&said.collect::<Vec<_>>()).unwrap();
    let ada = world.signed_in("ada").await;
    for (code, told) in [
        ("de", ["Wer gewinnt", "Kein Modell ist mit Sicherheit das beste", "Annotatoren"]),
        ("ar", ["من يفوز", "لا نموذج هو الأفضل", "المُقيِّمون"]),
    ] {
        let page = ask(&ada, code, "/analysis", None).await.text();
        for words in told {
            assert!(page.contains(words), "{words}: {page}");
        }
        for words in ["Who wins", "No model", "Do people agree", "judgements per item"] {
            assert!(!page.contains(words), "{words}: {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_was_chosen_is_kept_and_leads_back() {
    let world = World::local();
    let get = async |path: &str, headers: &[(header::HeaderName, &str)]| {
        let mut request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, "text/html");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let chosen = get("/language?to=ar", &[(header::REFERER, "http://localhost/guidelines")]).await;
    assert_eq!(chosen.status, StatusCode::SEE_OTHER);
    assert_eq!(chosen.headers[header::LOCATION], "/guidelines");
    let cookie = chosen.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    let page = get("/guidelines", &[(header::COOKIE, cookie.split(';').next().unwrap())]).await;
    assert!(page.text().contains("dir=\"rtl\""));
    assert!(get("/guidelines", &[]).await.text().contains("<html lang=\"en\" dir=\"ltr\">"));
    let elsewhere = get("/language?to=de", &[(header::REFERER, "https://evil.example/x")]).await;
    assert_eq!(elsewhere.headers[header::LOCATION], "/");
    assert_eq!(get("/language?to=xx", &[]).await.status, StatusCode::NOT_FOUND);
}
