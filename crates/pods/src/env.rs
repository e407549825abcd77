//! A container's environment, as the kubelet builds it: `envFrom`, then `env` with references and `$(NAME)`, then the
//! variables of the namespace's Services where nothing of that name is there yet.
//!
//! Pure: what must be fetched first is told by [`needs`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ConfigMapEnvSource, Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, SecretEnvSource, Service,
};

/// What a container must find even when its pod says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The objects a container's environment refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// Their data; absent when there is no such object.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// What the pod knows of itself.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ip: String,
    pub(crate) host_ip: String,
    pub(crate) node_name: String,
    pub(crate) hostname: String,
    /// Of the pod's namespace, and `default/kubernetes`.
    pub(crate) services: Vec<Arc<Service>>,
}

pub(crate) fn needs(container: &Container) -> Needs {
    let mut needs = Needs::default();
    for from in container.env_from.iter().flatten() {
        needs.config_maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
        needs.secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        needs.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        needs.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
    needs
}

/// The whole environment, or what is missing, in the kubelet's words.
pub(crate) fn build(
    container: &Container,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    let services = service_variables(facts);
    let mut result = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            take_all(&mut result, prefix, whole_config_map(source, sources)?);
        }
        if let Some(source) = &from.secret_ref {
            take_all(&mut result, prefix, whole_secret(source, sources)?);
        }
    }
    let mut known: BTreeMap<String, String> = services.clone();
    known.extend(result.clone());
    for variable in container.env.iter().flatten() {
        let Some(value) = value_of(variable, &known, facts, sources)? else { continue };
        known.insert(variable.name.clone(), value.clone());
        result.insert(variable.name.clone(), value);
    }
    for (name, value) in services {
        result.entry(name).or_insert(value);
    }
    for (name, value) in [("HOSTNAME", facts.hostname.as_str()), ("PATH", PATH), ("HOME", "/root")] {
        result.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    Ok(result.into_iter().collect())
}

fn take_all(
    result: &mut BTreeMap<String, String>,
    prefix: &str,
    data: impl IntoIterator<Item = (String, String)>,
) {
    let named = data.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
    // What no process could read is left out, as upstream does.
    result
        .extend(named.filter(|(name, value)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        }));
}

fn whole_config_map(
    source: &ConfigMapEnvSource,
    sources: &Sources,
) -> Result<BTreeMap<String, String>, String> {
    match sources.config_maps.get(&source.name) {
        Some(data) => Ok(data.clone()),
        None if source.optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("configmap \"{}\" not found", source.name)),
    }
}

fn whole_secret(source: &SecretEnvSource, sources: &Sources) -> Result<BTreeMap<String, String>, String> {
    match sources.secrets.get(&source.name) {
        Some(data) => Ok(data.iter().map(|(key, value)| (key.clone(), text(value))).collect()),
        None if source.optional == Some(true) => Ok(BTreeMap::new()),
        None => Err(format!("secret \"{}\" not found", source.name)),
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn value_of(
    variable: &EnvVar,
    known: &BTreeMap<String, String>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Result<Option<String>, String> {
    match &variable.value_from {
        Some(source) => reference(&variable.name, source, facts, sources),
        None => Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known))),
    }
}

fn reference(
    variable: &str,
    source: &EnvVarSource,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Result<Option<String>, String> {
    let namespace = facts.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return field_of(field, facts).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let data = sources.config_maps.get(&key.name);
        let value = data.and_then(|data| data.get(&key.key)).cloned();
        let name = format!("ConfigMap {namespace}/{}", key.name);
        return found(value, data.is_some(), key.optional, &key.key, ("configmap", &key.name, &name));
    }
    if let Some(key) = &source.secret_key_ref {
        let data = sources.secrets.get(&key.name);
        let value = data.and_then(|data| data.get(&key.key)).map(|value| text(value));
        let name = format!("Secret {namespace}/{}", key.name);
        return found(value, data.is_some(), key.optional, &key.key, ("secret", &key.name, &name));
    }
    Err(format!("env {variable}: only valueFrom.fieldRef, configMapKeyRef and secretKeyRef are supported"))
}

fn found(
    value: Option<String>,
    object: bool,
    optional: Option<bool>,
    key: &str,
    (kind, name, whole): (&str, &str, &str),
) -> Result<Option<String>, String> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if object => Err(format!("couldn't find key {key} in {whole}")),
        None => Err(format!("{kind} \"{name}\" not found")),
    }
}

