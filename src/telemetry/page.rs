//! The dashboard: one page without outside assets, put together from markup, style and script at compile time.
//!
//! It gets everything it shows from `/progress` and `/stations`, and sets all of it as text: payloads of dead letters and names
//! of stations are untrusted. The
//! content security policy lets only this style and this script in, by a number used once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::telemetry::http::HttpAnswer;

const MARKUP: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str =
    concat!(include_str!("page/charts.js"), include_str!("page/stations.js"), include_str!("page/script.js"));

/// The page with its policy.
pub fn answer() -> HttpAnswer {
    // The standard library's hasher is keyed by the system's random source.
    let random = || RandomState::new().hash_one(());
    let nonce = format!("{:016x}{:016x}", random(), random());
    let body = MARKUP.replace("{nonce}", &nonce).replace("{style}", STYLE).replace("{script}", SCRIPT);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HttpAnswer::page(body, policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_nothing_from_outside() {
        for text in [MARKUP, STYLE, SCRIPT] {
            for outside in ["http://", "https://", "//cdn", "@import", "url("] {
                assert!(!text.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
            }
        }
        // Either would be a way in for text that comes from outside, or against the policy.
        for risk in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "setAttribute('style"]
        {
            assert!(!SCRIPT.contains(risk), "{risk}");
        }
        assert!(!MARKUP.contains("style=") && !MARKUP.contains(" on"), "inline style or handler");
    }
}
