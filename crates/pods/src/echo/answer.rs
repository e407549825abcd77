//! What the echo server answers over HTTP. Pure, but for the one switch that makes it say that it is unwell.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use super::Options;

/// Whether `/healthz` says no.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicBool);

/// `/healthz` tells the health, `/healthz/fail` and `/healthz/recover` change it, `/status/503` answers with that
/// status; all other paths echo.
pub(crate) fn answer(
    options: &Options,
    health: &Health,
    request: &Parts,
    client: SocketAddr,
    server: SocketAddr,
) -> Response<Full<Bytes>> {
    match request.uri.path() {
        "/healthz/fail" => health.0.store(true, Ordering::Relaxed),
        "/healthz/recover" => health.0.store(false, Ordering::Relaxed),
        _ => {}
    }
    let status = match request.uri.path() {
        "/healthz" if health.0.load(Ordering::Relaxed) => StatusCode::SERVICE_UNAVAILABLE,
        path => path.strip_prefix("/status/").and_then(|code| code.parse().ok()).unwrap_or(StatusCode::OK),
    };
    let mut response = Response::new(Full::new(Bytes::from(text(options, request, client, server))));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

fn text(options: &Options, request: &Parts, client: SocketAddr, server: SocketAddr) -> String {
    let mut text = format!(
        "pod: {}\nnamespace: {}\nnode: {}\nclient: {client}\nserver: {server}\nrequest: {} {} {:?}\n",
        options.pod, options.namespace, options.node, request.method, request.uri, request.version
    );
    for (name, value) in &request.headers {
        text += &format!("header: {name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn ask(health: &Health, path: &str) -> (u16, String) {
        let options = Options {
            pod: "web-0".into(),
            namespace: "shop".into(),
            node: "n1".into(),
            ..Options::default()
        };
        let (request, ()) = http::Request::get(path).header("Host", "web").body(()).unwrap().into_parts();
        let client = "10.244.1.9:4711".parse().unwrap();
        let response = answer(&options, health, &request, client, "10.244.1.5:80".parse().unwrap());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_answer_names_both_sides() {
        let (status, text) = ask(&Health::default(), "/a?b=c").await;
        assert_eq!(status, 200);
        assert_eq!(
            text,
            "pod: web-0\nnamespace: shop\nnode: n1\nclient: 10.244.1.9:4711\nserver: 10.244.1.5:80\n\
             request: GET /a?b=c HTTP/1.1\nheader: host: web\n"
        );
    }

    #[tokio::test]
    async fn health_can_be_switched() {
        let health = Health::default();
        assert_eq!(ask(&health, "/healthz").await.0, 200);
        assert_eq!(ask(&health, "/healthz/fail").await.0, 200);
        assert_eq!(ask(&health, "/healthz").await.0, 503);
        assert_eq!(ask(&health, "/").await.0, 200);
        ask(&health, "/healthz/recover").await;
        assert_eq!(ask(&health, "/healthz").await.0, 200);
        assert_eq!(ask(&health, "/status/418").await.0, 418);
    }
}
