//! What this runtime cannot give: refused with the field's name, rather than ignored.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, Probe, Volume};

use super::image::Image;
use crate::runtime::Refusal;

/// Whether a container of a pod can be run as it stands.
pub(super) fn check(pod: &Pod, container: &Container) -> Result<(), Refusal> {
    let name = container.image.as_deref().unwrap_or_default();
    let image = Image::parse(name).ok_or_else(|| Refusal {
        reason: "ErrImagePull",
        message: format!(
            "image \"{name}\" cannot be run by the built-in runtime, which pulls no images; use svcd.io/echo (an echo \
             server on the pod's ports) or svcd.io/host (runs command and args from the node's own file system)"
        ),
    })?;
    let command = container.command.as_ref().is_some_and(|command| !command.is_empty());
    match image {
        Image::Host if !command => {
            let message =
                "image svcd.io/host needs a command: set command to a program of the node's file system";
            Err(Refusal { reason: "CreateContainerError", message: message.to_owned() })
        }
        Image::Echo if command => Err(refused(
            "command",
            "image svcd.io/echo is only the echo server; use svcd.io/host for commands",
        )),
        _ => {
            security(pod, container, image)?;
            volumes(pod, container, image)?;
            probes(container)
        }
    }
}

fn refused(field: &str, why: &str) -> Refusal {
    Refusal { reason: "CreateContainerConfigError", message: format!("{field}: {why}") }
}

/// What would widen rights is refused always; what would narrow them only where foreign programs run: the echo server
/// needs none.
fn security(pod: &Pod, container: &Container, image: Image) -> Result<(), Refusal> {
    let none = "is not supported by the built-in runtime";
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let Some(context) = container.security_context.as_ref() else {
        return non_root(
            pod_context.and_then(|context| context.run_as_non_root),
            user(pod, container),
            image,
        );
    };
    if context.privileged == Some(true) {
        return Err(refused("securityContext.privileged", none));
    }
    let capabilities = context.capabilities.as_ref();
    if capabilities.is_some_and(|capabilities| capabilities.add.as_ref().is_some_and(|add| !add.is_empty())) {
        return Err(refused("securityContext.capabilities.add", none));
    }
    if context.proc_mount.as_deref().is_some_and(|mount| mount != "Default") {
        return Err(refused("securityContext.procMount", none));
    }
    if image == Image::Host {
        if context.read_only_root_filesystem == Some(true) {
            return Err(refused("securityContext.readOnlyRootFilesystem", none));
        }
        if capabilities
            .is_some_and(|capabilities| capabilities.drop.as_ref().is_some_and(|drop| !drop.is_empty()))
        {
            return Err(refused("securityContext.capabilities.drop", none));
        }
    }
    let wanted = context.run_as_non_root.or_else(|| pod_context.and_then(|context| context.run_as_non_root));
    non_root(wanted, user(pod, container), image)
}

fn non_root(wanted: Option<bool>, user: Option<u32>, image: Image) -> Result<(), Refusal> {
    if wanted == Some(true) && image == Image::Host && user.unwrap_or(0) == 0 {
        let message = "container has runAsNonRoot and image will run as root; set securityContext.runAsUser";
        return Err(Refusal { reason: "CreateContainerConfigError", message: message.to_owned() });
    }
    Ok(())
}

/// The user a container asks for.
fn user(pod: &Pod, container: &Container) -> Option<u32> {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
    let pods = || pod.spec.as_ref()?.security_context.as_ref()?.run_as_user;
    u32::try_from(own.or_else(pods)?).ok()
}

fn volumes(pod: &Pod, container: &Container, image: Image) -> Result<(), Refusal> {
    if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(refused("volumeDevices", "is not supported by the built-in runtime"));
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = volumes.and_then(|volumes| volumes.iter().find(|volume| volume.name == mount.name));
        let Some(volume) = volume else {
            return Err(refused(
                &format!("volumeMounts[{index}]"),
                &format!("there is no volume {}", mount.name),
            ));
        };
        if is_token(volume) {
            continue;
        }
        if volume.empty_dir.is_none() {
            let why = format!("the built-in runtime has emptyDir volumes only; {} is another", volume.name);
            return Err(refused("volumes", &why));
        }
        if mount.sub_path.is_some() || mount.sub_path_expr.is_some() {
            return Err(refused(
                &format!("volumeMounts[{index}].subPath"),
                "is not supported by the built-in runtime",
            ));
        }
        if image == Image::Host && !Path::new(&mount.mount_path).is_dir() {
            let why = format!(
                "{} is no directory of the node, and the built-in runtime makes none; mount over one that is there, such as /mnt",
                mount.mount_path
            );
            return Err(refused(&format!("volumeMounts[{index}].mountPath"), &why));
        }
    }
    Ok(())
}

