//! Several projects in one service: what belongs to one stays there.
#![allow(clippy::unwrap_used, reason = "tests may panic and report")]

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use hearken_collect::accounts::{self, NewAccount, Role};
use hearken_collect::parts::Parts;
use hearken_collect::{Options, Project, ProjectSettings, Projects, StartError};
use hearken_store::Store;
use support::{PASSWORD, START};
use tempfile::TempDir;
use tower::ServiceExt as _;

struct Two {
    router: Router,
    stores: [Arc<dyn Store>; 2],
    _folder: TempDir,
}

fn project(name: &str, store: &Arc<dyn Store>) -> Project {
    let (parts, options) = (Parts::default(), Options::default());
    Project { name: name.into(), store: Arc::clone(store), parts, options }
}

/// "chat", whose administrator is ada, and "code", whose administrator is bob.
fn two() -> Two {
    let folder = tempfile::tempdir().unwrap();
    let store = |name: &str, admin: &str| -> Arc<dyn Store> {
        let path = folder.path().join(name).display().to_string();
        let store: Arc<dyn Store> = Arc::from(hearken_store::open(&path).unwrap());
        let new = NewAccount { name: admin, password: PASSWORD, role: Role::Administrator };
        accounts::create(&*store, new, START).unwrap();
        ProjectSettings { title: format!("About {name}"), ..ProjectSettings::default() }
            .put(&*store)
            .unwrap();
        store
    };
    let stores = [store("chat.db", "ada"), store("code.db", "bob")];
    let projects = vec![project("chat", &stores[0]), project("code", &stores[1])];
    let router = Projects::new(projects).unwrap().router();
    Two { router, stores, _folder: folder }
}

impl Two {
    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8_lossy(&body).replace("&#x2f;", "/"))
    }

    async fn get(
        &self,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().uri(path).header(header::ACCEPT, "text/html");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn sign_in(&self, project: &str, name: &str) -> (StatusCode, HeaderMap) {
        let form = format!("name={name}&password={}&next=/label", PASSWORD.replace(' ', "+"));
        let request = Request::builder()
            .method("POST")
            .uri(format!("/p/{project}/login"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form));
        let (status, headers, _) = self.send(request.unwrap()).await;
        (status, headers)
    }
}

fn location(headers: &HeaderMap) -> &str {
    headers[header::LOCATION].to_str().unwrap()
}

