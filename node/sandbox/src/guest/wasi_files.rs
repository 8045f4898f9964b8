//! What a guest's descriptors stand for: its input, its output, its log, and the package's assets, read-only.

use std::{collections::BTreeMap, rc::Rc};

use super::wasi_abi::Errno;

/// Files and folders open at a time, the three streams included. *Judgement.*
const OPEN: usize = 64;
/// A path that a guest gives; longer than any asset's.
const PATH_BYTES: usize = 4096;

/// The package's assets as a tree of folders.
#[derive(Default)]
pub struct Tree(Vec<Node>);

/// A file or a folder.
pub struct Node {
    /// From the root, without a slash at either end; the root's is empty.
    path: String,
    /// None: a folder.
    bytes: Option<Vec<u8>>,
}

impl Tree {
    pub fn new(assets: Vec<(String, Vec<u8>)>) -> Self {
        if assets.is_empty() {
            return Self::default();
        }
        let mut nodes = BTreeMap::from([(String::new(), None)]);
        for (path, bytes) in assets {
            for (at, _) in path.match_indices('/') {
                nodes.insert(path[..at].to_owned(), None);
            }
            nodes.insert(path, Some(bytes));
        }
        Self(nodes.into_iter().map(|(path, bytes)| Node { path, bytes }).collect())
    }

    /// Whether there is anything to see.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn node(&self, index: usize) -> Result<&Node, Errno> {
        self.0.get(index).ok_or(Errno::BADF)
    }

    /// What a path from a folder leads to. Nothing leads out of the root, on whatever way.
    pub fn find(&self, folder: usize, path: &[u8]) -> Result<usize, Errno> {
        if path.len() > PATH_BYTES {
            return Err(Errno::NAMETOOLONG);
        }
        let path = std::str::from_utf8(path).map_err(|_| Errno::ILSEQ)?;
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.starts_with('/') {
            return Err(Errno::NOTCAPABLE);
        }
        let folder = self.node(folder)?;
        let mut names: Vec<&str> = folder.path.split('/').filter(|name| !name.is_empty()).collect();
        for name in path.split('/') {
            match name {
                "" | "." => {}
                ".." => drop(names.pop().ok_or(Errno::NOTCAPABLE)?),
                name => names.push(name),
            }
        }
        let wanted = names.join("/");
        let index = self.0.binary_search_by(|node| node.path.cmp(&wanted)).map_err(|_| Errno::NOENT)?;
        if path.ends_with('/') && self.0[index].bytes.is_some() {
            return Err(Errno::NOTDIR);
        }
        Ok(index)
    }

    /// The entries of a folder in the order of their names: node and name.
    pub fn entries(&self, folder: usize) -> Result<Vec<(usize, &str)>, Errno> {
        let folder_path = &self.node(folder)?.path;
        let name_of = |node: &'_ Node| -> Option<usize> {
            let rest = node.path.strip_prefix(folder_path.as_str())?;
            let rest = if folder_path.is_empty() { rest } else { rest.strip_prefix('/')? };
            (!rest.is_empty() && !rest.contains('/')).then_some(node.path.len() - rest.len())
        };
        let nodes = self.0.iter().enumerate();
        Ok(nodes.filter_map(|(index, node)| name_of(node).map(|at| (index, &node.path[at..]))).collect())
    }
}

/// What a descriptor stands for.
#[derive(Clone, Copy)]
pub enum Open {
    Stdin,
    Stdout,
    Stderr,
    /// A folder; the first one was there from the beginning.
    Folder {
        node: usize,
        given: bool,
    },
    File {
        node: usize,
        at: u64,
    },
}

/// File kinds as preview 1 numbers them. A stream is none of the kinds: a terminal would be written line by line.
const UNKNOWN: u8 = 0;
const FOLDER: u8 = 3;
const FILE: u8 = 4;

