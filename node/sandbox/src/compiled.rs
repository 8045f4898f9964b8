//! Compiled modules: kept in memory and in a folder, each used for exactly the module that it was made of.
//!
//! Compiled code is native code, so what is on the disk is believed only when its hash says that this program wrote it
//! for this module: a file is the SHA-256 of its own name and what follows, then the code. The name is the module's hash
//! and the compiler's fingerprint. Anything else in the folder is thrown away and compiled again.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use msm_protocol::{ContentHash, Refusal, RefusalCode, hash::Hasher};
use tokio::sync::OnceCell;

use crate::wire::CODE_BYTES;

/// Code kept in memory: a few of the largest modules, or all that a device commonly runs. *Judgement.*
const MEMORY_BYTES: usize = 64 << 20;
/// Modules kept in memory, those that do not compile among them. *Judgement.*
const MODULES: usize = 64;
/// Code kept in the folder; the longest unused goes first. *Judgement.*
const FOLDER_BYTES: u64 = 128 << 20;

/// The compiled modules of one pool.
pub struct Compiled {
    folder: Option<PathBuf>,
    /// Longest unused first.
    kept: Mutex<VecDeque<(ContentHash, Slot)>>,
    /// What code in the folder depends on beside the module.
    pub fingerprint: OnceCell<ContentHash>,
}

/// One module's code, or that it has none: whoever comes first compiles, the others wait for it.
pub type Slot = Arc<OnceCell<Result<Bytes, Refusal>>>;

