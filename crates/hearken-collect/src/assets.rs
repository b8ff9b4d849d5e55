//! Styles and scripts, embedded in the binary. The address of each holds its hash, so that a browser
//! keeps it for good and still gets the new one when the program changes.

use std::collections::BTreeMap;

use crate::codec;

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

/// A file of the program.
pub(crate) struct Asset {
    pub(crate) kind: &'static str,
    pub(crate) content: &'static [u8],
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
            let hash = &codec::sha256_hex(content)[..12];
            let (stem, ending) = name.rsplit_once('.').expect("invariant: assets have endings");
            let hashed = format!("{stem}.{hash}.{ending}");
            assets.addresses.insert((*name).to_owned(), format!("/assets/{hashed}"));
            assets.by_address.insert(hashed, Asset { kind, content });
        }
        assets
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
