//! A guest's `net.fetch` as JSON, read and checked, and the JSON of its answer.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::{FetchError, headers};

/// What a guest may do to a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Read.
    #[default]
    Get,
    /// Read without the body.
    Head,
    /// Send.
    Post,
}

impl Method {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// A checked request; its URL is judged later, with whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// As the guest wrote it.
    pub url: String,
    /// What to do.
    pub method: Method,
    /// Names in lower case, none that the device sets.
    pub headers: Vec<(String, String)>,
    /// Body of a POST.
    pub body: Vec<u8>,
}

/// The question's JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: Option<String>,
}

impl FetchRequest {
    /// Reads the body of an `ask` for `net.fetch`.
    pub fn read(json: &[u8]) -> Result<Self, FetchError> {
        let wrong = |error: serde_json::Error| FetchError::BadRequest(error.to_string());
        let question: Question = serde_json::from_slice(json).map_err(wrong)?;
        let body = match question.body {
            None => Vec::new(),
            Some(_) if question.method != Method::Post => {
                return Err(FetchError::BadRequest("only a POST has a body".into()));
            }
            Some(text) => BASE64
                .decode(text.as_bytes())
                .map_err(|error| FetchError::BadRequest(format!("body is no base64: {error}")))?,
        };
        let headers = headers::check(&question.headers)?;
        Ok(Self { url: question.url, method: question.method, headers, body })
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The part that is JSON.
    pub head: Head,
    /// The body, without its coding.
    pub body: Vec<u8>,
    /// Bytes of body that crossed the network.
    pub wire_bytes: u64,
}

/// Status and headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// Where the last redirect led.
    pub url: String,
    /// In the order of the answer, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The JSON of an answer.
    pub fn json(&self) -> String {
        serde_json::json!({ "status": self.status, "url": self.url, "headers": self.headers }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_strictly() {
        let read = |json: &str| FetchRequest::read(json.as_bytes());
        let plain = read(r#"{"url": "http://a.example/"}"#).unwrap();
        assert_eq!((plain.method, plain.headers.len(), plain.body.len()), (Method::Get, 0, 0));
        let post = read(r#"{"url": "u", "method": "POST", "headers": {"Accept": "a"}, "body": "aGk="}"#).unwrap();
        assert_eq!((post.method, post.body.as_slice()), (Method::Post, &b"hi"[..]));
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"url": 1}"#,
            r#"{"url": "u", "method": "PUT"}"#,
            r#"{"url": "u", "method": "get"}"#,
            r#"{"url": "u", "body": "aGk="}"#,
            r#"{"url": "u", "method": "POST", "body": "aGk"}"#,
            r#"{"url": "u", "headers": {"Host": "x"}}"#,
            r#"{"url": "u", "headers": [["a", "b"]]}"#,
            r#"{"url": "u", "proxy": "x"}"#,
            "\u{0}",
            r#"{"url": "u"} x"#,
        ] {
            assert!(matches!(read(bad), Err(FetchError::BadRequest(_))), "{bad}");
        }
    }

    #[test]
    fn answers_are_what_the_contract_says() {
        let head =
            Head { status: 200, url: "http://a.example/".into(), headers: vec![("etag".into(), "\"x\"".into())] };
        assert_eq!(head.json(), r#"{"headers":[["etag","\"x\""]],"status":200,"url":"http://a.example/"}"#);
    }
}
