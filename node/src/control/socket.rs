//! Unix sockets that only this user opens, and whose files go with them.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::ControlError;

/// Connects to the socket at `path`.
pub(super) fn connect(path: &Path) -> Result<tokio::net::UnixStream, ControlError> {
    let io_error = |source| ControlError::Io { path: path.to_owned(), source };
    let stream = UnixStream::connect(path).map_err(io_error)?;
    stream.set_nonblocking(true).map_err(io_error)?;
    tokio::net::UnixStream::from_std(stream).map_err(io_error)
}

/// A listening socket whose file goes when it does.
pub(super) struct Bound {
    pub listener: tokio::net::UnixListener,
    file: SocketFile,
}

impl Bound {
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// The socket's file, known by its inode: another node's file at the same path is not removed.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`. A socket that nobody answers on is replaced; one that somebody answers on is an error.
pub(super) fn bind(path: &Path) -> Result<Bound, ControlError> {
    let io_error = |source| ControlError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error)?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(io_error)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io_error)?;
    let made = fs::symlink_metadata(path).map_err(io_error)?;
    let file = SocketFile { path: path.to_owned(), inode: (made.dev(), made.ino()) };
    listener.set_nonblocking(true).map_err(io_error)?;
    Ok(Bound { listener: tokio::net::UnixListener::from_std(listener).map_err(io_error)?, file })
}

/// Removes the socket of a dead process.
fn clear(path: &Path) -> Result<(), ControlError> {
    let io_error = |source| ControlError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(error)),
        Ok(found) if !found.file_type().is_socket() => Err(ControlError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(ControlError::AlreadyRunning(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io_error),
            Err(error) => Err(io_error(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_nodes_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/control.sock");
        let live = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(bind(&path), Err(ControlError::AlreadyRunning(_))));
        drop(live);
        assert!(!path.exists(), "a node that leaves takes its socket with it");

        // A killed process leaves its file behind.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn b56_what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(ControlError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(matches!(bind(&path), Err(ControlError::NotASocket(_))));
    }
}
