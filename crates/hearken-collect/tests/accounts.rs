//! Accounts, roles, sessions, forged requests, limits, erasure: through the whole router.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use hearken_collect::accounts::{self, Role};
use hearken_collect::parts::Parts;
use hearken_collect::{Media, Options, Service, StartError};
use hearken_data::feedback::{Judgement, Verdict};
use support::{PASSWORD, World, pair};

#[tokio::test]
async fn pages_lead_to_the_sign_in_and_back() {
    let world = World::with_accounts();
    let mut browser = world.browser();
    let answer = browser.get("/admin/people?x=1").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.header("location"), "/login?next=%2Fadmin%2Fpeople%3Fx%3D1");
    let form = [("name", "ADA"), ("password", PASSWORD), ("next", "/admin/people?x=1")];
    let answer = browser.post("/login", &form).await;
    assert_eq!(answer.header("location"), "/admin/people?x=1");
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert_eq!(browser.get("/admin/people").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_told_apart_by_nothing() {
    let world = World::with_accounts();
    let mut pages = Vec::new();
    for name in ["ada", "nobody"] {
        let form = [("name", name), ("password", "wrong wrong wrong"), ("next", "/")];
        let answer = world.browser().post("/login", &form).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        pages.push(answer.text().replace(name, "NAME"));
    }
    assert_eq!(pages[0], pages[1]);
}

#[tokio::test]
async fn guessing_passwords_is_stopped() {
    let world = World::with_accounts();
    let mut browser = world.browser();
    let form = [("name", "ada"), ("password", "wrong wrong wrong"), ("next", "/")];
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(browser.post("/login", &form).await.status);
    }
    assert_eq!(statuses[..10], [StatusCode::UNAUTHORIZED; 10]);
    assert!(statuses[10..].contains(&StatusCode::TOO_MANY_REQUESTS), "{statuses:?}");
    let right = [("name", "ada"), ("password", PASSWORD), ("next", "/")];
    let refused = browser.post("/login", &right).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn a_stranger_who_guesses_locks_nobody_out() {
    let world = World::with_accounts();
    let attempt = |address: [u8; 4], password: &str| {
        let form = format!("name=ada&password={}&next=%2F", password.replace(' ', "+"));
        let mut request = Request::post("/login")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form))
            .unwrap();
        let peer = ConnectInfo(SocketAddr::from((address, 4711)));
        request.extensions_mut().insert(peer);
        world.send(request)
    };
    for _ in 0..10 {
        let refused = attempt([10, 0, 0, 66], "wrong wrong wrong").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    }
    let stopped = attempt([10, 0, 0, 66], PASSWORD).await;
    assert_eq!(stopped.status, StatusCode::TOO_MANY_REQUESTS);
    let owner = attempt([10, 0, 0, 7], PASSWORD).await;
    assert_eq!(owner.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn people_sign_in_from_the_first_administrator_on() {
    let world = World::local();
    let mut browser = world.browser();
    assert_eq!(browser.get("/label").await.status, StatusCode::OK);
    world.account("ada", Role::Administrator);
    world.pass(3_000);
    let asked = browser.get("/label").await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER);
    assert_eq!(asked.header("location"), "/login?next=%2Flabel");
    assert_eq!(world.signed_in("ada").await.get("/label").await.status, StatusCode::OK);
}

#[tokio::test]
async fn each_role_sees_what_it_may() {
    let world = World::with_accounts();
    for role in [Role::Reviewer, Role::Annotator, Role::Viewer] {
        world.account(role.as_str(), role);
    }
    let pages =
        ["/guidelines", "/label", "/progress", "/analysis", "/admin/export", "/admin/settings"];
    for (name, allowed) in [
        ("ada", [true, true, true, true, true, true]),
        ("reviewer", [true, true, true, true, true, false]),
        ("annotator", [true, true, false, false, false, false]),
        ("viewer", [true, false, true, true, false, false]),
    ] {
        let mut browser = world.signed_in(name).await;
        for (page, allowed) in pages.iter().zip(allowed) {
            let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(browser.get(page).await.status, expected, "{name} at {page}");
        }
    }
}

