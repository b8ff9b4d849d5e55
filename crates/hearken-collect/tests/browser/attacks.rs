//! Texts that try to act on the page stay text.

use hearken_collect::ProjectSettings;
use hearken_collect::accounts::Role;
use hearken_data::feedback::{Candidate, Item, Media, Task};
use hearken_store::{Change, ItemChange, add_change};

use crate::browser;
use crate::cdp::Page;
use crate::pairwise::shown;
use crate::service::{PASSWORD, Running, Start, prompt};

const ATTACKS: [&str; 12] = [
    "<script>document.title = 'owned'; alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "<style>body{display:none}</style>",
    "</section></article><form action=//evil.example><button>Done</button></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "\"><script>alert(1)</script>",
    "{{ user.csrf }}{% include 'base.html' %}",
];

#[test]
fn attacks_in_prompts_answers_models_and_names_stay_text() {
    let Some(browser) = browser() else { return };
    let items = ATTACKS
        .iter()
        .map(|attack| {
            let answers = vec![
                Candidate::text(*attack).by(*attack),
                Candidate {
                    text: format!("# {attack}\n\n- {attack}\n\n`{attack}`\n\n| {attack} |\n|---|"),
                    media: vec![
                        Media { source: (*attack).into(), alt: (*attack).into() },
                        Media {
                            source: "https://evil.example/a.gif".into(),
                            alt: "\" onerror=\"alert(1)".into(),
                        },
                    ],
                    ..Candidate::default()
                },
            ];
            let mut item = Item::new(Task::Pairwise, prompt(attack), answers);
            item.id = format!("{attack}{}", item.hash());
            item
        })
        .collect();
    let people = vec![("<b onmouseover=alert(1)>boss</b>", Role::Administrator)];
    let settings =
        ProjectSettings { title: "<script>alert(1)</script>".into(), ..ProjectSettings::default() };
    let guidelines =
        "<script>alert(1)</script> ![x](https://evil.example/g.png) [x](javascript:alert(1))";
    let running = Start { settings, people, guidelines, ..Start::with(items) }.run();
    let page = browser.page();
    page.goto(&running.at("/label"));
    page.click("[name=name]");
    page.insert("<b onmouseover=alert(1)>boss</b>");
    page.click("[name=password]");
    page.insert(PASSWORD);
    page.key("Enter");
    for n in 1..=ATTACKS.len() {
        shown(&page, n);
        let strange = page.eval(
            "document.querySelectorAll('#stage script, #stage style, #stage iframe, #stage svg, #stage form:not(.cant-tell), \
             #stage a:not([href^=\"http\"]):not([href^=\"mailto:\"]):not(:not([href])), #stage img:not([src^=\"/media/\"]), #stage [onerror], #stage [onload]').length",
        );
        assert_eq!(strange, 0, "{}", page.eval("document.querySelector('#stage').innerHTML"));
        if n == 1 {
            page.screenshot("attack");
        }
        page.key("r");
        page.wait("document.activeElement.name === 'rationale'");
        page.insert(ATTACKS[n - 1]);
        page.key("Escape");
        page.wait("document.activeElement.name !== 'rationale'");
        page.key("1");
    }
    running.wait_for_judgements(ATTACKS.len());
    let pages = [
        "/label/history",
        "/guidelines",
        "/analysis",
        "/admin/items",
        "/admin/people",
        "/admin/audit",
    ];
    for path in pages {
        page.goto(&running.at(path));
        assert_eq!(page.count("main script, main iframe, main [onerror], main [onmouseover]"), 0);
    }
    review(&page, &running);
    assert_ne!(page.eval("document.title"), "owned");
    assert_eq!(page.problems(), Vec::<String>::new());
    assert_eq!(page.foreign_requests(&running.url), Vec::<String>::new());
}

/// The reviewer's page of each item, with what was said of it and a comment.
fn review(page: &Page, running: &Running) {
    page.goto(&running.at("/admin/items"));
    let items = page.eval("[...document.querySelectorAll('table.items a')].map((a) => a.href)");
    let (items, store) = (items.as_array().unwrap().clone(), &*running.store);
    assert_eq!(items.len(), ATTACKS.len());
    let named = store.items(0, ATTACKS.len()).unwrap().into_iter().map(|item| item.record.id);
    for (id, attack) in named.zip(ATTACKS) {
        let (by, change) = ("lead".to_owned(), Change::Comment(attack.into()));
        add_change(store, &ItemChange { at: 1, by, items: vec![id], change }, 0).unwrap();
    }
    // What another process has written is looked for every now and then.
    std::thread::sleep(std::time::Duration::from_secs(1));
    for item in items {
        page.goto(item.as_str().unwrap());
        page.wait("!!document.querySelector('article.item')");
        let strange = page.count(
            "main script, main style, main iframe, main [onerror], main [onload], main [onmouseover]",
        );
        assert_eq!((strange, page.count(".comment")), (0, 1), "{item}");
    }
}
