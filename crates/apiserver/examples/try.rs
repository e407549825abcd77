//! temp
use std::sync::Arc;
use svcd_pki::*;
#[tokio::main]
async fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let store = Arc::new(svcd_store::Embedded::open(dir.join("store"), Default::default()).unwrap());
    let ca = Arc::new(Ca::load_or_create(&dir.join("pki")).unwrap());
    let tls = server_config(&ca, &[AltName::from("127.0.0.1")]).unwrap();
    let l = std::net::TcpListener::bind("127.0.0.1:16443").unwrap();
    let admin = ca
        .issue_client("kubernetes-admin", &["system:masters"], std::time::Duration::from_secs(86400))
        .unwrap();
    write_secret(
        &dir.join("admin.kubeconfig"),
        kubeconfig("https://127.0.0.1:16443", ca.certificate_pem(), &admin.cert, &admin.key, "svcd"),
    )
    .unwrap();
    let api = svcd_apiserver::ApiServer::new(store, ca, Default::default());
    api.serve(l, tls, Default::default()).await.unwrap();
}