/// A session of one project is none of another, and every address of a page stays in its project.
#[tokio::test(flavor = "multi_thread")]
async fn people_and_pages_of_a_project_stay_there() {
    let two = two();
    let (status, headers, _) = two.get("/p/chat/label", &[]).await;
    assert_eq!(
        (status, location(&headers)),
        (StatusCode::SEE_OTHER, "/p/chat/login?next=%2Flabel")
    );
    let (status, headers) = two.sign_in("chat", "ada").await;
    assert_eq!((status, location(&headers)), (StatusCode::SEE_OTHER, "/p/chat/label"));
    let cookie = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("hearken_session_chat="), "{cookie}");
    assert_eq!(two.sign_in("code", "ada").await.0, StatusCode::UNAUTHORIZED);
    let cookie = cookie.split(';').next().unwrap();
    let (status, _, page) = two.get("/p/chat/admin/settings", &[(header::COOKIE, cookie)]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains("About chat.db") && page.contains("<meta name=\"base\" content=\"/p/chat\">")
    );
    for address in ["href=\"", "action=\"", "src=\""] {
        for (at, _) in page.match_indices(address) {
            let rest = &page[at + address.len()..];
            let is_inside = !rest.starts_with('/')
                || rest.starts_with("/p/chat/")
                || rest.starts_with("/\">Projects<");
            assert!(is_inside, "{}", &rest[..60]);
        }
    }
    let (status, headers, _) = two.get("/p/code/admin/settings", &[(header::COOKIE, cookie)]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(location(&headers).starts_with("/p/code/login"));
    let events = |store: &Arc<dyn Store>| store.events(0, 100).unwrap().len();
    assert_eq!((events(&two.stores[0]), events(&two.stores[1])), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_page_lists_the_projects_and_images_are_found_from_their_pages() {
    let two = two();
    let (status, headers, page) = two.get("/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("href=\"/p/chat/\"") && page.contains("href=\"/p/code/\""), "{page}");
    assert!(!page.contains("About"), "titles are for those who may see them");
    assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
    assert_eq!(two.get("/health", &[]).await.0, StatusCode::OK);
    let from = [(header::REFERER, "http://127.0.0.1:8080/p/code/label")];
    let (status, headers, _) = two.get("/media/a%20b/c.png", &from).await;
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(location(&headers), "/p/code/media/a%20b/c.png");
    let elsewhere =
        [(header::REFERER, "http://127.0.0.1:8080/p/other/label"), (header::ACCEPT, "image/png")];
    assert_ne!(two.get("/media/c.png", &elsewhere).await.0, StatusCode::TEMPORARY_REDIRECT);
    let (_, _, description) = two.get("/p/code/api/v1/openapi.json", &[]).await;
    assert!(description.contains("\"/p/code/api/v1\""));
    assert_eq!(two.get("/p/none/label", &[]).await.0, StatusCode::SEE_OTHER);
}

/// A browser may be signed in to several projects; the start page says to which, and as whom.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_two_projects_sees_both_and_leaves_one_without_the_other() {
    let two = two();
    let new = NewAccount { name: "ada", password: PASSWORD, role: Role::Annotator };
    accounts::create(&*two.stores[1], new, START).unwrap();
    let mut cookies = Vec::new();
    for project in ["chat", "code"] {
        let (status, headers) = two.sign_in(project, "ada").await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let cookie = headers[header::SET_COOKIE].to_str().unwrap();
        cookies.push(cookie.split(';').next().unwrap().to_owned());
    }
    let both = cookies.join("; ");
    let (_, _, page) = two.get("/", &[(header::COOKIE, &both)]).await;
    assert_eq!(page.matches("signed in as ada").count(), 2, "{page}");
    assert!(page.contains("About chat.db") && page.contains("About code.db"), "{page}");
    for project in ["chat", "code"] {
        let path = format!("/p/{project}/label");
        let (status, _, page) = two.get(&path, &[(header::COOKIE, &both)]).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("<a href=\"/\">Projects</a>"), "{page}");
    }
    let (_, _, page) = two.get("/", &[(header::COOKIE, &cookies[1])]).await;
    assert_eq!(page.matches("signed in as ada").count(), 1, "{page}");
    assert!(!page.contains("About chat.db") && page.contains("About code.db"), "{page}");
    let german = [(header::COOKIE, &*both), (header::ACCEPT_LANGUAGE, "de")];
    let (_, _, page) = two.get("/", &german).await;
    assert!(page.contains("angemeldet als ada") && page.contains("href=\"/language?to=ar\""));
    let (status, headers, _) = two.get("/language?to=ar", &[]).await;
    assert_eq!((status, location(&headers)), (StatusCode::SEE_OTHER, "/"));
    let kept = headers[header::SET_COOKIE].to_str().unwrap();
    assert!(kept.starts_with("hearken_language=ar; Path=/;"), "{kept}");
}

#[test]
fn projects_that_cannot_be_told_apart_are_refused() {
    let two = two();
    let refused = |projects: Vec<Project>| match Projects::new(projects) {
        Err(StartError::Projects(what)) => what,
        other => panic!("{other:?}"),
    };
    let of = |name: &str, store: usize| project(name, &two.stores[store]);
    assert!(refused(vec![of("a", 0), of("a", 1)]).contains("two projects are called \"a\""));
    assert!(refused(vec![of("a", 0), of("b", 0)]).contains("the same store"));
    assert!(refused(vec![of("A b", 0)]).contains("small letters"));
    assert!(refused(Vec::new()).contains("one project at least"));
}
