//! Sign-in by OpenID Connect, against a provider on this machine.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use hearken_collect::accounts::{self, Role, invitations};
use hearken_collect::{OpenId, Options};
use serde_json::{Value, json};
use support::{Answer, START, World};

/// A provider: what it says of whoever comes next, and the codes that it has given.
#[derive(Clone)]
struct Stub {
    issuer: String,
    /// What stands in the next ID token beside what has to.
    claims: Arc<Mutex<Value>>,
    /// The nonce and the challenge of each code.
    codes: Arc<Mutex<BTreeMap<String, (String, String)>>>,
}

/// Base64 for addresses, as the specification of JSON Web Tokens has it.
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            out.push(char::from(DIGITS[((bits >> (18 - 6 * digit)) & 63) as usize]));
        }
    }
    out
}

async fn configuration(State(stub): State<Stub>) -> Json<Value> {
    let issuer = &stub.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
    }))
}

async fn token(
    State(stub): State<Stub>,
    headers: HeaderMap,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<Json<Value>, StatusCode> {
    // hearken:se%2Fcret
    assert_eq!(headers[header::AUTHORIZATION], "Basic aGVhcmtlbjpzZSUyRmNyZXQ=");
    assert_eq!(fields["grant_type"], "authorization_code");
    assert!(fields["redirect_uri"].ends_with("/openid/callback"), "{fields:?}");
    let known = stub.codes.lock().unwrap().remove(&fields["code"]);
    let (nonce, challenge) = known.ok_or(StatusCode::BAD_REQUEST)?;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(fields["code_verifier"].as_bytes());
    if base64_url(&digest) != challenge {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut claims = json!({
        "iss": stub.issuer, "sub": "7", "aud": "hearken", "exp": START / 1000 + 300, "nonce": nonce,
        "preferred_username": "grace",
    });
    for (name, value) in stub.claims.lock().unwrap().as_object().unwrap() {
        claims[name] = value.clone();
    }
    let payload = base64_url(claims.to_string().as_bytes());
    Ok(Json(
        json!({"access_token": "x", "token_type": "Bearer", "id_token": format!("e30.{payload}.c2ln")}),
    ))
}

async fn provider() -> Stub {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stub = Stub {
        issuer: format!("http://{}", listener.local_addr().unwrap()),
        claims: Arc::new(Mutex::new(json!({}))),
        codes: Arc::default(),
    };
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/token", post(token))
        .with_state(stub.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    stub
}

fn world(stub: &Stub, role: Option<Role>) -> World {
    let (issuer, client_id) = (stub.issuer.clone(), "hearken".to_owned());
    let openid = OpenId { issuer, client_id, secret: "se/cret".into(), role };
    World::with(Options { openid: Some(openid), ..Options::default() }, |store| {
        let new = accounts::NewAccount {
            name: "ada",
            password: support::PASSWORD,
            role: Role::Administrator,
        };
        accounts::create(store, new, START).unwrap();
    })
}

async fn fetch(world: &World, path: &str, cookie: &str) -> Answer {
    let request = Request::builder()
        .uri(path)
        .header(header::ACCEPT, "text/html")
        .header(header::COOKIE, cookie);
    world.send(request.body(Body::empty()).unwrap()).await
}

fn query(address: &str) -> BTreeMap<String, String> {
    let (_, query) = address.split_once('?').unwrap();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(name, value)| {
            (name.to_owned(), value.replace("%2F", "/").replace("%3A", ":").replace("%20", " "))
        })
        .collect()
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// Goes to the provider and comes back signed in there; `before` are further cookies of the browser.
async fn signed_in(world: &World, stub: &Stub, start: &str, before: &str) -> Answer {
    let begun = fetch(world, start, before).await;
    assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.text());
    let asked = query(begun.header("location"));
    assert_eq!((&*asked["response_type"], &*asked["scope"]), ("code", "openid profile email"));
    assert_eq!(asked["code_challenge_method"], "S256");
    let given = (asked["nonce"].clone(), asked["code_challenge"].clone());
    stub.codes.lock().unwrap().insert("c0de".into(), given);
    let back = format!("/openid/callback?code=c0de&state={}", asked["state"]);
    fetch(world, &back, &format!("{}; {before}", cookie(&begun))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_known_to_the_provider_gets_an_account_once_and_is_signed_in() {
    let stub = provider().await;
    let world = world(&stub, Some(Role::Annotator));
    assert!(fetch(&world, "/login", "").await.text().contains("Sign in with 127.0.0.1"));
    for _ in 0..2 {
        let answer = signed_in(&world, &stub, "/openid?next=%2Fguidelines", "").await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (StatusCode::SEE_OTHER, "/guidelines")
        );
        let page = fetch(&world, "/account", &cookie(&answer)).await;
        assert!(page.text().contains("<strong>grace</strong>, annotator"), "{}", page.text());
    }
    let known = |name: &str| accounts::named(&*world.store, name).unwrap();
    assert_eq!(accounts::all(&*world.store).unwrap().len(), 2);
    // Somebody else of the same name gets another one.
    *stub.claims.lock().unwrap() = json!({"sub": "8"});
    assert_eq!(signed_in(&world, &stub, "/openid", "").await.header("location"), "/");
    assert!(known("grace 2").is_some());
    // Who was erased is nobody, and the next time somebody new.
    let pseudonym = known("grace 2").unwrap().pseudonym;
    accounts::erase(&*world.store, &pseudonym, START).unwrap();
    assert!(
        world.store.documents("openid").unwrap().iter().all(|one| one.body["account"] != pseudonym)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_role_for_all_an_invitation_or_an_account_is_needed() {
    let stub = provider().await;
    let world = world(&stub, None);
    let answer = signed_in(&world, &stub, "/openid", "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text().contains("ask an administrator for an invitation"));
    let invitation =
        invitations::create(&*world.store, Role::Reviewer, "", "a-1", START + 86_400_000).unwrap();
    let start = format!("/openid?invite={invitation}");
    assert_eq!(signed_in(&world, &stub, &start, "").await.header("location"), "/");
    let grace = accounts::named(&*world.store, "grace").unwrap().unwrap();
    assert_eq!(grace.role, Role::Reviewer);
    // The invitation was for one person.
    *stub.claims.lock().unwrap() = json!({"sub": "8"});
    assert_eq!(signed_in(&world, &stub, &start, "").await.status, StatusCode::NOT_FOUND);
    // Who is signed in by a password is from now on known to the provider.
    let ada = world.signed_in("ada").await;
    let (ada, csrf) = (ada.cookie.unwrap(), ada.csrf);
    assert_eq!(signed_in(&world, &stub, "/openid", &ada).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(fetch(&world, "/openid?link=0", &ada).await.status, StatusCode::FORBIDDEN);
    let start = format!("/openid?link={csrf}");
    assert_eq!(signed_in(&world, &stub, &start, &ada).await.status, StatusCode::SEE_OTHER);
    let answer = signed_in(&world, &stub, "/openid", "").await;
    assert!(
        fetch(&world, "/account", &cookie(&answer)).await.text().contains("<strong>ada</strong>")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_begun_here_or_is_not_meant_for_here_signs_nobody_in() {
    let stub = provider().await;
    let world = world(&stub, Some(Role::Annotator));
    let begun = fetch(&world, "/openid", "").await;
    let asked = query(begun.header("location"));
    let given = (asked["nonce"].clone(), asked["code_challenge"].clone());
    stub.codes.lock().unwrap().insert("c0de".into(), given);
    let (state, own) = (asked["state"].clone(), cookie(&begun));
    let other = cookie(&fetch(&world, "/openid", "").await);
    for (path, cookie) in [
        (format!("/openid/callback?code=c0de&state={state}"), ""),
        (format!("/openid/callback?code=c0de&state={state}"), &*other),
        ("/openid/callback?code=c0de&state=0".to_owned(), &*own),
        (format!("/openid/callback?error=access_denied&state={state}"), &*own),
        (format!("/openid/callback?code=another&state={state}"), &*own),
    ] {
        let answer = fetch(&world, &path, cookie).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    for claims in [
        json!({"nonce": "another"}),
        json!({"aud": "another"}),
        json!({"iss": "https://evil.example"}),
        json!({"exp": START / 1000 - 100}),
    ] {
        *stub.claims.lock().unwrap() = claims.clone();
        let answer = signed_in(&world, &stub, "/openid", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{claims}");
    }
    assert_eq!(accounts::all(&*world.store).unwrap().len(), 1);
}
