//! Kubeconfigs, as kubectl and every client library read them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig (YAML) with one cluster, user and context, each called `name`, and everything embedded, so that the file works
/// wherever it is copied to.
#[must_use]
pub fn kubeconfig(server_url: &str, ca_pem: &str, cert_pem: &str, key_pem: &str, name: &str) -> String {
    // JSON's strings are YAML's double-quoted ones: no name can break out of its place.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let name = quote(name);
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {name}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {name}
current-context: {name}
",
        server = quote(server_url),
        ca = STANDARD.encode(ca_pem),
        cert = STANDARD.encode(cert_pem),
        key = STANDARD.encode(key_pem),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeds_everything_and_quotes_names() {
        let text = kubeconfig("https://192.168.56.11:6443", "CA", "CERT", "KEY", "lab: \"one\"");
        assert!(text.contains("    server: \"https://192.168.56.11:6443\"\n"), "{text}");
        assert!(text.contains("    certificate-authority-data: Q0E=\n"));
        assert!(text.contains("    client-certificate-data: Q0VSVA==\n"));
        assert!(text.contains("    client-key-data: S0VZ\n"));
        assert!(text.ends_with("current-context: \"lab: \\\"one\\\"\"\n"), "{text}");
    }
}
