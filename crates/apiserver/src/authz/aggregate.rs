//! ClusterRoles that are the sum of others: those whose labels their `aggregationRule` selects. The sum is written into
//! their `rules`, so that everybody sees what they give.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Value, json};
use svcd_api::selector::LabelSelector;
use svcd_store::ListRequest;

use super::rbac::{CLUSTER_ROLES, GROUP, Rule};
use crate::errors::Failure;
use crate::metadata;
use crate::record;
use crate::server::ApiServer;
use crate::write::{ATTEMPTS, Miss};

impl ApiServer {
    /// Brings the rules of all aggregated ClusterRoles up to date. A sum may be part of another: rounds until nothing
    /// changes, and no more than there are roles.
    pub(crate) async fn aggregate(&self) -> Result<(), Failure> {
        let Some(resource) = self.resources.find(GROUP, "v1", CLUSTER_ROLES) else { return Ok(()) };
        let request = || ListRequest { prefix: resource.prefix(None), ..ListRequest::default() };
        let mut rounds = 1;
        while rounds > 0 {
            let page = self.store.list(request()).await?;
            let roles: Vec<Value> = page.records.iter().map(|stored| record::decode(stored)).collect();
            let stale: Vec<(&str, Value)> = roles.iter().filter_map(|role| stale(role, &roles)).collect();
            if stale.is_empty() {
                return Ok(());
            }
            rounds = if rounds == 1 { roles.len() } else { rounds - 1 };
            for (name, rules) in stale {
                self.set_rules(name, rules).await?;
            }
        }
        Ok(())
    }

    async fn set_rules(&self, name: &str, rules: Value) -> Result<(), Failure> {
        self.rewrite(CLUSTER_ROLES, name, |role| {
            let mut new = role.clone();
            new["rules"] = rules.clone();
            (new != *role).then_some(new)
        })
        .await
    }

    /// Changes an object of RBAC outside namespaces by a function of it; `None` leaves it.
    pub(crate) async fn rewrite(
        &self,
        plural: &str,
        name: &str,
        change: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(), Failure> {
        let Some(resource) = self.resources.find(GROUP, "v1", plural) else { return Ok(()) };
        for _ in 0..ATTEMPTS {
            let Some(stored) = self.store.get(&resource.key("", name)).await? else { return Ok(()) };
            let old = record::decode(&stored);
            let Some(new) = change(&old) else { return Ok(()) };
            match self.put_next(resource, &stored, &old, new, false).await {
                Ok(_) => return Ok(()),
                Err(Miss::Raced(_)) => {}
                Err(Miss::Refused(failure)) => return Err(failure),
            }
        }
        Err(Failure::modified(resource.info, name))
    }
}

/// Name and new rules of an aggregated role whose rules are not the sum of what it selects.
fn stale<'a>(role: &'a Value, all: &[Value]) -> Option<(&'a str, Value)> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let mut sum: Vec<Rule> = Vec::new();
    for selector in selectors {
        let selector: meta::LabelSelector = serde_json::from_value(selector.clone()).ok()?;
        let selector = LabelSelector::from_object(&selector).ok()?;
        let name = metadata::text(role, "name");
        let selected = all
            .iter()
            .filter(|other| metadata::text(other, "name") != name)
            .filter(|other| selector.matches_with(|key| other["metadata"]["labels"][key].as_str()));
        for rule in selected.flat_map(rules) {
            if !sum.contains(&rule) {
                sum.push(rule);
            }
        }
    }
    (rules(role) != sum).then(|| (metadata::text(role, "name"), json!(sum)))
}

fn rules(role: &Value) -> Vec<Rule> {
    serde_json::from_value(role["rules"].clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_holds_what_the_selected_roles_hold_once() {
        let rule = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] });
        let part = |name: &str, label: &str, rules: Value| json!({ "metadata": { "name": name, "labels": { "to": label } }, "rules": rules });
        let sum = json!({ "metadata": { "name": "sum", "labels": { "to": "x" } },
            "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "to": "x" } },
                { "matchExpressions": [{ "key": "to", "operator": "In", "values": ["y"] }] }] } });
        let other = json!({ "nonResourceURLs": ["/x"], "verbs": ["get"] });
        let all = [
            part("a", "x", json!([rule])),
            part("b", "y", json!([rule, other])),
            part("c", "z", json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }])),
            sum.clone(),
        ];
        assert_eq!(stale(&sum, &all), Some(("sum", json!([rule, other]))));
        let mut done = sum;
        done["rules"] = json!([rule, other]);
        assert_eq!(stale(&done, &all), None);
        assert_eq!(stale(&all[0], &all), None);
    }
}