/// Rights as preview 1 numbers them.
mod right {
    pub const READ: u64 = 1 << 1;
    pub const SEEK: u64 = 1 << 2;
    pub const TELL: u64 = 1 << 5;
    pub const WRITE: u64 = 1 << 6;
    pub const ADVISE: u64 = 1 << 7;
    pub const OPEN: u64 = 1 << 13;
    pub const LIST: u64 = 1 << 14;
    pub const LOOK: u64 = 1 << 18;
    pub const STAT: u64 = 1 << 21;
    pub const POLL: u64 = 1 << 27;
    pub const OF_FILE: u64 = READ | SEEK | TELL | ADVISE | STAT | POLL;
    pub const OF_FOLDER: u64 = OPEN | LIST | LOOK | STAT;
}

/// The name that the assets' folder has for the guest.
pub const ASSETS: &[u8] = b"/assets";

/// A guest's descriptors.
pub struct Files {
    pub tree: Rc<Tree>,
    open: Vec<Option<Open>>,
}

impl Files {
    /// The three streams, and the assets if there are any.
    pub fn new(tree: Rc<Tree>) -> Self {
        let mut open = vec![Some(Open::Stdin), Some(Open::Stdout), Some(Open::Stderr)];
        if !tree.is_empty() {
            open.push(Some(Open::Folder { node: 0, given: true }));
        }
        Self { tree, open }
    }

    pub fn of(&self, fd: u32) -> Result<Open, Errno> {
        self.open.get(fd as usize).copied().flatten().ok_or(Errno::BADF)
    }

    pub fn close(&mut self, fd: u32) -> Result<(), Errno> {
        self.of(fd)?;
        self.open[fd as usize] = None;
        Ok(())
    }

