//! Private files and folders: owned by this user, closed to others, never behind a symlink, replaced in one step.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Mode of every folder that only this user may enter.
const FOLDER_MODE: u32 = 0o700;
/// Mode of every file that only this user may read.
const FILE_MODE: u32 = 0o600;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;
/// Permission bits that let group or others change a folder.
const OTHERS_WRITE: u32 = 0o022;

/// Why a file or folder of the home cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is a symbolic link: it could lead anywhere (B56).
    #[error("{} is a symbolic link; msm does not follow links here", .path.display())]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// Somebody else owns it (B55).
    #[error("{} belongs to user {owner}, but msm runs as user {you}", .path.display())]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id of this process.
        you: u32,
    },
    /// Others may read a file that holds a secret (B55).
    #[error("{} can be read by others (mode {mode:04o}); it must be 0600", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may change what is inside a folder.
    #[error("{} can be written by others (mode {mode:04o}); msm needs a folder of its own", .path.display())]
    SharedFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file where a folder should be, or the other way round.
    #[error("{} is not a {expected}", .path.display())]
    WrongKind {
        /// What is in the way.
        path: PathBuf,
        /// `folder` or `file`.
        expected: &'static str,
    },
    /// A file larger than anything msm writes there.
    #[error("{} has {size} bytes; at most {limit} are read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried: `read`, `create`, …
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    /// Lines to type that would change the outcome.
    pub fn tries(&self) -> Vec<String> {
        match self {
            Self::Exposed { path, .. } => vec![format!("chmod 600 {}", quoted(path))],
            Self::SharedFolder { path, .. } => vec![format!("chmod go-w {}", quoted(path))],
            Self::ForeignOwner { path, you, .. } => vec![format!("sudo chown -R {you} {}", quoted(path))],
            Self::Symlink { path } => vec![format!("rm {}", quoted(path))],
            _ => Vec::new(),
        }
    }

    /// True when the disk (or the user's share of it) is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }
}

/// True when `error` says that the disk, or the user's share of it, is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// `path` as a shell would read it back.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io { what, path: path.to_owned(), source }
}

fn check_owner(path: &Path, owner: u32) -> Result<(), FileError> {
    let you = rustix::process::geteuid().as_raw();
    if owner == you { Ok(()) } else { Err(FileError::ForeignOwner { path: path.to_owned(), owner, you }) }
}

/// Makes sure that the folder `path`, which the *user* chose, can hold a home: it is made with mode 0700, or it is
/// this user's already and nobody else can write there. An existing folder's mode is left alone: it may be anything,
/// even the user's own home folder.
pub(crate) fn chosen_folder(path: &Path) -> Result<(), FileError> {
    make_folders(path)?;
    // A link is followed here: people keep homes on other disks.
    let meta = fs::metadata(path).map_err(io_error("read", path))?;
    if !meta.is_dir() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "folder" });
    }
    check_owner(path, meta.uid())?;
    let mode = meta.mode() & 0o7777;
    // Where each user has a group of their own, of the same number, that group is nobody else.
    let others = if meta.gid() == meta.uid() { OTHERS_WRITE & !0o020 } else { OTHERS_WRITE };
    if mode & others != 0 {
        return Err(FileError::SharedFolder { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Makes sure that `path`, a folder whose name *msm* chose, exists with mode 0700, is no link and is this user's.
pub(crate) fn private_folder(path: &Path) -> Result<(), FileError> {
    make_folders(path)?;
    let meta = fs::symlink_metadata(path).map_err(io_error("read", path))?;
    if meta.is_symlink() {
        return Err(FileError::Symlink { path: path.to_owned() });
    }
    if !meta.is_dir() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "folder" });
    }
    check_owner(path, meta.uid())?;
    if meta.mode() & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)).map_err(io_error("chmod", path))?;
    }
    Ok(())
}

fn make_folders(path: &Path) -> Result<(), FileError> {
    match DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path) {
        // A dangling link or a file in the way: the caller's checks name it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(io_error("create", path)),
    }
}

/// Who may read a file that is read by [`read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Mode 0600 or stricter is demanded.
    Secret,
    /// Any mode will do.
    Plain,
}

