//! Which headers a guest may send, and which it gets back.

use super::FetchError;

/// Headers of one request. *Judgement.*
pub const HEADERS: usize = 32;
/// Bytes of all their names and values. *Judgement.*
pub const HEADER_BYTES: usize = 8 * 1024;

/// Names that a guest may not set, each for a reason: they frame the message or its connection (a second request
/// smuggled in), say whom it is for, speak for somebody else, or pick the coding that the caps are counted in. Cookies
/// are refused whole: a service has no session of the owner's, and one of its own belongs into another header.
const REFUSED: [&str; 22] = [
    "accept-encoding",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-real-ip",
];
/// Beginnings of names that a guest may not set.
const REFUSED_BEGINNINGS: [&str; 3] = ["proxy-", "sec-", "x-forwarded-"];

/// Names that stay on this side: they belong to the connection, to a session, or to the coding that was taken off.
const KEPT_BACK: [&str; 14] = [
    "alt-svc",
    "clear-site-data",
    "connection",
    "content-encoding",
    "content-length",
    "keep-alive",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Checks a guest's headers; the names come back in lower case.
pub fn check<'a>(
    headers: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<(String, String)>, FetchError> {
    let mut checked: Vec<(String, String)> = Vec::new();
    let mut bytes = 0;
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let shown: String = name.chars().take(64).collect();
        bytes += name.len() + value.len();
        if checked.len() == HEADERS || bytes > HEADER_BYTES {
            let message = format!("more than {HEADERS} headers, or more than {HEADER_BYTES} bytes of them");
            return Err(FetchError::BadRequest(message));
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(FetchError::BadRequest(format!("{shown:?} is no name of a header")));
        }
        if !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return Err(FetchError::BadRequest(format!("header {shown}: only printable ASCII may stand in it")));
        }
        if REFUSED.contains(&name.as_str()) || REFUSED_BEGINNINGS.iter().any(|start| name.starts_with(start)) {
            return Err(FetchError::BadRequest(format!("header {shown} is set by the device, never by a service")));
        }
        if checked.iter().any(|(other, _)| *other == name) {
            return Err(FetchError::BadRequest(format!("header {shown} is given twice")));
        }
        checked.push((name, value.trim().to_owned()));
    }
    Ok(checked)
}

/// True for a response header that the guest may see.
pub fn is_shown(name: &str) -> bool {
    !KEPT_BACK.contains(&name) && !name.starts_with("proxy-")
}

/// True for what must not follow a redirect to another origin.
pub fn is_secret(name: &str) -> bool {
    name == "authorization" || name.contains("token") || name.contains("api-key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&str, &str)]) -> Result<Vec<(String, String)>, FetchError> {
        let owned: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        check(owned.iter().map(|(name, value)| (name, value)))
    }

    #[test]
    fn what_frames_or_forges_is_refused() {
        for name in [
            "Host",
            "host",
            "Connection",
            "Content-Length",
            "Transfer-Encoding",
            "Proxy-Authorization",
            "proxy-x",
            "Cookie",
            "Accept-Encoding",
            "X-Forwarded-For",
            "Sec-Fetch-Site",
            "Expect",
            "TE",
            "Upgrade",
            "Via",
            "Origin",
            "X-Real-IP",
        ] {
            assert!(matches!(checked(&[(name, "x")]), Err(FetchError::BadRequest(_))), "{name}");
        }
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:b", "x"),
            ("a\r\nb", "x"),
            ("a", "x\r\nHost: y"),
            ("a", "x\ny"),
            ("a", "\0"),
            ("a", "é"),
            ("ä", "x"),
        ] {
            assert!(matches!(checked(&[(name, value)]), Err(FetchError::BadRequest(_))), "{name:?} {value:?}");
        }
        assert!(checked(&[("Accept", "a"), ("accept", "b")]).is_err());
        assert_eq!(
            checked(&[("Accept", " text/html "), ("Authorization", "Bearer x")]).unwrap(),
            [("accept".into(), "text/html".into()), ("authorization".into(), "Bearer x".into())]
        );
    }

    #[test]
    fn headers_are_bounded() {
        let names: Vec<String> = (0..=HEADERS).map(|index| format!("x-{index}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(checked(&many[..HEADERS]).is_ok());
        assert!(checked(&many).is_err());
        assert!(checked(&[("x", &"v".repeat(HEADER_BYTES))]).is_err());
    }

    #[test]
    fn sessions_and_connections_stay_here() {
        for (name, expected) in [
            ("content-type", true),
            ("etag", true),
            ("location", true),
            ("x-anything", true),
            ("set-cookie", false),
            ("content-encoding", false),
            ("connection", false),
            ("proxy-authenticate", false),
        ] {
            assert_eq!(is_shown(name), expected, "{name}");
        }
    }
}
