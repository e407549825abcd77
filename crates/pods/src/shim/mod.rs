//! The process between the agent and a container, so that containers outlive agents: it enters the pod's namespaces,
//! starts the command, writes its output to the log, waits for it, and records how it ended.
//!
//! Runs as `<own binary> __pod-exec run SPEC`; while it lives it holds the write end of the container's `alive` FIFO
//! open (its standard output), which is how any agent, also a later one, learns at once that it has ended.
//! A container dies with its shim, so whoever kills one kills both (`become`, below).
//! `__pod-exec exec SPEC` runs one more command beside a container. Must be called before any thread is started.

mod log;
mod namespace;
mod record;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, getppid, setgid, setgroups, setsid, setuid};

use crate::SHIM_COMMAND;

pub(crate) use record::{Ended, ExecSpec, Program, RunSpec, Started, now_micros, read, start_time, write};

/// What shells say when a command cannot be executed; container runtimes use it too.
const CANNOT_START: i32 = 128;

/// Does what the arguments after the hidden subcommand say.
pub fn main(args: &[String]) -> ExitCode {
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", spec] => run(Path::new(spec)),
        ["become", shim] => become_program(shim),
        ["exec", spec] => exec(Path::new(spec)),
        _ => Err(io::Error::other("this is for agents, which run it for each container of a pod")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            // The shell's number for "found, but could not be run".
            ExitCode::from(126)
        }
    }
}

fn run(path: &Path) -> io::Result<()> {
    let spec: RunSpec = read(path)?;
    // Away from the agent's terminal and process group. Only a group leader cannot, and it is away already.
    let _ = setsid();
    prctl::set_child_subreaper(true)?;
    let log = log::Log::open(&spec.log)?;
    let record = Directory(File::open(path.parent().unwrap_or_else(|| Path::new("/")))?);
    let started_at = now_micros();
    let child = match namespace::enter(&spec) {
        Ok(()) => start(&spec.program),
        Err(error) => Err(error.to_string()),
    };
    let ended = match child {
        Ok(child) => attend(child, &spec, log, &record, started_at)?,
        Err(message) => Ended {
            code: CANNOT_START,
            signal: None,
            reason: "StartError".to_owned(),
            message: Some(message),
            started_at,
            finished_at: now_micros(),
        },
    };
    write(&record.path("exit.json"), &ended)
}

/// The container's record, by file descriptor: mounts of the container may cover its path.
struct Directory(File);

impl Directory {
    fn path(&self, name: &str) -> std::path::PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()).into()
    }
}

fn failure(program: &Program, error: &io::Error) -> String {
    match program.argv.first() {
        Some(name) if error.kind() == io::ErrorKind::NotFound => {
            format!("exec: \"{name}\": executable file not found in $PATH of the node ({error})")
        }
        Some(name) => format!("exec: \"{name}\": {error}"),
        None => error.to_string(),
    }
}

/// Starts the program by way of `become`. That gets it through a socket, and either becomes it, which closes the socket,
/// or says through it why it cannot.
fn start(program: &Program) -> Result<Child, String> {
    let spawn = || -> io::Result<(Child, String)> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .args([SHIM_COMMAND, "become"])
            .arg(std::process::id().to_string())
            .process_group(0)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        ours.write_all(&serde_json::to_vec(program)?)?;
        ours.shutdown(Shutdown::Write)?;
        let mut error = String::new();
        ours.read_to_string(&mut error)?;
        Ok((child, error))
    };
    match spawn() {
        Ok((child, error)) if error.is_empty() => Ok(child),
        Ok((mut child, error)) => {
            // It ends by itself, having nothing more to do.
            let _ = child.wait();
            Err(error)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The program that is to run, on its way to being it: told to die with the shim, which only a process itself can ask for.
fn become_program(shim: &str) -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    let program: Program = serde_json::from_slice(&text)?;
    let become_it = || {
        let mut command = command(&program)?;
        // After the change of user, which would clear it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if getppid().to_string() != shim {
            return Err(io::Error::other("the shim has gone"));
        }
        Err(command.stdin(Stdio::null()).exec())
    };
    become_it().inspect_err(|error| {
        // A shim that does not listen any more is one that has gone.
        let _ = socket.write_all(failure(&program, error).as_bytes());
    })
}

/// The command, with this process already in its place and of its user.
fn command(program: &Program) -> io::Result<Command> {
    let (name, arguments) = program
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run"))?;
    let dir = program.working_dir.as_deref().unwrap_or_else(|| Path::new("/"));
    std::env::set_current_dir(dir)
        .map_err(|error| io::Error::other(format!("cannot work in {}: {error}", dir.display())))?;
    if program.user.is_some_and(|user| user != 0) {
        // Root's groups are root's.
        setgroups(&[])?;
    }
    if let Some(group) = program.group {
        setgid(Gid::from_raw(group))?;
    }
    if let Some(user) = program.user {
        setuid(Uid::from_raw(user))?;
    }
    if program.no_new_privileges {
        prctl::set_no_new_privs()?;
    }
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

/// Sees a running container to its end.
fn attend(
    mut child: Child,
    spec: &RunSpec,
    log: log::Log,
    record: &Directory,
    started_at: i64,
) -> io::Result<Ended> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let shim = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    write(
        &record.path("started.json"),
        &Started {
            pid,
            pid_start: start_time(pid).unwrap_or(0),
            shim,
            shim_start: start_time(shim).unwrap_or(0),
            started_at,
        },
    )?;
    let (line, first_line) = mpsc::channel();
    let pumps = [
        child.stdout.take().map(|pipe| log.pump("stdout", pipe, line.clone())),
        child.stderr.take().map(|pipe| log.pump("stderr", pipe, line)),
    ];
    if spec.wait_for_output {
        // Also when it ends without a word: then both senders are gone.
        let _ = first_line.recv();
    }
    // A dead agent does not read; the next one will find the record.
    let _ = io::stdout().write_all(b"started\n").and_then(|()| io::stdout().flush());
    let status = child.wait()?;
    sweep(pid);
    for pump in pumps.into_iter().flatten() {
        // A pump that panicked has lost a line of a log, nothing else.
        let _ = pump.join();
    }
    Ok(ended(status, started_at))
}

/// Kills what the container left: its process group, and, since orphans become our children, all others.
fn sweep(pid: i32) {
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    loop {
        for child in children() {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn children() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn ended(status: ExitStatus, started_at: i64) -> Ended {
    let signal = status.signal();
    let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
    let reason = if code == 0 { "Completed" } else { "Error" };
    Ended { code, signal, reason: reason.to_owned(), message: None, started_at, finished_at: now_micros() }
}

/// Becomes another command beside a running container.
fn exec(path: &Path) -> io::Result<()> {
    let spec: ExecSpec = read(path)?;
    namespace::join(spec.shim)?;
    let error = command(&spec.program)?.exec();
    Err(io::Error::new(error.kind(), failure(&spec.program, &error)))
}