/// Reads a file of this user, `None` when there is none. Links, foreign files, other things than files and more than
/// `limit` bytes are refused, all checked on the opened file so that nothing can be swapped in between.
pub(crate) fn read(path: &Path, limit: u64, secrecy: Secrecy) -> Result<Option<Vec<u8>>, FileError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // What O_NOFOLLOW answers for a link.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(FileError::Symlink { path: path.to_owned() });
        }
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let meta = file.metadata().map_err(io_error("read", path))?;
    if !meta.is_file() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "file" });
    }
    check_owner(path, meta.uid())?;
    let mode = meta.mode() & 0o7777;
    if secrecy == Secrecy::Secret && mode & OTHERS != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), size: meta.len().max(limit + 1), limit });
    }
    Ok(Some(bytes))
}

/// Opens a file of this user to add to its end, with its size; makes it (mode 0600) where it is missing. Links and
/// foreign files are refused.
pub(crate) fn append(path: &Path) -> Result<(File, u64), FileError> {
    let file = own_file(path, OpenOptions::new().append(true).create(true).mode(FILE_MODE))?;
    let size = file.metadata().map_err(io_error("read", path))?.len();
    Ok((file, size))
}

/// Replaces `path` by `bytes` (mode 0600): whoever looks, at any time and after any crash, finds the old or the new
/// bytes, whole. When it returns, the new bytes survive a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    refuse_link(path)?;
    let temporary = write_beside(path, bytes)?;
    fs::rename(&temporary, path).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("replace", path)(error)
    })?;
    sync_folder_of(path)
}

/// Creates `path` with `bytes` (mode 0600), durably; `false` when something of that name exists already, which is left
/// untouched. Of two that create at once one wins, and the loser reads a whole file.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let temporary = write_beside(path, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    let made = match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("create", path)(error)),
    };
    let _ = fs::remove_file(&temporary);
    if matches!(made, Ok(true)) {
        sync_folder_of(path)?;
    }
    made
}

/// Makes a new file (mode 0600) to write and read; one that is there already, or a link, is an error.
pub(crate) fn create_new(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path).map_err(io_error("create", path))
}

/// Opens a file of this user to read and write, at its end unless a place is said; makes it (mode 0600) where it is
/// missing. Links and foreign files are refused.
pub(crate) fn open_or_create(path: &Path) -> Result<File, FileError> {
    own_file(path, OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE))
}

/// Opens a file of this user to read. Links and foreign files are refused.
pub(crate) fn open_existing(path: &Path) -> Result<File, FileError> {
    own_file(path, OpenOptions::new().read(true))
}

fn own_file(path: &Path, options: &mut OpenOptions) -> Result<File, FileError> {
    let file = match options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(FileError::Symlink { path: path.to_owned() });
        }
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let meta = file.metadata().map_err(io_error("read", path))?;
    if !meta.is_file() {
        return Err(FileError::WrongKind { path: path.to_owned(), expected: "file" });
    }
    check_owner(path, meta.uid())?;
    Ok(file)
}

/// Removes `path`; `false` when it was not there.
pub(crate) fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

fn refuse_link(path: &Path) -> Result<(), FileError> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => Err(FileError::Symlink { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// The name of the file that becomes `path`. One name per process and target: a crash leaves at most one behind, which
/// the next start with this process id, or nobody, overwrites; it is never read.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""));
    path.with_file_name(name)
}

fn write_beside(path: &Path, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let temporary = temporary_name(path);
    let written = (|| {
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(io_error("write", path)(error))
        }
    }
}

/// A rename is durable only once its folder is.
fn sync_folder_of(path: &Path) -> Result<(), FileError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}

