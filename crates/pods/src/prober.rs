//! Asking a container how it is: over HTTP and TCP from the node's own namespace, or by a command inside.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, HTTPGetAction, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::probe::{Counter, Kind, Timing};
use crate::runtime::{ContainerId, Runtime};

/// Between the first attempts of a container that is not ready yet; doubled up to the period.
const EAGER: Duration = Duration::from_millis(25);

/// What is asked, and where.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) id: ContainerId,
    pub(crate) address: Ipv4Addr,
    pub(crate) ports: Vec<ContainerPort>,
}

/// A verdict of a probe.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) id: ContainerId,
    pub(crate) kind: Kind,
    pub(crate) healthy: bool,
    pub(crate) message: String,
}

/// The probe of a kind that a container has.
pub(crate) fn probe_of(container: &Container, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => container.startup_probe.as_ref(),
        Kind::Liveness => container.liveness_probe.as_ref(),
        Kind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// Asks on and on, and sends each change of the verdict. Ends when nobody listens any more, or when a startup probe
/// has succeeded.
pub(crate) async fn watch<T: From<Verdict>>(
    target: Target,
    kind: Kind,
    probe: Probe,
    verdicts: mpsc::UnboundedSender<T>,
) {
    let timing = Timing::of(&probe);
    let mut counter = Counter::new(timing);
    let mut told = None;
    sleep(timing.initial_delay).await;
    let mut tick = Instant::now();
    let mut eager = EAGER;
    loop {
        let answer = ask(&target, &probe, timing.timeout).await;
        let regular = Instant::now() >= tick;
        // Answers out of turn can only bring good news: the threshold of failures is counted in periods.
        let verdict = if regular || answer.is_ok() { counter.observe(answer.is_ok()) } else { None };
        if regular {
            tick = (tick + timing.period).max(Instant::now());
        }
        if let Some(healthy) = verdict
            && (told != Some(healthy) || (kind == Kind::Liveness && !healthy))
        {
            told = Some(healthy);
            let message = answer.err().unwrap_or_default();
            let verdict = Verdict { id: target.id.clone(), kind, healthy, message };
            if verdicts.send(verdict.into()).is_err() || (kind == Kind::Startup && healthy) {
                return;
            }
        }
        let waits_for_first = kind != Kind::Liveness && told.is_none() && counter.eager();
        let next = if waits_for_first { tick.min(Instant::now() + eager) } else { tick };
        eager *= 2;
        tokio::time::sleep_until(next).await;
    }
}

/// One answer; the error says why it is a bad one.
async fn ask(target: &Target, probe: &Probe, patience: Duration) -> Result<(), String> {
    if let Some(action) = &probe.http_get {
        return http(target, action, patience).await;
    }
    if let Some(action) = &probe.tcp_socket {
        return tcp(target, action, patience).await;
    }
    match &probe.exec {
        Some(action) => exec(target, action, patience).await,
        None => Ok(()),
    }
}

pub(crate) async fn exec(target: &Target, action: &ExecAction, patience: Duration) -> Result<(), String> {
    let command = action.command.clone().unwrap_or_default();
    match target.runtime.exec(&target.id, &command, patience).await {
        Ok(done) if done.code == 0 => Ok(()),
        Ok(done) => Err(format!("command exited with {}: {}", done.code, done.output.trim())),
        Err(error) => Err(error.to_string()),
    }
}

async fn tcp(target: &Target, action: &TCPSocketAction, patience: Duration) -> Result<(), String> {
    let address = address(target, action.host.as_deref(), &action.port).await?;
    connect(address, patience).await.map(drop)
}

/// Any status from 200 to 399 is a good answer.
pub(crate) async fn http(target: &Target, action: &HTTPGetAction, patience: Duration) -> Result<(), String> {
    let address = address(target, action.host.as_deref(), &action.port).await?;
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let url = format!("http://{address}{path}");
    match timeout(patience, get(address, path, action)).await {
        Err(_) => Err(format!("Get \"{url}\": context deadline exceeded (no answer within {patience:?})")),
        Ok(Err(error)) => Err(format!("Get \"{url}\": {error}")),
        Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
        Ok(Ok(status)) => Err(format!("HTTP probe failed with statuscode: {status}")),
    }
}

async fn get(address: SocketAddr, path: &str, action: &HTTPGetAction) -> Result<u16, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request =
        http::Request::get(path).header("User-Agent", "kube-probe/1.37").header("Accept", "*/*");
    let headers = action.http_headers.iter().flatten();
    let mut host = address.to_string();
    for header in headers {
        if header.name.eq_ignore_ascii_case("host") {
            host.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let request =
        request.header("Host", host).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async { sender.send_request(request).await.map(|response| response.status().as_u16()) };
    // The connection is driven here and dropped with the answer: no task outlives a probe.
    tokio::pin!(connection, answer);
    let status = tokio::select! {
        biased;
        status = &mut answer => status,
        // A server that closes at once may have answered before.
        _ = &mut connection => answer.await,
    };
    status.map_err(|error| if error.is_incomplete_message() { "EOF".to_owned() } else { error.to_string() })
}

async fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream, String> {
    match timeout(patience, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| format!("dial tcp {address}: {error}")),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn address(target: &Target, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
    let port = port_number(port, &target.ports)?;
    match host.filter(|host| !host.is_empty()) {
        None => Ok((target.address, port).into()),
        Some(host) => {
            let mut found = tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| format!("cannot look up {host}: {error}"))?;
            found.next().ok_or_else(|| format!("{host} has no address"))
        }
    }
}

/// A port by number, or by its name among the container's ports.
fn port_number(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => ports
            .iter()
            .find(|port| port.name.as_ref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("the container has no port {port:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_go_by_number_or_name() {
        let ports =
            [ContainerPort { name: Some("web".into()), container_port: 8080, ..ContainerPort::default() }];
        assert_eq!(port_number(&IntOrString::Int(80), &ports), Ok(80));
        assert_eq!(port_number(&IntOrString::String("web".into()), &ports), Ok(8080));
        assert_eq!(port_number(&IntOrString::String("81".into()), &ports), Ok(81));
        assert!(port_number(&IntOrString::String("nope".into()), &ports).is_err());
        assert!(port_number(&IntOrString::Int(70_000), &ports).is_err());
    }
}
