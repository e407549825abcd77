//! The audit log, as its reader finds it.

use std::path::{Path, PathBuf};

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};
use svcd_apiserver::{AuditLevel, AuditLog, AuditTarget, Config, User};
use svcd_store::Options;

use crate::cluster::{CONFIG_MAPS, Cluster, config_map};

struct Audited {
    cluster: Cluster,
    log: AuditLog,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Audited {
    async fn new(level: AuditLevel) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.log");
        let log = AuditLog::open(AuditTarget::File(file.clone()), level).unwrap();
        let config = Config { audit: Some(log.clone()), ..Config::default() };
        let cluster = Cluster::with(config, Options::default()).await;
        Self { cluster, log, file, _directory: directory }
    }

    /// Everything that was told, once the log is closed.
    fn events(self) -> Vec<Value> {
        self.log.close();
        read(&self.file)
    }
}

fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_line_says_who_did_what_and_what_came_of_it() {
    let audited = Audited::new(AuditLevel::Metadata).await;
    let headers = [
        ("user-agent", "kubectl/v1.37"),
        ("audit-id", "my-own-id"),
        ("x-forwarded-for", "192.0.2.7, 192.0.2.8"),
        ("content-type", "application/json"),
    ];
    let body = config_map("a").to_string();
    let reply =
        audited.cluster.admin.send(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), &headers, body).await;
    assert_eq!((reply.status.as_u16(), &reply.headers["audit-id"]), (201, &"my-own-id".parse().unwrap()));
    let events = audited.events();
    let mut event = events.last().unwrap().clone();
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        let text = event[time].take();
        let (_, micros) = text.as_str().unwrap().rsplit_once('.').unwrap();
        assert_eq!(micros.len(), "123456Z".len(), "{text}");
        event.as_object_mut().unwrap().remove(time);
    }
    assert_eq!(
        event,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "my-own-id",
            "stage": "ResponseComplete", "requestURI": format!("{CONFIG_MAPS}?dryRun=All"), "verb": "create",
            "user": { "username": "admin", "groups": ["system:masters", "system:authenticated"] },
            "sourceIPs": ["192.0.2.7", "192.0.2.8"], "userAgent": "kubectl/v1.37",
            "objectRef": { "resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 201 },
            "annotations": { "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "" },
        })
    );
}

#[tokio::test]
async fn refusals_paths_and_impersonation_are_told() {
    let audited = Audited::new(AuditLevel::Metadata).await;
    let alice = audited.cluster.client(User::new("alice", ["people"]));
    alice.get(&format!("{CONFIG_MAPS}/secret-plan")).await.refused(403, "Forbidden");
    alice.get("/metrics").await.refused(403, "Forbidden");
    alice.get("/api").await.expect(200);
    let endless = "x".repeat(300);
    let headers = [("impersonate-user", "bob"), ("audit-id", endless.as_str())];
    audited.cluster.admin.send(Method::GET, "/apis", &headers, Body::empty()).await.expect(200);
    let events = audited.events();
    let [refused, metrics, api, apis] = &events[events.len() - 4..] else { panic!("{events:?}") };
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!((&refused["verb"], &refused["objectRef"]["name"]), (&json!("get"), &json!("secret-plan")));
    let status = &refused["responseStatus"];
    assert_eq!(
        (&status["status"], &status["reason"], &status["code"]),
        (&json!("Failure"), &json!("Forbidden"), &json!(403))
    );
    assert_eq!((&metrics["responseStatus"]["code"], &metrics["objectRef"]), (&json!(403), &Value::Null));
    let reason = "RBAC: allowed by ClusterRoleBinding \"system:discovery\" of ClusterRole \"system:discovery\" to Group \"system:authenticated\"";
    assert_eq!(api["annotations"]["authorization.k8s.io/reason"], reason);
    assert_eq!(apis["impersonatedUser"]["username"], "bob");
    assert_eq!(apis["user"]["username"], "admin");
    assert_eq!(apis["auditID"].as_str().map(str::len), Some(36), "one of ours");
}

