//! Hosts in network namespaces, joined by a bridge in one more of them: nothing outside changes, nothing gets out.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    delay::{Counts, Faults, Relay},
    node::Client,
};

/// Names of our namespaces begin with it, then follow the test's process and a counter.
const PREFIX: &str = "msmt";
/// The interface of each host.
const INTERFACE: &str = "eth0";
/// The interface of a host that has the internet, towards it.
const UPLINK: &str = "eth1";
/// The internet's only address. To the nodes it is as public as any: nothing outside these namespaces hears of it.
pub const PUBLIC: &str = "93.184.216.34";

/// Fails, and says what to do, where namespaces cannot be made.
///
/// # Errors
/// Not root, or a tool is missing.
pub fn check() -> Result<()> {
    let filter = "To run all others: cargo nextest run --workspace -E 'not test(/^netns::/)'";
    ensure!(rustix::process::geteuid().is_root(), "network namespaces need root. {filter}");
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        let there = Command::new(tool).arg("-V").output().is_ok_and(|output| output.status.success());
        ensure!(there, "{tool} is missing.\n  try: apt-get install {package}\n{filter}");
    }
    Ok(())
}

/// Hosts on one bridge. Dropping it ends what still runs there and takes it all away.
#[derive(Debug)]
pub struct Net {
    /// Begins the name of each of its namespaces.
    prefix: String,
    hosts: Vec<String>,
    /// Of the hosts whose link was ever told to be bad.
    relays: BTreeMap<String, Relay>,
    folder: TempDir,
}

