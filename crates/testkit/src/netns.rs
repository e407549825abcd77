//! Anonymous network namespaces: made on a thread of their own, kept alive by one open file of this process, and gone
//! with it. Nothing is bound below `/run/netns`, so no name can clash and nothing can be left behind.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::Duration;
use std::{env, fs, os::fd::AsRawFd, panic, process, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// Set to a number of seconds to keep the namespaces of a failed test that long, so that one can enter them.
const HOLD: &str = "SVCD_TEST_HOLD";
/// Tells a test process that it already runs below `unshare`.
const REENTERED: &str = "SVCD_TEST_REENTERED";

/// Runs a test's body with the right to make network namespaces: directly for root, and for anyone else by starting
/// this very test again in a user namespace.
///
/// # Panics
/// When the body fails, or when user namespaces are not allowed here; the message says what to do.
pub fn privileged(body: impl FnOnce()) {
    if nix::unistd::geteuid().is_root() {
        return body();
    }
    assert!(
        env::var_os(REENTERED).is_none(),
        "a user namespace that does not make us root: run the tests as root"
    );
    let name = thread::current().name().expect("tests run on threads named after them").to_owned();
    let lock = env::temp_dir().join(format!("svcd-test-xtables-{}.lock", process::id()));
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(env::current_exe().expect("a test knows its own binary"))
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(REENTERED, "1")
        .env("XTABLES_LOCKFILE", &lock)
        .status();
    // The lock file is iptables' own; it may never have been made.
    let _ = fs::remove_file(&lock);
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => {
            panic!("{name} in a user namespace: {status} (if user namespaces are off here, run as root)")
        }
        Err(error) => {
            panic!("cannot run unshare for {name}: {error}; install util-linux or run the tests as root")
        }
    }
}

/// A network namespace of its own, with `lo` up; gone when dropped.
#[derive(Debug)]
pub struct Netns {
    label: String,
    file: File,
}

impl Netns {
    /// Makes one. `label` only names it in messages.
    ///
    /// # Panics
    /// Without the right to do so; wrap the test in [`privileged`].
    pub fn new(label: &str) -> Self {
        let file = thread::scope(|scope| {
            scope
                .spawn(|| -> io::Result<File> {
                    unshare(CloneFlags::CLONE_NEWNET)?;
                    File::open("/proc/thread-self/ns/net")
                })
                .join()
                .expect("opening a namespace does not panic")
        })
        .unwrap_or_else(|error| {
            panic!("cannot make network namespace {label}: {error} (root or privileged() needed)")
        });
        let netns = Self { label: label.to_owned(), file };
        netns.ip("link set lo up");
        netns
    }

    /// What messages call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A path that names this namespace to any process of this user, while it lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// The open namespace itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The command line that enters it from a shell.
    pub fn nsenter(&self) -> String {
        format!("nsenter --net={}", self.path().display())
    }

    /// Runs `body` on a thread of its own inside the namespace, and waits for it. Threads, children and sockets made
    /// there belong to the namespace.
    pub fn enter<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        // The thread keeps the caller's name, so that a panic in it is reported as the test's.
        let builder = thread::Builder::new().name(thread::current().name().unwrap_or(&self.label).to_owned());
        thread::scope(|scope| {
            let thread = builder.spawn_scoped(scope, || {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .unwrap_or_else(|error| panic!("cannot enter namespace {}: {error}", self.label));
                body()
            });
            match thread.expect("a thread can be started").join() {
                Ok(value) => value,
                Err(cause) => panic::resume_unwind(cause),
            }
        })
    }

    /// Drives a future to its end inside the namespace, on a runtime of one thread: all it spawns stays inside.
    pub fn block_on<F: Future<Output: Send>>(&self, future: impl FnOnce() -> F + Send) -> F::Output {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(future())
        })
    }

    /// Runs a command inside and returns what became of it, successful or not.
    pub fn output(&self, command: &mut Command) -> Output {
        self.enter(|| command.output().unwrap_or_else(|error| panic!("{}: {command:?}: {error}", self.label)))
    }

    /// Runs a command inside, given as words, and returns its standard output.
    ///
    /// # Panics
    /// When it fails, with its standard error.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let (program, arguments) = words.split_first().expect("a command has a program");
        let output = self.output(Command::new(program).args(arguments));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {words:?}: {}: {error}", self.label, output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip …` inside; the words are split at blanks.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> String {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split_whitespace()).collect();
        self.run(&words)
    }

    /// Starts a process inside that is killed when the guard is dropped.
    pub fn spawn(&self, command: &mut Command) -> Running {
        Running(
            self.enter(|| {
                command.spawn().unwrap_or_else(|error| panic!("{}: {command:?}: {error}", self.label))
            }),
        )
    }

    /// Sets a kernel parameter below `net`, such as `net.ipv4.ip_forward`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: cannot set {key}={value}: {error}", self.label));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        let seconds = env::var(HOLD).ok().and_then(|value| value.parse::<u64>().ok());
        match seconds {
            Some(seconds) => {
                eprintln!("namespace {} stays for {seconds} s: {}", self.label, self.nsenter());
                thread::sleep(Duration::from_secs(seconds.min(3600)));
            }
            None => eprintln!("namespace {} was {}; keep it with {HOLD}=600", self.label, self.nsenter()),
        }
    }
}

/// A process of a test; killed and reaped when dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