    pub fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        let moved = self.of(from)?;
        self.of(to)?;
        self.open[from as usize] = None;
        self.open[to as usize] = Some(moved);
        Ok(())
    }

    fn folder(&self, fd: u32) -> Result<usize, Errno> {
        match self.of(fd)? {
            Open::Folder { node, .. } => Ok(node),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Opens a path for reading.
    pub fn open(&mut self, fd: u32, path: &[u8], flags: u32, rights: u64) -> Result<u32, Errno> {
        const CREATE: u32 = 1;
        const DIRECTORY: u32 = 2;
        const EXCLUSIVE: u32 = 4;
        const TRUNCATE: u32 = 8;
        let found = self.tree.find(self.folder(fd)?, path);
        if flags & (EXCLUSIVE | TRUNCATE) != 0 || (flags & CREATE != 0 && found == Err(Errno::NOENT)) {
            return Err(Errno::ROFS);
        }
        let node = found?;
        let open = match self.tree.node(node)?.bytes {
            Some(_) if flags & DIRECTORY != 0 => return Err(Errno::NOTDIR),
            Some(_) if rights & right::WRITE != 0 => return Err(Errno::ROFS),
            Some(_) => Open::File { node, at: 0 },
            None => Open::Folder { node, given: false },
        };
        let free = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if free >= OPEN {
            return Err(Errno::MFILE);
        }
        if free == self.open.len() {
            self.open.push(None);
        }
        self.open[free] = Some(open);
        Ok(free as u32)
    }

    /// The bytes of an open file and where its next read begins.
    pub fn file(&self, fd: u32) -> Result<(&[u8], u64), Errno> {
        match self.of(fd)? {
            Open::File { node, at } => Ok((self.tree.node(node)?.bytes.as_deref().ok_or(Errno::ISDIR)?, at)),
            Open::Folder { .. } => Err(Errno::ISDIR),
            _ => Err(Errno::SPIPE),
        }
    }

    /// Moves where the next read begins.
    pub fn move_to(&mut self, fd: u32, to: u64) {
        if let Some(Some(Open::File { at, .. })) = self.open.get_mut(fd as usize) {
            *at = to;
        }
    }

    pub fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        let (bytes, at) = self.file(fd)?;
        let from = match whence {
            0 => 0,
            1 => at,
            2 => bytes.len() as u64,
            _ => return Err(Errno::INVAL),
        };
        let to = from.checked_add_signed(offset).ok_or(Errno::INVAL)?;
        self.move_to(fd, to);
        Ok(to)
    }

    /// The name of the folder that was there from the beginning.
    pub fn given(&self, fd: u32) -> Result<&'static [u8], Errno> {
        match self.of(fd)? {
            Open::Folder { given: true, .. } => Ok(ASSETS),
            _ => Err(Errno::BADF),
        }
    }

    /// `fdstat`: kind and rights.
    pub fn fdstat(&self, fd: u32) -> Result<[u8; 24], Errno> {
        let (kind, rights, inherited) = match self.of(fd)? {
            Open::Stdin => (UNKNOWN, right::READ | right::POLL | right::STAT, 0),
            Open::Stdout | Open::Stderr => (UNKNOWN, right::WRITE | right::POLL | right::STAT, 0),
            // Writing may be asked for, so that it can be refused for what it is: the files are read-only.
            Open::Folder { .. } => (FOLDER, right::OF_FOLDER, right::OF_FOLDER | right::OF_FILE | right::WRITE),
            Open::File { .. } => (FILE, right::OF_FILE, 0),
        };
        let mut out = [0; 24];
        out[0] = kind;
        out[8..16].copy_from_slice(&rights.to_le_bytes());
        out[16..].copy_from_slice(&inherited.to_le_bytes());
        Ok(out)
    }

    /// `filestat` of a descriptor.
    pub fn filestat(&self, fd: u32) -> Result<[u8; 64], Errno> {
        match self.of(fd)? {
            Open::Folder { node, .. } | Open::File { node, .. } => self.stat(node),
            _ => Ok(filestat(0, UNKNOWN, 0)),
        }
    }

    /// `filestat` of a path.
    pub fn filestat_at(&self, fd: u32, path: &[u8]) -> Result<[u8; 64], Errno> {
        self.stat(self.tree.find(self.folder(fd)?, path)?)
    }

    fn stat(&self, node: usize) -> Result<[u8; 64], Errno> {
        let found = self.tree.node(node)?;
        let (kind, size) = found.bytes.as_ref().map_or((FOLDER, 0), |bytes| (FILE, bytes.len() as u64));
        Ok(filestat(number(node), kind, size))
    }

    /// The folder's entries from the `cookie`-th on as `dirent`s; the last may be cut at `room` bytes.
    pub fn list(&self, fd: u32, cookie: u64, room: usize) -> Result<Vec<u8>, Errno> {
        let folder = self.folder(fd)?;
        let own = [(folder, "."), (folder, "..")];
        let entries = own.into_iter().chain(self.tree.entries(folder)?);
        let mut out = Vec::new();
        for (next, (node, name)) in (1u64..).zip(entries).skip(usize::try_from(cookie).unwrap_or(usize::MAX)) {
            if out.len() >= room {
                break;
            }
            let kind = if self.tree.node(node)?.bytes.is_some() { FILE } else { FOLDER };
            out.extend(next.to_le_bytes());
            out.extend(number(node).to_le_bytes());
            out.extend((name.len() as u32).to_le_bytes());
            out.extend([kind, 0, 0, 0]);
            out.extend(name.as_bytes());
        }
        out.truncate(room);
        Ok(out)
    }
}

/// A node's inode number: 0 would be none.
const fn number(node: usize) -> u64 {
    node as u64 + 1
}

