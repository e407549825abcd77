//! A DNS server with made-up Services on loopback, to be asked with dig or dnsperf:
//!
//! ```sh
//! cargo run --profile fast -p svcd-dns --example serve -- 5300 1000 1 > questions
//! dnsperf -s 127.0.0.1 -p 5300 -d questions -l 10 -c 8 -q 100
//! ```
//!
//! The arguments are the port, the number of Services, and the threads (0: one a core). The questions that it can answer
//! go to standard output. It ends with its standard input.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use prometheus_client::registry::Registry;
use svcd_dns::{Config, ForwardSettings, Server, Upstreams};
use svcd_svcmap::{Entry, Protocol, Service, ServiceKind, ServiceName, ServicePort, Update};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |index: usize, default: u32| -> Result<u32, std::num::ParseIntError> {
        std::env::args().nth(index).map_or(Ok(default), |text| text.parse())
    };
    let (port, services, threads) = (argument(1, 5300)?, argument(2, 1000)?, argument(3, 0)?);
    let config = Config {
        listen: vec![(Ipv4Addr::LOCALHOST, u16::try_from(port)?).into()],
        networks: vec!["10.96.0.0/12".parse()?],
        threads: usize::try_from(threads)?,
        forward: ForwardSettings { upstreams: Upstreams::Fixed(Vec::new()), ..ForwardSettings::default() },
        ..Config::default()
    };
    let server = Server::bind(config, &mut Registry::default())?;
    server.handle().apply(&Update::Reset((0..services).map(entry).collect()));
    server.handle().reset_namespaces(["default"]);
    for number in 0..services {
        println!("svc-{number}.default.svc.cluster.local A");
    }
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone().drop_guard();
    tokio::spawn(async move {
        let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
        drop(stop);
    });
    server.run(shutdown).await?;
    Ok(())
}

fn entry(number: u32) -> Arc<Entry> {
    let name = ServiceName { namespace: "default".into(), name: format!("svc-{number}").into() };
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + number + 1);
    let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let service = Service {
        cluster_ips: vec![IpAddr::V4(address)],
        ports: vec![port],
        ..Service::new(name, ServiceKind::ClusterIp)
    };
    Arc::new(Entry { service, endpoints: BTreeMap::new(), portless: Vec::new() })
}
