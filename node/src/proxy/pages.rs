//! The proxy's own pages: what it is, why there is no tunnel, and what went wrong.

use crate::command::{CommandError, ErrorCode};

/// A page of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPage {
    /// The HTTP status.
    pub status: u16,
    /// The page.
    pub html: String,
}

fn page(status: u16, title: &str, body: &str) -> OwnPage {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}\
         code{{background:#eee;padding:.1em .3em}}</style><h1>{title}</h1>{body}</html>\n"
    );
    OwnPage { status, html }
}

/// Text in a page.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// What this is; `gateway` is its own address.
pub fn help(gateway: &str) -> OwnPage {
    let body = format!(
        "<p>Pages that your neighbours' devices fetch for you.</p><ul>\
         <li>As your browser's HTTP proxy: <code>{gateway}</code>. It serves <code>http://</code> pages.</li>\
         <li>For any page, with everything in one file: <code>http://{gateway}/https://example.org/</code></li></ul>\
         <p>Whoever fetches a page sees its address and what it says. Nothing is kept here.</p>"
    );
    page(200, "msm proxy", &body)
}

/// Why there is no tunnel to `host`.
pub fn tunnel(host: &str, gateway: &str) -> OwnPage {
    let host = escaped(&host.chars().take(253).collect::<String>());
    let body = format!(
        "<p>A secure connection is between your browser and <code>{host}</code>: nobody on the way can read it, so no \
         neighbour can fetch the page for you piece by piece, and a neighbour that carried the bytes would carry \
         anything for anybody.</p><p>A device may fetch the page for you instead, and read it on the way: \
         <a href=\"http://{gateway}/https://{host}/\">http://{gateway}/https://{host}/</a></p>"
    );
    page(501, "No tunnels", &body)
}

/// Why a request was not carried out.
pub fn refused(why: super::asked::Refused, gateway: &str) -> OwnPage {
    use super::asked::Refused;
    let gateway_line = format!("<p>The way in: <code>http://{gateway}/https://example.org/</code></p>");
    match why {
        Refused::Method => page(405, "Only GET and HEAD", "<p>Neighbours fetch pages; they send nothing for you.</p>"),
        Refused::Host => {
            page(421, "Not this host", "<p>This address is served under this machine's own names only.</p>")
        }
        Refused::Site => {
            page(403, "Not for other pages", "<p>Another site's page may not have pages fetched here.</p>")
        }
        Refused::Address => page(404, "No such address", &gateway_line),
    }
}

/// Too many at once.
pub fn busy(most: usize) -> OwnPage {
    page(503, "Busy", &format!("<p>{most} pages are on their way already. Try again in a moment.</p>"))
}

/// A worker's answer that is none.
pub fn garbled() -> OwnPage {
    page(502, "Garbled", "<p>What came back from the neighbour is no page.</p>")
}

/// Why the job failed.
pub fn failed(error: &CommandError) -> OwnPage {
    let status = match error.code {
        ErrorCode::Deadline => 504,
        ErrorCode::NotFound | ErrorCode::NoNode | ErrorCode::NoDevice => 503,
        ErrorCode::NotAllowed => 403,
        _ => 502,
    };
    let lines: String = error.r#try.iter().map(|line| format!("<p>try: <code>{}</code></p>", escaped(line))).collect();
    page(status, "No page", &format!("<p>{}</p>{lines}", escaped(&error.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_becomes_markup() {
        let error = CommandError::new(ErrorCode::ServiceFailed, "<script>alert(1)</script>").or_try("msm show x");
        let shown = failed(&error);
        assert_eq!(shown.status, 502);
        assert!(!shown.html.contains("<script") && shown.html.contains("&lt;script"), "{}", shown.html);
        let shown = tunnel("\"><script>", "127.0.0.1:1");
        assert!(!shown.html.contains("<script>"), "{}", shown.html);
        assert!(tunnel("example.org", "127.0.0.1:1").html.contains("href=\"http://127.0.0.1:1/https://example.org/\""));
    }
}
