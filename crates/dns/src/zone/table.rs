//! The answer table as a test: a question, and everything that must come back.

use std::sync::Arc;

use svcd_svcmap::{ServiceKind, Update};

use super::{Data, FullName, Owner, Rcode, Zone};
use crate::fixture::{empty_zone, endpoint, entries, entry, question, service_name, with, zone};

/// Rows of: question | response code | answers | additional. Names ending in the zone are written without it.
const TABLE: &[(&str, &str, &[&str], &[&str])] = &[
    // Services with an address.
    ("A web.default.svc", "NoError", &["10.96.0.20"], &[]),
    ("A WEB.Default.SVC", "NoError", &["10.96.0.20"], &[]),
    ("AAAA web.default.svc", "NoError", &[], &[]),
    ("A empty.default.svc", "NoError", &["10.96.0.21"], &[]),
    ("A dual.default.svc", "NoError", &["10.96.0.22"], &[]),
    ("AAAA dual.default.svc", "NoError", &["fd00:96::22"], &[]),
    ("A six.default.svc", "NoError", &[], &[]),
    ("AAAA six.default.svc", "NoError", &["fd00:96::23"], &[]),
    ("MX web.default.svc", "NoError", &[], &[]),
    ("TXT web.default.svc", "NoError", &[], &[]),
    ("ANY web.default.svc", "NoError", &[], &[]),
    ("HTTPS web.default.svc", "NoError", &[], &[]),
    ("PTR web.default.svc", "NoError", &[], &[]),
    // Their ports.
    (
        "SRV web.default.svc",
        "NoError",
        &["0 50 80 web.default.svc", "0 50 9000 web.default.svc"],
        &["web.default.svc 10.96.0.20"],
    ),
    (
        "SRV _http._tcp.web.default.svc",
        "NoError",
        &["0 100 80 web.default.svc"],
        &["web.default.svc 10.96.0.20"],
    ),
    (
        "SRV _HTTP._TCP.web.default.svc",
        "NoError",
        &["0 100 80 web.default.svc"],
        &["web.default.svc 10.96.0.20"],
    ),
    (
        "SRV _http._tcp.dual.default.svc",
        "NoError",
        &["0 50 80 dual.default.svc"],
        &["dual.default.svc 10.96.0.22", "dual.default.svc fd00:96::22"],
    ),
    ("SRV empty.default.svc", "NoError", &["0 100 80 empty.default.svc"], &["empty.default.svc 10.96.0.21"]),
    ("A _http._tcp.web.default.svc", "NoError", &["10.96.0.20"], &[]),
    ("AAAA _http._tcp.web.default.svc", "NoError", &[], &[]),
    ("SRV _http._udp.web.default.svc", "NxDomain", &[], &[]),
    ("SRV _none._tcp.web.default.svc", "NxDomain", &[], &[]),
    ("SRV http.tcp.web.default.svc", "NxDomain", &[], &[]),
    ("SRV _http._what.web.default.svc", "NxDomain", &[], &[]),
    ("SRV _._tcp.empty.default.svc", "NxDomain", &[], &[]),
    // Hosts behind an address.
    ("A named.web.default.svc", "NoError", &["10.244.1.6"], &[]),
    ("A 10-244-1-5.web.default.svc", "NoError", &["10.244.1.5"], &[]),
    ("A 10-244-1-6.web.default.svc", "NxDomain", &[], &[]),
    ("A notready.web.default.svc", "NxDomain", &[], &[]),
    (
        "SRV named.web.default.svc",
        "NoError",
        &["0 100 8080 named.web.default.svc"],
        &["named.web.default.svc 10.244.1.6"],
    ),
    // Headless.
    ("A hdls.default.svc", "NoError", &["172.0.0.2", "172.0.0.3", "172.0.0.4", "172.0.0.5"], &[]),
    ("AAAA hdls.default.svc", "NoError", &["5678:abcd::1"], &[]),
    ("A unready.default.svc", "NxDomain", &[], &[]),
    ("AAAA hdls2.default.svc", "NoError", &[], &[]),
    ("A unnamed.default.svc", "NoError", &["172.0.0.12"], &[]),
    ("SRV unnamed.default.svc", "NoError", &[], &[]),
    ("A portless.default.svc", "NoError", &["172.0.0.13", "172.0.0.14"], &[]),
    ("SRV portless.default.svc", "NoError", &[], &[]),
    ("A host.portless.default.svc", "NoError", &["172.0.0.14"], &[]),
    ("A 172-0-0-2.hdls.default.svc", "NoError", &["172.0.0.2"], &[]),
    ("A web-0.hdls.default.svc", "NoError", &["172.0.0.3"], &[]),
    ("AAAA web-0.hdls.default.svc", "NoError", &[], &[]),
    ("A 172-0-0-3.hdls.default.svc", "NxDomain", &[], &[]),
    ("A dup.hdls.default.svc", "NoError", &["172.0.0.4", "172.0.0.5"], &[]),
    ("A 172-0-0-9.hdls.default.svc", "NxDomain", &[], &[]),
    ("AAAA 5678-abcd--1.hdls.default.svc", "NoError", &["5678:abcd::1"], &[]),
    (
        "SRV _http._tcp.hdls.default.svc",
        "NoError",
        &[
            "0 20 8080 172-0-0-2.hdls.default.svc",
            "0 20 8080 web-0.hdls.default.svc",
            "0 20 8080 dup.hdls.default.svc",
            "0 20 8080 5678-abcd--1.hdls.default.svc",
        ],
        &[
            "172-0-0-2.hdls.default.svc 172.0.0.2",
            "web-0.hdls.default.svc 172.0.0.3",
            "dup.hdls.default.svc 172.0.0.4",
            "dup.hdls.default.svc 172.0.0.5",
            "5678-abcd--1.hdls.default.svc 5678:abcd::1",
        ],
    ),
    (
        "SRV web-0.hdls.default.svc",
        "NoError",
        &["0 100 8080 web-0.hdls.default.svc"],
        &["web-0.hdls.default.svc 172.0.0.3"],
    ),
    ("A _http._tcp.hdls2.default.svc", "NxDomain", &[], &[]),
    ("A _x._tcp.hdls2.default.svc", "NoError", &["172.0.0.3"], &[]),
    ("SRV _http._tcp.unready.default.svc", "NxDomain", &[], &[]),
    ("A a.pin._zone.hdls.default.svc", "NoError", &["172.0.0.2"], &[]),
    ("A c.pin._zone.hdls.default.svc", "NxDomain", &[], &[]),
    ("A b.prefer._zone.hdls.default.svc", "NoError", &["172.0.0.3"], &[]),
    (
        "A c.prefer._zone.hdls.default.svc",
        "NoError",
        &["172.0.0.2", "172.0.0.3", "172.0.0.4", "172.0.0.5"],
        &[],
    ),
    // Aliases.
    ("CNAME ext.default.svc", "NoError", &["CNAME www.example.org."], &[]),
    ("A ext.default.svc", "NoError", &["CNAME www.example.org.", "-> www.example.org."], &[]),
    ("SRV ext.default.svc", "NoError", &[], &[]),
    ("A below.ext.default.svc", "NxDomain", &[], &[]),
    ("SRV _http._tcp.ext.default.svc", "NxDomain", &[], &[]),
    ("A inside.default.svc", "NoError", &["CNAME web.default.svc", "web.default.svc 10.96.0.20"], &[]),
    ("AAAA inside.default.svc", "NoError", &["CNAME web.default.svc"], &[]),
    (
        "A twice.default.svc",
        "NoError",
        &[
            "CNAME inside.default.svc",
            "inside.default.svc CNAME web.default.svc",
            "web.default.svc 10.96.0.20",
        ],
        &[],
    ),
    ("A dangling.default.svc", "NoError", &["CNAME nothing.default.svc"], &[]),
    ("A circle.default.svc", "ServFail", &[], &[]),
    ("A address.default.svc", "NxDomain", &[], &[]),
    // What there is not.
    ("A nothing.default.svc", "NxDomain", &[], &[]),
    ("A web.nowhere.svc", "NxDomain", &[], &[]),
    ("A nothing.web.default.svc", "NxDomain", &[], &[]),
    ("A too.deep.label.web.default.svc", "NxDomain", &[], &[]),
    ("A *.default.svc", "NxDomain", &[], &[]),
    ("A any.default.svc", "NxDomain", &[], &[]),
    ("A *.web.default.svc", "NxDomain", &[], &[]),
    ("SRV *._tcp.web.default.svc", "NxDomain", &[], &[]),
    ("SRV _any._any.web.default.svc", "NxDomain", &[], &[]),
    ("A something", "NxDomain", &[], &[]),
    ("A web.default", "NxDomain", &[], &[]),
    // What is only a step on the way.
    ("A default.svc", "NoError", &[], &[]),
    ("A void.svc", "NoError", &[], &[]),
    ("A nowhere.svc", "NxDomain", &[], &[]),
    ("A svc", "NoError", &[], &[]),
    ("A pod", "NoError", &[], &[]),
    ("A default.pod", "NoError", &[], &[]),
    ("A nowhere.pod", "NxDomain", &[], &[]),
    ("A @", "NoError", &[], &[]),
    // The zone itself.
    ("TXT dns-version", "NoError", &["TXT 1.1.0 for 28800"], &[]),
    ("A dns-version", "NxDomain", &[], &[]),
    ("SOA @", "NoError", &["SOA cluster.local. 101 5"], &[]),
    ("NS @", "NoError", &["NS kube-dns.kube-system.svc"], &["kube-dns.kube-system.svc 10.96.0.10"]),
    ("A ns.dns", "NoError", &["10.96.0.10"], &[]),
    ("AAAA ns.dns", "NoError", &[], &[]),
    ("A dns", "NoError", &[], &[]),
    // Addresses back to names.
    ("PTR 20.0.96.10.in-addr.arpa.", "NoError", &["PTR web.default.svc"], &[]),
    ("A 20.0.96.10.in-addr.arpa.", "NoError", &[], &[]),
    ("PTR 99.0.96.10.in-addr.arpa.", "NxDomain", &[], &[]),
    ("PTR 2.0.0.172.in-addr.arpa.", "NoError", &["PTR 172-0-0-2.hdls.default.svc"], &[]),
    (
        "PTR 3.0.0.172.IN-ADDR.arpa.",
        "NoError",
        &["PTR web-0.hdls.default.svc", "PTR 172-0-0-3.hdls2.default.svc"],
        &[],
    ),
    ("PTR 6.1.244.10.in-addr.arpa.", "NoError", &["PTR named.web.default.svc"], &[]),
    ("PTR 5.1.244.10.in-addr.arpa.", "NxDomain", &[], &[]),
    ("PTR 7.1.244.10.in-addr.arpa.", "NxDomain", &[], &[]),
    ("PTR 9.0.0.172.in-addr.arpa.", "Outside", &[], &[]),
    (
        "PTR 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa.",
        "NoError",
        &["PTR 5678-abcd--1.hdls.default.svc"],
        &[],
    ),
    (
        "PTR 2.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.",
        "NoError",
        &["PTR dual.default.svc"],
        &[],
    ),
    ("PTR 9.9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa.", "NxDomain", &[], &[]),
    // Pods.
    ("A 10-240-0-1.default.pod", "NoError", &["10.240.0.1"], &[]),
    ("A 10-240-0-1.void.pod", "NoError", &["10.240.0.1"], &[]),
    ("AAAA 10-240-0-1.default.pod", "NoError", &[], &[]),
    ("AAAA 1234-abcd--1.default.pod", "NoError", &["1234:abcd::1"], &[]),
    ("A 10-240-0-1.nowhere.pod", "NxDomain", &[], &[]),
    ("A ten.default.pod", "NxDomain", &[], &[]),
    ("A 10-240-0-300.default.pod", "NxDomain", &[], &[]),
    ("A x.10-240-0-1.default.pod", "NxDomain", &[], &[]),
    // What is not ours.
    ("A example.org.", "Outside", &[], &[]),
    ("A local.", "Outside", &[], &[]),
    ("A .", "Outside", &[], &[]),
    ("A cluster.local.example.org.", "Outside", &[], &[]),
    ("A xcluster.local.", "Outside", &[], &[]),
    ("PTR 1.2.0.192.in-addr.arpa.", "Outside", &[], &[]),
    ("PTR in-addr.arpa.", "Outside", &[], &[]),
];

