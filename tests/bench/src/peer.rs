//! kube-apiserver on etcd, as the peer that svcd is measured beside: the same disk, the same machine, its defaults but for
//! what a single machine without a cloud needs. Nothing else of a control plane runs beside it, which is to its advantage.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use svcd_pki::{AltName, Ca};

use crate::process::{ADDRESS, cpu_seconds, settled};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The two processes; ended when dropped.
pub(crate) struct Peer {
    apiserver: Child,
    etcd: Child,
    dir: PathBuf,
}

impl Peer {
    /// Starts both; does not wait for them. `programs` holds `kube-apiserver` and `etcd`.
    pub(crate) fn start(programs: &Path, dir: &Path) -> Result<Self> {
        let pki = Pki::write(dir)?;
        let etcd_url = format!("http://127.0.0.1:{}", free_port("127.0.0.1")?);
        let port = free_port(ADDRESS)?;
        let etcd = start_etcd(&programs.join("etcd"), dir, &etcd_url)?;
        let apiserver = start_apiserver(&programs.join("kube-apiserver"), &pki, &etcd_url, port)?;
        let admin = pki.ca.issue_client("admin", &["system:masters"], DAY)?;
        let (server, ca) = (format!("https://{ADDRESS}:{port}"), pki.ca.certificate_pem());
        let kubeconfig = svcd_pki::kubeconfig(&server, ca, &admin.cert, &admin.key, "peer");
        std::fs::write(dir.join("admin.kubeconfig"), kubeconfig)?;
        Ok(Self { apiserver, etcd, dir: dir.to_owned() })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Resident memory of both, in MB.
    pub(crate) async fn memory(&self) -> Result<f64> {
        Ok(settled(self.apiserver.id()).await?.resident + settled(self.etcd.id()).await?.resident)
    }

    /// CPU time that both have used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        Ok(cpu_seconds(self.apiserver.id())? + cpu_seconds(self.etcd.id())?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for child in [&mut self.apiserver, &mut self.etcd] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The files that the API server wants.
struct Pki {
    ca: Ca,
    ca_file: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Pki {
    fn write(dir: &Path) -> Result<Self> {
        let ca = Ca::load_or_create(&dir.join("pki"))?;
        let server = ca.issue_server(&[AltName::from(ADDRESS), AltName::from("127.0.0.1")], DAY)?;
        let file = |name: &str| dir.join(name);
        let pki =
            Self { ca_file: file("ca.crt"), certificate: file("server.crt"), key: file("server.key"), ca };
        std::fs::write(&pki.ca_file, pki.ca.certificate_pem())?;
        std::fs::write(&pki.certificate, server.cert)?;
        std::fs::write(&pki.key, server.key)?;
        Ok(pki)
    }
}

fn start_etcd(program: &Path, dir: &Path, url: &str) -> Result<Child> {
    let peer_url = format!("http://127.0.0.1:{}", free_port("127.0.0.1")?);
    Command::new(program)
        .arg("--data-dir")
        .arg(dir.join("etcd"))
        .args(["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", &peer_url])
        .args(["--initial-advertise-peer-urls", &peer_url, "--initial-cluster"])
        .arg(format!("default={peer_url}"))
        .args(["--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

fn start_apiserver(program: &Path, pki: &Pki, etcd: &str, port: u16) -> Result<Child> {
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    Command::new(program)
        .args([format!("--etcd-servers={etcd}"), format!("--secure-port={port}")])
        .args([
            format!("--advertise-address={ADDRESS}"),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        ])
        .args([flag("client-ca-file", &pki.ca_file), flag("tls-cert-file", &pki.certificate)])
        .args([flag("tls-private-key-file", &pki.key), flag("service-account-key-file", &pki.certificate)])
        .arg(flag("service-account-signing-key-file", &pki.key))
        .args(["--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=RBAC"])
        // Without its controllers nobody would make the ServiceAccounts that pods are admitted with.
        .arg("--disable-admission-plugins=ServiceAccount")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", program.display()))
}

fn free_port(address: &str) -> Result<u16> {
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}