impl Net {
    /// Makes a bridge and these hosts: `eth0` with an address of its own and a route for multicast.
    pub fn new(hosts: &[&str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        check()?;
        sweep();
        let prefix = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut net = Self { prefix, hosts: Vec::new(), relays: BTreeMap::new(), folder: tempfile::tempdir()? };
        let bridge = net.namespace("bridge");
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for host in hosts {
            net.add_host(host)?;
        }
        Ok(net)
    }

    /// One more host on the bridge.
    pub fn add_host(&mut self, host: &str) -> Result<()> {
        let (bridge, here, number) = (self.namespace("bridge"), self.namespace(host), self.hosts.len() + 1);
        ensure!(number < 255, "a bridge has room for 254 hosts");
        self.hosts.push(host.to_owned());
        ip(&["netns", "add", &here])?;
        ip(&["-n", &here, "link", "set", "lo", "up"])?;
        let port = format!("port{number}");
        ip(&["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", INTERFACE, "netns", &here])?;
        ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"])?;
        ip(&["-n", &here, "addr", "add", &format!("{}/16", address(number)), "dev", INTERFACE])?;
        ip(&["-n", &here, "link", "set", INTERFACE, "up"])?;
        // Without it multicast does not leave.
        ip(&["-n", &here, "route", "add", "224.0.0.0/4", "dev", INTERFACE])
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    fn inside(&self, host: &str) -> Result<String> {
        ensure!(self.hosts.iter().any(|known| known == host), "no host {host}");
        Ok(self.namespace(host))
    }

    /// Where this network's homes and files lie.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of this network's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls `msm` on `host`, with the home of that name.
    pub fn client(&self, host: &str) -> Result<Client> {
        Ok(Client::new(self.file(host))?.inside(&self.inside(host)?))
    }

    /// One more host, which is the internet: it has a public address ([`PUBLIC`]), and a cable to each of `hosts`, whose
    /// default route it becomes. The other hosts have none.
    pub fn add_internet(&mut self, name: &str, hosts: &[&str]) -> Result<()> {
        let there = self.namespace(name);
        let insides = hosts.iter().map(|host| self.inside(host)).collect::<Result<Vec<_>>>()?;
        self.hosts.push(name.to_owned());
        ip(&["netns", "add", &there])?;
        ip(&["-n", &there, "link", "set", "lo", "up"])?;
        ip(&["-n", &there, "addr", "add", &format!("{PUBLIC}/32"), "dev", "lo"])?;
        for (number, inside) in insides.iter().enumerate() {
            let port = format!("port{number}");
            let (near, far) = (format!("10.78.{number}.2"), format!("10.78.{number}.1"));
            ip(&["-n", &there, "link", "add", &port, "type", "veth", "peer", "name", UPLINK, "netns", inside])?;
            ip(&["-n", &there, "addr", "add", &format!("{far}/30"), "dev", &port])?;
            ip(&["-n", &there, "link", "set", &port, "up"])?;
            ip(&["-n", inside, "addr", "add", &format!("{near}/30"), "dev", UPLINK])?;
            ip(&["-n", inside, "link", "set", UPLINK, "up"])?;
            ip(&["-n", inside, "route", "add", "default", "via", &far])?;
        }
        Ok(())
    }

    /// A program on `host`, not started yet; its process id is the program's own.
    pub fn command(&self, host: &str, program: &str) -> Result<Command> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.inside(host)?, program]);
        Ok(command)
    }

    /// Pulls the cable of `host`, or plugs it in.
    pub fn cable(&self, host: &str, plugged: bool) -> Result<()> {
        ip(&["-n", &self.inside(host)?, "link", "set", INTERFACE, if plugged { "up" } else { "down" }])
    }

    /// From now on the link of `host` treats frames like this, both ways. The first time a relay is put between its port and
    /// the bridge, which draws from `seed`.
    pub fn link(&mut self, host: &str, faults: Faults, seed: u64) -> Result<()> {
        if !self.relays.contains_key(host) {
            let number = self.number(host)?;
            let relay = self.relay(number, seed)?;
            self.relays.insert(host.to_owned(), relay);
        }
        self.relays.get(host).context("its relay")?.set(faults);
        Ok(())
    }

    /// What the link of `host` did to frames since it was first told to be bad.
    pub fn counts(&self, host: &str) -> Counts {
        self.relays.get(host).map(Relay::counts).unwrap_or_default()
    }

    /// Puts a relay between a port and the bridge: port, bridge of its own, relay, the bridge of all.
    fn relay(&self, number: usize, seed: u64) -> Result<Relay> {
        let bridge = self.namespace("bridge");
        let [port, own, near, far] = ["port", "br", "near", "far"].map(|name| format!("{name}{number}"));
        let relay = Relay::start(&bridge, &near, &far, seed)?;
        ip(&["-n", &bridge, "link", "add", &own, "type", "bridge"])?;
        for (name, master) in [(&near, own.as_str()), (&far, "br0"), (&port, &own)] {
            ip(&["-n", &bridge, "link", "set", name, "master", master, "up"])?;
        }
        ip(&["-n", &bridge, "link", "set", &own, "up"])?;
        Ok(relay)
    }

    /// Which host it is, from one on.
    fn number(&self, host: &str) -> Result<usize> {
        Ok(self.hosts.iter().position(|known| known == host).with_context(|| format!("no host {host}"))? + 1)
    }

    /// Its address on the bridge.
    pub fn address(&self, host: &str) -> Result<String> {
        Ok(address(self.number(host)?))
    }

    /// Does something on `host`: sockets that it opens belong there.
    ///
    /// # Errors
    /// No such host, or what `act` says.
    pub fn on<T: Send>(&self, host: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        within(&self.inside(host)?, act)
    }

    /// Takes all IPv4 addresses of `host` away: only its IPv6 link-local one stays.
    pub fn only_link_local(&self, host: &str) -> Result<()> {
        ip(&["-n", &self.inside(host)?, "-4", "addr", "flush", "dev", INTERFACE])
    }

    /// From now on nothing of `from` reaches `to`; the other direction works.
    pub fn drop_one_way(&self, from: &str, to: &str) -> Result<()> {
        let rules = format!(
            "table inet testnet {{ chain out {{ type filter hook output priority 0; ip daddr {} drop; }}; }}",
            self.address(to)?
        );
        run("ip", &["netns", "exec", &self.inside(from)?, "nft", &rules])
    }
}

/// Address of the nth host.
fn address(number: usize) -> String {
    format!("10.77.0.{number}")
}

/// Does something in a network namespace, on a thread of its own, and waits for it.
pub(crate) fn within<T: Send>(namespace: &str, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    let there = File::open(&path).with_context(|| path.display().to_string())?;
    std::thread::scope(|scope| {
        let moved = scope.spawn(move || {
            // SAFETY: the descriptor is open; only this thread moves, and it ends here.
            let entered = unsafe { libc::setns(there.as_raw_fd(), libc::CLONE_NEWNET) };
            ensure!(entered == 0, "cannot enter {namespace}: {}", std::io::Error::last_os_error());
            act()
        });
        moved.join().unwrap_or_else(|_| bail!("it panicked in {namespace}"))
    })
}

impl Drop for Net {
    fn drop(&mut self) {
        self.relays.clear();
        for host in self.hosts.iter().map(String::as_str).chain(["bridge"]) {
            remove(&self.namespace(host));
        }
    }
}

/// Ends, by their ids, the processes that still run in a namespace of ours, and deletes it.
fn remove(namespace: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    if let Err(error) = ip(&["netns", "del", namespace]) {
        eprintln!("cannot remove: {error:#}");
    }
}

/// Removes what killed tests could not: namespaces of ours whose process is gone.
fn sweep() {
    let Ok(output) = Command::new("ip").args(["netns", "list"]).output() else { return };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.trim_start_matches('-').split('-').next());
        if let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            remove(name);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