/// The questions, for those who compare other things.
pub(crate) fn questions() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.0)
}

#[test]
fn answers_as_the_table_says() {
    let zone = zone();
    for (asked, rcode, answers, additional) in TABLE {
        let (code, got, beside) = told(&zone, asked);
        assert_eq!(code, *rcode, "{asked}");
        assert_eq!(got, *answers, "{asked}");
        assert_eq!(beside, *additional, "{asked}");
    }
}

#[test]
fn negative_answers_have_the_soa() {
    let zone = zone();
    for (asked, rcode, answers, _) in TABLE.iter().filter(|row| matches!(row.1, "NoError" | "NxDomain")) {
        let asked_question = question(asked);
        let Some(answer) = zone.lookup(&asked_question, 0) else { panic!("{asked}: {rcode}") };
        assert_eq!(answer.authority.is_some(), answers.is_empty(), "{asked}");
        let Some(soa) = answer.authority else { continue };
        let Owner::Question(label) = soa.owner else { panic!("{asked}") };
        let owner = asked_question.name.suffix(label);
        let reverse = asked_question.name.label(asked_question.name.label_count() - 1) == b"arpa";
        assert!(reverse || owner == zone.origin().as_wire(), "{asked}");
        assert!(owner.len() > 6, "{asked}: the owner of the SOA is no top of the tree");
    }
}

