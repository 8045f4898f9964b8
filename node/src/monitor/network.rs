//! Class of the device's link to the internet, from the routes and links that the kernel shows.

use std::{fs, path::Path};

use msm_protocol::device::Network;

use super::Roots;

/// A wired link slower than this counts as slow: what is left are 10 Mbit/s links and old powerline. *Judgement.*
const HIGH_MBIT: u64 = 100;
/// `ARPHRD_*` numbers of links that are telephone connections: PPP, raw IP, phonet.
const TELEPHONE_LINKS: [&str; 4] = ["512", "519", "530", "820"];
/// Route flags: usable, and leading nowhere.
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

/// The class of the link that the default route uses; off without one.
///
/// Wireless LAN counts as fast: the kernel's files do not tell its rate. Telephone links count as slow, also because
/// they are often metered.
pub(super) fn class(roots: &Roots) -> Network {
    let net = roots.sys.join("class/net");
    let mut links = default_routes(roots).into_iter().filter_map(|route| link_class(&net.join(route.interface)));
    links.next().unwrap_or(Network::Off)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Route {
    /// IPv4 before IPv6.
    family: u8,
    /// The kernel takes the smallest.
    metric: u32,
    interface: String,
}

/// The default routes, best first.
fn default_routes(roots: &Roots) -> Vec<Route> {
    let read = |file| fs::read_to_string(roots.proc.join("net").join(file)).unwrap_or_default();
    let mut routes: Vec<Route> = read("route")
        .lines()
        .filter_map(ipv4_default)
        .chain(read("ipv6_route").lines().filter_map(ipv6_default))
        .collect();
    routes.sort_unstable();
    routes
}

fn usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

/// A line of `/proc/net/route`: interface, destination, gateway, flags, two counters, metric, mask, …
fn ipv4_default(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [interface, "00000000", _, flags, _, _, metric, "00000000", ..] if usable(flags) => {
            Some(Route { family: 4, metric: metric.parse().ok()?, interface: (*interface).to_owned() })
        }
        _ => None,
    }
}

/// A line of `/proc/net/ipv6_route`: destination, prefix, source, prefix, next hop, metric, two counters, flags,
/// interface.
fn ipv6_default(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    match fields.as_slice() {
        [destination, "00", _, _, _, metric, _, _, flags, interface]
            if destination.bytes().all(|digit| digit == b'0') && *interface != "lo" && usable(flags) =>
        {
            let metric = u32::from_str_radix(metric, 16).ok()?;
            Some(Route { family: 6, metric, interface: (*interface).to_owned() })
        }
        _ => None,
    }
}

/// The class of one link; `None` when it is down.
fn link_class(link: &Path) -> Option<Network> {
    let read = |file: &str| fs::read_to_string(link.join(file)).map(|text| text.trim().to_owned()).unwrap_or_default();
    // Tunnels and telephone links say `unknown` while they work.
    if !matches!(read("operstate").as_str(), "up" | "unknown") {
        return None;
    }
    let telephone = TELEPHONE_LINKS.contains(&read("type").as_str()) || read("uevent").contains("DEVTYPE=wwan");
    let speed: Option<u64> = read("speed").parse().ok().filter(|mbit| *mbit > 0);
    let slow = telephone || speed.is_some_and(|mbit| mbit < HIGH_MBIT);
    Some(if slow { Network::Low } else { Network::High })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn v4(interface: &str, metric: u32) -> String {
        format!("{interface}\t00000000\t0100A8C0\t0003\t0\t0\t{metric}\t00000000\t0\t0\t0\n")
    }

    fn v6(interface: &str, flags: &str) -> String {
        let zero = "0".repeat(32);
        format!("{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 {flags} {interface}\n")
    }

    type Link<'a> = (&'a str, &'a [(&'a str, &'a str)]);

    fn class_of(route: &str, ipv6_route: &str, links: &[Link<'_>]) -> Network {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { proc: dir.path().join("proc"), sys: dir.path().join("sys"), ..Roots::default() };
        fs::create_dir_all(roots.proc.join("net")).unwrap();
        fs::write(roots.proc.join("net/route"), format!("{V4}{route}")).unwrap();
        fs::write(roots.proc.join("net/ipv6_route"), ipv6_route).unwrap();
        for (name, files) in links {
            let link = roots.sys.join("class/net").join(name);
            fs::create_dir_all(&link).unwrap();
            for (file, text) in *files {
                fs::write(link.join(file), format!("{text}\n")).unwrap();
            }
        }
        class(&roots)
    }

    #[test]
    fn the_best_default_route_decides() {
        const ETH: Link<'_> = ("eth0", &[("operstate", "up"), ("speed", "1000"), ("type", "1")]);
        const OLD: Link<'_> = ("eth0", &[("operstate", "up"), ("speed", "10"), ("type", "1")]);
        const UNPLUGGED: Link<'_> = ("eth0", &[("operstate", "down"), ("speed", "-1"), ("type", "1")]);
        const WLAN: Link<'_> = ("wlan0", &[("operstate", "up"), ("type", "1"), ("uevent", "DEVTYPE=wlan")]);
        const WWAN: Link<'_> = ("wwan0", &[("operstate", "unknown"), ("type", "519"), ("uevent", "DEVTYPE=wwan")]);
        const PPP: Link<'_> = ("ppp0", &[("operstate", "unknown"), ("type", "512")]);
        let (eth, wlan) = (v4("eth0", 100), v4("wlan0", 600));
        let on_lan = "eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n";
        let refused = eth.replace("0003", "0203");
        for (what, route, ipv6, links, expected) in [
            ("no interface at all", "", "", &[][..], Network::Off),
            ("a LAN without a way out", on_lan, "", &[ETH], Network::Off),
            ("wired", &eth, "", &[ETH], Network::High),
            ("slow wire", &eth, "", &[OLD], Network::Low),
            ("wireless", &wlan, "", &[WLAN], Network::High),
            ("cable pulled, wireless on", &(eth.clone() + &wlan), "", &[UNPLUGGED, WLAN], Network::High),
            ("cable pulled", &eth, "", &[UNPLUGGED], Network::Off),
            ("telephone", &v4("wwan0", 700), "", &[WWAN], Network::Low),
            ("modem", &v4("ppp0", 0), "", &[PPP], Network::Low),
            ("telephone beside a wire", &(v4("wwan0", 700) + &eth), "", &[WWAN, ETH], Network::High),
            ("only IPv6", "", &v6("eth0", "00450003"), &[ETH], Network::High),
            ("IPv6 leads nowhere", "", &v6("lo", "00200200"), &[ETH], Network::Off),
            ("route refused", &refused, "", &[ETH], Network::Off),
            ("garbage", "a b c\n\u{0}\n", "x\n", &[ETH], Network::Off),
        ] {
            assert_eq!(class_of(route, ipv6, links), expected, "{what}");
        }
    }

    #[test]
    fn this_machine_has_a_class() {
        // Whatever it is: the real files parse.
        let _ = class(&Roots::default());
    }
}
