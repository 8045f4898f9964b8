//! Pages from the internet for a device that has none: its neighbours fetch them, and what it gets looks the same.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use image::RgbaImage;
use msm_testnet::{
    binary::repository,
    browser,
    market::{Market, text},
    net::{Net, PUBLIC},
    node::Node,
    wait,
    website::Website,
};
use serde_json::Value;

/// Longer than any neighbour takes to be found.
const FOUND: Duration = Duration::from_secs(30);
/// Share of pixels in which the page from the file may differ: a browser chooses the sharper of two pictures when both
/// are in the file, so the edge of one badge does.
const DIFFERENCE: f64 = 0.002;
const SERVICE: &str = "internet-sharing";
/// A proxy that nobody runs.
const DEAD: &str = "http://127.0.0.1:9";

/// A requester without a way into the internet, two neighbours with one, and a site out there.
struct Lab {
    requester: Node,
    neighbours: Vec<Node>,
    site: Option<Website>,
    /// Last, as it takes the folder with the nodes' logs away.
    net: Net,
}

impl Lab {
    fn new() -> Self {
        Self::with("")
    }

    /// With these settings of the neighbours.
    fn with(settings: &str) -> Self {
        let mut net = Net::new(&["cli", "w1", "w2"]).unwrap();
        net.add_internet("internet", &["w1", "w2"]).unwrap();
        let services = [repository().join("services").join(SERVICE)];
        let market = Market::publish(&net.client("cli").unwrap(), &services).unwrap();
        certificates(net.folder());
        for neighbour in ["w1", "w2"] {
            fs::create_dir_all(net.file(neighbour)).unwrap();
            fs::write(net.file(neighbour).join("config.toml"), settings).unwrap();
        }
        let launch = |host: &str| {
            // The authority counts; a proxy that the environment names must not, or nothing would come through.
            let client = net.client(host).unwrap().with_variable("SSL_CERT_FILE", text(&net.file("ca.pem")).unwrap());
            let dead = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
            Node::launch(dead.iter().fold(client, |client, name| client.with_variable(name, DEAD)), &[]).unwrap()
        };
        let launched: Vec<_> = ["cli", "w1", "w2"].map(launch).into();
        let mut nodes = launched.into_iter().map(|node| node.ready().unwrap());
        let (requester, neighbours) = (nodes.next().unwrap(), nodes.by_ref().collect::<Vec<_>>());
        requester.sees(&neighbours.iter().collect::<Vec<_>>(), FOUND).unwrap();
        wait::until(FOUND, "both neighbours have the internet", || {
            let peers = requester.client.json(&["peers"])?;
            let online =
                peers["peers"].as_array().map_or(0, |rows| rows.iter().filter(|row| row["network"] != "off").count());
            Ok((online == neighbours.len()).then_some(()))
        })
        .unwrap();
        for neighbour in &neighbours {
            neighbour.client.json(&["market", "add", &market.name, "--yes"]).unwrap();
        }
        let nginx = net.command("internet", "nginx").unwrap();
        let pages = repository().join("services").join(SERVICE).join("tests/site/shop.example");
        let (certificate, key) = (net.file("server.pem"), net.file("server.key"));
        let secure = format!(
            "gzip on; listen {PUBLIC}:443 ssl; ssl_certificate {}; ssl_certificate_key {};",
            certificate.display(),
            key.display()
        );
        let site = Website::start(nginx, &net.file("nginx"), &pages, &format!("{PUBLIC}:80"), &secure).unwrap();
        Self { requester, neighbours, site: Some(site), net }
    }

    fn grant(&self) {
        for neighbour in &self.neighbours {
            neighbour.client.json(&["grant", SERVICE, "net", "--to", "anyone"]).unwrap();
        }
    }

    /// Fetches a page through the neighbours; the file, and the report of the job.
    fn invoke(&self, out: &str, more: &[&str]) -> (PathBuf, Value) {
        let file = self.net.file(out);
        let address = format!("http://{PUBLIC}/");
        let line = [&["invoke", SERVICE, &address, "-o", text(&file).unwrap()], more].concat();
        let job = self.requester.client.json(&line).unwrap();
        (file, job)
    }

    /// Starts `msm proxy` beside the requester's node; gives its address.
    fn proxy(&self) -> (Proxy, String) {
        let line = ["proxy", "--listen", "127.0.0.1:0", "--json"];
        let mut child = self.requester.client.command(&line).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let proxy = Proxy(child);
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{said:?}: {error}"));
        assert_eq!(said["schema"], "msm.proxy/1");
        (proxy, said["address"].as_str().unwrap().to_owned())
    }

    fn chromium(&self, host: &str) -> Command {
        self.net.command(host, "chromium").unwrap()
    }

    /// What a browser on `host`, which has seen nothing before, draws.
    fn screenshot(&self, host: &str, address: &str, name: &str, more: &[&str]) -> RgbaImage {
        let (folder, picture) = (self.net.file(&format!("browser-{name}")), self.net.file(&format!("{name}.png")));
        browser::screenshot(self.chromium(host), &folder, address, &picture, more).unwrap()
    }
}