#[test]
fn nothing_is_denied_before_everything_is_known() {
    let mut zone = empty_zone();
    for asked in [
        "A web.default.svc",
        "A @",
        "TXT dns-version",
        "PTR 20.0.96.10.in-addr.arpa.",
        "A 10-0-0-1.default.pod",
    ] {
        assert_eq!(told(&zone, asked).0, "ServFail", "{asked}");
    }
    assert_eq!(told(&zone, "PTR 2.0.0.172.in-addr.arpa.").0, "Outside");
    zone.apply(&Update::Changed([(service_name("web.default"), None)].into()));
    assert_eq!(told(&zone, "A web.default.svc").0, "ServFail", "changes are not everything");
    zone.apply(&Update::Reset(entries()));
    assert_eq!(told(&zone, "A nothing.default.svc").0, "NxDomain");
    assert_eq!(told(&zone, "A void.svc").0, "ServFail", "namespaces are not known");
    assert_eq!(told(&zone, "A 10-0-0-1.void.pod").0, "ServFail");
    assert_eq!(told(&zone, "A 10-0-0-1.default.pod").0, "NoError", "a Service proves its namespace");
    zone.reset_namespaces(["default"]);
    assert_eq!(told(&zone, "A void.svc").0, "NxDomain");
    zone.apply_namespace("void");
    assert_eq!(told(&zone, "A void.svc").0, "NoError");
    zone.delete_namespace("void");
    assert_eq!(told(&zone, "A void.svc").0, "NxDomain");
}

