//! Two projects in one service, in one browser.

use std::net::SocketAddr;
use std::sync::Arc;

use hearken_collect::parts::Parts;
use hearken_collect::{Options, Project, Projects};
use hearken_store::Store;

use crate::browser;
use crate::pairwise::shown;
use crate::service::pairs;

/// Without accounts everybody is `local` in both, and still what one page sends reaches its own project alone.
#[test]
fn a_judgement_goes_to_the_project_whose_page_it_was_made_on() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let stores: Vec<Arc<dyn Store>> = ["one", "two"]
        .iter()
        .map(|name| {
            let path = folder.path().join(format!("{name}.db")).display().to_string();
            let store: Arc<dyn Store> = Arc::from(hearken_store::open(&path).unwrap());
            store.add_items(&pairs(3)).unwrap();
            store
        })
        .collect();
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let project = |(name, store): (&str, &Arc<dyn Store>)| Project {
        name: name.into(),
        store: Arc::clone(store),
        parts: Parts::default(),
        options: Options { bind, ..Options::default() },
    };
    let projects = ["one", "two"].into_iter().zip(&stores).map(project).collect();
    let projects = Projects::new(projects).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(projects.listen()).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(projects.serve(listener, std::future::pending()));
    let page = browser.page();
    page.goto(&url);
    page.screenshot("projects");
    assert_eq!(page.violations(), Vec::<String>::new());
    page.click("a[href='/p/two/']");
    shown(&page, 1);
    page.key("1");
    shown(&page, 2);
    page.wait("document.querySelector('#progress').textContent.includes('1 in this sitting')");
    let judged = |at: usize| stores[at].counts().unwrap().judgements;
    assert_eq!((judged(0), judged(1)), (0, 1));
    page.click("nav a[href$='/label/history']");
    page.click("tbody a");
    shown(&page, 1);
    page.key("2");
    page.wait("location.pathname === '/p/two/label/history'");
    assert_eq!((judged(0), judged(1)), (0, 2));
    assert_eq!(page.problems(), Vec::<String>::new());
    runtime.shutdown_background();
}
