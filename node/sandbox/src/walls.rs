//! Which walls stand between a guest and the machine, for the owner to read.

use serde::{Deserialize, Serialize};

/// The walls by name. The order is that of [`Walls::iter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WallName {
    /// The child can never gain a privilege (`PR_SET_NO_NEW_PRIVS`).
    NoNewPrivs,
    /// No path and no TCP port is reachable (Landlock with an empty ruleset).
    Landlock,
    /// Every system call that the engine does not need kills the child (seccomp allow-list).
    Seccomp,
    /// Kernel limits on memory, files, processes and CPU time.
    Rlimits,
    /// The channel is the child's only open file.
    Fds,
    /// The child dies with its parent and cannot be traced or dumped.
    Parent,
}

impl WallName {
    /// Every wall.
    pub const ALL: [Self; 6] =
        [Self::NoNewPrivs, Self::Landlock, Self::Seccomp, Self::Rlimits, Self::Fds, Self::Parent];

    /// The name as people see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoNewPrivs => "no-new-privs",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Rlimits => "rlimits",
            Self::Fds => "fds",
            Self::Parent => "parent",
        }
    }
}

/// Whether one wall stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "detail")]
pub enum Wall {
    /// It stands; the text says how (an ABI number, the limits).
    Up(String),
    /// It does not; the text says why.
    Down(String),
}

impl Wall {
    /// Whether it stands.
    pub const fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }

    /// How it stands or why not.
    pub fn detail(&self) -> &str {
        match self {
            Self::Up(text) | Self::Down(text) => text,
        }
    }
}

/// The walls of one child, as it reported them when they were up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// See [`WallName::NoNewPrivs`].
    pub no_new_privs: Wall,
    /// See [`WallName::Landlock`].
    pub landlock: Wall,
    /// See [`WallName::Seccomp`].
    pub seccomp: Wall,
    /// See [`WallName::Rlimits`].
    pub rlimits: Wall,
    /// See [`WallName::Fds`].
    pub fds: Wall,
    /// See [`WallName::Parent`].
    pub parent: Wall,
}

impl Walls {
    /// Every wall with its name.
    pub fn iter(&self) -> impl Iterator<Item = (WallName, &Wall)> {
        WallName::ALL.into_iter().map(|name| (name, self.of(name)))
    }

    /// One wall.
    pub const fn of(&self, name: WallName) -> &Wall {
        match name {
            WallName::NoNewPrivs => &self.no_new_privs,
            WallName::Landlock => &self.landlock,
            WallName::Seccomp => &self.seccomp,
            WallName::Rlimits => &self.rlimits,
            WallName::Fds => &self.fds,
            WallName::Parent => &self.parent,
        }
    }

    /// What is missing of the walls without which a guest must not run under [`crate::WallPolicy::Require`]:
    /// no_new_privs, rlimits, and at least one of seccomp and Landlock.
    pub fn missing(&self) -> Option<String> {
        let down = |name: WallName| match self.of(name) {
            Wall::Up(_) => None,
            Wall::Down(why) => Some(format!("{} ({why})", name.as_str())),
        };
        let kernel = match (down(WallName::Seccomp), down(WallName::Landlock)) {
            (Some(seccomp), Some(landlock)) => Some(format!("{seccomp} and {landlock}")),
            _ => None,
        };
        [down(WallName::NoNewPrivs), down(WallName::Rlimits), kernel].into_iter().flatten().reduce(|a, b| a + ", " + &b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_seccomp_and_landlock_is_enough() {
        let up = || Wall::Up(String::new());
        let mut walls =
            Walls { no_new_privs: up(), landlock: up(), seccomp: up(), rlimits: up(), fds: up(), parent: up() };
        assert_eq!(walls.missing(), None);
        walls.seccomp = Wall::Down("old kernel".into());
        assert_eq!(walls.missing(), None);
        walls.landlock = Wall::Down("not built in".into());
        assert_eq!(walls.missing().as_deref(), Some("seccomp (old kernel) and landlock (not built in)"));
        walls.no_new_privs = Wall::Down("x".into());
        assert!(walls.missing().is_some_and(|text| text.starts_with("no-new-privs (x), seccomp")));
    }
}
