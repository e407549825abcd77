//! RBAC: default roles, bindings, aggregation, escalation, and the questions about all that.

use http::Method;
use serde_json::{Value, json};
use svcd_apiserver::{ApiServer, Config, NODES, User};

use crate::cluster::{Client, Cluster, PATIENCE, SERVICES, pod, service};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const GROUP: &str = "rbac.authorization.k8s.io";

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["apiVersion"] = format!("{GROUP}/v1").into();
    object["kind"] = kind.into();
    object["metadata"]["name"] = name.into();
    object
}

fn rules(resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "rules": [{ "apiGroups": [""], "resources": resources, "verbs": verbs }] })
}

fn binding(kind: &str, name: &str, role: (&str, &str), subject: (&str, &str)) -> Value {
    object(
        kind,
        name,
        json!({ "roleRef": { "kind": role.0, "name": role.1 }, "subjects": [{ "kind": subject.0, "name": subject.1 }] }),
    )
}

async fn give(cluster: &Cluster, role: &str, user: &str) {
    let binding =
        binding("ClusterRoleBinding", &format!("{user}-{role}"), ("ClusterRole", role), ("User", user));
    cluster.admin.post(&format!("{RBAC}/clusterrolebindings"), &binding).await.expect(201);
}

fn namespaced(plural: &str) -> String {
    format!("{RBAC}/namespaces/default/{plural}")
}

