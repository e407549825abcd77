//! Saving: from the server if one runs, else from its files; whole, or not at all.

use std::io::{IsTerminal, Write};
use std::path::Path;

use kube::client::Body;
use svcd_store::snapshot::{Assembler, SnapshotError, pieces};
use svcd_store::{Embedded, OpenError, Options, Page};

use super::restore::refuse_unfinished;
use super::{attachments, now, page};
use crate::data_dir::Entry;
use crate::failure::Failure;
use crate::token;

pub(super) async fn save(file: &Path, data_dir: &Path) -> Result<(), Failure> {
    let standard_output = file == Path::new("-");
    if standard_output && std::io::stdout().is_terminal() {
        return Err(Failure::new(
            "a snapshot is no text for a terminal",
            "name a file, or redirect the output",
        ));
    }
    if file.is_dir() {
        let what = format!("{} is a directory", file.display());
        return Err(Failure::new(what, "name the file in it"));
    }
    let page = state(data_dir).await?;
    let (revision, records) = (page.revision, page.records.len());
    let pieces = pieces(page, now(), attachments(data_dir)?);
    if standard_output {
        print(pieces)?;
    } else {
        svcd_pki::write_secret_pieces(file, pieces)?;
        println!("saved revision {revision}, {records} records: {}", file.display());
    }
    Ok(())
}

fn print(mut pieces: impl Iterator<Item = Vec<u8>>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = pieces.try_for_each(|piece| out.write_all(&piece)).and_then(|()| out.flush());
    written.map_err(|error| {
        Failure::new(format!("the snapshot could not be written: {error}"), "it is not whole")
    })
}

/// The whole store at one revision.
async fn state(data_dir: &Path) -> Result<Page, Failure> {
    let store = Entry::Store.within(data_dir);
    if !store.is_dir() {
        let what = format!("there is no server's store in {}", data_dir.display());
        return Err(Failure::new(
            what,
            "give the --data-dir that its `svcd server` has, on the control plane",
        ));
    }
    refuse_unfinished(data_dir)?;
    match Embedded::open(&store, Options::default()) {
        Ok(store) => page(&store).await,
        Err(OpenError::Locked { .. }) => ask(data_dir).await,
        Err(error) => Err(error.into()),
    }
}

/// Asks the server that runs.
async fn ask(data_dir: &Path) -> Result<Page, Failure> {
    let (client, _) = token::connect(data_dir)?;
    let request = http::Request::get("/svcd.io/v1/snapshot").body(Body::empty());
    let request = request.map_err(|error| Failure::new(error, ""))?;
    let answer = client.send(request).await.map_err(token::refused)?;
    if !answer.status().is_success() {
        let what = format!("the API server refused: {}", answer.status());
        return Err(Failure::new(what, "look at the server's log; is it of this version?"));
    }
    receive(answer.into_body()).await
}

async fn receive(body: Body) -> Result<Page, Failure> {
    use http_body_util::BodyExt as _;

    let broken = |error: SnapshotError| {
        Failure::new(
            format!("what the server sent cannot be used: {error}"),
            "try again; the server's log says more",
        )
    };
    let mut body = std::pin::pin!(body);
    let mut assembler = Assembler::default();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::new(format!("the server broke off: {error}"), "try again"))?;
        assembler.feed(frame.data_ref().map_or(&[], |data| data)).map_err(broken)?;
    }
    let contents = assembler.finish().map_err(broken)?;
    Ok(Page { records: contents.records, revision: contents.head.revision, remaining: 0 })
}
