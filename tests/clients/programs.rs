//! Programs in the clients' own languages: client-go under `go/`, the Python client under `python/`. Each of their tests
//! (in Python: each class) is a trial; their names are read from the sources, and what runs is built at the first one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};
use svcd_tests::{Done, binary};

use crate::place::Place;
use crate::{Planned, cache};

/// client-go of today needs this minor version of Go 1 at least; `go.mod` says the same.
const GO_MINOR: u32 = 26;

/// All of them.
pub(crate) fn trials() -> Vec<Planned> {
    let go = go();
    let lacks_go = go.as_ref().err().cloned();
    let go_tests = names("go", "_test.go", "func Test", "(t *testing.T) {").into_iter().map(|name| {
        let go = go.clone();
        let test = format!("Test{name}");
        let run = move || verdict(Place::Server.run(&mut go_test(go.as_deref()?, &test)?));
        Planned { trial: Trial::test(format!("client_go::{name}"), run), lacks: lacks_go.clone() }
    });
    let python = cache::program("python/bin/python");
    let lacks_python = python.as_ref().err().cloned();
    let python_tests = names("python", ".py", "class ", "(Case):").into_iter().map(|name| {
        let python = python.clone();
        let class = name.clone();
        let run = move || verdict(Place::Server.run(&mut python_test(python.as_deref()?, &class)));
        Planned { trial: Trial::test(format!("python::{name}"), run), lacks: lacks_python.clone() }
    });
    go_tests.chain(python_tests).collect()
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(language)
}

/// What stands between two texts at the ends of lines, in all sources of a language.
fn names(language: &str, suffix: &str, before: &str, after: &str) -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(sources(language))
        .expect("the sources are beside this file")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("sources can be read"));
    let name = |line: &str| Some(line.strip_prefix(before)?.strip_suffix(after)?.to_owned());
    texts.flat_map(|text| text.lines().filter_map(name).collect::<Vec<_>>()).collect()
}

fn verdict(done: Done) -> Result<(), Failed> {
    if done.code == 0 { Ok(()) } else { Err(format!("{}{}", done.out, done.err).into()) }
}

/// A Go that is new enough: the machine's, or the one in the cache.
pub(crate) fn go() -> Result<PathBuf, String> {
    let cached = cache::program("go/bin/go");
    let candidates = [Ok(PathBuf::from("go")), cached];
    let new_enough = |go: &PathBuf| {
        let version = Command::new(go).arg("version").output().ok()?;
        let text = String::from_utf8(version.stdout).ok()?;
        let minor = text.split_once("go1.")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>();
        minor.is_ok_and(|minor| minor >= GO_MINOR).then_some(())
    };
    let found = candidates.into_iter().flatten().find(|go| new_enough(go).is_some());
    found.ok_or_else(|| format!("there is no Go 1.{GO_MINOR} or newer"))
}

fn go_test(go: &Path, test: &str) -> Result<Command, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = BUILT.get_or_init(|| build(go)).clone()?;
    let mut command = Command::new(program);
    command.args(["-test.run", &format!("^{test}$"), "-test.timeout", "120s"]);
    command.env("KUBECONFIG", Place::Server.kubeconfig());
    Ok(command)
}

fn build(go: &Path) -> Result<PathBuf, String> {
    let program = binary().with_file_name("client-go.test");
    let mut command = Command::new(go);
    command.args(["test", "-c", "-o"]).arg(&program).current_dir(sources("go")).env("GOTOOLCHAIN", "local");
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(program) } else { Err(format!("go test -c: {said}")) }
}

fn python_test(python: &Path, class: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("180").arg(python).args(["test_client.py", class]).current_dir(sources("python"));
    command.env("KUBECONFIG", Place::Server.kubeconfig()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
