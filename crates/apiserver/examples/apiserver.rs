//! An API server alone, to try clients against: `cargo run -p svcd-apiserver --example apiserver -- DIRECTORY` serves on a
//! free port of this machine until it is interrupted, and writes `DIRECTORY/admin.kubeconfig`.

use std::error::Error;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use svcd_apiserver::{ApiServer, Config, MASTERS};
use svcd_pki::{Ca, Identity, kubeconfig, server_config, write_secret};
use svcd_store::{Embedded, Options};
use tokio_util::sync::CancellationToken;

const VALIDITY: Duration = Duration::from_secs(24 * 3600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("name a directory")?);
    let ca = Arc::new(Ca::load_or_create(&directory.join("pki"))?);
    let store = Arc::new(Embedded::open(directory.join("store"), Options::default())?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let admin = ca.issue_client("admin", &[MASTERS], VALIDITY)?;
    let url = format!("https://{}", listener.local_addr()?);
    let file = directory.join("admin.kubeconfig");
    write_secret(&file, kubeconfig(&url, ca.certificate_pem(), &admin.cert, &admin.key, "admin"))?;
    println!("export KUBECONFIG={}", file.display());
    let tls = server_config(&ca, Identity::issue(&ca, &["127.0.0.1".into(), "localhost".into()], VALIDITY)?)?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    ApiServer::new(store, ca, Config::default()).serve(listener, tls, shutdown).await?;
    Ok(())
}
