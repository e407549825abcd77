//! The audit log of a real process: a file that is moved away and opened anew.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::server::{PATIENCE, Server};

fn uris(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("whole lines"));
    events.map(|event| event["requestURI"].as_str().unwrap().to_owned()).collect()
}

async fn appears(file: &Path, uri: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !uris(file).iter().any(|found| found == uri) {
        assert!(std::time::Instant::now() < deadline, "{uri} never came: {:?}", uris(file));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_audit_log_survives_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.log");
    let path = file.to_str().unwrap();
    let server = Server::start(&["--audit-log", path, "--audit-level", "request"]).await;
    let mut connection = server.admin().connect().await.unwrap();
    connection.get("/api/v1/nodes").await.unwrap();
    appears(&file, "/api/v1/nodes").await;
    let moved = directory.path().join("audit.log.1");
    std::fs::rename(&file, &moved).unwrap();
    server.signal("HUP");
    // The signal is taken when the new file is there.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !file.exists() {
        assert!(std::time::Instant::now() < deadline, "the file was not opened anew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.get("/api/v1/pods").await.unwrap();
    appears(&file, "/api/v1/pods").await;
    assert!(!uris(&moved).contains(&"/api/v1/pods".to_owned()));
}
