//! Names outside of the cluster, against upstreams that behave well and badly.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use support::{
    Manner, PATIENCE, Running, Upstream, ask, ask_tcp, ask_udp, config, data, forward, patient, question,
    start_with_services, with_edns,
};
use svcd_dns::{ForwardSettings, Upstreams};

async fn server(upstreams: &[&Upstream]) -> Running {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    start_with_services(config(patient(&addresses)))
}

async fn hasty_server(upstreams: &[&Upstream]) -> Running {
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    start_with_services(config(forward(&addresses)))
}

#[tokio::test]
async fn answers_pass_and_are_kept() {
    let upstream = Upstream::start(Manner::Address([192, 0, 2, 1], 60)).await;
    let server = server(&[&upstream]).await;
    for _ in 0..3 {
        let reply = ask(server.address, "www.Example.org.", RecordType::A).await;
        assert_eq!(data(&reply), ["192.0.2.1"]);
        assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
        assert_eq!(reply.queries[0].name().to_string(), "www.Example.org.");
        assert!(reply.edns.is_none(), "no OPT for who sent none");
        assert!((50..=60).contains(&reply.answers[0].ttl));
    }
    assert_eq!(data(&ask(server.address, "WWW.example.ORG.", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(
        data(&ask_tcp(server.address, &question("www.example.org.", RecordType::A)).await),
        ["192.0.2.1"]
    );
    assert_eq!(upstream.asked(), 1);
    assert!(ask(server.address, "www.example.org.", RecordType::AAAA).await.answers.is_empty());
    assert_eq!(upstream.asked(), 2);
}

#[tokio::test]
async fn denials_are_kept_as_their_soa_says() {
    let upstream = Upstream::start(Manner::NoSuchName(Some(60))).await;
    let server = server(&[&upstream]).await;
    for _ in 0..3 {
        let reply = ask(server.address, "no.example.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(reply.authorities.len(), 1);
    }
    assert_eq!(upstream.asked(), 1);
    upstream.change(Manner::NoSuchName(None));
    for _ in 0..2 {
        let reply = ask(server.address, "without-soa.example.", RecordType::A).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(upstream.asked(), 3, "without an SOA there is nothing to keep it by");
}

#[tokio::test]
async fn a_failing_upstream_is_passed_over() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let bad = Upstream::start(Manner::Code(code)).await;
        let good = Upstream::start(Manner::Address([192, 0, 2, 2], 60)).await;
        let server = server(&[&bad, &good]).await;
        assert_eq!(data(&ask(server.address, "a.example.", RecordType::A).await), ["192.0.2.2"]);
        assert_eq!((bad.asked(), good.asked()), (1, 1));
    }
}

#[tokio::test]
async fn a_silent_upstream_is_overtaken_and_then_asked_last() {
    let silent = Upstream::start(Manner::Silent).await;
    let good = Upstream::start(Manner::Address([192, 0, 2, 3], 60)).await;
    let server = hasty_server(&[&silent, &good]).await;
    for n in 0..8 {
        let name = format!("n{n}.example.");
        assert_eq!(data(&ask(server.address, &name, RecordType::A).await), ["192.0.2.3"]);
    }
    // Two failures in a row, and the other comes first; a busy machine may look like a failure of that one, too.
    assert!((2..=4).contains(&silent.asked()), "{}", silent.asked());
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_passed_over_at_once() {
    let gone = Upstream::start(Manner::Silent).await.address;
    let good = Upstream::start(Manner::Address([192, 0, 2, 4], 60)).await;
    let server = start_with_services(config(patient(&[gone, good.address])));
    assert_eq!(data(&ask(server.address, "a.example.", RecordType::A).await), ["192.0.2.4"]);
}

#[tokio::test]
async fn all_silent_is_a_failure_in_time_and_the_cluster_goes_on() {
    let silent = Upstream::start(Manner::Silent).await;
    let server = hasty_server(&[&silent]).await;
    let begun = Instant::now();
    let slow = tokio::spawn(ask_udp_owned(server.address, "a.example."));
    assert_eq!(
        data(&ask(server.address, "web.default.svc.cluster.local.", RecordType::A).await),
        ["10.96.0.20"]
    );
    assert_eq!(slow.await.unwrap(), ResponseCode::ServFail);
    assert!(begun.elapsed() < PATIENCE / 2);
    assert!((1..=2).contains(&silent.asked()), "twice, since datagrams get lost: {}", silent.asked());
}

async fn ask_udp_owned(server: std::net::SocketAddr, name: &str) -> ResponseCode {
    ask(server, name, RecordType::A).await.metadata.response_code
}

#[tokio::test]
async fn long_answers_come_over_tcp() {
    let upstream = Upstream::start(Manner::Long).await;
    let server = server(&[&upstream]).await;
    let asked = question("long.example.", RecordType::TXT);
    let whole = ask_tcp(server.address, &asked).await;
    assert_eq!(whole.answers.len(), 15);
    let roomy = ask_udp(server.address, &with_edns(asked.clone(), 4096)).await;
    assert!(!roomy.metadata.truncation && roomy.edns.is_some());
    assert_eq!(roomy.answers, whole.answers);
    let cut = ask_udp(server.address, &asked).await;
    assert!(cut.metadata.truncation);
    assert_eq!(cut.answers, whole.answers[..cut.answers.len()]);
    assert!((1..5).contains(&cut.answers.len()));
    assert_eq!(upstream.asked(), 1);
}

#[tokio::test]
async fn answers_pass_unmodified() {
    let upstream = Upstream::start(Manner::Rich).await;
    let server = server(&[&upstream]).await;
    let asked = question("alias.example.", RecordType::A);
    let by_udp = ask_udp(server.address, &with_edns(asked.clone(), 1232)).await;
    let by_tcp = ask_tcp(server.address, &with_edns(asked, 1232)).await;
    for reply in [by_udp, by_tcp] {
        assert!(reply.metadata.authentic_data && reply.edns.is_some());
        assert_eq!(reply.answers.len(), 3);
        assert_eq!(data(&reply)[..2], ["real.example.", "192.0.2.77"]);
        assert_eq!(reply.answers[1].name.to_string(), "real.example.");
        assert_eq!(reply.answers[2].record_type(), RecordType::Unknown(65280));
        assert_eq!(reply.additionals.len(), 1);
        assert_eq!(reply.additionals[0].name.to_string(), "real.example.");
    }
}

#[tokio::test]
async fn forged_replies_do_not_count() {
    let upstream = Upstream::start(Manner::Forged).await;
    let server = server(&[&upstream]).await;
    assert_eq!(data(&ask(server.address, "www.example.", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn the_same_question_is_asked_once_at_a_time() {
    let upstream = Upstream::start(Manner::Silent).await;
    let server = hasty_server(&[&upstream]).await;
    let asking: Vec<_> =
        (0..50).map(|_| tokio::spawn(ask_udp_owned(server.address, "same.example."))).collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), ResponseCode::ServFail);
    }
    // Twice around for those who came first; who came after that was over is told what was just found out, or asks anew.
    assert!(upstream.asked() <= 6, "{}", upstream.asked());
}

#[tokio::test]
async fn what_is_past_its_time_is_better_than_nothing() {
    let upstream = Upstream::start(Manner::Address([192, 0, 2, 9], 1)).await;
    let server = hasty_server(&[&upstream]).await;
    assert_eq!(data(&ask(server.address, "old.example.", RecordType::A).await), ["192.0.2.9"]);
    upstream.change(Manner::Silent);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = upstream.asked();
        let reply = ask(server.address, "old.example.", RecordType::A).await;
        assert_eq!(data(&reply), ["192.0.2.9"]);
        if upstream.asked() > before {
            assert_eq!(reply.answers[0].ttl, 1, "a short life for what may be wrong");
            break;
        }
        assert!(Instant::now() < deadline, "never past its time");
    }
    upstream.change(Manner::Address([192, 0, 2, 10], 60));
    assert_eq!(data(&ask(server.address, "old.example.", RecordType::A).await), ["192.0.2.10"]);
}

#[tokio::test]
async fn too_many_questions_are_refused() {
    let upstream = Upstream::start(Manner::Silent).await;
    let settings = ForwardSettings { max_questions: 4, ..forward(&[upstream.address]) };
    let server = start_with_services(config(settings));
    let names: Vec<_> = (0..20).map(|n| format!("n{n}.example.")).collect();
    let asking: Vec<_> = names
        .into_iter()
        .map(|name| {
            tokio::spawn({
                let to = server.address;
                async move { ask_udp_owned(to, &name).await }
            })
        })
        .collect();
    let mut refused = 0;
    for one in asking {
        refused += usize::from(one.await.unwrap() == ResponseCode::Refused);
    }
    assert!(refused > 0);
    assert_eq!(
        data(&ask(server.address, "web.default.svc.cluster.local.", RecordType::A).await),
        ["10.96.0.20"]
    );
}

#[tokio::test]
async fn an_alias_brings_its_targets_addresses() {
    let upstream = Upstream::start(Manner::Address([192, 0, 2, 5], 60)).await;
    let server = server(&[&upstream]).await;
    let asked = question("ext.default.svc.cluster.local.", RecordType::A);
    for reply in [ask_udp(server.address, &asked).await, ask_tcp(server.address, &asked).await] {
        assert_eq!(data(&reply), ["www.example.org.", "192.0.2.5"]);
        assert_eq!(reply.answers[1].name.to_string(), "www.example.org.");
    }
    upstream.change(Manner::Code(ResponseCode::ServFail));
    let reply = ask(server.address, "ext.default.svc.cluster.local.", RecordType::AAAA).await;
    assert_eq!(
        (data(&reply), reply.metadata.response_code),
        (vec!["www.example.org.".to_owned()], ResponseCode::NoError)
    );
}

#[tokio::test]
async fn ourselves_are_no_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 10.96.0.10\n").unwrap();
    let settings = ForwardSettings { upstreams: Upstreams::File(path), ..patient(&[]) };
    let server = start_with_services(config(settings));
    let begun = Instant::now();
    assert_eq!(ask_udp_owned(server.address, "www.example.").await, ResponseCode::ServFail);
    assert!(begun.elapsed() < Duration::from_secs(5), "nothing to wait for");
}

#[tokio::test]
async fn counts_are_kept_under_corednss_names() {
    let upstream = Upstream::start(Manner::Address([192, 0, 2, 1], 60)).await;
    let server = server(&[&upstream]).await;
    for name in
        ["www.example.", "www.example.", "web.default.svc.cluster.local.", "no.default.svc.cluster.local."]
    {
        ask(server.address, name, RecordType::A).await;
    }
    ask_tcp(server.address, &question("web.default.svc.cluster.local.", RecordType::A)).await;
    let wanted = [
        r#"coredns_dns_requests_total{server="dns://:53",zone="cluster.local.",view="",proto="udp",family="1",type="A"} 2"#,
        r#"coredns_dns_requests_total{server="dns://:53",zone="cluster.local.",view="",proto="tcp",family="1",type="A"} 1"#,
        r#"coredns_dns_requests_total{server="dns://:53",zone=".",view="",proto="udp",family="1",type="A"} 2"#,
        r#"coredns_dns_responses_total{server="dns://:53",zone="cluster.local.",view="",rcode="NXDOMAIN",plugin="kubernetes"} 1"#,
        r#"coredns_dns_request_duration_seconds_count{server="dns://:53",zone="cluster.local.",view=""} 3"#,
        r#"coredns_cache_hits_total{server="dns://:53",type="success"} 1"#,
        r#"coredns_cache_misses_total{server="dns://:53"} 1"#,
        &format!(r#"coredns_forward_requests_total{{to="{}"}} 1"#, upstream.address),
    ];
    // Counting comes after the reply.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &server.registry).unwrap();
        let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(**line)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{missing:#?}\n{text}");
        tokio::task::yield_now().await;
    }
}
