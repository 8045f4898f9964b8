//! Pages from the internet for a device that has none: its neighbours fetch them, and what it gets looks the same.

use std::{fs, path::PathBuf, time::Duration};

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
        let mut net = Net::new(&["cli", "w1", "w2"]).unwrap();
        net.add_internet("internet", &["w1", "w2"]).unwrap();
        let services = [repository().join("services").join(SERVICE)];
        let market = Market::publish(&net.client("cli").unwrap(), &services).unwrap();
        let launched: Vec<_> =
            ["cli", "w1", "w2"].iter().map(|host| Node::launch(net.client(host).unwrap(), &[]).unwrap()).collect();
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
        let site = Website::start(nginx, &net.file("nginx"), &pages, &format!("{PUBLIC}:80"), "gzip on;").unwrap();
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

    fn chromium(&self, host: &str) -> std::process::Command {
        self.net.command(host, "chromium").unwrap()
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
    let folder = lab.net.file("chromium");
    let address = format!("http://{PUBLIC}/");
    let original = lab.net.file("original.png");
    let original = browser::screenshot(lab.chromium("internet"), &folder, &address, &original, &[]).unwrap();
    lab.site.take().unwrap().stop();
    lab.net.cable("cli", false).unwrap();
    let address = format!("file://{}", page.display());
    let rebuilt = lab.net.file("rebuilt.png");
    let rebuilt = browser::screenshot(lab.chromium("cli"), &folder, &address, &rebuilt, &[]).unwrap();
    let difference = browser::difference(&original, &rebuilt).unwrap();
    let size = fs::metadata(&page).unwrap().len();
    eprintln!("the page from a file of {size} bytes against the page from nginx: {difference}");
    assert!(difference.pixels <= DIFFERENCE, "{difference}");
    // The comparison can fail: an empty page is far away.
    let blank = browser::screenshot(lab.chromium("cli"), &folder, "about:blank", &lab.net.file("blank.png"), &[]);
    let blank = browser::difference(&original, &blank.unwrap()).unwrap();
    assert!(blank.pixels > 0.2, "{blank}");
}