#[tokio::test]
async fn a_form_without_the_token_of_its_session_changes_nothing() {
    let world = World::with_accounts();
    world.account("bob", Role::Administrator);
    let mut ada = world.signed_in("ada").await;
    let bob = world.signed_in("bob").await;
    for token in ["", "00", &bob.csrf] {
        let form = [("csrf", token), ("text", "forged"), ("after", "0")];
        let answer = ada.post("/admin/guidelines", &form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{token:?}");
    }
    assert!(world.store.documents("guidelines").unwrap().is_empty());
    let answer = ada.post("/admin/guidelines", &[("text", "real"), ("after", "0")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text());
    assert_eq!(world.store.documents("guidelines").unwrap().len(), 1);
}

#[tokio::test]
async fn json_needs_the_token_as_a_header() {
    let world = World::local();
    let mut browser = world.browser();
    browser.learn().await;
    for (token, expected) in
        [(None, StatusCode::FORBIDDEN), (Some(browser.csrf.clone()), StatusCode::OK)]
    {
        let mut request = Request::post("/label/next").header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("x-csrf-token", token);
        }
        let answer = world.send(request.body(Body::from(r#"{"held": []}"#)).unwrap()).await;
        assert_eq!(answer.status, expected, "{}", answer.text());
    }
}

#[tokio::test]
async fn pages_of_other_sites_and_other_names_are_refused() {
    let world = World::local();
    let rebound = Request::get("/guidelines").header("host", "evil.example:8080");
    let answer = world.send(rebound.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let own = Request::get("/guidelines").header("host", "localhost:8080");
    assert_eq!(world.send(own.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
    let foreign = Request::post("/login")
        .header("host", "localhost:8080")
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = world.send(foreign.body(Body::from("name=a&password=b")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn an_invitation_makes_one_account_of_its_role() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    let page = ada.post("/admin/people/invite", &[("role", "viewer"), ("days", "7")]).await.text();
    let (_, rest) = page.split_once("/invite/").expect("a link");
    let path = format!("/invite/{}", &rest[..64]);
    let mut guest = world.browser();
    assert!(guest.get(&path).await.text().contains("viewer"));
    let short = [("name", "vera"), ("password", "short"), ("again", "short")];
    let answer = guest.post(&path, &short).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().contains("at least 10 characters"));
    let taken = [("name", "Ada"), ("password", PASSWORD), ("again", PASSWORD)];
    assert_eq!(guest.post(&path, &taken).await.status, StatusCode::CONFLICT);
    let good = [("name", "vera"), ("password", PASSWORD), ("again", PASSWORD)];
    assert_eq!(guest.post(&path, &good).await.status, StatusCode::SEE_OTHER);
    assert_eq!(guest.get("/progress").await.status, StatusCode::OK);
    assert_eq!(guest.get("/label").await.status, StatusCode::FORBIDDEN);
    // Once.
    let again = [("name", "vito"), ("password", PASSWORD), ("again", PASSWORD)];
    assert_eq!(world.browser().post(&path, &again).await.status, StatusCode::NOT_FOUND);
    assert!(accounts::named(&*world.store, "vito").unwrap().is_none());
}

#[tokio::test]
async fn invitations_and_sessions_expire() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    let page = ada.post("/admin/people/invite", &[("role", "viewer"), ("days", "1")]).await.text();
    let path = format!("/invite/{}", &page.split_once("/invite/").unwrap().1[..64]);
    world.pass(86_400_000 + 1);
    assert_eq!(world.browser().get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ada.get("/account").await.status, StatusCode::OK);
    world.pass(14 * 86_400_000);
    assert_eq!(ada.get("/account").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_session() {
    let world = World::with_accounts();
    let mut first = world.signed_in("ada").await;
    let mut second = world.signed_in("ada").await;
    assert_eq!(first.post("/logout/everywhere", &[]).await.status, StatusCode::SEE_OTHER);
    for browser in [&mut first, &mut second] {
        assert_eq!(browser.get("/account").await.status, StatusCode::SEE_OTHER);
    }
    assert!(world.store.documents("session").unwrap().is_empty());
}

#[tokio::test]
async fn a_new_password_ends_other_sessions() {
    let world = World::with_accounts();
    let mut here = world.signed_in("ada").await;
    let mut elsewhere = world.signed_in("ada").await;
    let new = "another horse entirely";
    let form = [("password", PASSWORD), ("new", new), ("again", new)];
    assert_eq!(here.post("/account/password", &form).await.status, StatusCode::SEE_OTHER);
    assert_eq!(here.get("/account").await.status, StatusCode::OK);
    assert_eq!(elsewhere.get("/account").await.status, StatusCode::SEE_OTHER);
    let old = [("name", "ada"), ("password", PASSWORD), ("next", "/")];
    assert_eq!(world.browser().post("/login", &old).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn erasing_leaves_the_judgements_and_nothing_of_the_person() {
    let world = World::with_accounts();
    let pseudonym = world.account("Zoltan Example", Role::Annotator);
    world.add(&[pair("one")]);
    let judgement = Judgement::new("j", &pair("one"), &pseudonym, Verdict::preferred(0));
    world.store.add_judgements(std::slice::from_ref(&judgement)).unwrap();
    let mut zoltan = world.signed_in("Zoltan Example").await;
    let mut ada = world.signed_in("ada").await;
    let form = [("key", pseudonym.as_str()), ("again", pseudonym.as_str())];
    assert_eq!(ada.post("/admin/people/erase", &form).await.status, StatusCode::SEE_OTHER);
    assert_eq!(zoltan.get("/account").await.status, StatusCode::SEE_OTHER);
    assert_eq!(world.store.judgement("j").unwrap(), Some(judgement));
    for kind in ["account", "name", "session", "invitation", "project", "token"] {
        let documents = world.store.documents(kind).unwrap();
        let text = format!("{documents:?}").to_lowercase();
        assert!(!text.contains("zoltan"), "{kind}: {text}");
    }
    let log = format!("{:?}", world.store.events(0, 1000).unwrap());
    assert!(log.contains("account.erased") && !log.to_lowercase().contains("zoltan"), "{log}");
    let login = [("name", "Zoltan Example"), ("password", PASSWORD), ("next", "/")];
    assert_eq!(world.browser().post("/login", &login).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let world = World::with_accounts();
    let pseudonym = accounts::all(&*world.store).unwrap()[0].pseudonym.clone();
    let mut ada = world.signed_in("ada").await;
    let erase = [("key", pseudonym.as_str()), ("again", pseudonym.as_str())];
    assert_eq!(ada.post("/admin/people/erase", &erase).await.status, StatusCode::CONFLICT);
    let demote = [("key", pseudonym.as_str()), ("role", "viewer")];
    assert_eq!(ada.post("/admin/people/role", &demote).await.status, StatusCode::CONFLICT);
    assert_eq!(ada.get("/admin/people").await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_and_passwords_lie_in_the_store_as_hashes() {
    let world = World::with_accounts();
    let ada = world.signed_in("ada").await;
    let session = ada.cookie.clone().unwrap();
    let secret = session.split('=').nth(1).unwrap();
    for kind in ["session", "account", "token"] {
        let text = format!("{:?}", world.store.documents(kind).unwrap());
        assert!(!text.contains(secret) && !text.contains(PASSWORD), "{kind}");
    }
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let world = World::local();
    for path in ["/guidelines", "/nowhere", "/api/v1/items", "/login"] {
        let answer = world.browser().get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
    }
}

/// Nothing in a page runs or styles by itself: the policy would refuse it.
#[tokio::test]
async fn pages_have_no_inline_scripts_or_styles() {
    let world = World::local();
    world.add(&[pair("one")]);
    let mut browser = world.browser();
    for path in [
        "/label",
        "/guidelines",
        "/progress",
        "/analysis",
        "/account",
        "/review",
        "/review/item?id=one",
        "/admin/items",
        "/admin/people",
        "/admin/guidelines",
        "/admin/settings",
        "/admin/export?format=trl",
        "/admin/tokens",
        "/admin/webhooks",
        "/admin/audit",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let page = answer.text();
        assert!(!page.contains("<style") && !page.contains(" style="), "{path}");
        assert!(!page.contains(" onclick=") && !page.contains("<script>"), "{path}");
        assert!(page.contains("lang=\"en\"") && page.contains("<main id=\"main\""), "{path}");
        assert_eq!(page.matches("<h1").count(), 1, "{path}");
    }
}

#[tokio::test]
async fn cookies_are_secure_behind_tls() {
    let options =
        Options { public_url: Some("https://label.example".into()), ..Options::default() };
    let world = World::with(options, |store| {
        let role = Role::Administrator;
        let new = accounts::NewAccount { name: "ada", password: PASSWORD, role };
        accounts::create(store, new, support::START).unwrap();
    });
    let form = [("name", "ada"), ("password", PASSWORD), ("next", "/")];
    let answer = world.browser().post("/login", &form).await;
    assert!(answer.header("set-cookie").ends_with("; Secure"));
    assert!(!answer.header("strict-transport-security").is_empty());
}

#[tokio::test]
async fn a_service_that_others_reach_needs_an_administrator() {
    let bind = "0.0.0.0:0".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db").display().to_string();
    let store: std::sync::Arc<dyn hearken_store::Store> =
        std::sync::Arc::from(hearken_store::open(&path).unwrap());
    let proxied = |url: &str| Options { public_url: Some(url.into()), ..Options::default() };
    let options = Options { bind, ..Options::default() };
    for options in [options.clone(), proxied("https://label.example.org")] {
        let refused = Service::new(store.clone(), options, Parts::default()).unwrap_err();
        assert!(matches!(refused, StartError::NoAccounts { .. }));
        let message = refused.to_string();
        assert!(message.contains("--add-admin NAME"), "{message}");
    }
    let own = proxied("http://localhost:9000/");
    assert!(!Service::new(store.clone(), own, Parts::default()).unwrap().has_accounts());
    let new = accounts::NewAccount { name: "ada", password: PASSWORD, role: Role::Administrator };
    accounts::create(&*store, new, 0).unwrap();
    assert!(Service::new(store, options, Parts::default()).unwrap().has_accounts());
}

#[tokio::test]
async fn media_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let media = folder.path().join("media");
    std::fs::create_dir(&media).unwrap();
    std::fs::write(media.join("a.gif"), b"GIF89a").unwrap();
    std::fs::write(media.join("page.html"), b"<script>").unwrap();
    std::fs::write(folder.path().join("secret.gif"), b"GIF89a").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret.gif"), media.join("link.gif")).unwrap();
    let options = Options { media: Some(Media::Folder(media)), ..Options::default() };
    let world = World::with(options, |_| ());
    let mut browser = world.browser();
    let answer = browser.get("/media/a.gif").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "image/gif"));
    for path in [
        "/media/../secret.gif",
        "/media/%2e%2e/secret.gif",
        "/media/..%2Fsecret.gif",
        "/media/link.gif",
        "/media/page.html",
        "/media/%00.gif",
        "/media//etc/x.gif",
    ] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_class_is_invited_at_once_and_by_the_address_that_the_lead_used() {
    let world = World::with_accounts();
    let mut ada = world.signed_in("ada").await;
    let form = [("role", "annotator"), ("days", "7"), ("count", "3"), ("csrf", &*ada.csrf.clone())];
    let fields: Vec<String> = form.map(|(name, value)| format!("{name}={value}")).to_vec();
    let request = Request::post("/admin/people/invite")
        .header("host", "label.lan:8080")
        .header("cookie", ada.cookie.clone().unwrap())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(fields.join("&")))
        .unwrap();
    let page = world.send(request).await.text();
    assert_eq!(page.matches("http://label.lan:8080/invite/").count(), 3, "{page}");
    assert_eq!(world.store.documents("invitation").unwrap().len(), 3);
    let form = [("role", "annotator"), ("days", "7"), ("count", "101")];
    let refused = ada.post("/admin/people/invite", &form).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
}