/// Sends a request until it is refused: rights that were taken away are gone soon, not at once.
async fn until_refused(client: &Client, path: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while client.get(path).await.status != 403 {
        assert!(tokio::time::Instant::now() < deadline, "{path} is never refused");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_role_is_given_and_taken() {
    let cluster = Cluster::new().await;
    let alice = cluster.client(User::new("alice", ["people"]));
    let role = object("Role", "reader", rules(&["services"], &["get", "list"]));
    cluster.admin.post(&namespaced("roles"), &role).await.expect(201);
    let given = binding("RoleBinding", "rb", ("Role", "reader"), ("User", "alice"));
    let stored = cluster.admin.post(&namespaced("rolebindings"), &given).await.expect(201);
    assert_eq!(stored["roleRef"]["apiGroup"], GROUP);
    assert_eq!(stored["subjects"][0]["apiGroup"], GROUP);
    alice.get(SERVICES).await.expect(200);
    alice.post(SERVICES, &service("web")).await.refused(403, "Forbidden");
    alice.get("/api/v1/services").await.refused(403, "Forbidden");
    let more = rules(&["services"], &["get", "list", "create"]);
    cluster.admin.merge(&format!("{}/reader", namespaced("roles")), &more).await.expect(200);
    alice.post(SERVICES, &service("web")).await.expect(201);
    cluster.admin.delete(&format!("{}/rb", namespaced("rolebindings"))).await.expect(200);
    until_refused(&alice, SERVICES).await;
}

#[tokio::test]
async fn a_namespace_is_within_itself() {
    let cluster = Cluster::new().await;
    let alice = cluster.client(User::new("alice", ["people"]));
    let message = alice.get("/api/v1/namespaces/default").await.refused(403, "Forbidden");
    assert!(message.ends_with(r#"in the namespace "default""#), "{message}");
    let role = object("Role", "reader", rules(&["namespaces"], &["get"]));
    cluster.admin.post(&namespaced("roles"), &role).await.expect(201);
    let given = binding("RoleBinding", "rb", ("Role", "reader"), ("User", "alice"));
    cluster.admin.post(&namespaced("rolebindings"), &given).await.expect(201);
    alice.get("/api/v1/namespaces/default").await.expect(200);
    alice.get("/api/v1/namespaces/kube-system").await.refused(403, "Forbidden");
    alice.get("/api/v1/namespaces").await.refused(403, "Forbidden");
}

#[tokio::test]
async fn names_of_roles_may_have_colons_and_bad_ones_are_refused_in_upstreams_words() {
    let cluster = Cluster::new().await;
    let roles = format!("{RBAC}/clusterroles");
    let good = object("ClusterRole", "a:B.c", rules(&["pods"], &["get"]));
    cluster.admin.post(&roles, &good).await.expect(201);
    cluster.admin.get(&format!("{roles}/a:B.c")).await.expect(200);
    for (bad, message) in [
        (
            object("ClusterRole", "x%y", rules(&["pods"], &["get"])),
            "ClusterRole.rbac.authorization.k8s.io \"x%y\" is invalid: metadata.name: Invalid value: \"x%y\": may not \
             contain '%'",
        ),
        (
            object("ClusterRole", "x", json!({ "rules": [{}] })),
            "ClusterRole.rbac.authorization.k8s.io \"x\" is invalid: [rules[0].verbs: Required value: verbs must contain \
             at least one value, rules[0].apiGroups: Required value: resource rules must supply at least one api group, \
             rules[0].resources: Required value: resource rules must supply at least one resource]",
        ),
    ] {
        assert_eq!(cluster.admin.post(&roles, &bad).await.refused(422, "Invalid"), message);
    }
    let bindings = format!("{RBAC}/clusterrolebindings");
    let bad = binding("ClusterRoleBinding", "x", ("Role", "r"), ("Robot", "c3po"));
    assert_eq!(
        cluster.admin.post(&bindings, &bad).await.refused(422, "Invalid"),
        "ClusterRoleBinding.rbac.authorization.k8s.io \"x\" is invalid: [roleRef.kind: Unsupported value: \"Role\": \
         supported values: \"ClusterRole\", subjects[0].kind: Unsupported value: \"Robot\": supported values: \
         \"ServiceAccount\", \"User\", \"Group\"]"
    );
    let good = binding("ClusterRoleBinding", "x", ("ClusterRole", "r"), ("User", "u"));
    cluster.admin.post(&bindings, &good).await.expect(201);
    let message = cluster.admin.merge(&format!("{bindings}/x"), &json!({ "roleRef": { "name": "s" } })).await;
    let message = message.refused(422, "Invalid");
    assert!(message.ends_with("cannot change roleRef"), "{message}");
}

#[tokio::test]
async fn default_roles_are_there_and_come_back() {
    let cluster = Cluster::new().await;
    let view = format!("{RBAC}/clusterroles/view");
    let role = cluster.admin.get(&view).await.expect(200);
    assert_eq!(role["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
    assert!(!role["rules"].as_array().unwrap().is_empty(), "the sum is written into the role");
    let parts: usize = cluster.admin.get(&format!("{RBAC}/clusterroles/edit")).await.expect(200)["rules"]
        .as_array()
        .unwrap()
        .len();
    assert!(parts > role["rules"].as_array().unwrap().len(), "edit holds view");
    cluster.admin.delete(&view).await.expect(200);
    let own = json!({ "rules": [{ "nonResourceURLs": ["/mine"], "verbs": ["get"] }] });
    cluster.admin.merge(&format!("{RBAC}/clusterroles/system:discovery"), &own).await.expect(200);
    let again = ApiServer::new(cluster.store.clone(), cluster.ca.clone(), Config::default());
    again.bootstrap().await.unwrap();
    let admin = Client(again.in_process(User::master("admin")));
    assert_eq!(admin.get(&view).await.expect(200)["rules"], role["rules"]);
    let discovery = admin.get(&format!("{RBAC}/clusterroles/system:discovery")).await.expect(200);
    assert_eq!(discovery["rules"][0], own["rules"][0]);
    assert_eq!(discovery["rules"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn view_edit_and_admin_do_what_their_names_say_and_take_in_labelled_roles() {
    let cluster = Cluster::new().await;
    let user = |name: &str| cluster.client(User::new(name, ["people"]));
    for role in ["view", "edit", "admin"] {
        let given = binding("RoleBinding", role, ("ClusterRole", role), ("User", role));
        cluster.admin.post(&namespaced("rolebindings"), &given).await.expect(201);
    }
    let secrets = "/api/v1/namespaces/default/secrets";
    user("view").get(SERVICES).await.expect(200);
    user("view").get(secrets).await.refused(403, "Forbidden");
    user("view").post(SERVICES, &service("web")).await.refused(403, "Forbidden");
    user("edit").get(secrets).await.expect(200);
    user("edit").post(SERVICES, &service("web")).await.expect(201);
    user("edit").get(&namespaced("roles")).await.refused(403, "Forbidden");
    user("admin").get(&namespaced("roles")).await.expect(200);
    user("admin").get("/api/v1/nodes").await.refused(403, "Forbidden");

    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    user("view").get(leases).await.refused(403, "Forbidden");
    let mut part = object(
        "ClusterRole",
        "see-leases",
        json!({ "rules": [{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"] }] }),
    );
    part["metadata"]["labels"] = json!({ "rbac.authorization.k8s.io/aggregate-to-view": "true" });
    cluster.admin.post(&format!("{RBAC}/clusterroles"), &part).await.expect(201);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while user("view").get(leases).await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the label makes it a part of view");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_hold() {
    let cluster = Cluster::new().await;
    give(&cluster, "edit", "alice").await;
    let writer = object(
        "ClusterRole",
        "rbac-writer",
        json!({ "rules": [{ "apiGroups": [GROUP], "resources": ["roles", "rolebindings"], "verbs": ["create", "patch"] }] }),
    );
    cluster.admin.post(&format!("{RBAC}/clusterroles"), &writer).await.expect(201);
    give(&cluster, "rbac-writer", "alice").await;
    let alice = cluster.client(User::new("alice", ["people"]));
    let role = |name: &str, resource: &str, verbs: &[&str]| object("Role", name, rules(&[resource], verbs));
    alice.post(&namespaced("roles"), &role("ok", "secrets", &["get", "list"])).await.expect(201);
    let refused = alice.post(&namespaced("roles"), &role("too-much", "nodes", &["get", "list"])).await;
    assert_eq!(
        refused.refused(403, "Forbidden"),
        "roles.rbac.authorization.k8s.io \"too-much\" is forbidden: user \"alice\" (groups=[\"people\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], \
         Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    let path = format!("{}/ok", namespaced("roles"));
    alice.merge(&path, &rules(&["nodes"], &["get"])).await.refused(403, "Forbidden");
    alice.merge(&path, &json!({ "metadata": { "labels": { "a": "b" } } })).await.expect(200);
    let bind = |name: &str, role: &str| binding("RoleBinding", name, ("ClusterRole", role), ("User", "bob"));
    alice.post(&namespaced("rolebindings"), &bind("v", "view")).await.expect(201);
    alice.post(&namespaced("rolebindings"), &bind("a", "cluster-admin")).await.refused(403, "Forbidden");
    let message = alice.post(&namespaced("rolebindings"), &bind("n", "nope")).await.refused(404, "NotFound");
    assert_eq!(message, "clusterrole.rbac.authorization.k8s.io \"nope\" not found");

    let binder = object(
        "ClusterRole",
        "binder",
        json!({ "rules": [{ "apiGroups": [GROUP], "resources": ["clusterroles", "roles"], "verbs": ["bind", "escalate"] }] }),
    );
    cluster.admin.post(&format!("{RBAC}/clusterroles"), &binder).await.expect(201);
    give(&cluster, "binder", "alice").await;
    alice.post(&namespaced("rolebindings"), &bind("a", "cluster-admin")).await.expect(201);
    alice.post(&namespaced("roles"), &role("too-much", "nodes", &["get"])).await.expect(201);
}

fn question(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {}, "spec": spec })
}

#[tokio::test]
async fn questions_are_answered_and_not_stored() {
    let cluster = Cluster::new().await;
    give(&cluster, "view", "alice").await;
    let alice = cluster.client(User::new("alice", ["people"]));
    let asked = |verb: &str, resource: &str| json!({ "resourceAttributes": { "verb": verb, "resource": resource, "namespace": "default" } });
    let own = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let may =
        alice.post(&own, &question("SelfSubjectAccessReview", &asked("list", "services"))).await.expect(201);
    assert_eq!(
        may["status"],
        json!({ "allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"alice-view\" of ClusterRole \"view\" \
            to User \"alice\"" })
    );
    assert_eq!(may["spec"]["resourceAttributes"]["verb"], "list");
    let may = alice
        .post(&own, &question("SelfSubjectAccessReview", &asked("create", "services")))
        .await
        .expect(201);
    assert_eq!(may["status"], json!({ "allowed": false }));
    let path = json!({ "nonResourceAttributes": { "verb": "get", "path": "/api/v1" } });
    let may = alice.post(&own, &question("SelfSubjectAccessReview", &path)).await.expect(201);
    assert_eq!(may["status"]["allowed"], true);
    alice.post(&own, &question("SelfSubjectAccessReview", &json!({}))).await.refused(422, "Invalid");

    let of_others = format!("{AUTHORIZATION}/subjectaccessreviews");
    let mut about = asked("list", "services");
    alice.post(&of_others, &question("SubjectAccessReview", &about)).await.refused(403, "Forbidden");
    cluster.admin.post(&of_others, &question("SubjectAccessReview", &about)).await.refused(422, "Invalid");
    about["user"] = "alice".into();
    let may = cluster.admin.post(&of_others, &question("SubjectAccessReview", &about)).await.expect(201);
    assert_eq!(may["status"]["allowed"], true);
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    let may = cluster.admin.post(&local, &question("LocalSubjectAccessReview", &about)).await.expect(201);
    assert_eq!(may["status"]["allowed"], true);
    about["resourceAttributes"]["namespace"] = "other".into();
    cluster.admin.post(&local, &question("LocalSubjectAccessReview", &about)).await.refused(422, "Invalid");

    for (method, path) in
        [(Method::GET, own.clone()), (Method::DELETE, own.clone()), (Method::GET, format!("{own}/x"))]
    {
        cluster.admin.send(method, &path, &[], "").await.refused(405, "MethodNotAllowed");
    }
}

#[tokio::test]
async fn everybody_can_ask_what_they_may_do_and_who_they_are() {
    let cluster = Cluster::new().await;
    give(&cluster, "view", "alice").await;
    let alice = cluster.client(User::new("alice", ["people"]));
    let spec = json!({ "namespace": "default" });
    let rules = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let reply = alice.post(&rules, &question("SelfSubjectRulesReview", &spec)).await.expect(201);
    let status = &reply["status"];
    assert_eq!(status["incomplete"], false);
    let has = |list: &Value, field: &str, wanted: &str| {
        list.as_array().unwrap().iter().any(|r| r[field].as_array().unwrap().contains(&json!(wanted)))
    };
    assert!(has(&status["resourceRules"], "resources", "selfsubjectreviews"));
    assert!(has(&status["resourceRules"], "resources", "services"));
    assert!(has(&status["nonResourceRules"], "nonResourceURLs", "/healthz"));
    let me = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {} });
    let reply = alice.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &me).await.expect(201);
    let groups = json!(["people", "system:authenticated"]);
    assert_eq!(reply["status"]["userInfo"], json!({ "username": "alice", "groups": groups }));
}

#[tokio::test]
async fn a_node_reads_single_secrets_that_its_pods_name() {
    let cluster = Cluster::new().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["named", "other"] {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
        cluster.admin.post(secrets, &secret).await.expect(201);
    }
    let agent = cluster.client(User::new("system:node:n1", [NODES]));
    let named = format!("{secrets}/named");
    agent.get(&named).await.refused(403, "Forbidden");
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = "n1".into();
    bound["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "named" } }]);
    cluster.admin.post("/api/v1/namespaces/default/pods", &bound).await.expect(201);
    agent.get(&named).await.expect(200);
    agent.get(&format!("{secrets}/other")).await.refused(403, "Forbidden");
    agent.get(secrets).await.refused(403, "Forbidden");
    agent.get(&format!("{secrets}?watch=true")).await.refused(403, "Forbidden");
    agent.delete(&named).await.refused(403, "Forbidden");
    cluster.client(User::new("system:node:n2", [NODES])).get(&named).await.refused(403, "Forbidden");
    let now = json!({ "gracePeriodSeconds": 0 });
    cluster.admin.delete_with("/api/v1/namespaces/default/pods/p", &now).await.expect(200);
    until_refused(&agent, &named).await;
}

#[tokio::test]
async fn who_may_impersonate_acts_as_the_other() {
    let cluster = Cluster::new().await;
    give(&cluster, "view", "bob").await;
    let as_bob = [("impersonate-user", "bob")];
    let get = async |client: &Client, headers: &[(&str, &str)], path: &str| {
        client.send(Method::GET, path, headers, "").await
    };
    get(&cluster.admin, &as_bob, SERVICES).await.expect(200);
    let message = get(&cluster.admin, &as_bob, "/api/v1/nodes").await.refused(403, "Forbidden");
    assert!(message.contains("User \"bob\" cannot list resource \"nodes\""), "{message}");
    let message = get(&cluster.admin, &as_bob, "/metrics").await.refused(403, "Forbidden");
    assert_eq!(message, "forbidden: User \"bob\" cannot get path \"/metrics\"");
    let masters = [("impersonate-user", "bob"), ("impersonate-group", "system:masters")];
    get(&cluster.admin, &masters, "/api/v1/nodes").await.expect(200);
    get(&cluster.admin, &[("impersonate-group", "g")], SERVICES).await.refused(400, "BadRequest");

    let alice = cluster.client(User::new("alice", ["people"]));
    assert_eq!(
        get(&alice, &as_bob, SERVICES).await.refused(403, "Forbidden"),
        "services is forbidden: User \"alice\" cannot impersonate-on:user-info:list resource \"services\" in API group \
         \"\" in the namespace \"default\""
    );
    let as_role = |name: &str, rule: Value| object("ClusterRole", name, json!({ "rules": [rule] }));
    let impersonator = as_role(
        "be-bob",
        json!({ "apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["bob"] }),
    );
    cluster.admin.post(&format!("{RBAC}/clusterroles"), &impersonator).await.expect(201);
    give(&cluster, "be-bob", "alice").await;
    get(&alice, &as_bob, SERVICES).await.expect(200);
    get(&alice, &masters, SERVICES).await.refused(403, "Forbidden");
    get(&alice, &[("impersonate-user", "carol")], SERVICES).await.refused(403, "Forbidden");

    let constrained = object(
        "ClusterRole",
        "list-as-carol",
        json!({ "rules": [
        { "apiGroups": ["authentication.k8s.io"], "resources": ["users"], "verbs": ["impersonate:user-info"], "resourceNames": ["carol"] },
        { "apiGroups": [""], "resources": ["services"], "verbs": ["impersonate-on:user-info:list"] },
    ] }),
    );
    cluster.admin.post(&format!("{RBAC}/clusterroles"), &constrained).await.expect(201);
    give(&cluster, "list-as-carol", "dave").await;
    give(&cluster, "view", "carol").await;
    let dave = cluster.client(User::new("dave", ["people"]));
    let as_carol = [("impersonate-user", "carol")];
    get(&dave, &as_carol, SERVICES).await.expect(200);
    get(&dave, &as_carol, &format!("{SERVICES}/web")).await.refused(403, "Forbidden");
    get(&dave, &as_bob, SERVICES).await.refused(403, "Forbidden");
}
