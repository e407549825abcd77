//! The process between the agent and a container, so that containers outlive agents: it enters the pod's namespaces,
//! starts the command, writes its output to the log, waits for it, and records how it ended.
//!
//! Runs as `<own binary> __pod-exec run SPEC`; while it lives it holds the write end of the container's `alive` FIFO
//! open (its standard output), which is how any agent, also a later one, learns at once that it has ended.
//! `__pod-exec exec SPEC` runs one more command beside a container. Must be called before any thread is started.

mod log;
mod namespace;
mod record;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, setsid};

pub(crate) use record::{Ended, ExecSpec, Program, RunSpec, Started, now_micros, read, start_time, write};

/// What shells say when a command cannot be executed; container runtimes use it too.
const CANNOT_START: i32 = 128;

/// Does what the arguments after the hidden subcommand say.
pub fn main(args: &[String]) -> ExitCode {
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", spec] => run(Path::new(spec)),
        ["exec", spec] => exec(Path::new(spec)),
        _ => Err(io::Error::other("usage: __pod-exec run|exec SPEC (the agent runs this, not people)")),
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
    nix::sys::prctl::set_child_subreaper(true)?;
    let log = log::Log::open(&spec.log)?;
    let record = Directory(File::open(path.parent().unwrap_or_else(|| Path::new("/")))?);
    let started_at = now_micros();
    let child = namespace::enter(&spec).and_then(|()| start(&spec.program));
    let ended = match child {
        Ok(child) => attend(child, &spec, log, &record, started_at)?,
        Err(error) => Ended {
            code: CANNOT_START,
            signal: None,
            reason: "StartError".to_owned(),
            message: Some(failure(&spec.program, &error)),
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
            format!("exec: \"{name}\": executable file not found in $PATH of the machine ({error})")
        }
        Some(name) => format!("exec: \"{name}\": {error}"),
        None => error.to_string(),
    }
}

fn start(program: &Program) -> io::Result<Child> {
    let mut command = command(program)?;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

fn command(program: &Program) -> io::Result<Command> {
    let (name, arguments) = program
        .argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no command to run"))?;
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(program.working_dir.as_deref().unwrap_or_else(|| Path::new("/")));
    if let Some(group) = program.group {
        command.gid(group);
    }
    if let Some(user) = program.user {
        command.uid(user);
    }
    if program.no_new_privileges {
        nix::sys::prctl::set_no_new_privs()?;
    }
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
