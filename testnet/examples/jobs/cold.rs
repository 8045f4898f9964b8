//! From knowing one address to the first result of a service that this device has never seen.
//!
//! The market's index is there before the clock starts; the service's 2 kB are not, and who has them is asked of the DHT.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use msm_testnet::{
    delay::Faults,
    market::{Market, write_service},
    net::Net,
    node::{Node, Repl},
    wait,
};
use serde_json::{Value, json};

use super::{Report, median, quick};

const SOON: Duration = Duration::from_secs(30);
/// A node that has just started waits for neighbours by itself; this one has been there for longer.
const SETTLED_S: u64 = 3;
/// The address of the DHT's only known node.
const LISTEN: &str = "/ip4/0.0.0.0/udp/7481/quic-v1";

pub fn measure(report: &mut Report) -> Result<()> {
    let runs = if quick() { 2 } else { 15 };
    let mut net = Net::new(&["cli", "boot", "provider"])?;
    let script =
        format!("// {}\nexport function run(input) {{ return input; }}\n", "a package of the usual size ".repeat(70));
    let service = write_service(net.folder(), "small", &script, "10s")?;
    let market = Market::publish(&net.client("provider")?, &[service])?;
    let boot = Node::start(net.client("boot")?, &["--no-mdns", "--listen", LISTEN])?;
    let address = |node: &Node, host: &str| -> Result<String> {
        Ok(format!("/ip4/{}/udp/7481/quic-v1/p2p/{}", net.address(host)?, node.peer_id))
    };
    let boot_address = address(&boot, "boot")?;
    let provider = Node::start(net.client("provider")?, &["--no-mdns", "--listen", LISTEN, "--peer", &boot_address])?;
    let provider_address = address(&provider, "provider")?;
    provider.sees(&[&boot], SOON)?;
    template(&net, &market, &provider, &provider_address)?;
    fs::write(net.file("input.bin"), [7; 12])?;

    // The first run sees the provider's record arrive in the DHT.
    wait::until(SOON, "the package is found", || Ok(Some(run(&net, &[&boot_address], false)?)))?;
    for (key, delay_ms, connected) in
        [("cold_ms_0", 0, false), ("cold_ms_100", 100, false), ("cold_ms_100_connected", 100, true)]
    {
        // Half of the way is on each side: between any two hosts it is the whole.
        for (number, host) in ["cli", "boot", "provider"].into_iter().enumerate() {
            net.link(host, Faults::delay(Duration::from_millis(delay_ms) / 2), number as u64)?;
        }
        let (mut walls, mut phases) = (Vec::new(), Vec::<(String, Vec<f64>)>::new());
        for _ in 0..runs {
            let known: &[&str] = if connected { &[&boot_address, &provider_address] } else { &[&boot_address] };
            let (wall, dial, job) = run(&net, known, connected)?;
            walls.push(wall);
            let each = job["phases_ms"].as_array().into_iter().flatten();
            let each = each.filter_map(|phase| Some((phase[0].as_str()?.to_owned(), phase[1].as_f64()?)));
            for (name, ms) in [("connect".to_owned(), dial)].into_iter().chain(each) {
                match phases.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, times)) => times.push(ms),
                    None => phases.push((name, vec![ms])),
                }
            }
        }
        median(report, key, &walls);
        let words = phases.iter().map(|(name, times)| format!("{name} {:.1}", super::quantile(times, 0.5)));
        report.insert(format!("{key}_phases"), json!(format!("ms, median: {}", words.collect::<Vec<_>>().join(", "))));
    }
    Ok(())
}

/// A home that trusts the market and has its index, and nothing of the service; it has no identity yet.
fn template(net: &Net, market: &Market, provider: &Node, address: &str) -> Result<()> {
    let node = Node::start(net.client("cli")?, &["--no-mdns", "--listen", LISTEN, "--peer", address])?;
    node.sees(&[provider], SOON)?;
    node.client.json(&["market", "add", &market.name, "--yes"])?;
    wait::until(SOON, "the service is listed", || {
        let found = node.client.json(&["search", "small"])?;
        Ok(found["services"].as_array().is_some_and(|rows| !rows.is_empty()).then_some(()))
    })?;
    node.leave()?;
    fs::rename(net.file("cli"), net.file("template"))?;
    fs::remove_file(net.file("template").join("identity.key"))?;
    Ok(())
}

/// One fresh device: how long it took from knowing `addresses` to the result, how much of it was dialling, and the job.
/// With `connected` the dialling is over before the clock starts.
fn run(net: &Net, addresses: &[&str], connected: bool) -> Result<(f64, f64, Value)> {
    let home = net.file("cli");
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    copy(&net.file("template"), &home)?;
    let node = Node::start(net.client("cli")?, &["--no-mdns", "--listen", LISTEN])?;
    let mut repl = Repl::open(&node.client)?;
    wait::until(SOON, "it has settled", || {
        Ok((repl.json("status")?["uptime_s"].as_u64() >= Some(SETTLED_S)).then_some(()))
    })?;
    let connect = |repl: &mut Repl| -> Result<f64> {
        let since = Instant::now();
        for address in addresses {
            repl.json(&format!("peers add {address}"))?;
        }
        Ok(since.elapsed().as_secs_f64() * 1e3)
    };
    if connected {
        connect(&mut repl)?;
        wait::until(SOON, "it knows its neighbours", || {
            let peers = repl.json("peers")?;
            let known =
                peers["peers"].as_array().map_or(0, |rows| rows.iter().filter(|row| row["eqs"].is_number()).count());
            Ok((known >= addresses.len()).then_some(()))
        })?;
    }
    let since = Instant::now();
    let dial = if connected { 0.0 } else { connect(&mut repl)? };
    let job = repl.json(&format!("invoke small {} -o /dev/null", net.file("input.bin").display()))?;
    let wall = since.elapsed().as_secs_f64() * 1e3;
    ensure!(job["state"] == "done", "{job}");
    drop(repl);
    node.leave().context("it leaves")?;
    Ok((wall, dial, job))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