#[test]
fn not_ready_is_published_where_asked_for() {
    let mut headless =
        with(entry("early.default", ServiceKind::Headless, &[], &[]), "http/tcp/80", &["!172.0.1.1=first"]);
    headless.service.publish_not_ready = true;
    let mut zone = zone();
    zone.apply(&Update::Changed([(service_name("early.default"), Some(Arc::new(headless)))].into()));
    assert_eq!(told(&zone, "A early.default.svc").1, ["172.0.1.1"]);
    assert_eq!(told(&zone, "SRV _http._tcp.early.default.svc").1, ["0 100 80 first.early.default.svc"]);
    assert_eq!(told(&zone, "PTR 1.1.0.172.in-addr.arpa.").1, ["PTR first.early.default.svc"]);
}

#[test]
fn addresses_take_turns() {
    let zone = zone();
    let first = |turn| {
        let answer = zone.lookup(&question("A hdls.default.svc"), turn).unwrap();
        answer.answers[0].data.clone()
    };
    let firsts: std::collections::HashSet<_> = (0..4).map(|turn| format!("{:?}", first(turn))).collect();
    assert_eq!(firsts.len(), 4);
}

/// After changes in any order the zone says what it says after one reset.
#[test]
fn changes_amount_to_a_reset() {
    let mut changed = empty_zone();
    changed.apply(&Update::Reset(Vec::new()));
    changed.reset_namespaces(["default", "kube-system", "void"]);
    let moved = with(
        entry("hdls.default", ServiceKind::Headless, &[], &[]),
        "http/tcp/80",
        &["10.96.0.20", "172.0.0.77"],
    );
    changed.apply(&Update::Changed([(service_name("hdls.default"), Some(Arc::new(moved)))].into()));
    changed.apply(&Update::Changed(
        [(
            service_name("gone.void"),
            Some(Arc::new(entry("gone.void", ServiceKind::ClusterIp, &["10.96.9.9"], &[]))),
        )]
        .into(),
    ));
    for entry in entries() {
        changed.apply(&Update::Changed([(entry.service.name.clone(), Some(entry))].into()));
    }
    changed.apply(&Update::Changed([(service_name("gone.void"), None)].into()));
    let reset = zone();
    assert_eq!(changed.service_count(), reset.service_count());
    let more = ["PTR 77.0.0.172.in-addr.arpa.", "PTR 9.9.96.10.in-addr.arpa.", "A gone.void.svc"];
    for asked in questions().chain(more).filter(|asked| !asked.starts_with("SOA")) {
        let sorted = |zone: &Zone| {
            let (code, mut answers, additional) = told(zone, asked);
            answers.sort();
            (code, answers, additional)
        };
        assert_eq!(sorted(&changed), sorted(&reset), "{asked}");
    }
}