impl Compiled {
    /// Nothing in memory yet.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, kept: Mutex::default(), fingerprint: OnceCell::new() }
    }

    /// Whether code outlives the process.
    pub const fn has_folder(&self) -> bool {
        self.folder.is_some()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(ContentHash, Slot)>> {
        // Nothing under this lock can leave the list half-changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a module's code is or will be.
    pub fn slot(&self, module: ContentHash) -> Slot {
        let mut kept = self.kept();
        let known = kept.iter().position(|(hash, _)| *hash == module).and_then(|at| kept.remove(at));
        let (_, slot) = known.unwrap_or_else(|| (module, Slot::default()));
        kept.push_back((module, slot.clone()));
        let size = |slot: &Slot| match slot.get() {
            Some(Ok(code)) => code.len(),
            _ => 0,
        };
        let mut total: usize = kept.iter().map(|(_, slot)| size(slot)).sum();
        while kept.len() > 1 && (total > MEMORY_BYTES || kept.len() > MODULES) {
            total -= kept.pop_front().map_or(0, |(_, slot)| size(&slot));
        }
        slot
    }

    /// Forgets a module's code, in memory and on disk: it turned out to be of no use.
    pub async fn forget(&self, module: ContentHash) {
        self.kept().retain(|(hash, _)| *hash != module);
        if let (Some(folder), Some(fingerprint)) = (&self.folder, self.fingerprint.get()) {
            let path = folder.join(name(module, *fingerprint));
            let _ = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
        }
    }

    /// A module's code from the folder.
    pub async fn read(&self, module: ContentHash, fingerprint: ContentHash) -> Option<Bytes> {
        let folder = self.folder.clone()?;
        let read = move || prepare(&folder).ok().and_then(|()| read(&folder, &name(module, fingerprint)));
        tokio::task::spawn_blocking(read).await.ok().flatten().map(Bytes::from)
    }

    /// Puts a module's code into the folder. That it fails is no more than a pity.
    pub async fn write(&self, module: ContentHash, fingerprint: ContentHash, code: Bytes) {
        let Some(folder) = self.folder.clone() else { return };
        let write = move || {
            let name = name(module, fingerprint);
            let written = prepare(&folder).and_then(|()| write(&folder, &name, &code));
            if let Err(error) = written.and_then(|()| tidy(&folder, FOLDER_BYTES)) {
                tracing::warn!(%error, folder = %folder.display(), "a compiled module is not kept on disk");
            }
        };
        let _ = tokio::task::spawn_blocking(write).await;
    }
}

/// What a child's word about a module is worth: that it does not compile is so for good, that the child died is not.
pub fn verdict(compiled: Result<Bytes, Refusal>) -> Result<Result<Bytes, Refusal>, Refusal> {
    match compiled {
        Err(refusal) if refusal.code != RefusalCode::BadPackage => Err(refusal),
        settled => Ok(settled),
    }
}

fn name(module: ContentHash, fingerprint: ContentHash) -> String {
    format!("{}-{}", HEXLOWER.encode(module.as_bytes()), HEXLOWER.encode(&fingerprint.as_bytes()[..8]))
}

fn prepare(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A link could lead into another user's folder.
    if fs::symlink_metadata(folder)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn digest(name: &str, code: &[u8]) -> ContentHash {
    let mut hashing = Hasher::default();
    hashing.update(name.as_bytes());
    hashing.update(code);
    hashing.finish()
}

fn read(folder: &Path, name: &str) -> Option<Vec<u8>> {
    let path = folder.join(name);
    let file = open(&path)?;
    let mut bytes = Vec::new();
    // One byte more than there may be shows that there is too much.
    let most = CODE_BYTES as u64 + 33;
    (&file).take(most).read_to_end(&mut bytes).ok()?;
    let sound = bytes
        .split_first_chunk::<32>()
        .is_some_and(|(hash, code)| (bytes.len() as u64) < most && digest(name, code).as_bytes() == hash);
    if !sound {
        tracing::warn!(path = %path.display(), "a compiled module on disk is damaged: it is compiled again");
        let _ = fs::remove_file(&path);
        return None;
    }
    // Used now: the longest unused goes first. A file system that does not take it loses the order, not the file.
    let _ = file.set_modified(SystemTime::now());
    bytes.drain(..32);
    Some(bytes)
}

/// A regular file of that name; a link or anything else is not ours.
fn open(path: &Path) -> Option<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

fn write(folder: &Path, name: &str, code: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let own = format!(".{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let half = folder.join(own);
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half).and_then(|mut file| {
        file.write_all(digest(name, code).as_bytes())?;
        file.write_all(code)?;
        // Not synced: a file that a power cut tears is noticed when it is read.
        fs::rename(&half, folder.join(name))
    });
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written
}

/// Removes the longest unused files until the rest is within the bound.
fn tidy(folder: &Path, most: u64) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in files {
        if total <= most {
            break;
        }
        fs::remove_file(path)?;
        total -= length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("msm-compiled-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn damaged_and_foreign_files_are_thrown_away() {
        let scratch = Scratch::new("damaged");
        let folder = &scratch.0;
        let code: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        write(folder, "a", &code).unwrap();
        assert_eq!(read(folder, "a").as_deref(), Some(&code[..]));
        let whole = fs::read(folder.join("a")).unwrap();
        for at in (0..whole.len()).step_by(37) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(folder.join("a"), &damaged).unwrap();
            assert_eq!(read(folder, "a"), None, "byte {at}");
            assert!(!folder.join("a").exists());
        }
        // Another module's code under this one's name, and cut or endless files.
        let longer = [&whole[..], b"x"].concat();
        for wrong in [&whole[..], &whole[..500], &whole[..32], &whole[..31], b"", &longer] {
            fs::write(folder.join("b"), wrong).unwrap();
            assert_eq!(read(folder, "b"), None, "{} bytes", wrong.len());
        }
        write(folder, "a", &code).unwrap();
        std::os::unix::fs::symlink(folder.join("a"), folder.join("link")).unwrap();
        assert_eq!(read(folder, "link"), None);
        assert!(prepare(&folder.join("link")).is_err());
        assert_eq!(read(folder, "nothing"), None);
    }

    #[test]
    fn the_longest_unused_goes_first() {
        let scratch = Scratch::new("oldest");
        let folder = &scratch.0;
        for (age, name) in [(30, "old"), (20, "older-but-used"), (10, "new")] {
            write(folder, name, &[0; 1000]).unwrap();
            let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        read(folder, "older-but-used").unwrap();
        tidy(folder, 2200).unwrap();
        let left = |name: &str| folder.join(name).exists();
        assert_eq!((left("old"), left("older-but-used"), left("new")), (false, true, true));
        tidy(folder, 1100).unwrap();
        assert_eq!((left("older-but-used"), left("new")), (true, false));
    }

    #[test]
    fn memory_is_bounded() {
        let compiled = Compiled::new(None);
        let hash = |i: usize| ContentHash::of(&i.to_le_bytes());
        let first = compiled.slot(hash(0));
        first.set(Ok(Bytes::from(vec![0; 1 << 20]))).unwrap();
        assert!(compiled.slot(hash(0)).get().is_some());
        for i in 1..2 * MODULES {
            compiled.slot(hash(i)).set(Ok(Bytes::from(vec![0; 2 << 20]))).unwrap();
            let held: usize = compiled.kept().iter().map(|(_, slot)| slot.get().unwrap().as_ref().unwrap().len()).sum();
            assert!(held <= MEMORY_BYTES + (2 << 20), "{held}");
        }
        assert!(compiled.slot(hash(0)).get().is_none(), "the first has gone");
        for i in 1000..2000 {
            compiled.slot(hash(i));
        }
        assert!(compiled.kept().len() <= MODULES);
    }
}
