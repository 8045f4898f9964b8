//! Values of `[resources]`: what services may use of the device at most.

use std::{fmt, str::FromStr};

use msm_protocol::manifest::is_host_pattern;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{BadValue, ByteSize, bad};
use crate::resources::{fetch::target::PrivateHost, words::Precision};

/// How exactly this device's position may be told to any service at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpsCeiling(Option<Precision>);

impl FromStr for GpsCeiling {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse().map(|precision| Self(Some(precision))).map_err(|_| bad(text, Self::EXPECTED)),
        }
    }
}

impl From<GpsCeiling> for Option<Precision> {
    fn from(ceiling: GpsCeiling) -> Self {
        ceiling.0
    }
}

read_from_text!(GpsCeiling, "\"off\", \"coarse\" or \"precise\"");

/// Whether something may be used at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnOff(bool);

impl FromStr for OnOff {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "on" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

impl From<OnOff> for bool {
    fn from(switch: OnOff) -> Self {
        switch.0
    }
}

read_from_text!(OnOff, "\"on\" or \"off\"");

/// A host that may be fetched from, or several; see [`is_host_pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl FromStr for HostPattern {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if is_host_pattern(text) { Ok(Self(text.to_owned())) } else { Err(bad(text, Self::EXPECTED)) }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0
    }
}

read_from_text!(HostPattern, "\"*\" or a host such as \"example.org\", \"*.example.org\" or \"https://example.org\"");

/// Bytes in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayQuota(Option<u64>);

impl FromStr for DayQuota {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "0" => Ok(Self(Some(0))),
            "unlimited" => Ok(Self(None)),
            _ => text.parse::<ByteSize>().map(|size| Self(Some(size.0))).map_err(|_| bad(text, Self::EXPECTED)),
        }
    }
}

impl From<DayQuota> for Option<u64> {
    fn from(quota: DayQuota) -> Self {
        quota.0
    }
}

read_from_text!(DayQuota, "a size such as \"100MiB\", \"0\" for none at all, or \"unlimited\"");

/// A port that services may fetch from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebPort(u16);

impl FromStr for WebPort {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text.parse::<u16>() {
            Ok(port @ 1..) => Ok(Self(port)),
            _ => Err(bad(text, Self::EXPECTED)),
        }
    }
}

impl From<WebPort> for u16 {
    fn from(port: WebPort) -> Self {
        port.0
    }
}

read_from_text!(WebPort, "a port from 1 to 65535");

/// A host and port that services may fetch from although it is not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedHost(PrivateHost);

impl FromStr for OpenedHost {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        PrivateHost::parse(text).map(Self).ok_or_else(|| bad(text, Self::EXPECTED))
    }
}

impl From<OpenedHost> for PrivateHost {
    fn from(host: OpenedHost) -> Self {
        host.0
    }
}

read_from_text!(OpenedHost, "a host with its port, such as \"127.0.0.1:8080\", \"[::1]:80\" or \"nas.local:5000\"");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_are_words_hosts_and_sizes() {
        for (text, value) in [
            ("off", Some(None)),
            ("coarse", Some(Some(Precision::Coarse))),
            ("precise", Some(Some(Precision::Precise))),
            ("exact", None),
        ] {
            assert_eq!(text.parse().ok().map(|GpsCeiling(ceiling)| ceiling), value, "{text}");
        }
        for (text, value) in [("on", Some(true)), ("off", Some(false)), ("true", None), ("", None)] {
            assert_eq!(text.parse().ok().map(|OnOff(on)| on), value, "{text}");
        }
        for (text, value) in [
            ("0", Some(Some(0))),
            ("100MiB", Some(Some(100 << 20))),
            ("unlimited", Some(None)),
            ("100", None),
            ("-1", None),
            ("none", None),
        ] {
            assert_eq!(text.parse().ok().map(|DayQuota(bytes)| bytes), value, "{text}");
        }
        for (text, fits) in
            [("*", true), ("*.example.org", true), ("https://example.org", true), ("*.org", false), ("a b", false)]
        {
            assert_eq!(text.parse::<HostPattern>().is_ok(), fits, "{text}");
        }
        for (text, fits) in [("1", true), ("65535", true), ("0", false), ("65536", false), ("http", false)] {
            assert_eq!(text.parse::<WebPort>().is_ok(), fits, "{text}");
        }
        for (text, fits) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("nas.local:5000", true),
            ("nas.local", false),
            ("*:80", false),
        ] {
            assert_eq!(text.parse::<OpenedHost>().is_ok(), fits, "{text}");
        }
    }
}