/// Removes files that [`replace`] or [`create`] left in `folder` when they were killed. What another process that lives
/// is writing stays: a command may make a market while a node starts.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((_, writer)) = name.to_str().and_then(|name| name.rsplit_once(".tmp-")) else { continue };
        let pid = writer.split('-').next().and_then(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?));
        let gone = Err(rustix::io::Errno::SRCH);
        let lives = |pid| pid != rustix::process::getpid() && rustix::process::test_kill_process(pid) != gone;
        if !pid.is_some_and(lives) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn replace_is_private_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read(&path, 3, Secrecy::Secret).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(read(&path, 2, Secrecy::Secret), Err(FileError::TooLarge { size: 3, limit: 2, .. })));
    }

    #[test]
    fn sweeping_spares_what_another_process_is_writing() {
        let dir = tempfile::tempdir().unwrap();
        let own = std::process::id();
        // Process 1 always lives; no process has the largest id.
        let files =
            ["x.tmp-1-ThreadId1", &format!("x.tmp-{own}-ThreadId1"), &format!("x.tmp-{}-ThreadId1", i32::MAX), "x"];
        files.iter().for_each(|file| fs::write(dir.path().join(file), b"").unwrap());
        sweep(dir.path());
        let left = files.map(|file| dir.path().join(file).exists());
        assert_eq!(left, [true, false, false, true]);
    }

    #[test]
    fn create_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(create(&path, b"one").unwrap());
        assert!(!create(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let link = dir.path().join("link");
        symlink("/nowhere/at/all", &link).unwrap();
        assert!(!create(&link, b"x").unwrap());
    }

    #[test]
    fn b55_a_secret_that_others_can_read_is_refused_with_the_command_that_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a key");
        for mode in [0o644, 0o640, 0o604, 0o660] {
            fs::write(&path, b"x").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = read(&path, 10, Secrecy::Secret).unwrap_err();
            assert!(matches!(&error, FileError::Exposed { mode: seen, .. } if *seen == mode), "{error}");
            assert_eq!(error.tries(), [format!("chmod 600 '{}'", path.display())]);
            assert!(read(&path, 10, Secrecy::Plain).is_ok());
        }
    }

    #[test]
    fn b55_files_and_folders_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        // Root can give a file away; anybody else looks at one of root's.
        let (file, folder) = if rustix::process::geteuid().is_root() {
            let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
            fs::write(&file, b"x").unwrap();
            fs::create_dir(&folder).unwrap();
            chown(&file, Some(12_345), None).unwrap();
            chown(&folder, Some(12_345), None).unwrap();
            (file, folder)
        } else {
            (PathBuf::from("/etc/passwd"), PathBuf::from("/etc"))
        };
        for error in [
            read(&file, 1 << 20, Secrecy::Plain).unwrap_err(),
            private_folder(&folder).unwrap_err(),
            chosen_folder(&folder).unwrap_err(),
        ] {
            assert!(matches!(error, FileError::ForeignOwner { .. }), "{error}");
            assert!(error.tries()[0].starts_with("sudo chown -R "));
        }
    }

    #[test]
    fn b56_links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        for target in ["/etc", "/etc/passwd", "/nowhere/at/all"] {
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            let refused = |result: Result<(), FileError>| {
                assert!(matches!(result, Err(FileError::Symlink { .. })), "{target}: {result:?}");
            };
            refused(read(&link, 1 << 20, Secrecy::Plain).map(drop));
            refused(replace(&link, b"x"));
            refused(private_folder(&link));
        }
    }

    #[test]
    fn folders_are_made_private_and_closed_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        private_folder(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        private_folder(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(matches!(private_folder(&dir.path().join("file")), Err(FileError::WrongKind { .. })));
    }

    #[test]
    fn a_chosen_folder_keeps_its_mode_but_must_not_be_shared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home");
        chosen_folder(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        for fine in [0o755, 0o700, 0o500] {
            fs::set_permissions(&path, Permissions::from_mode(fine)).unwrap();
            chosen_folder(&path).unwrap();
            assert_eq!(mode(&path), fine);
        }
        // A group of the user's own number may write; another may not.
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(chosen_folder(&path).is_ok(), meta.uid() == meta.gid());
        if rustix::process::geteuid().is_root() {
            chown(&path, None, Some(12_345)).unwrap();
            assert!(matches!(chosen_folder(&path), Err(FileError::SharedFolder { mode: 0o770, .. })));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(chosen_folder(&path), Err(FileError::SharedFolder { mode: 0o777, .. })));
    }

    #[test]
    fn a_fifo_does_not_block_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        if made.is_ok_and(|status| status.success()) {
            assert!(matches!(read(&path, 10, Secrecy::Plain), Err(FileError::WrongKind { .. })));
        }
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        for (path, text) in [("/a/b-c.d", "/a/b-c.d"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'"), ("", "''")] {
            assert_eq!(quoted(Path::new(path)), text);
        }
    }
}