/// Everything is of the year dot: nothing tells two devices apart.
fn filestat(number: u64, kind: u8, size: u64) -> [u8; 64] {
    let mut out = [0; 64];
    out[8..16].copy_from_slice(&number.to_le_bytes());
    out[16] = kind;
    out[24] = 1;
    out[32..40].copy_from_slice(&size.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let names = ["a.txt", "lib/b", "lib/deep/c"];
        let assets = names.into_iter().map(|name| (name.to_owned(), name.as_bytes().to_vec())).collect();
        Files::new(Rc::new(Tree::new(assets)))
    }

    #[test]
    fn no_path_leads_out() {
        let mut files = files();
        type Case = (&'static [u8], Result<&'static [u8], Errno>);
        let table: [Case; 16] = [
            (b"a.txt", Ok(b"a.txt")),
            (b"./lib//b", Ok(b"lib/b")),
            (b"lib/../a.txt", Ok(b"a.txt")),
            (b"lib/deep/../../lib/deep/c", Ok(b"lib/deep/c")),
            (b"..", Err(Errno::NOTCAPABLE)),
            (b"../assets/a.txt", Err(Errno::NOTCAPABLE)),
            (b"../../etc/passwd", Err(Errno::NOTCAPABLE)),
            (b"lib/../../etc/passwd", Err(Errno::NOTCAPABLE)),
            (b"/etc/passwd", Err(Errno::NOTCAPABLE)),
            (b"/a.txt", Err(Errno::NOTCAPABLE)),
            (b"", Err(Errno::NOENT)),
            (b"nothing", Err(Errno::NOENT)),
            (b"a.txt\0", Err(Errno::NOENT)),
            (b"a.txt/", Err(Errno::NOTDIR)),
            (b"\xff", Err(Errno::ILSEQ)),
            (&[b'x'; 5000], Err(Errno::NAMETOOLONG)),
        ];
        for (path, expected) in table {
            let got = files.open(3, path, 0, 0).map(|fd| files.file(fd).unwrap().0.to_vec());
            assert_eq!(got.as_deref().map_err(|errno| *errno), expected, "{}", path.escape_ascii());
        }
        let lib = files.open(3, b"lib", 2, 0).unwrap();
        assert!(files.open(lib, b"b", 0, 0).is_ok());
        assert!(files.open(lib, b"../a.txt", 0, 0).is_ok(), "inside the root");
        assert_eq!(files.open(lib, b"../../a.txt", 0, 0), Err(Errno::NOTCAPABLE));
        assert_eq!(files.open(0, b"a.txt", 0, 0), Err(Errno::NOTDIR));
        assert_eq!(files.open(99, b"a.txt", 0, 0), Err(Errno::BADF));
    }

    #[test]
    fn nothing_is_written_and_descriptors_end() {
        let mut files = files();
        for (flags, rights) in [(1 | 8, 0), (8, 0), (0, right::WRITE), (4, 0)] {
            assert_eq!(files.open(3, b"a.txt", flags, rights), Err(Errno::ROFS), "{flags} {rights}");
        }
        assert_eq!(files.open(3, b"new", 1, 0), Err(Errno::ROFS));
        let opened = (0..100).filter(|_| files.open(3, b"a.txt", 0, 0).is_ok()).count();
        assert_eq!(opened, OPEN - 4);
        assert_eq!(files.open(3, b"a.txt", 0, 0), Err(Errno::MFILE));
        files.close(7).unwrap();
        assert_eq!(files.close(7), Err(Errno::BADF));
        assert_eq!(files.open(3, b"a.txt", 0, 0), Ok(7));
        assert_eq!(
            (files.seek(7, -1, 2), files.seek(7, -9, 1), files.seek(7, 0, 3)),
            (Ok(4), Err(Errno::INVAL), Err(Errno::INVAL))
        );
        assert_eq!(files.seek(7, i64::MAX, 0), Ok(i64::MAX as u64));
        assert_eq!(files.seek(0, 0, 0), Err(Errno::SPIPE));
        assert_eq!(files.seek(3, 0, 0), Err(Errno::ISDIR));
    }

    #[test]
    fn a_folder_lists_its_own_entries() {
        let files = files();
        let all = files.list(3, 0, 4096).unwrap();
        let mut names = Vec::new();
        let mut rest = &all[..];
        while rest.len() >= 24 {
            let length = usize::from(rest[16]);
            names.push((String::from_utf8_lossy(&rest[24..24 + length]).into_owned(), rest[20]));
            rest = &rest[24 + length..];
        }
        let expected = [(".", FOLDER), ("..", FOLDER), ("a.txt", FILE), ("lib", FOLDER)];
        assert_eq!(names, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert!(files.list(3, 4, 4096).unwrap().is_empty());
        assert!(files.list(3, u64::MAX, 4096).unwrap().is_empty());
        assert_eq!(files.list(3, 0, 30).unwrap(), all[..30]);
        assert!(Files::new(Rc::default()).of(3).is_err(), "without assets there is no folder");
    }
}
