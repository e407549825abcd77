//! Transcripts: what is typed, and what must be seen. Text, so that they can be read and written by anybody who knows
//! kubectl; parsing and judging are pure.
//!
//! ```text
//! # a comment
//! @ file.yaml
//! its text, up to the next line that is only an @
//! @
//! $ kubectl get svc web         a shell command; $NS is the run's namespace, $NR a number of its own
//! NAME TYPE [..] AGE            a line of standard output; [..] is any text
//! ...                           any number of lines
//! ! Warning: old                a line of standard error
//! = 1                           the exit code; 0 where none is given
//! [-1.24] text                  holds (also after `$` and `!`) for kubectl up to 1.24; `[1.25-]` from 1.25
//! ```
//!
//! Runs of blanks count as one blank, and empty lines are nothing: columns may be as wide as they like.

use std::fmt;

use svcd_tests::Done;

/// The minor version of a kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age(pub(crate) u32);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// The ages for which something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ages {
    from: Age,
    to: Age,
}

impl Ages {
    const ALL: Self = Self { from: Age(0), to: Age(u32::MAX) };

    pub(crate) fn contains(self, age: Age) -> bool {
        (self.from..=self.to).contains(&age)
    }

    /// Takes `[-1.24]` or `[1.25-]` off the front of a text.
    fn take(text: &str) -> (Self, &str) {
        let parsed =
            text.strip_prefix('[').and_then(|rest| rest.split_once(']')).and_then(|(range, rest)| {
                let (from, to) = range.split_once('-')?;
                Some((Self { from: bound(from, Age(0))?, to: bound(to, Age(u32::MAX))? }, rest.trim_start()))
            });
        parsed.unwrap_or((Self::ALL, text))
    }
}

fn bound(text: &str, open: Age) -> Option<Age> {
    if text.is_empty() { Some(open) } else { text.strip_prefix("1.")?.parse().ok().map(Age) }
}

/// A line that must be seen.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    ages: Ages,
    text: String,
}

/// A command and what it must show.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) ages: Ages,
    pub(crate) command: String,
    out: Vec<Expected>,
    err: Vec<Expected>,
    code: Vec<(Ages, i32)>,
}

/// A part of a transcript.
#[derive(Debug)]
pub(crate) enum Item {
    File { name: String, text: String },
    Step(Step),
}

/// What is done, in order.
#[derive(Debug)]
pub(crate) struct Transcript {
    pub(crate) items: Vec<Item>,
}

impl Transcript {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut lines = text.lines().zip(1..);
        while let Some((line, number)) = lines.next() {
            if let Some(name) = line.strip_prefix("@ ") {
                let body: Vec<&str> = lines.by_ref().map(|(l, _)| l).take_while(|l| *l != "@").collect();
                items.push(Item::File { name: name.trim().to_owned(), text: body.join("\n") + "\n" });
            } else if let Some(command) = line.strip_prefix("$ ") {
                items.push(Item::Step(Step::new(number, command)));
            } else if !line.trim().is_empty() && !line.starts_with("# ") {
                let Some(Item::Step(step)) = items.last_mut() else {
                    return Err(format!("line {number}: {line:?} follows no command"));
                };
                step.expect(line).ok_or_else(|| format!("line {number}: {line:?} is no exit code"))?;
            }
        }
        Ok(Self { items })
    }
}

impl Step {
    fn new(line: usize, command: &str) -> Self {
        let (ages, command) = Ages::take(command);
        Self { line, ages, command: command.to_owned(), out: Vec::new(), err: Vec::new(), code: Vec::new() }
    }

    fn expect(&mut self, line: &str) -> Option<()> {
        let (stderr, line) = line.strip_prefix("! ").map_or((false, line), |rest| (true, rest));
        let (ages, text) = Ages::take(line);
        if let Some(code) = text.strip_prefix("= ") {
            self.code.push((ages, code.trim().parse().ok()?));
        } else {
            let lines = if stderr { &mut self.err } else { &mut self.out };
            lines.push(Expected { ages, text: squeezed(text) });
        }
        Some(())
    }

    /// Is what became of the command as it must be?
    pub(crate) fn judge(&self, age: Age, done: &Done, names: &[(&str, &str)]) -> Result<(), String> {
        let code = self.code.iter().find(|(ages, _)| ages.contains(age)).map_or(0, |(_, code)| *code);
        if done.code != code {
            return Err(format!("exit code {} where {code} is expected", done.code));
        }
        for (stream, expected, seen) in [("stdout", &self.out, &done.out), ("stderr", &self.err, &done.err)] {
            let patterns: Vec<String> =
                expected.iter().filter(|e| e.ages.contains(age)).map(|e| named(&e.text, names)).collect();
            let seen: Vec<String> = seen.lines().map(squeezed).filter(|line| !line.is_empty()).collect();
            compare(&patterns, &seen).map_err(|why| format!("{stream}: {why}"))?;
        }
        Ok(())
    }
}

fn named(text: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn squeezed(line: &str) -> String {
    plain(line).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text without colours, which old versions print also when nobody can see them.
fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Lines against patterns; where `...` stands, as many lines are skipped as needed. Says how far it got.
fn compare(patterns: &[String], lines: &[String]) -> Result<(), String> {
    match patterns {
        [] if lines.is_empty() => Ok(()),
        [] => Err(format!("not expected: {:?}", lines[0])),
        [any] if any == "..." => Ok(()),
        [any, rest @ ..] if any == "..." => {
            let next = |at| compare(rest, &lines[at..]).is_ok();
            if (0..=lines.len()).any(next) { Ok(()) } else { Err(format!("not found in order: {rest:?}")) }
        }
        [pattern, rest @ ..] => match lines {
            [line, lines @ ..] if fits(pattern, line) => compare(rest, lines),
            [line, ..] => Err(format!("\n  expected {pattern:?}\n  found    {line:?}")),
            [] => Err(format!("missing: {pattern:?}")),
        },
    }
}

fn fits(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once("[..]") else { return pattern == line };
    let Some(line) = line.strip_prefix(first) else { return false };
    (0..=line.len()).filter(|at| line.is_char_boundary(*at)).any(|at| fits(rest, &line[at..]))
}
