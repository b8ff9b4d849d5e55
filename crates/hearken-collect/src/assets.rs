//! Styles and scripts, embedded in the binary. The address of each holds its hash, so that a browser
//! keeps it for good and still gets the new one when the program changes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::codec;
use crate::language::Language;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of every asset.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("style.css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    ("label.css", "text/css; charset=utf-8", include_bytes!("assets/label.css")),
    ("lead.css", "text/css; charset=utf-8", include_bytes!("assets/lead.css")),
    ("page.js", SCRIPT, include_bytes!("assets/page.js")),
    ("wire.js", SCRIPT, include_bytes!("assets/wire.js")),
    ("tasks.js", SCRIPT, include_bytes!("assets/tasks.js")),
    ("label.js", SCRIPT, include_bytes!("assets/label.js")),
    ("live.js", SCRIPT, include_bytes!("assets/live.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
];

/// Scripts whose words are in the catalogue.
pub(crate) const SCRIPTS: [&str; 5] = [
    include_str!("assets/page.js"),
    include_str!("assets/wire.js"),
    include_str!("assets/tasks.js"),
    include_str!("assets/label.js"),
    include_str!("assets/live.js"),
];

/// A file of the program.
pub(crate) struct Asset {
    pub(crate) kind: &'static str,
    pub(crate) content: Cow<'static, [u8]>,
}

/// The assets by the last part of their address.
pub(crate) struct Assets {
    by_address: BTreeMap<String, Asset>,
    addresses: BTreeMap<String, String>,
}

impl Assets {
    pub(crate) fn new() -> Self {
        let mut assets = Self { by_address: BTreeMap::new(), addresses: BTreeMap::new() };
        for (name, kind, content) in ASSETS {
            assets.add(name, Asset { kind, content: Cow::Borrowed(content) });
        }
        for language in Language::ALL {
            let content = Cow::Owned(language.script(&SCRIPTS).into_bytes());
            assets.add(&format!("words.{}.js", language.code()), Asset { kind: SCRIPT, content });
        }
        assets
    }

    fn add(&mut self, name: &str, asset: Asset) {
        let hash = &codec::sha256_hex(&asset.content)[..12];
        let (stem, ending) = name.rsplit_once('.').expect("invariant: assets have endings");
        let hashed = format!("{stem}.{hash}.{ending}");
        self.addresses.insert(name.to_owned(), format!("/assets/{hashed}"));
        self.by_address.insert(hashed, asset);
    }

    /// The asset with this last part of its address.
    pub(crate) fn get(&self, name: &str) -> Option<&Asset> {
        self.by_address.get(name)
    }

    /// The address of each asset by its name.
    pub(crate) fn addresses(&self) -> BTreeMap<String, String> {
        self.addresses.clone()
    }
}
