//! A container's log, in the format of the container runtime interface (`TIME STREAM TAG LINE`), which log collectors
//! know. Two files of at most 10 MiB are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use jiff::Timestamp;

/// Longer lines are written in parts, all but the last tagged `P`.
const LINE: u64 = 16 * 1024;
const FILE: u64 = 10 * 1024 * 1024;

/// An open log; clones write to the same file.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Inner { path: path.to_owned(), file, size }))))
    }

    /// Copies a stream into the log until it ends, on a thread of its own; tells of each line that was written.
    pub(super) fn pump(
        &self,
        stream: &'static str,
        pipe: impl Read + Send + 'static,
        written: mpsc::Sender<()>,
    ) -> JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while let Ok(1..) = reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
                let whole = line.last() == Some(&b'\n');
                let text = line.strip_suffix(b"\n").unwrap_or(&line);
                let mut inner = log.0.lock().unwrap_or_else(PoisonError::into_inner);
                // A full disk must not stop the container: its pipe is emptied all the same.
                let _ = inner.write(&entry(Timestamp::now(), stream, whole, text));
                drop(inner);
                let _ = written.send(());
                line.clear();
            }
        })
    }
}

impl Inner {
    fn write(&mut self, entry: &[u8]) -> io::Result<()> {
        if self.size > FILE {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = 0;
        }
        self.file.write_all(entry)?;
        self.size += u64::try_from(entry.len()).unwrap_or(0);
        Ok(())
    }
}

fn entry(at: Timestamp, stream: &str, whole: bool, text: &[u8]) -> Vec<u8> {
    let tag = if whole { "F" } else { "P" };
    let head = format!("{at:.9} {stream} {tag} ");
    [head.as_bytes(), text, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stamped_and_long_ones_parted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let (written, _told) = mpsc::channel();
        let long = "x".repeat(20_000);
        let text = format!("one\n{long}\nlast");
        Log::open(&path).unwrap().pump("stdout", io::Cursor::new(text), written).join().unwrap();
        let log = fs::read_to_string(path).unwrap();
        let parts: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        let seen: Vec<_> = parts.iter().map(|part| (part[1], part[2], part[3].len())).collect();
        assert_eq!(
            seen,
            [
                ("stdout", "F", 3),
                ("stdout", "P", 16_384),
                ("stdout", "F", 20_000 - 16_384),
                ("stdout", "P", 4)
            ]
        );
        assert!(parts[0][0].parse::<Timestamp>().is_ok() && parts[0][0].len() == 30, "{}", parts[0][0]);
    }

    #[test]
    fn a_full_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let log = Log::open(&path).unwrap();
        let mut inner = log.0.lock().unwrap();
        inner.size = FILE + 1;
        inner.write(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert!(dir.path().join("c.log.1").exists());
    }
}
