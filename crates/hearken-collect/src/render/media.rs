//! Images: which may be shown, and from where.

use hearken_data::feedback::Media;
use serde::Serialize;

/// Kinds of images that may stand in a text as `data:` URLs. SVG is not among them: it is a
/// document, not a picture.
const KINDS: [&str; 7] = ["png", "jpeg", "jpg", "gif", "webp", "apng", "avif"];

/// Kinds of clips that a player shows.
const CLIPS: [&str; 2] = ["mp4", "webm"];

/// An image of an item as a page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Picture {
    /// Its address; `None` where it may not be shown.
    url: Option<String>,
    /// Whether it is a clip that a player shows.
    video: bool,
    /// What a reader who cannot see it is told.
    alt: String,
}

/// The images of an item or a candidate.
pub(crate) fn pictures(media: &[Media]) -> Vec<Picture> {
    let picture = |one: &Media| {
        let url = address(&one.source);
        Picture { video: url.as_deref().is_some_and(is_video), url, alt: one.alt.clone() }
    };
    media.iter().map(picture).collect()
}

/// Whether what is at an address is a clip that a player shows.
pub(super) fn is_video(address: &str) -> bool {
    match address.strip_prefix("data:") {
        Some(data) => data.starts_with("video/"),
        None => address.rsplit_once('.').is_some_and(|(_, ending)| {
            CLIPS.iter().any(|known| ending.eq_ignore_ascii_case(known))
        }),
    }
}

/// The address under which the service shows an image: a `data:` URL of a known kind as it is, a
/// relative path under `/media/`. `None` for other hosts, other schemes and paths that climb.
pub(super) fn address(source: &str) -> Option<String> {
    if source.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return is_picture_data(source).then(|| source.to_owned());
    }
    path(source).map(|path| format!("/media/{}", crate::codec::percent(path)))
}

/// The path below the folder of images that a source means; `None` for what is no such path.
pub(crate) fn path(source: &str) -> Option<&str> {
    let path = source.strip_prefix("/media/").unwrap_or(source);
    let path = path.strip_prefix("./").unwrap_or(path);
    let climbs = path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    let foreign = path.contains([':', '\\', '\0']) || path.chars().any(char::is_control);
    (!climbs && !foreign).then_some(path)
}

fn is_picture_data(source: &str) -> bool {
    let Some((kind, data)) = source[5..].split_once(";base64,") else { return false };
    let known = kind.strip_prefix("image/").is_some_and(|kind| KINDS.contains(&kind))
        || kind.strip_prefix("video/").is_some_and(|kind| CLIPS.contains(&kind));
    known && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn own_images_and_images_in_the_text_have_an_address() {
        assert_eq!(address("cat.png").unwrap(), "/media/cat.png");
        assert_eq!(address("./clips/run 1.gif").unwrap(), "/media/clips/run%201.gif");
        assert_eq!(address("/media/cat.png").unwrap(), "/media/cat.png");
        assert_eq!(address("a?b#c\"d").unwrap(), "/media/a%3Fb%23c%22d");
        let data = "data:image/png;base64,iVBORw0KGgo=";
        assert_eq!(address(data).unwrap(), data);
    }

    #[test]
    fn other_hosts_scripts_and_climbing_paths_have_none() {
        for source in [
            "https://example.org/cat.png",
            "//example.org/cat.png",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "../secret.png",
            "clips/../../secret.png",
            "/etc/passwd",
            "\\\\host\\share",
            "data:text/html;base64,PHNjcmlwdD4=",
            "data:image/svg+xml;base64,PHN2Zz4=",
            "data:image/svg+xml,<svg onload=alert(1)>",
            "data:image/png;base64,\" onerror=\"alert(1)",
            "",
        ] {
            assert_eq!(address(source), None, "{source}");
        }
    }
}
