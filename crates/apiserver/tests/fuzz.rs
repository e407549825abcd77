//! The fuzzer's corpus, replayed and then mutated at random for some seconds: what `tests/fuzz` does for hours, in a size
//! that fits every run. A failure prints its input, which then belongs into the corpus.

#[cfg(test)]
#[path = "../../../tests/fuzz/harness.rs"]
mod harness;

#[cfg(test)]
mod mutation {
    use std::io::Write as _;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use crate::harness::Harness;

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus/request");
    const TIME: Duration = Duration::from_secs(6);

    /// What decoders stumble over.
    const WORDS: &[&str] = &[
        "%00",
        "%2e%2e",
        "%2F",
        "%ff",
        "..",
        "//",
        "?",
        "&",
        "=",
        "~1",
        "~0",
        "/-",
        "\\u0000",
        "\\ud800",
        "\u{e9}",
        "\u{1F600}",
        "null",
        "true",
        "{}",
        "[]",
        "\"\"",
        "{\"\":\"\"}",
        "-1",
        "0",
        "1e999",
        "1.5",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
        "watch=true",
        "resourceVersion=",
        "resourceVersionMatch=Exact",
        "sendInitialEvents=true",
        "limit=1",
        "continue=",
        "labelSelector=",
        "fieldSelector=",
        "dryRun=All",
        "force=true",
        "fieldManager=x",
        "timeout=1ns",
        "timeoutSeconds=0",
        "$patch",
        "$retainKeys",
        "$setElementOrder/ports",
        "$deleteFromPrimitiveList/finalizers",
        "metadata",
        "namespace",
        "kube-system",
        "finalizers",
        "ownerReferences",
        "deletionTimestamp",
        "managedFields",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "k8s\0",
        "\n%%\n",
        "\n\n",
        "*",
        "&a",
        "*a",
        "!!binary ",
        "- ",
        ": ",
    ];

    fn corpus() -> Vec<Vec<u8>> {
        let mut files: Vec<_> = std::fs::read_dir(Path::new(CORPUS))
            .expect("the corpus is there")
            .map(|entry| entry.expect("it can be read").path())
            .collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).expect("it can be read")).collect()
    }

    fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=input.len());
            let end = (at + rng.random_range(0..32)).min(input.len());
            match rng.random_range(0..7) {
                0 => drop(input.drain(at..end)),
                1 => input.insert(at, rng.random()),
                2 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
                3 => {
                    let piece = input[at..end].to_vec();
                    let again = piece.repeat(rng.random_range(1..20));
                    drop(input.splice(at..at, again));
                }
                4 => {
                    let other = corpus.choose(rng).expect("the corpus is not empty");
                    let from = rng.random_range(0..=other.len());
                    let to = (from + rng.random_range(0..64)).min(other.len());
                    drop(input.splice(at..end, other[from..to].iter().copied()));
                }
                5 => input.extend_from_slice(corpus.choose(rng).expect("the corpus is not empty")),
                _ => {
                    let word = WORDS.choose(rng).expect("there are words").bytes();
                    drop(input.splice(at..end, word));
                }
            }
        }
        input.truncate(64 * 1024);
    }

    fn run(harness: &mut Harness, input: &[u8], what: &str) {
        if let Err(why) = harness.run(input) {
            // The harness has the panic hook, so a panic would print nothing.
            let _ = writeln!(std::io::stderr(), "{what}: {why}\nthe input:\n{}", input.escape_ascii());
            std::process::exit(101);
        }
    }

    #[test]
    fn no_request_panics_the_server_and_none_is_its_fault() {
        let (corpus, mut harness) = (corpus(), Harness::default());
        assert!(corpus.len() > 20);
        for (at, input) in corpus.iter().enumerate() {
            run(&mut harness, input, &format!("file {at} of the corpus"));
        }
        let seed: u64 = rand::random();
        let (mut rng, began, mut count) = (StdRng::seed_from_u64(seed), Instant::now(), 0);
        while began.elapsed() < TIME {
            let mut input = corpus.choose(&mut rng).expect("it is not empty").clone();
            mutate(&mut input, &corpus, &mut rng);
            run(&mut harness, &input, &format!("seed {seed}"));
            count += 1;
        }
        println!("{count} inputs with seed {seed}");
    }
}