#[tokio::test]
async fn bodies_are_told_as_the_level_says_and_secrets_never() {
    let audited = Audited::new(AuditLevel::RequestResponse).await;
    let admin = &audited.cluster.admin;
    admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    admin.merge(&format!("{CONFIG_MAPS}/a"), &json!({ "data": { "k": "v" } })).await.expect(200);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n";
    admin.send(Method::POST, CONFIG_MAPS, &[("content-type", "application/yaml")], yaml).await.expect(201);
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "tell-nobody" } });
    admin.post("/api/v1/namespaces/default/secrets", &secret).await.expect(201);
    admin.get("/api/v1/secrets").await.expect(200);
    let account = json!({ "metadata": { "name": "bot" } });
    admin.post("/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    let token =
        admin.post("/api/v1/namespaces/default/serviceaccounts/bot/token", &json!({})).await.expect(201);
    let token = token["status"]["token"].as_str().unwrap().to_owned();
    let review = json!({ "spec": { "token": token } });
    admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect(201);
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(200_000).into();
    admin.post(CONFIG_MAPS, &large).await.expect(201);
    let events = audited.events();
    let text = events.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("tell-nobody") && !text.contains(&token) && !text.contains("dGVsbC1ub2JvZHk"));
    let about = |name: &str, verb: &str| {
        let found = events.iter().find(|e| e["objectRef"]["name"] == name && e["verb"] == verb);
        found.unwrap_or_else(|| panic!("{verb} {name}")).clone()
    };
    let created = about("a", "create");
    assert_eq!(
        (&created["requestObject"]["data"]["a"], &created["level"]),
        (&json!("1"), &json!("RequestResponse"))
    );
    assert!(created["responseObject"]["metadata"]["uid"].is_string());
    assert_eq!(about("a", "patch")["requestObject"], json!({ "data": { "k": "v" } }));
    assert_eq!(about("y", "create")["requestObject"]["kind"], "ConfigMap");
    assert_eq!(about("s", "create")["level"], "Metadata");
    let large = about("large", "create");
    assert_eq!(large["annotations"]["audit.k8s.io/truncated"], "true");
    assert!(large["requestObject"].is_null() && large["responseObject"].is_null());
}

#[tokio::test]
async fn a_request_is_told_without_its_answer_at_the_middle_level() {
    let audited = Audited::new(AuditLevel::Request).await;
    audited.cluster.admin.post(CONFIG_MAPS, &config_map("a")).await.expect(201);
    let events = audited.events();
    let event = events.last().unwrap();
    assert_eq!(event["requestObject"]["metadata"]["name"], "a");
    assert!(event["responseObject"].is_null());
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let audited = Audited::new(AuditLevel::RequestResponse).await;
    let mut watch = audited.cluster.admin.watch(&format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(watch.next().await, None);
    drop(watch);
    let events = audited.events();
    let told: Vec<_> = events.iter().filter(|e| e["verb"] == "watch").collect();
    let stages: Vec<_> = told.iter().map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(told[0]["auditID"], told[1]["auditID"]);
    assert!(told[1]["responseObject"].is_null());
}

#[tokio::test]
async fn a_log_that_was_moved_away_is_opened_anew() {
    let audited = Audited::new(AuditLevel::Metadata).await;
    audited.cluster.admin.get("/api").await.expect(200);
    let moved = audited.file.with_extension("1");
    std::fs::rename(&audited.file, &moved).unwrap();
    audited.log.reopen();
    audited.cluster.admin.get("/apis").await.expect(200);
    audited.log.close();
    assert_eq!(read(&moved).last().unwrap()["requestURI"], "/api");
    let fresh = read(&audited.file);
    assert_eq!(fresh.iter().map(|e| e["requestURI"].as_str().unwrap()).collect::<Vec<_>>(), ["/apis"]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&audited.file).unwrap().permissions().mode() & 0o777, 0o600);
}

/// The disk may stand still; requests do not, and what is lost is counted.
#[tokio::test]
async fn a_log_that_cannot_be_written_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    // Somebody has the other end open, and does not read.
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let log = AuditLog::open(AuditTarget::File(pipe), AuditLevel::RequestResponse).unwrap();
    let config = Config { audit: Some(log.clone()), ..Config::default() };
    let cluster = Cluster::with(config, Options::default()).await;
    let mut large = config_map("large");
    large["data"]["a"] = "x".repeat(90_000).into();
    cluster.admin.post(CONFIG_MAPS, &large).await.expect(201);
    for _ in 0..400 {
        cluster.admin.get(&format!("{CONFIG_MAPS}/large")).await.expect(200);
    }
    let metrics = cluster.admin.get("/metrics").await;
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    let lost = text.lines().find_map(|l| l.strip_prefix("apiserver_audit_error_total{plugin=\"log\"} "));
    let lost: u64 = lost.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!(lost > 100, "{lost}");
    // With the reader gone the writer's wait ends.
    drop(reader);
    log.close();
}
