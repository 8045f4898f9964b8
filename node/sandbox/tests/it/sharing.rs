//! internet-sharing among strangers: what a lying neighbour can change, what a lying splitter can have fetched, and what
//! hostile pages cost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use msm_protocol::{ContentHash, Refusal};
use msm_sandbox::{
    Aim, Answer, Answering, Ask, AskError, AskErrorKind, Asks, Budget, Engine, Files, Op, Package, Resources, Work,
};
use serde_json::{Value, json};

use crate::rig::{Rig, framed, frames, shipped};

const MODULES: [&str; 8] = ["bytes.js", "clean.js", "css.js", "html.js", "page.js", "parts.js", "srcset.js", "urls.js"];
const PAGE: &str = "http://e.example/";
const KEEP: &str = r#"{"mode":"page","scripts":"keep","max-bytes":4194304}"#;
const DROP: &str = r#"{"mode":"page","scripts":"drop","max-bytes":4194304}"#;
const RAW: &str = r#"{"mode":"raw","scripts":"keep","max-bytes":4194304}"#;

/// A web of a few addresses, which remembers what was fetched.
#[derive(Default)]
struct Web {
    pages: BTreeMap<String, (&'static str, Bytes)>,
    fetched: Mutex<Vec<String>>,
}

impl Web {
    fn with(pages: &[(&str, &'static str, &[u8])]) -> Arc<Self> {
        let page = |(path, kind, bytes): &(&str, &'static str, &[u8])| {
            (format!("{PAGE}{path}"), (*kind, Bytes::copy_from_slice(bytes)))
        };
        Arc::new(Self { pages: pages.iter().map(page).collect(), fetched: Mutex::default() })
    }
}

impl Resources for Web {
    fn answer(&self, ask: Ask) -> Answering {
        let body: Value = serde_json::from_slice(&ask.body).unwrap();
        let url = body["url"].as_str().unwrap_or_default().to_owned();
        let found = self.pages.get(&url).cloned();
        self.fetched.lock().unwrap().push(url.clone());
        Box::pin(async move {
            // All are open before the first is answered.
            tokio::task::yield_now().await;
            let (kind, bytes) = found.ok_or_else(|| AskError::new(AskErrorKind::Failed, "no such host"))?;
            let json = json!({"status": 200, "url": url, "headers": [["content-type", kind]]}).to_string();
            Ok(Answer { json, bytes })
        })
    }
}

/// The service as it ships.
fn service() -> Arc<Package> {
    let module = |name: &str| Bytes::from(shipped(&format!("internet-sharing/src/{name}")));
    let source = module("main.js");
    let modules: Vec<_> = MODULES.iter().map(|name| ((*name).to_owned(), module(name))).collect();
    Arc::new(Package {
        hash: ContentHash::of(format!("{modules:?}{source:?}").as_bytes()),
        engine: Engine::Js,
        source,
        files: Files { modules, assets: vec![] },
        asks: Asks { net: true, ..Asks::default() },
        work: Work::Service,
        label: "internet-sharing@1.0.0".into(),
    })
}

struct Sharing {
    rig: Rig,
    web: Arc<Web>,
    package: Arc<Package>,
}

impl Sharing {
    fn new(web: Arc<Web>) -> Self {
        let mut rig = Rig::new();
        // What service.toml says.
        rig.budget = Budget { memory: 160 << 20, time: Duration::from_secs(60), output: 8 << 20 };
        Self { rig, web, package: service() }
    }

    async fn call(&self, op: Op, params: &str, input: impl Into<Bytes>) -> Result<Bytes, Refusal> {
        let mut call = self.rig.call(&self.package, op, params, input);
        call.resources = Some(self.web.clone());
        if op == Op::Merge {
            call.budget.output = 64 << 20;
        }
        self.rig.sandbox.call(call).await.map(|output| output.bytes)
    }

    async fn split(&self, want: u32, params: &str) -> Vec<Bytes> {
        frames(&self.call(Op::Split(Aim::even(want, 1 << 30)), params, PAGE).await.unwrap())
    }

    async fn run(&self, index: u32, count: u32, params: &str, part: Bytes) -> Result<Bytes, Refusal> {
        self.call(Op::Part { index, count }, params, part).await
    }

    /// What honest neighbours bring for these parts.
    async fn brought(&self, parts: &[Bytes], params: &str) -> Vec<Bytes> {
        let mut brought = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            brought.push(self.run(index as u32, parts.len() as u32, params, part.clone()).await.unwrap());
        }
        brought
    }

    async fn merge(&self, parts: &[Bytes], params: &str) -> Result<String, Refusal> {
        self.call(Op::Merge, params, framed(parts)).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A part as the service packs it: u32 LE length, JSON, blobs.
fn packed(mut head: Value, blobs: &[&[u8]]) -> Bytes {
    if head["sizes"].is_null() {
        head["sizes"] = blobs.iter().map(|blob| blob.len()).collect();
    }
    [&headed(head.to_string().as_bytes())[..], &blobs.concat()].concat().into()
}

fn headed(head: &[u8]) -> Bytes {
    [&(head.len() as u32).to_le_bytes(), head].concat().into()
}

fn head_of(part: &Bytes) -> Value {
    let length = u32::from_le_bytes(part[..4].try_into().unwrap()) as usize;
    serde_json::from_slice(&part[4..4 + length]).unwrap()
}

const GALLERY: &[u8] = b"<!doctype html><link rel=stylesheet href=s.css><img src=1.png><img src=2.png><img src=3.png>";

fn gallery() -> Sharing {
    let png = "image/png";
    Sharing::new(Web::with(&[
        ("", "text/html", GALLERY),
        ("s.css", "text/css", b"p { color: red }"),
        ("1.png", png, b"ONE"),
        ("2.png", png, b"TWO"),
        ("3.png", png, b"SIX"),
    ]))
}

#[tokio::test]
async fn a_lying_neighbour_owns_no_more_than_was_dealt_to_it() {
    let lab = gallery();
    let parts = lab.split(2, KEEP).await;
    // 1.png and 3.png to one, 2.png to the other, which lies.
    assert_eq!(parts.len(), 3);
    let mut brought = lab.brought(&parts, KEEP).await;
    let honest = lab.merge(&brought, KEEP).await.unwrap();
    let data = |letters: &str| format!("data:image/png;base64,{letters}");
    for letters in ["T05F", "VFdP", "U0lY"] {
        assert!(honest.contains(&data(letters)), "{honest}");
    }

    let evil: &[u8] = b"EVIL";
    let one = |address: &str, kind: &str| json!({"kind": "got", "resources": [{"address": address, "type": kind}]});
    let (mine, others) = (format!("{PAGE}2.png"), [format!("{PAGE}1.png"), format!("{PAGE}s.css"), PAGE.to_owned()]);
    let mut lies = vec![
        packed(json!({"kind": "answer"}), &[evil]),
        packed(json!({"kind": "page", "at": PAGE, "resources": [], "dealt": [], "notes": []}), &[evil]),
        packed(json!({"kind": "page", "at": PAGE, "wrapped": "text/plain", "resources": [], "notes": []}), &[evil]),
        packed(one(&mine, r#"image/png"><script>EVIL</script>"#), &[evil]),
        packed(one(&mine, "image/png;charset=\"EVIL"), &[evil]),
        packed(json!({"resources": [{"address": mine, "type": ["image/png"]}]}), &[evil]),
        packed(json!({"resources": [{"address": mine, "type": "image/png"}], "sizes": [5]}), &[evil]),
        packed(json!({"resources": [{"address": mine, "type": "image/png"}], "sizes": [-1]}), &[evil]),
        packed(json!({"resources": [null, 5, {"address": {}}], "sizes": "EVIL"}), &[evil]),
        packed(json!({"resources": [{"address": mine, "error": "--><script>EVIL()</script>\n<!--"}]}), &[]),
        // Larger than any head, and deeper than any stack.
        headed(format!("{{\"sizes\":[],\"resources\":[{}{{}}]}}", "{},".repeat(2_500_000)).as_bytes()),
        headed(&[b"{\"a\":", &b"[".repeat(600_000)[..]].concat()),
        parts[0].clone(),
        Bytes::from_static(&[255, 255, 255, 0, 0x7b, 0x7b]),
        Bytes::from_static(b"EVIL EVIL"),
        Bytes::new(),
    ];
    lies.extend(others.iter().map(|address| packed(one(address, "text/css"), &[evil])));
    for lie in lies {
        let shown = String::from_utf8_lossy(&lie[..lie.len().min(120)]).into_owned();
        brought[2] = lie;
        let file = lab.merge(&brought, KEEP).await.unwrap_or_else(|refusal| panic!("{shown}: {refusal}"));
        let (note, page) = file.split_once("-->").unwrap();
        assert!(!page.contains("EVIL") && !page.contains("RVZJT"), "{shown}: {file}");
        assert!(note.contains(&mine), "it is noted that nothing came: {shown}: {file}");
        // All but its own picture is as it was.
        let expected = honest.split_once("-->").map_or(&*honest, |(_, page)| page).replace(&data("VFdP"), &mine);
        assert_eq!(page, expected, "{shown}");
    }

    // Nor does it come first with what another brings.
    let mut brought = lab.brought(&parts, KEEP).await;
    brought[1] = packed(one(&mine, "image/png"), &[evil]);
    let file = lab.merge(&brought, KEEP).await.unwrap();
    assert!(file.contains(&data("VFdP")) && !file.contains("RVZJT"), "{file}");
}

#[tokio::test]
async fn what_the_page_says_of_itself_is_checked_too() {
    let lab = gallery();
    let page = |change: Value| {
        let mut head = json!({"kind": "page", "at": PAGE, "resources": [], "dealt": [], "notes": []});
        head.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        [packed(head, &[b"<p>Text"])]
    };
    for refused in [
        json!({"at": "javascript:x"}),
        json!({"at": "http://e.example/\"><script>"}),
        json!({"wrapped": "image/png\"><script>"}),
        json!({"notes": [{"address": "--><script>", "why": "x"}]}),
        json!({"dealt": [["ftp://e.example/"]]}),
        json!({"dealt": vec![json!([]); 1000]}),
        json!({"resources": [{"address": format!("{PAGE}s.css")}]}),
        json!({"notes": null}),
    ] {
        assert!(lab.merge(&page(refused.clone()), KEEP).await.is_err(), "{refused}");
    }
    let notes = json!([{"address": PAGE, "why": "--><script>x</script>"}]);
    let odd =
        json!({"charset": "utf-8\"><script>", "notes": notes, "more": "<script>", "dealt": [[format!("{PAGE}1.png")]]});
    let file = lab.merge(&page(odd), KEEP).await.unwrap();
    assert!(!file.contains("<script") && file.ends_with("--><p>Text"), "{file}");
    // The file of what is no page, too.
    let [wrapped] = page(json!({"wrapped": "text/plain"}));
    assert!(lab.merge(&[wrapped], KEEP).await.unwrap().ends_with("<pre>&lt;p>Text</pre>"));
}

#[tokio::test]
async fn a_splitter_cannot_make_a_device_fetch_more_than_its_share() {
    let lab = gallery();
    let list = |addresses: Value| packed(json!({"kind": "list", "addresses": addresses}), &[]);
    let many = |count: usize| (0..count).map(|n| json!(format!("{PAGE}{n}.png"))).collect::<Value>();
    let long = format!("{PAGE}{}", "a".repeat(5000));
    let table = [
        (list(many(51)), 2, "at most 50"),
        (list(many(26)), 3, "at most 25"),
        (list(many(1)), 52, "at most 50"),
        (list(json!(["file:///etc/passwd"])), 2, "http"),
        (list(json!([format!("{PAGE}1.png"), "javascript:1"])), 2, "http"),
        (list(json!([long])), 2, "http"),
        (list(json!([{"href": PAGE}])), 2, "http"),
        (list(json!(PAGE)), 2, "list"),
        (packed(json!({"kind": "other"}), &[]), 2, "list"),
    ];
    for (part, count, why) in table {
        let refusal = lab.run(1, count, KEEP, part).await.unwrap_err();
        assert!(refusal.to_string().contains(why), "{count}: {refusal}");
    }
    for address in ["file:///etc/passwd", &long] {
        let part = packed(json!({"kind": "raw", "address": address}), &[]);
        assert!(lab.run(0, 1, RAW, part).await.unwrap_err().to_string().contains("http"), "{address}");
    }
    assert_eq!(*lab.web.fetched.lock().unwrap(), Vec::<String>::new());
    // Its share is fetched.
    let whole = lab.run(1, 3, KEEP, list(many(25))).await.unwrap();
    assert_eq!(head_of(&whole)["resources"].as_array().map(Vec::len), Some(25));
    assert_eq!(lab.web.fetched.lock().unwrap().len(), 25);
}

#[tokio::test]
async fn pictures_that_do_not_fit_into_a_part_stay_where_they_are() {
    let picture = vec![7; 3_500_000];
    let page = b"<!doctype html><img src=1><img src=2><img src=3><img src=4>";
    let png = |path| (path, "image/png", &picture[..]);
    let lab = Sharing::new(Web::with(&[("", "text/html", page), png("1"), png("2"), png("3"), png("4")]));
    let parts = lab.split(1, KEEP).await;
    let brought = lab.brought(&parts, KEEP).await;
    assert!(brought[1].len() <= 8 << 20, "{}", brought[1].len());
    let file = lab.merge(&brought, KEEP).await.unwrap();
    assert_eq!(file.matches("src=\"data:image/png;base64,").count(), 2);
    assert_eq!(file.matches("src=\"http://e.example/").count(), 2);
    assert_eq!(file.matches(": 3500000 bytes, there is room for").count(), 2);
}

#[tokio::test]
async fn hostile_pages_and_sheets_are_read_in_one_go() {
    // Enough for a search that goes back at each step to take longer than the minute that a call has.
    let fill = |text: &str| text.repeat(300_000 / text.len());
    let table = [
        ("comments without a type", fill("<!--a-->")),
        ("addresses in addresses", format!("<style>{}</style>", fill("url("))),
        ("an address that is far away", format!("<style>url({}x y</style>", fill(" "))),
        ("strings without an end", format!("<style>{}</style>", fill("url('\n"))),
        ("names without an end", format!("<style>{}</style>", fill("@namespace x "))),
        ("imports of nothing", format!("<style>{}</style>", fill("@import  "))),
        ("parentheses in a list", format!("<img srcset='{} ((('>", fill("a,"))),
        ("a list of brackets", format!("<img srcset='x {}'>", fill("("))),
        ("attributes", format!("<p {}>", (0..60_000).map(|n| format!("a{n} ")).collect::<String>())),
        ("tags", fill("<a b=c>")),
        ("ends", "</a>".repeat(160_000)),
        ("open tags", fill("<a ")),
        ("elements without an end", fill("<title>")),
        ("scripts in scripts", format!("<script><!--{}", fill("<script>"))),
        ("pictures", (0..30_000).map(|n| format!("<img src={n}>")).collect()),
    ];
    for (what, page) in table {
        let lab = Sharing::new(Web::with(&[("", "text/html", page.as_bytes())]));
        for params in [KEEP, DROP] {
            let parts = lab.split(1, params).await;
            let file = lab.merge(&parts[..1], params).await.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
            assert!(file.starts_with("<!-- http://e.example/ in one file"), "{what}: {file:.100}");
        }
    }
}

#[tokio::test]
async fn a_ring_of_sheets_ends() {
    // Each imports all: with many of them, the file would double with each.
    for (count, taken) in [(5, true), (20, false)] {
        let sheets: Vec<_> = (0..count).map(|n| format!("s{n}.css")).collect();
        let all = sheets.iter().map(|name| format!("@import '{name}';")).collect::<String>() + "p { color: red }";
        let mut pages = vec![("", "text/html", &b"<!doctype html><link rel=stylesheet href=s0.css>"[..])];
        pages.extend(sheets.iter().map(|name| (&**name, "text/css", all.as_bytes())));
        let lab = Sharing::new(Web::with(&pages));
        let parts = lab.split(1, KEEP).await;
        let file = lab.merge(&parts, KEEP).await.unwrap();
        assert_eq!(file.contains("href=\"data:text/css;base64,"), taken, "{}", file.len());
        assert_eq!(file.contains("s0.css: the file is full"), !taken, "{}", file.len());
        assert_eq!(lab.web.fetched.lock().unwrap().len(), count + 1, "each once");
    }
}
