//! Taints of nodes and what pods tolerate.

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

/// The node says that it cannot run pods.
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node has not been heard of.
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The node was cordoned.
pub(crate) const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(crate) fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// Whether one of the tolerations is for this taint.
pub(crate) fn tolerated(taint: &Taint, tolerations: &[Toleration]) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let effect = empty(&toleration.effect) || toleration.effect.as_ref() == Some(&taint.effect);
    let key = if empty(&toleration.key) { exists } else { toleration.key.as_ref() == Some(&taint.key) };
    let value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    effect && key && (exists || value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tolerates_what() {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let taint = Taint {
            key: "k".to_owned(),
            value: text("v"),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        };
        // key, operator, value, effect
        let cases = [
            (("k", "Equal", "v", "NoSchedule"), true),
            (("k", "", "v", ""), true),
            (("k", "Equal", "w", "NoSchedule"), false),
            (("k", "Exists", "", "NoSchedule"), true),
            (("k", "Exists", "", "NoExecute"), false),
            (("", "Exists", "", ""), true),
            (("", "Equal", "v", ""), false),
            (("other", "Exists", "", ""), false),
        ];
        for ((key, operator, value, effect), expected) in cases {
            let toleration = Toleration {
                key: text(key),
                operator: text(operator),
                value: text(value),
                effect: text(effect),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), expected, "{key} {operator} {value} {effect}");
        }
    }
}
