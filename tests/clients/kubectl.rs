//! kubectl of several ages: every transcript under `kubectl/`, with each of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::place::Place;
use crate::transcript::{Age, Item, Step, Transcript};
use crate::{Planned, cache, place};

/// Minor versions, as the releases of Debian carry them: bookworm, trixie, forky.
const WANTED: [Age; 3] = [Age(20), Age(32), Age(36)];

const TRANSCRIPTS: &[(&str, Place, &str)] = &[
    ("d1_apply", Place::Server, include_str!("kubectl/apply.txt")),
    ("d1_change", Place::Server, include_str!("kubectl/change.txt")),
    ("d2_create_and_get", Place::Server, include_str!("kubectl/create.txt")),
    ("d3_discovery", Place::Server, include_str!("kubectl/discovery.txt")),
    ("d3_access", Place::Server, include_str!("kubectl/access.txt")),
    ("d9_nodes", Place::Server, include_str!("kubectl/nodes.txt")),
    ("d4_d6_pods", Place::Lab, include_str!("kubectl/pods.txt")),
];

/// A trial for each age and transcript: the ages that must be there, and whatever else somebody put into the cache.
pub(crate) fn trials() -> Vec<Planned> {
    let ages = BTreeSet::from_iter(cache::kubectl_minors().into_iter().map(Age).chain(WANTED));
    let all = ages.into_iter().flat_map(|age| TRANSCRIPTS.iter().map(move |transcript| (age, transcript)));
    all.map(|(age, (name, place, text))| {
        let directory = format!("kubectl/{age}");
        let lacks = cache::program(format!("{directory}/kubectl")).err();
        let run = move || play(text, *place, age, &cache::dir().join(directory));
        let name = format!("kubectl_1_{}::{name}", age.0);
        Planned { trial: Trial::test(name, run), lacks }
    })
    .collect()
}

/// Plays a transcript with the kubectl in a directory.
pub(crate) fn play(text: &str, place: Place, age: Age, programs: &Path) -> Result<(), Failed> {
    let transcript = Transcript::parse(text)?;
    let stage = Stage::set(place, age, programs)?;
    for item in &transcript.items {
        match item {
            Item::File { name, text } => stage.write(name, text)?,
            Item::Step(step) if step.ages.contains(age) => stage.act(step, age)?,
            Item::Step(_) => {}
        }
    }
    Ok(())
}

/// A namespace and a directory of one run's own.
struct Stage<'a> {
    place: Place,
    programs: &'a Path,
    directory: tempfile::TempDir,
    namespace: String,
    number: String,
}

impl<'a> Stage<'a> {
    fn set(place: Place, age: Age, programs: &'a Path) -> Result<Self, Failed> {
        let number = place::number();
        let directory = tempfile::tempdir()?;
        std::fs::copy(place.kubeconfig(), directory.path().join("kubeconfig"))?;
        let namespace = format!("k{}-{number}", age.0);
        let stage = Self { place, programs, directory, namespace, number: number.to_string() };
        let script = "kubectl create ns $NS && kubectl config set-context --current --namespace=$NS";
        let done = stage.run(script);
        if done.code == 0 { Ok(stage) } else { Err(format!("{done:?}").into()) }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failed> {
        let path: PathBuf = self.work().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("/")))?;
        Ok(std::fs::write(path, text)?)
    }

    fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    fn run(&self, script: &str) -> svcd_tests::Done {
        std::fs::create_dir_all(self.work()).expect("a directory for the test's files");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("timeout");
        command.args(["120", "sh", "-c", script]).current_dir(self.work()).env("HOME", self.directory.path());
        command.env("PATH", format!("{}:{path}", self.programs.display()));
        command.env("KUBECONFIG", self.directory.path().join("kubeconfig"));
        command.env("NS", &self.namespace).env("NR", &self.number);
        self.place.run(&mut command)
    }

    fn act(&self, step: &Step, age: Age) -> Result<(), Failed> {
        let done = self.run(&step.command);
        let names = [("$NS", self.namespace.as_str()), ("$NR", self.number.as_str())];
        let verdict = step.judge(age, &done, &names);
        verdict.map_err(|why| {
            let Step { line, command, .. } = step;
            let (code, out, err) = (done.code, done.out, done.err);
            format!("line {line}: {command}\n{why}\nexit code {code}, stdout:\n{out}\nstderr:\n{err}").into()
        })
    }
}