fn field_of(field: &ObjectFieldSelector, facts: &Facts<'_>) -> Result<String, String> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    let path = field.field_path.as_str();
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "status.podIP" | "status.podIPs" => Some(facts.pod_ip.clone()),
        "status.hostIP" | "status.hostIPs" => Some(facts.host_ip.clone()),
        "spec.nodeName" => Some(facts.node_name.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        _ => {
            let label = subscript(path, "metadata.labels").map(|key| (metadata.labels.as_ref(), key));
            let annotation =
                subscript(path, "metadata.annotations").map(|key| (metadata.annotations.as_ref(), key));
            let (map, key) = label.or(annotation).ok_or_else(|| format!("unsupported fieldPath: {path}"))?;
            map.and_then(|map| map.get(key)).cloned()
        }
    };
    Ok(value.unwrap_or_default())
}

/// `key` of `prefix['key']`.
fn subscript<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")
}

/// `$(NAME)` for what is known; what is not stays as it is, and `$$` is a `$`.
pub(crate) fn expand(input: &str, known: &BTreeMap<String, String>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => output.push_str(value),
                None => output.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            output.push('$');
        }
    }
    output.push_str(rest);
    output
}

/// The variables of every Service with a VIP that this pod should hear of; `kubernetes` always is.
fn service_variables(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let namespace = facts.pod.metadata.namespace.as_deref();
    let links = facts.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let mut result = BTreeMap::new();
    for service in &facts.services {
        let own = service.metadata.namespace.as_deref() == namespace;
        let master = service.metadata.namespace.as_deref() == Some("default")
            && service.metadata.name.as_deref() == Some("kubernetes");
        if (own && links) || master {
            let variables = variables_of(service);
            // A Service of the pod's own namespace wins over one of the same name in `default`.
            if own {
                result.extend(variables)
            } else {
                variables.into_iter().for_each(|(name, value)| {
                    result.entry(name).or_insert(value);
                })
            }
        }
    }
    result
}

fn variables_of(service: &Service) -> Vec<(String, String)> {
    let spec = service.spec.as_ref();
    let address =
        spec.and_then(|spec| spec.cluster_ip.as_deref()).filter(|ip| !ip.is_empty() && *ip != "None");
    let (Some(spec), Some(address), Some(name)) = (spec, address, service.metadata.name.as_deref()) else {
        return Vec::new();
    };
    let prefix = variable_name(name);
    let mut result = vec![(format!("{prefix}_SERVICE_HOST"), address.to_owned())];
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        if index == 0 {
            result.push((format!("{prefix}_SERVICE_PORT"), number.to_string()));
        }
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            result.push((format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), number.to_string()));
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{}:{number}", protocol.to_lowercase(), host_in_url(address));
        if index == 0 {
            result.push((format!("{prefix}_PORT"), url.clone()));
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        result.push((link.clone(), url));
        result.push((format!("{link}_PROTO"), protocol.to_lowercase()));
        result.push((format!("{link}_PORT"), number.to_string()));
        result.push((format!("{link}_ADDR"), address.to_owned()));
    }
    result
}

