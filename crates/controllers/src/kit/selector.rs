//! Label selectors: of Services (equality), of workloads (expressions), of nodes (more operators).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels as they stand in metadata.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether every pair of `wanted` is among `labels`. An empty selector selects everything; callers decide on that first.
pub(crate) fn is_subset(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

/// Whether a workload's selector selects `labels`. An empty selector selects nothing here: workloads must name
/// what is theirs.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let pairs = selector.match_labels.as_ref();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    if pairs.is_none_or(BTreeMap::is_empty) && expressions.is_empty() {
        return false;
    }
    let found = |key: &str| labels.and_then(|l| l.get(key));
    pairs.is_none_or(|pairs| is_subset(pairs, labels))
        && expressions.iter().all(|e| {
            let values = e.values.as_deref().unwrap_or_default();
            matches_operator(&e.operator, found(&e.key), values)
        })
}

/// Whether a term of a node's selector holds. An empty term holds for no node.
pub(crate) fn term_matches(term: &NodeSelectorTerm, name: &str, labels: Option<&Labels>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = name.to_owned();
    let field = |r: &NodeSelectorRequirement| requirement(r, (r.key == "metadata.name").then_some(&name));
    expressions.iter().all(|r| requirement(r, labels.and_then(|l| l.get(&r.key)))) && fields.iter().all(field)
}

fn requirement(r: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    matches_operator(&r.operator, value, r.values.as_deref().unwrap_or_default())
}

fn matches_operator(operator: &str, value: Option<&String>, values: &[String]) -> bool {
    match operator {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(value, values).is_some_and(|(a, b)| a > b),
        "Lt" => compare(value, values).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

fn compare(value: Option<&String>, values: &[String]) -> Option<(i64, i64)> {
    Some((value?.parse().ok()?, values.first()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn equality_selectors() {
        let wanted = labels(&[("a", "1"), ("b", "2")]);
        assert!(is_subset(&wanted, Some(&labels(&[("a", "1"), ("b", "2"), ("c", "3")]))));
        assert!(!is_subset(&wanted, Some(&labels(&[("a", "1")]))));
        assert!(!is_subset(&wanted, None));
    }

    #[test]
    fn expressions() {
        let cases = [
            ("In", vec!["1", "2"], true, false),
            ("NotIn", vec!["1"], false, true),
            ("Exists", vec![], true, false),
            ("DoesNotExist", vec![], false, true),
            ("Nonsense", vec!["1"], false, false),
        ];
        for (operator, values, with, without) in cases {
            let requirement = LabelSelectorRequirement {
                key: "k".to_owned(),
                operator: operator.to_owned(),
                values: Some(values.into_iter().map(str::to_owned).collect()),
            };
            let selector = LabelSelector { match_expressions: Some(vec![requirement]), match_labels: None };
            assert_eq!(selects(&selector, Some(&labels(&[("k", "1")]))), with, "{operator} with the label");
            assert_eq!(selects(&selector, Some(&labels(&[("x", "1")]))), without, "{operator} without it");
        }
    }

    #[test]
    fn an_empty_selector_of_a_workload_selects_nothing() {
        assert!(!selects(&LabelSelector::default(), Some(&labels(&[("a", "1")]))));
    }

    #[test]
    fn node_terms() {
        let term = |key: &str, operator: &str, value: &str| NodeSelectorTerm {
            match_expressions: Some(vec![NodeSelectorRequirement {
                key: key.to_owned(),
                operator: operator.to_owned(),
                values: Some(vec![value.to_owned()]),
            }]),
            match_fields: None,
        };
        let node = labels(&[("cpus", "8")]);
        assert!(term_matches(&term("cpus", "Gt", "4"), "n", Some(&node)));
        assert!(!term_matches(&term("cpus", "Lt", "4"), "n", Some(&node)));
        assert!(!term_matches(&term("cpus", "Gt", "many"), "n", Some(&node)));
        assert!(!term_matches(&NodeSelectorTerm::default(), "n", Some(&node)));
        let by_name = NodeSelectorTerm {
            match_fields: term("metadata.name", "In", "n").match_expressions,
            match_expressions: None,
        };
        assert!(term_matches(&by_name, "n", None));
        assert!(!term_matches(&by_name, "m", None));
    }
}
