//! Network namespaces of pods: made on threads of their own, held by a bind mount so that they outlive the agent.
//!
//! No runtime worker ever changes its namespace: whoever must act inside one gets a fresh thread that dies afterwards.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Whether `path` is a namespace that lives.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC)
}

/// Makes sure that `path` is a network namespace; an existing one is left alone.
///
/// # Errors
/// Without the right to mount or to make namespaces.
pub async fn create(path: &Path) -> Result<()> {
    if exists(path) {
        return Ok(());
    }
    prepare(path)?;
    let target = path.to_owned();
    on_thread(path, move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(Error::errno("make a network namespace for", &target))?;
        bind(Path::new("/proc/thread-self/ns/net"), &target)
    })
    .await
}

/// Makes `path` name the namespace of a running process, for when the mount is lost but the pod lives.
///
/// # Errors
/// When the process is gone, or without the right to mount.
pub fn adopt(path: &Path, pid: i32) -> Result<()> {
    if exists(path) {
        return Ok(());
    }
    prepare(path)?;
    bind(&PathBuf::from(format!("/proc/{pid}/ns/net")), path)
}

/// Lets go of a namespace; it ends with its last process. Nothing there is fine.
///
/// # Errors
/// When the mount cannot be removed.
pub fn delete(path: &Path) -> Result<()> {
    if exists(path) {
        umount2(path, MntFlags::MNT_DETACH).map_err(Error::errno("unmount", path))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Lets go of every namespace in a directory, and of the directory's own mount. Nothing there is fine.
///
/// # Errors
/// When a mount cannot be removed.
pub fn delete_all(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", dir))?,
    };
    for entry in entries {
        delete(&entry.map_err(Error::io("list", dir))?.path())?;
    }
    match umount2(dir, MntFlags::MNT_DETACH) {
        // EINVAL: it is no mount point.
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(Error::errno("unmount", dir)(error)),
    }
}

/// Runs `body` on a thread of its own inside the namespace, and waits for it. Sockets made there belong to it.
///
/// # Errors
/// When the namespace cannot be entered, or what `body` returns.
pub async fn enter<R: Send + 'static>(
    path: &Path,
    body: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    let target = path.to_owned();
    on_thread(path, move || {
        let file = File::open(&target).map_err(Error::io("open network namespace", &target))?;
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(Error::errno("enter network namespace", &target))?;
        body()
    })
    .await
}

async fn on_thread<R: Send + 'static>(
    path: &Path,
    body: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name("netns".to_owned())
        // The receiver may have been cancelled; then nobody wants the answer.
        .spawn(move || drop(answer.send(body())))
        .map_err(Error::io("start a thread for", path))?;
    answered.await.map_err(|_| Error::Thread(path.to_owned()))?
}

/// Makes the directory a shared mount of its own and puts an empty file there. Shared, so that removing a namespace
/// also removes the copies of its mount in the private mount namespaces of other pods, which would keep it alive.
fn prepare(path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let none = None::<&str>;
    if mount(none, dir, none, MsFlags::MS_SHARED, none).is_err() {
        // It is no mount point yet.
        mount(Some(dir), dir, none, MsFlags::MS_BIND, none).map_err(Error::errno("mount", dir))?;
        mount(none, dir, none, MsFlags::MS_SHARED, none).map_err(Error::errno("share mount", dir))?;
    }
    File::options().create(true).append(true).open(path).map(drop).map_err(Error::io("create", path))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)
        .map_err(Error::errno("bind a network namespace to", target))
}