/// The service account's token, which the API server may have added by itself.
pub(crate) fn is_token(volume: &Volume) -> bool {
    volume.projected.is_some() && volume.name.starts_with("kube-api-access-")
}

fn probes(container: &Container) -> Result<(), Refusal> {
    let all = [
        ("startupProbe", &container.startup_probe),
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
    ];
    for (field, probe) in all {
        let Some(Probe { http_get, grpc, .. }) = probe else { continue };
        if grpc.is_some() {
            return Err(refused(&format!("{field}.grpc"), "use httpGet, tcpSocket or exec"));
        }
        if http_get.as_ref().and_then(|action| action.scheme.as_deref()) == Some("HTTPS") {
            return Err(refused(
                &format!("{field}.httpGet.scheme"),
                "HTTPS is not supported; use HTTP or tcpSocket",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn verdict(container: Value) -> Result<(), Refusal> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container.clone()], "volumes": [
            {"name": "scratch", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "c"}},
            {"name": "kube-api-access-abcde", "projected": {"sources": []}}]}});
        check(&serde_json::from_value(pod).unwrap(), &serde_json::from_value(container).unwrap())
    }

    #[test]
    fn what_works_is_let_through() {
        let hardened = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
        let good = [
            json!({"name": "c", "image": "svcd.io/echo:latest", "args": ["--tcp", "7"], "securityContext": hardened,
                "volumeMounts": [{"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}),
            json!({"name": "c", "image": "svcd.io/host", "command": ["sh"], "securityContext": {"runAsNonRoot": true, "runAsUser": 1000},
                "volumeMounts": [{"name": "scratch", "mountPath": "/mnt"}]}),
        ];
        for container in good {
            assert_eq!(verdict(container.clone()), Ok(()), "{container}");
        }
    }

    #[test]
    fn what_does_not_is_named() {
        let cases = [
            (json!({"image": "nginx"}), "ErrImagePull", "use svcd.io/echo"),
            (json!({"image": "svcd.io/host"}), "CreateContainerError", "set command"),
            (json!({"image": "svcd.io/echo", "command": ["sh"]}), "CreateContainerConfigError", "command: "),
            (
                json!({"securityContext": {"privileged": true}}),
                "CreateContainerConfigError",
                "securityContext.privileged",
            ),
            (
                json!({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}),
                "CreateContainerConfigError",
                "capabilities.add",
            ),
            (
                json!({"securityContext": {"runAsNonRoot": true}}),
                "CreateContainerConfigError",
                "runAsNonRoot",
            ),
            (
                json!({"securityContext": {"readOnlyRootFilesystem": true}}),
                "CreateContainerConfigError",
                "readOnlyRootFilesystem",
            ),
            (
                json!({"volumeMounts": [{"name": "conf", "mountPath": "/mnt"}]}),
                "CreateContainerConfigError",
                "conf is another",
            ),
            (
                json!({"volumeMounts": [{"name": "scratch", "mountPath": "/no/such"}]}),
                "CreateContainerConfigError",
                "volumeMounts[0].mountPath: /no/such",
            ),
            (
                json!({"livenessProbe": {"grpc": {"port": 1}}}),
                "CreateContainerConfigError",
                "livenessProbe.grpc",
            ),
            (
                json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
                "CreateContainerConfigError",
                "readinessProbe.httpGet.scheme",
            ),
        ];
        for (change, reason, words) in cases {
            let mut container = json!({"name": "c", "image": "svcd.io/host", "command": ["true"]});
            if change.get("image").is_some() {
                container["command"] = Value::Null;
            }
            for (field, value) in change.as_object().unwrap() {
                container[field] = value.clone();
            }
            let refusal = verdict(container.clone()).unwrap_err();
            assert_eq!(refusal.reason, reason, "{container}");
            assert!(refusal.message.contains(words), "{container}: {}", refusal.message);
        }
    }
}
