//! The short name of a pod template, as it ends the names of ReplicaSets and ControllerRevisions.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use svcd_api::Json;

/// Letters that cannot spell words, as upstream uses them.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The same for equal templates; `collisions` leads to another one when the name is taken.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash = Fnv::default();
    hash.feed(template.to_json().to_string().as_bytes());
    if let Some(count) = collisions {
        hash.feed(&count.to_le_bytes());
    }
    let decimal = hash.0.to_string();
    decimal.bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    #[test]
    fn names_are_stable_distinct_and_valid() {
        let template = |host: &str| PodTemplateSpec {
            spec: Some(PodSpec { hostname: Some(host.to_owned()), ..PodSpec::default() }),
            metadata: None,
        };
        let name = template_hash(&template("a"), None);
        assert_eq!(name, template_hash(&template("a"), None));
        assert_ne!(name, template_hash(&template("b"), None));
        assert_ne!(name, template_hash(&template("a"), Some(1)));
        assert!(name.len() <= 10 && name.bytes().all(|b| LETTERS.contains(&b)));
    }
}
