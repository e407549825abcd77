//! Starting a container's shim, and commands beside one.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::time::timeout;

use super::image::Image;
use super::place::Place;
use super::{Config, Started};
use crate::error::{Error, Result};
use crate::runtime::{ContainerSpec, ExecOutput, Record};
use crate::shim::{self, ExecSpec, Program, RunSpec};
use crate::{ECHO_COMMAND, SHIM_COMMAND};

/// How much of a command's output is kept.
const OUTPUT: u64 = 10 * 1024;
/// An echo server that is not up by then is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a shim and waits until it says that the container runs, or ends.
pub(super) async fn start(config: &Config, netns: Option<PathBuf>, spec: &ContainerSpec) -> Result<Record> {
    let place = Place::of(&config.state_dir, &spec.id);
    place.prepare()?;
    place.prune()?;
    let path = place.path("spec.json");
    shim::write(&path, &run_spec(config, netns, spec, &place)?).map_err(Error::io("write", &path))?;

    let fifo = place.path("alive");
    // The reader first: a FIFO opens for writing at once only when somebody reads.
    let mut alive = pipe::OpenOptions::new().open_receiver(&fifo).map_err(Error::io("open", &fifo))?;
    let writer = OpenOptions::new().write(true).open(&fifo).map_err(Error::io("open", &fifo))?;
    let words = place.path("shim.log");
    let errors = File::create(&words).map_err(Error::io("create", &words))?;
    let mut shim = Command::new(&config.self_exe)
        .args([SHIM_COMMAND, "run"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .map_err(Error::io("run", &config.self_exe))?;
    // Reaped when it ends, if we are still here. It is not ours to kill.
    tokio::spawn(async move { shim.wait().await });

    // "started", or the end.
    let _ = timeout(PATIENCE, alive.read(&mut [0; 64])).await;
    place.record().ok_or_else(|| {
        let message = fs::read_to_string(&words).unwrap_or_default().trim().to_owned();
        Error::Shim { container: spec.id.to_string(), message }
    })
}

fn run_spec(config: &Config, netns: Option<PathBuf>, spec: &ContainerSpec, place: &Place) -> Result<RunSpec> {
    let mut binds = Vec::new();
    for (name, target) in &spec.empty_dirs {
        let source = config.state_dir.join(&spec.id.uid).join("volumes").join(name);
        fs::create_dir_all(&source).map_err(Error::io("create", &source))?;
        binds.push((source, target.clone()));
    }
    for (target, content) in &spec.files {
        let name = target.file_name().unwrap_or_default();
        let source = place.path("files").join(name);
        fs::create_dir_all(place.path("files")).map_err(Error::io("create", &source))?;
        fs::write(&source, content).map_err(Error::io("write", &source))?;
        binds.push((source, target.clone()));
    }
    let image = Image::parse(spec.container.image.as_deref().unwrap_or_default());
    let security = spec.container.security_context.as_ref();
    let program = Program {
        argv: if image == Some(Image::Echo) { echo(config, spec) } else { host(spec) },
        env: spec.env.clone(),
        working_dir: spec.container.working_dir.clone().filter(|dir| !dir.is_empty()).map(PathBuf::from),
        // Our own server needs root for low ports, and does nothing else with it.
        user: spec.user.filter(|_| image != Some(Image::Echo)),
        group: spec.group.filter(|_| image != Some(Image::Echo)),
        no_new_privileges: security.and_then(|context| context.allow_privilege_escalation) == Some(false),
    };
    Ok(RunSpec {
        program,
        hostname: netns.as_ref().map(|_| spec.hostname.clone()),
        netns,
        binds: if image == Some(Image::Echo) { Vec::new() } else { binds },
        log: place.log(),
        wait_for_output: image == Some(Image::Echo),
    })
}

fn host(spec: &ContainerSpec) -> Vec<String> {
    let both = [&spec.container.command, &spec.container.args];
    both.into_iter().flatten().flatten().cloned().collect()
}

/// The echo server on the container's ports; its own arguments come last.
fn echo(config: &Config, spec: &ContainerSpec) -> Vec<String> {
    let mut argv = vec![config.self_exe.to_string_lossy().into_owned(), ECHO_COMMAND.to_owned()];
    let names =
        [("--pod", &spec.pod.name), ("--namespace", &spec.pod.namespace), ("--node", &spec.node_name)];
    argv.extend(names.into_iter().flat_map(|(name, value)| [name.to_owned(), value.clone()]));
    for port in spec.container.ports.iter().flatten() {
        let name = match port.protocol.as_deref() {
            Some("UDP") => "--udp",
            None | Some("TCP") => "--http",
            Some(_) => continue,
        };
        argv.extend([name.to_owned(), port.container_port.to_string()]);
    }
    argv.extend(spec.container.args.iter().flatten().cloned());
    argv
}

/// Runs a command in the namespaces of a running container, with its environment.
pub(super) async fn exec(
    config: &Config,
    place: &Place,
    started: &Started,
    command: &[String],
    patience: Duration,
) -> Result<ExecOutput> {
    let path = place.path("spec.json");
    let run: RunSpec = shim::read(&path).map_err(Error::io("read", &path))?;
    let program = Program { argv: command.to_vec(), ..run.program };
    let spec = serde_json::to_vec(&ExecSpec { program, shim: started.shim }).map_err(Error::record(&path))?;
    let mut child = Command::new(&config.self_exe)
        .args([SHIM_COMMAND, "exec", "/proc/self/fd/0"])
        .stdin(memory(&spec).map_err(Error::io("make", "a file in memory"))?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A command that takes too long does not stay.
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io("run", &config.self_exe))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let done = async {
        let (out, err, status) = tokio::join!(text(stdout), text(stderr), child.wait());
        status.map(|status| ExecOutput { code: status.code().unwrap_or(137), output: out + &err })
    };
    match timeout(patience, done).await {
        Ok(done) => done.map_err(Error::io("wait for", &config.self_exe)),
        Err(_) => Ok(ExecOutput { code: 124, output: format!("command timed out after {patience:?}") }),
    }
}

/// The specification goes through a file without a name: nothing to remove, nothing for others to read.
fn memory(content: &[u8]) -> std::io::Result<File> {
    use std::io::{Seek, Write};
    let fd = nix::sys::memfd::memfd_create(c"exec", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// What comes out of a pipe until it ends; beyond a limit it is read and dropped, so that the writer can go on.
async fn text(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut kept = Vec::new();
    let _ = (&mut pipe).take(OUTPUT).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