fn host_in_url(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Arc<Service> {
        Arc::new(serde_json::from_str(text).unwrap())
    }

    fn pod() -> Pod {
        serde_json::from_str(
            r#"{"metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app.kubernetes.io/x": "y"},
                "annotations": {"a": "b"}}, "spec": {"containers": [], "serviceAccountName": "robot"}}"#,
        )
        .unwrap()
    }

    fn facts(pod: &Pod) -> Facts<'_> {
        Facts {
            pod,
            pod_ip: "10.244.1.5".into(),
            host_ip: "192.168.56.21".into(),
            node_name: "node1".into(),
            hostname: "web-0".into(),
            services: vec![
                service(
                    r#"{"metadata": {"name": "my-nginx", "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.7",
                       "ports": [{"name": "http-web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}}"#,
                ),
                service(
                    r#"{"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}"#,
                ),
                service(
                    r#"{"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}}"#,
                ),
                service(
                    r#"{"metadata": {"name": "other", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 9}]}}"#,
                ),
            ],
        }
    }

    fn container(text: &str) -> Container {
        serde_json::from_str(text).unwrap()
    }

    fn env(container: &Container, facts: &Facts<'_>, sources: &Sources) -> BTreeMap<String, String> {
        build(container, facts, sources).unwrap().into_iter().collect()
    }

    #[test]
    fn services_are_told_of_as_docker_links_and_the_kubernetes_way() {
        let pod = pod();
        let env = env(&container(r#"{"name": "c"}"#), &facts(&pod), &Sources::default());
        let expected = [
            ("MY_NGINX_SERVICE_HOST", "10.96.0.7"),
            ("MY_NGINX_SERVICE_PORT", "80"),
            ("MY_NGINX_SERVICE_PORT_HTTP_WEB", "80"),
            ("MY_NGINX_SERVICE_PORT_DNS", "53"),
            ("MY_NGINX_PORT", "tcp://10.96.0.7:80"),
            ("MY_NGINX_PORT_80_TCP", "tcp://10.96.0.7:80"),
            ("MY_NGINX_PORT_80_TCP_PROTO", "tcp"),
            ("MY_NGINX_PORT_80_TCP_PORT", "80"),
            ("MY_NGINX_PORT_80_TCP_ADDR", "10.96.0.7"),
            ("MY_NGINX_PORT_53_UDP", "udp://10.96.0.7:53"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
            ("KUBERNETES_PORT_443_TCP_ADDR", "10.96.0.1"),
            ("HOSTNAME", "web-0"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(env.keys().all(|name| !name.starts_with("DB_") && !name.starts_with("OTHER_")), "{env:?}");
    }

    #[test]
    fn links_can_be_turned_off_except_for_the_api() {
        let mut pod = pod();
        pod.spec.as_mut().unwrap().enable_service_links = Some(false);
        let env = env(&container(r#"{"name": "c"}"#), &facts(&pod), &Sources::default());
        assert!(env.contains_key("KUBERNETES_SERVICE_HOST"));
        assert!(!env.contains_key("MY_NGINX_SERVICE_HOST"));
    }

    #[test]
    fn references_are_resolved_in_order_and_win_over_services() {
        let pod = pod();
        let container = container(
            r#"{"name": "c", "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "gone", "optional": true}}],
                "env": [
                {"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(CM_k)-$(KUBERNETES_SERVICE_HOST)-$$(A)-$(NO)-$"},
                {"name": "MY_NGINX_SERVICE_HOST", "value": "mine"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/x']"}}},
                {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a']"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
                {"name": "SA", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no", "optional": true}}}]}"#,
        );
        let needed = needs(&container);
        assert_eq!(needed.config_maps.into_iter().collect::<Vec<_>>(), ["cm"]);
        assert_eq!(needed.secrets.into_iter().collect::<Vec<_>>(), ["gone", "s"]);
        let sources = Sources {
            config_maps: [("cm".to_owned(), [("k".to_owned(), "v".to_owned())].into())].into(),
            secrets: [("s".to_owned(), [("password".to_owned(), b"hush".to_vec())].into())].into(),
        };
        let env = env(&container, &facts(&pod), &sources);
        let expected = [
            ("CM_k", "v"),
            ("B", "a-v-10.96.0.1-$(A)-$(NO)-$"),
            ("MY_NGINX_SERVICE_HOST", "mine"),
            ("NAME", "web-0"),
            ("LABEL", "y"),
            ("NOTE", "b"),
            ("IP", "10.244.1.5"),
            ("NODE", "node1"),
            ("HOST", "192.168.56.21"),
            ("SA", "robot"),
            ("S", "hush"),
        ];
        for (name, value) in expected {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.contains_key("MAYBE"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let pod = pod();
        let cases = [
            (r#"{"secretKeyRef": {"name": "s", "key": "k"}}"#, "secret \"s\" not found"),
            (
                r#"{"configMapKeyRef": {"name": "cm", "key": "k"}}"#,
                "couldn't find key k in ConfigMap shop/cm",
            ),
            (r#"{"fieldRef": {"fieldPath": "spec.magic"}}"#, "unsupported fieldPath: spec.magic"),
            (
                r#"{"resourceFieldRef": {"resource": "limits.cpu"}}"#,
                "env X: only valueFrom.fieldRef, configMapKeyRef and secretKeyRef are supported",
            ),
        ];
        let sources =
            Sources { config_maps: [("cm".to_owned(), BTreeMap::new())].into(), ..Sources::default() };
        for (source, message) in cases {
            let container =
                container(&format!(r#"{{"name": "c", "env": [{{"name": "X", "valueFrom": {source}}}]}}"#));
            assert_eq!(build(&container, &facts(&pod), &sources).unwrap_err(), message);
        }
    }
}
