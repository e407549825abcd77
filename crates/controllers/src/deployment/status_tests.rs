use serde_json::json;

use super::super::decide::tests::{deployment, set};
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn reason(status: &DeploymentStatus, kind: &str) -> (String, String) {
    let condition = status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(kind)).unwrap();
    (condition.status.clone().unwrap(), condition.reason.clone().unwrap())
}

fn is(status: &DeploymentStatus, kind: &str, wanted: (&str, &str)) {
    let (found, why) = reason(status, kind);
    assert_eq!((found.as_str(), why.as_str()), wanted, "{kind}");
}

#[test]
fn a_rollout_told_by_its_conditions() {
    let mut deployment = deployment(3, json!({ "spec": { "progressDeadlineSeconds": 60 } }));
    // A set is made.
    let step = |deployment: &Deployment, sets: &[_], made: Option<&str>, now| {
        status(deployment, &Rollout::of(deployment, sets), made, at(now))
    };
    let first = step(&deployment, &[], Some("web-now"), 100);
    is(&first, PROGRESSING, ("True", "NewReplicaSetCreated"));
    is(&first, AVAILABLE, ("False", "MinimumReplicasUnavailable"));
    assert_eq!(first.observed_generation, Some(7));
    deployment.status = Some(first);
    // Two pods run.
    let second = step(&deployment, &[set("now", 3, 3, 2, json!({}))], None, 110);
    is(&second, PROGRESSING, ("True", "ReplicaSetUpdated"));
    is(&second, AVAILABLE, ("True", "MinimumReplicasAvailable"));
    assert_eq!((second.updated_replicas, second.unavailable_replicas), (Some(3), Some(1)));
    assert!(deadline(&deployment, &second, at(110)).is_some_and(|left| left.as_secs() == 61));
    deployment.status = Some(second.clone());
    // Nothing happens: the very same status, and in the end too late.
    assert_eq!(step(&deployment, &[set("now", 3, 3, 2, json!({}))], None, 120), second);
    let late = step(&deployment, &[set("now", 3, 3, 2, json!({}))], None, 171);
    is(&late, PROGRESSING, ("False", "ProgressDeadlineExceeded"));
    assert_eq!(deadline(&deployment, &late, at(171)), None);
    deployment.status = Some(late);
    // The last pod comes after all.
    let done = step(&deployment, &[set("now", 3, 3, 3, json!({}))], None, 180);
    is(&done, PROGRESSING, ("True", "NewReplicaSetAvailable"));
    assert_eq!(done.unavailable_replicas, None);
    deployment.status = Some(done);
    // A pod is lost much later: available or not, but not late.
    let lost = step(&deployment, &[set("now", 3, 3, 1, json!({}))], None, 9000);
    is(&lost, PROGRESSING, ("True", "NewReplicaSetAvailable"));
    is(&lost, AVAILABLE, ("False", "MinimumReplicasUnavailable"));
}

#[test]
fn complete_means_all_of_the_present_template_and_no_other() {
    let deployment = deployment(2, json!({}));
    let complete = |sets: &[_]| is_complete(&deployment, &Rollout::of(&deployment, sets));
    assert!(complete(&[set("now", 2, 2, 2, json!({}))]));
    assert!(!complete(&[set("now", 2, 2, 1, json!({}))]));
    assert!(!complete(&[set("now", 2, 2, 2, json!({})), set("then", 0, 1, 0, json!({}))]));
    assert!(complete(&[set("now", 2, 2, 2, json!({})), set("then", 0, 0, 0, json!({}))]));
}

#[test]
fn a_pause_is_told_and_stops_the_clock() {
    let paused = deployment(2, json!({ "spec": { "paused": true } }));
    let status = status(&paused, &Rollout::of(&paused, &[]), None, at(1));
    is(&status, PROGRESSING, ("Unknown", "DeploymentPaused"));
    assert_eq!(deadline(&paused, &status, at(1)), None);
}