/// Makes an authority (`ca.pem`), and with it a certificate for the site (`server.pem`, `server.key`).
fn certificates(folder: &Path) {
    fs::write(folder.join("names"), format!("subjectAltName=IP:{PUBLIC}\n")).unwrap();
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for line in [
        format!("req -x509 {curve} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority"),
        format!("req {curve} -keyout server.key -out server.csr -subj /CN=site"),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names"
            .into(),
    ] {
        let ended = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
        assert!(ended.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// A running `msm proxy`. Dropping it kills it, by its own id.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_page_comes_through_two_neighbours_and_opens_without_a_network() {
    let mut lab = Lab::new();
    let status = lab.requester.client.json(&["status"]).unwrap();
    assert_eq!(status["network"], "off", "no default route: {status}");
    lab.grant();
    let address = format!("http://{PUBLIC}/");
    let plan = lab.requester.client.json(&["invoke", SERVICE, &address, "--devices", "3", "--plan"]).unwrap();
    eprintln!("{plan}");
    let (page, job) = lab.invoke("page.html", &["--devices", "3"]);
    eprintln!("$ msm invoke {SERVICE} http://{PUBLIC}/ -o page.html --json\n{job}");
    let devices = job["devices"].as_array().unwrap();
    let worked =
        |local: bool| devices.iter().filter(|it| it["local"] == local && it["tasks"].as_u64() > Some(0)).count();
    assert_eq!((worked(false), worked(true)), (2, 0), "both neighbours, and not this device: {job}");

    // Each of the page's resources was fetched once, whoever fetched it; twice when its task was taken for a straggler.
    let requests = Website::requests(&lab.net.file("nginx"));
    for resource in ["/ ", "/css/main.css?v=3 ", "/img/photo.jpg ", "/js/app.js ", "/font/blocks.ttf "] {
        let count = requests.iter().filter(|line| line.contains(&format!("GET {resource}"))).count();
        assert!((1..=2).contains(&count), "{resource}: {requests:#?}");
    }

    // What people see: the site itself, then the file on the device without a network, when the site is gone.
    let original = lab.screenshot("internet", &format!("http://{PUBLIC}/"), "original", &[]);
    lab.site.take().unwrap().stop();
    lab.net.cable("cli", false).unwrap();
    let rebuilt = lab.screenshot("cli", &format!("file://{}", page.display()), "rebuilt", &[]);
    let difference = browser::difference(&original, &rebuilt).unwrap();
    let size = fs::metadata(&page).unwrap().len();
    eprintln!("the page from a file of {size} bytes against the page from nginx: {difference}");
    assert!(difference.pixels <= DIFFERENCE, "{difference}");
    // The comparison can fail: an empty page is far away.
    let blank = browser::difference(&original, &lab.screenshot("cli", "about:blank", "blank", &[])).unwrap();
    assert!(blank.pixels > 0.2, "{blank}");
}

#[test]
fn a_browser_without_a_network_sees_pages_through_the_proxy() {
    let lab = Lab::new();
    lab.grant();
    let (_proxy, proxy) = lab.proxy();
    let address = format!("http://{PUBLIC}/");
    let original = lab.screenshot("internet", &address, "original", &[]);
    let seen = lab.screenshot("cli", &address, "seen", &[&format!("--proxy-server=http://{proxy}")]);
    let difference = browser::difference(&original, &seen).unwrap();
    eprintln!("the page through msm proxy against the page itself: {difference}");
    assert_eq!(difference.pixels, 0.0, "{difference}");
    let from_neighbours = |line: &String| line.contains("msm/0.1.0");
    let requests = Website::requests(&lab.net.file("nginx"));
    assert!(requests.iter().filter(|line| from_neighbours(line)).count() >= 10, "{requests:#?}");

    // Without being told so, by the gateway's address; its script has run.
    let gateway = format!("http://{proxy}/{address}");
    let document = browser::document(lab.chromium("cli"), &lab.net.file("gateway"), &gateway, &[]).unwrap();
    assert!(document.contains("Made by a script: 1, 4, 9"), "{document}");
    // A tunnel is refused with a reason; Chromium shows its own page instead, curl shows ours.
    let secure = format!("https://{PUBLIC}/");
    let mut curl = lab.net.command("cli", "curl").unwrap();
    let curl =
        curl.args(["-sS", "-o", "/dev/null", "-v", "--proxy", &format!("http://{proxy}"), &secure]).output().unwrap();
    let said = String::from_utf8_lossy(&curl.stderr).into_owned();
    assert!(!curl.status.success() && said.contains("501"), "{said}");
}

#[test]
fn secure_pages_come_too_and_nobodys_own_network_does() {
    let lab = Lab::new();
    lab.grant();
    let answer = lab.net.file("answer.http");
    let raw = |address: &str| {
        let line = ["invoke", SERVICE, address, "-p", "mode=raw", "-o", text(&answer).unwrap()];
        lab.requester.client.output(&line).unwrap()
    };
    let ended = raw(&format!("https://{PUBLIC}/js/app.js"));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let message = fs::read_to_string(&answer).unwrap();
    assert!(message.starts_with("HTTP/1.1 200 ") && message.contains("Made by a script"), "{message}");
    // What is near the neighbours is not fetched for strangers: the link to the internet, the bridge, themselves.
    for address in ["http://10.78.0.1/", "http://10.77.0.1/", "http://127.0.0.1:7481/", "http://[::1]/"] {
        let ended = raw(address);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains("net.fetch: blocked-"), "{address}: {said}");
    }
    let history = |neighbour: &Node| neighbour.client.json(&["history"]).unwrap().to_string();
    assert!(lab.neighbours.iter().any(|neighbour| history(neighbour).contains("net.fetch")));
}

#[test]
fn an_owners_quota_ends_what_others_fetch() {
    let lab = Lab::with("[resources]\nnet-quota = \"4KiB\"\n");
    lab.grant();
    let (page, job) = lab.invoke("page.html", &["--devices", "3"]);
    let text = fs::read_to_string(page).unwrap();
    let note = text.split("-->").next().unwrap();
    eprintln!("{note}");
    assert!(note.contains("img/poster.png: net.fetch: quota: the device's quota of 4096 bytes"), "{note}\n{job}");
}