#[test]
fn endpoint_changes_replace_what_was() {
    let mut zone = zone();
    let after = with(entry("hdls.default", ServiceKind::Headless, &[], &[]), "http/tcp/80", &["172.0.0.50"]);
    zone.apply(&Update::Changed([(service_name("hdls.default"), Some(Arc::new(after)))].into()));
    assert_eq!(told(&zone, "A hdls.default.svc").1, ["172.0.0.50"]);
    assert_eq!(told(&zone, "PTR 2.0.0.172.in-addr.arpa.").0, "Outside");
    assert_eq!(told(&zone, "PTR 50.0.0.172.in-addr.arpa.").1, ["PTR 172-0-0-50.hdls.default.svc"]);
    zone.apply(&Update::Changed([(service_name("hdls.default"), None)].into()));
    assert_eq!(told(&zone, "A hdls.default.svc").0, "NxDomain");
    assert_eq!(told(&zone, "PTR 3.0.0.172.in-addr.arpa.").1, ["PTR 172-0-0-3.hdls2.default.svc"]);
}

#[test]
fn names_that_are_no_labels_are_left_out() {
    let long = "x".repeat(64);
    let mut bad = entry("a.default", ServiceKind::ClusterIp, &["10.96.0.99"], &[]);
    bad.service.name.name = long.as_str().into();
    let mut host = entry("odd.default", ServiceKind::Headless, &[], &[]);
    host.portless = vec![endpoint("172.0.2.1", 0)];
    host.portless[0].hostname = Some(long.as_str().into());
    let mut zone = empty_zone();
    zone.apply(&Update::Reset(vec![Arc::new(bad), Arc::new(host)]));
    assert_eq!(zone.service_count(), 1);
    assert_eq!(told(&zone, "A odd.default.svc").1, ["172.0.2.1"]);
    assert_eq!(told(&zone, "PTR 99.0.96.10.in-addr.arpa.").0, "NxDomain");
}

#[test]
fn bad_domains_are_refused() {
    for domain in ["", ".", "a..b", "spa ce.local", &format!("{0}.{0}", "x".repeat(40)), "dom/ain"] {
        let settings = super::Settings {
            domain: domain.to_owned(),
            ttl: 5,
            name_servers: vec![],
            networks: vec![],
            serial: 0,
        };
        assert!(Zone::new(settings).is_err(), "{domain:?}");
    }
}

/// The response code, the answers and the additional records as text.
fn told(zone: &Zone, asked: &str) -> (String, Vec<String>, Vec<String>) {
    let Some(answer) = zone.lookup(&question(asked), 0) else {
        return ("Outside".to_owned(), Vec::new(), Vec::new());
    };
    assert!(answer.rcode == Rcode::NoError || answer.answers.is_empty(), "{asked}");
    let text = |record: &super::Record<'_>| {
        assert!(record.ttl == 5 || matches!(record.data, Data::Txt(_)), "{asked}");
        let owner = match &record.owner {
            Owner::Question(0) => String::new(),
            Owner::Question(label) => format!("{label}: "),
            Owner::Name(name) => format!("{} ", short(name)),
        };
        let data = match &record.data {
            Data::Address(address) => address.to_string(),
            Data::Srv { weight, port, target } => format!("0 {weight} {port} {}", short(target)),
            Data::Ptr(name) => format!("PTR {}", short(name)),
            Data::Cname(name) => format!("CNAME {}", short(name)),
            Data::Ns(name) => format!("NS {}", short(name)),
            Data::Txt(text) => format!("TXT {text} for {}", record.ttl),
            Data::Soa { serial, minimum, .. } => format!("SOA {} {serial} {minimum}", zone.origin()),
        };
        owner + &data
    };
    let mut answers: Vec<_> = answer.answers.iter().map(text).collect();
    answers.extend(answer.chase.iter().map(|target| format!("-> {target}")));
    (format!("{:?}", answer.rcode), answers, answer.additional.iter().map(text).collect())
}

fn short(name: &FullName<'_>) -> String {
    let text = name.to_string();
    text.strip_suffix(".cluster.local.").map_or_else(|| text.clone(), str::to_owned)
}
