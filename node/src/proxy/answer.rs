//! The service's answer in raw mode, an HTTP message, as an answer for the browser.

use bytes::Bytes;
use url::Url;

/// Headers that belong to one connection, or that are said anew.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "content-location",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Bytes of status line and headers; a fetch gives at most 64 KiB of them.
const HEAD_BYTES: usize = 80 * 1024;

/// What the server far away said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Where the answer came from in the end.
    pub found: Option<Url>,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// Reads what a worker sent: it may be anything. `None` for what is no such message.
    pub fn read(bytes: &Bytes) -> Option<Self> {
        let head_end = bytes.get(..HEAD_BYTES.min(bytes.len()))?.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..head_end)?).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ');
        let status = (words.next()? == "HTTP/1.1").then(|| words.next()?.parse::<u16>().ok())??;
        let (mut headers, mut found) = (Vec::new(), None);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let (name, value) = (name.to_ascii_lowercase(), value.trim());
            if name == "content-location" {
                found = Url::parse(value).ok();
            }
            if !OURS.contains(&name.as_str()) {
                headers.push((name, value.to_owned()));
            }
        }
        // No 1xx, and no 101: nothing is switched here.
        (200..600).contains(&status).then(|| Self { status, headers, found, body: bytes.slice(head_end + 4..) })
    }

    /// Where a browser must go instead, because relative addresses in the page start there. `gateway` is our own
    /// address: a browser that asks for https without a tunnel gets the page from there.
    pub fn elsewhere(&self, asked: &Url, gateway: &str) -> Option<String> {
        let found = self.found.as_ref().filter(|found| *found != asked)?;
        match found.scheme() {
            "http" => Some(found.to_string()),
            "https" => Some(format!("http://{gateway}/{found}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Message> {
        Message::read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn messages_are_read_and_cleaned() {
        let message = read(
            "HTTP/1.1 404 \r\nContent-Type: text/html\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\
             content-location: http://a.example/b\r\ncontent-length: 5\r\n\r\nhello",
        )
        .unwrap();
        assert_eq!((message.status, message.body.as_ref()), (404, &b"hello"[..]));
        assert_eq!(message.headers, [("content-type".to_owned(), "text/html".to_owned())]);
        assert_eq!(message.found, Some(Url::parse("http://a.example/b").unwrap()));
        for bad in [
            "",
            "hello",
            "HTTP/1.1 200 \r\n",
            "HTTP/1.0 200 \r\n\r\n",
            "HTTP/1.1 abc \r\n\r\n",
            "HTTP/1.1 101 \r\n\r\n",
            "HTTP/1.1 600 \r\n\r\n",
            "HTTP/1.1 200 \r\nno colon\r\n\r\n",
            &format!("HTTP/1.1 200 \r\na: {}\r\n\r\n", "x".repeat(HEAD_BYTES)),
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn who_was_led_elsewhere_goes_there() {
        let asked = Url::parse("http://a.example/").unwrap();
        for (found, expected) in [
            ("http://a.example/", None),
            ("http://a.example/b/", Some("http://a.example/b/")),
            ("https://a.example/", Some("http://127.0.0.1:7481/https://a.example/")),
            ("file:///etc/passwd", None),
        ] {
            let message = read(&format!("HTTP/1.1 200 \r\ncontent-location: {found}\r\n\r\n")).unwrap();
            assert_eq!(message.elsewhere(&asked, "127.0.0.1:7481").as_deref(), expected, "{found}");
        }
    }
}
